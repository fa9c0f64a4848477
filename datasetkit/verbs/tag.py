"""`dsk tag`: score images with a tagger, choose tags, apply the rules, and write captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.rules import RuleHits, RuleResult, RuleSet, summary
from datasetkit.core.files import display, find_root
from datasetkit.core.packed import PackedList
from datasetkit.core.progress import SILENT, Reporter, counted_off
from datasetkit.core.records import Caption, Done, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.dataset.trigger import KnownTrigger
from datasetkit.images.scan import require_an_image, require_images
from datasetkit.options.tag import TagOptions
from datasetkit.outputs.visible import require_visible
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.project.store import GeneratedCaptions
from datasetkit.verbs.shared import scoring
from datasetkit.verbs.shared.caption_rules import (
    JOINED,
    AppliedRules,
    build_rule_set,
    decide_caption,
    is_by_person,
)
from datasetkit.verbs.shared.caption_writes import (
    decide_current,
    scan_to_write,
    with_failed,
    write_captions,
)
from datasetkit.verbs.shared.kept_results import (
    NOT_KEPT,
    KeptHits,
    KeptReport,
    RunInputs,
    hits_of,
    inputs_of,
    is_idle,
    kept_hits,
)
from datasetkit.verbs.shared.scoring import ScoringResult, TagDrift, TaggerUse
from datasetkit.verbs.shared.triggers import captions_of, triggers_of, triggers_to_store
from taggers.base import ResolvedTagger
from taggers.selection import Thresholds, choose


@dataclass(frozen=True, slots=True)
class TagResult:
    """What tag did, or would do in a dry run.

    report: one outcome per image; Done has the caption. changes: new and changed captions. hits:
    the hits of each rule. inferred: images that a model was run on; the others had stored scores.
    keep_tokens: how many leading tags are fixed (triggers and additional), for the trainer's option
    of that name. taggers: the taggers, with their devices. fallback: `auto` found no WD14 model and
    chose basic. drift: the tags that a faster precision
    or decoding changed.
    """

    report: RunReport[Caption]
    tagger: str
    taggers: tuple[TaggerUse, ...]
    notice: str
    fallback: bool
    changes: Sequence[CaptionChange]
    hits: tuple[RuleHits, ...]
    warnings: tuple[str, ...]
    inferred: int
    drift: tuple[TagDrift, ...]
    keep_tokens: int
    entry: int | None


# The order of the work:
#
# 1. Errors first: options, folder, models and the provider are checked before any inference.
# 2. Scores are stored by image content and tagger. So a run with other thresholds or rules needs
#    no inference, and an interrupted run loses at most one batch.
# 3. Inference takes minutes, in which a person may edit captions: they are read again before they
#    are decided. Hashes of the captions that dsk wrote tell them from those of a person.
# 4. All captions are written as one plan, which `dsk undo` reverts; its journal entry also stores
#    the hashes of the new captions.
def tag(folder: Path, options: TagOptions, context: RunContext = DEFAULT_CONTEXT) -> TagResult:
    """Write a caption beside every image of a folder.

    A caption that a person edited is kept unless `options.existing` says otherwise. Raises
    ConfigError, DatasetError, MissingExtra / ModelFileError, StorageError, in this order, before
    any work.
    """
    rules = build_rule_set(options)
    scoring.names(options)
    recover_projects([folder], context, recursive=options.recursive)
    require_an_image(folder, recursive=options.recursive, follow_links=options.follow_links)
    require_visible(folder, options, context)
    resolved = scoring.resolve(options)
    notice = "; ".join(dict.fromkeys(tagger.notice for tagger in resolved if tagger.notice))
    fallback = next((tagger.fallback for tagger in resolved if tagger.fallback), "")
    for warning in filter(None, (notice, fallback)):
        context.reporter.warn(warning)
    use = _Use(rules, resolved, notice, bool(fallback))
    inputs = _inputs(folder, options, resolved, context.reporter)
    dry_run = replace(context, dry_run=True, reporter=SILENT)
    if (kept := inputs.kept(_KeptTags)) is not None:
        return kept.result(use, lambda: _tag(folder, options, use, dry_run, NOT_KEPT))
    return _tag(folder, options, use, context, inputs)


@dataclass(frozen=True, slots=True)
class _Use:
    """The rules and the taggers of a run."""

    rules: RuleSet
    resolved: tuple[ResolvedTagger, ...]
    notice: str
    fallback: bool


def _tag(
    folder: Path,
    options: TagOptions,
    use: _Use,
    context: RunContext,
    inputs: RunInputs,
) -> TagResult:
    """Read the images, score those that have no scores, and write the captions."""
    rules, resolved = use.rules, use.resolved
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    thresholds = thresholds_of(options, resolved)
    with open_project(folder, context) as project:
        scanned = scan_to_write(folder, listing, project, options)
        scored = scoring.score(scanned.records, resolved, project, options)
        drift = scoring.drift(scanned.records, scored, project, options, thresholds)
        project.store.mark_used(scored.taggers[0].key)
        triggers = triggers_of(captions_of(scanned.records), ())
        decisions = _Decisions(
            scanned.records, scored, thresholds, rules, options, triggers, context.reporter
        )
        written = write_captions(
            project,
            decisions.first(),
            "tag",
            display(folder.resolve().name),
            # A caption that somebody saves meanwhile is joined, or else kept: never replaced.
            decide=decisions.decide if options.existing in JOINED else None,
            is_generated=decisions.is_generated,
            triggers=lambda after: triggers_to_store(
                rules.triggers, captions_of(scanned.records), after, triggers
            ),
        )
        # Without new captions no rule was applied, and "matched nothing" would mislead.
        hits = summary(rules, decisions.applied.fired()) if decisions.applied else ()
        result = TagResult(
            report=RunReport(
                "tag", with_failed(written.outcomes, scanned.failed), scanned.left_out
            ),
            tagger=" ".join(used.key for used in scored.taggers),
            taggers=scored.taggers,
            notice=use.notice,
            fallback=use.fallback,
            changes=written.changes,
            hits=hits,
            warnings=(
                *rules.warnings,
                *(hit.warning for hit in hits if hit.warning),
                *misnamed_warnings(decisions.misnamed),
            ),
            inferred=sum(used.inferred for used in scored.taggers),
            drift=drift,
            keep_tokens=rules.keep_tokens,
            entry=written.entry,
        )
        if is_idle(project, written.entry, changed=bool(written.changes)):
            _KeptTags.keep(result, inputs, project)
    return result


def _inputs(
    folder: Path, options: TagOptions, resolved: Sequence[ResolvedTagger], reporter: Reporter
) -> RunInputs:
    keys = [tagger.identity.key() for tagger in resolved]
    return inputs_of(
        "tag",
        find_root(folder),
        [(folder, options.recursive)],
        (options, keys),
        files=[Path(options.implies)],
        reporter=reporter,
    )


@dataclass(frozen=True, slots=True)
class _KeptTags:
    """What is kept of the result of a run that scored no image and changed no caption."""

    report: KeptReport
    taggers: tuple[TaggerUse, ...]
    hits: tuple[KeptHits, ...]
    warnings: tuple[str, ...]

    @classmethod
    def keep(cls, result: TagResult, inputs: RunInputs, project: Project) -> None:
        report = KeptReport.of(result.report)
        # An image that could not be scored is tried again.
        if report is not None and not result.inferred and not result.report.counts.failed:
            hits = kept_hits(result.hits)
            inputs.keep(project.store, cls(report, result.taggers, hits, result.warnings))

    def result(self, use: _Use, read: Callable[[], TagResult]) -> TagResult:
        """Return the result. read: reads the images."""
        return TagResult(
            report=self.report.report(lambda: read().report.outcomes),
            tagger=" ".join(used.key for used in self.taggers),
            taggers=self.taggers,
            notice=use.notice,
            fallback=use.fallback,
            changes=(),
            hits=hits_of(self.hits, use.rules),
            warnings=self.warnings,
            inferred=0,
            drift=(),
            keep_tokens=use.rules.keep_tokens,
            entry=None,
        )


class _Decisions:
    """Decides captions from scores.

    applied: the rules that fired, by image. misnamed: the captions of a person under another name
    than `<stem>.txt`, by image; they are kept.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        scored: ScoringResult,
        thresholds: Thresholds,
        rules: RuleSet,
        options: TagOptions,
        triggers: Mapping[Path, KnownTrigger],
        reporter: Reporter,
    ) -> None:
        self._reporter = reporter
        self._records, self._scored, self._thresholds = records, scored, thresholds
        self._rules, self._options, self._triggers = rules, options, triggers
        self._by_dsk = GeneratedCaptions()
        self.applied = AppliedRules()
        self.misnamed: dict[Path, tuple[Path, ...]] = {}

    def first(self) -> Sequence[Outcome[Caption]]:
        """Decide all captions: from the texts that were read before the inference if they are
        replaced, else from those of now.
        """
        inferred = any(used.inferred for used in self._scored.taggers)
        if not inferred or self._options.existing == "overwrite":
            return self.decide(self._records)
        return decide_current(self._records, self.decide)

    def decide(self, records: Sequence[ImageRecord]) -> PackedList[Outcome[Caption]]:
        """Decide the captions of images from their scores and present captions."""
        self._by_dsk.add_from(self._scored.store, (record.caption for record in records))
        self.misnamed |= misnamed_captions(record.path for record in records)
        outcomes: PackedList[Outcome[Caption]] = PackedList()
        counted = counted_off(records, "deciding", self._reporter)
        for record, (_, kept) in zip(counted, self._scored.each(records), strict=True):
            if isinstance(kept, Failed):
                outcomes.append(kept)
                continue
            if record.caption_fault is not None and self._options.existing != "overwrite":
                outcomes.append(record.caption_fault)
                continue
            if record.path in self.misnamed and self._options.existing != "overwrite":
                outcomes.append(Skipped(record, "its caption has another name"))
                continue
            chosen = choose(kept, self._scored.labels, self._thresholds)
            fired: list[RuleResult] = []
            by_person = is_by_person(record, self._by_dsk)
            forms = self._triggers[record.path.parent].forms
            outcomes.append(
                decide_caption(record, chosen, self._rules, self._options, by_person, fired, forms)
            )
            for result in fired:
                self.applied.add(record.path, result)
        self.applied.end_first()
        return outcomes

    def is_generated(self, done: Done[Caption]) -> bool:
        """Tell whether dsk wrote all of a caption."""
        is_joined = self._options.existing in JOINED or bool(done.value.sentences)
        return not (is_joined and is_by_person(done.record, self._by_dsk))


def thresholds_of(options: TagOptions, resolved: Sequence[ResolvedTagger]) -> Thresholds:
    """Return the thresholds. Raises ConfigError for `pr` if the model's card has no such value."""
    threshold = options.threshold
    if isinstance(threshold, str):
        value = resolved[0].pr_threshold
        if value is None:
            raise scoring.no_card_value(resolved[0].identity.name)
        threshold = value
    return Thresholds(threshold, options.character_threshold, options.mcut, options.rating)
