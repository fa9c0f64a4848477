"""`dsk tag`: score images with a tagger, choose tags, apply the rules, and write captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions.caption import file_text, read_caption
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.rules import RuleHits, RuleResult, RuleSet, summary
from datasetkit.core.errors import DskError
from datasetkit.core.files import (
    Listing,
    caption_path,
    display,
    list_images,
    require_writable,
    sweep,
)
from datasetkit.core.records import Caption, Done, Failed, ImageRecord, Outcome, RunReport
from datasetkit.images.scan import Scan, require_images, scan
from datasetkit.options.tag import TagOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.project.store import caption_hash
from datasetkit.verbs.shared import scoring
from datasetkit.verbs.shared.caption_rules import build_rule_set, decide_caption, is_by_person
from datasetkit.verbs.shared.scoring import ScoringResult, TagDrift, TaggerUse
from taggers.base import ResolvedTagger
from taggers.selection import Thresholds, choose


@dataclass(frozen=True, slots=True)
class TagResult:
    """What tag did, or would do in a dry run.

    report: one outcome per image; Done has the caption. changes: new and changed captions. hits:
    the hits of each rule. inferred: images that a model was run on; the others had stored scores.
    keep_tokens: how many leading tags are fixed (triggers and additional), for the trainer's option
    of that name. taggers: the taggers, with their devices. drift: the tags that a faster precision
    or decoding changed.
    """

    report: RunReport[Caption]
    tagger: str
    taggers: tuple[TaggerUse, ...]
    notice: str
    changes: tuple[CaptionChange, ...]
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
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    resolved = scoring.resolve(options)
    notice = "; ".join(dict.fromkeys(tagger.notice for tagger in resolved if tagger.notice))
    if notice:
        context.reporter.warn(notice)
    thresholds = thresholds_of(options, resolved)
    with open_project(folder, context) as project:
        if context.wait:  # the other run may have renamed images
            listing = list_images(
                folder, recursive=options.recursive, follow_links=options.follow_links
            )
        if not context.dry_run:
            for image_folder in {folder, *(path.parent for path in listing.images)}:
                require_writable(image_folder)
                sweep(image_folder)
        scanned = _scan(folder, listing, project, options)
        scored = scoring.score(scanned.records, resolved, project, options)
        drift = scoring.drift(scanned.records, scored, project, options, thresholds)
        project.store.mark_used(scored.taggers[0].key)
        captions, by_dsk, applied = _decide(scanned.records, scored, thresholds, rules, options)
        changes, generated = changed(captions, by_dsk, options)
        plan = Plan(tuple(WriteText(caption_path(c.path), file_text(c.after)) for c in changes))
        entry = project.apply(plan, "tag", display(folder.name), generated=generated)
    # Without new captions no rule was applied, and "matched nothing" would mislead.
    hits = summary(rules, applied) if applied else ()
    return TagResult(
        report=RunReport("tag", (*captions, *scanned.failed)),
        tagger=" ".join(used.key for used in scored.taggers),
        taggers=scored.taggers,
        notice=notice,
        changes=tuple(changes),
        hits=hits,
        warnings=(*rules.warnings, *(hit.warning for hit in hits if hit.warning)),
        inferred=sum(used.inferred for used in scored.taggers),
        drift=drift,
        keep_tokens=rules.keep_tokens,
        entry=entry,
    )


def _decide(
    records: Sequence[ImageRecord],
    scored: ScoringResult,
    thresholds: Thresholds,
    rules: RuleSet,
    options: TagOptions,
) -> tuple[list[Outcome[Caption]], set[Caption], list[RuleResult]]:
    """Decide every caption. Return the outcomes, the existing captions that dsk wrote, and the
    rules that fired.
    """
    inferred = any(used.inferred for used in scored.taggers)
    current = [_with_current_caption(record) for record in records] if inferred else records
    by_dsk = scored.store.generated(r.caption for r in current if not isinstance(r, Failed))
    captions: list[Outcome[Caption]] = []
    applied: list[RuleResult] = []
    for record, (_, kept) in zip(current, scored.each(records), strict=True):
        if isinstance(record, Failed):
            captions.append(record)
        elif isinstance(kept, Failed):
            captions.append(kept)
        else:
            chosen = choose(kept, scored.labels, thresholds)
            by_person = is_by_person(record, by_dsk)
            captions.append(decide_caption(record, chosen, rules, options, by_person, applied))
    return captions, by_dsk, applied


def thresholds_of(options: TagOptions, resolved: Sequence[ResolvedTagger]) -> Thresholds:
    """Return the thresholds. Raises ConfigError for `pr` if the model's card has no such value."""
    threshold = options.threshold
    if isinstance(threshold, str):
        value = resolved[0].pr_threshold
        if value is None:
            raise scoring.no_card_value(resolved[0].identity.name)
        threshold = value
    return Thresholds(threshold, options.character_threshold, options.mcut, options.rating)


def _with_current_caption(record: ImageRecord) -> ImageRecord | Failed:
    """Read the caption of an image again."""
    try:
        return replace(record, caption=read_caption(record.path))
    except DskError as error:
        return Failed(record.path, error.message, error.hint)


def _scan(folder: Path, listing: Listing, project: Project, options: TagOptions) -> Scan:
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        listing=listing,
        reporter=project.context.reporter,
    )


def changed(
    captions: Sequence[Outcome[Caption]], by_dsk: set[Caption], options: TagOptions
) -> tuple[list[CaptionChange], list[str]]:
    """Return the changed captions, and the hashes of captions that dsk wrote completely."""
    changes: list[CaptionChange] = []
    generated: list[str] = []
    for outcome in captions:
        if not isinstance(outcome, Done):
            continue
        before, after = outcome.record.caption, outcome.value
        if options.existing not in ("append", "prepend") or not is_by_person(
            outcome.record, by_dsk
        ):
            generated.append(caption_hash(after))
        if before != after:
            changes.append(CaptionChange(outcome.record.path, before, after))
    return changes, generated
