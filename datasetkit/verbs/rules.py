"""`dsk rules`: apply rules to existing captions; `dsk rules groups` lists the tag groups.

An example of a plan verb. `rules` reads the images, decides the new captions without touching the
disk, and turns the differences into a plan; `Project.apply` checks it, records it in the journal,
writes it, and `dsk undo` reverts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions import separators, vocabulary
from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.pruning import Suggestion, taken
from datasetkit.captions.rules import (
    Group,
    RuleHits,
    RuleSet,
    apply_to,
    load_groups,
    summary,
)
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display, find_root, require_writable
from datasetkit.core.packed import PackedList
from datasetkit.core.progress import SILENT, Reporter, counted_off
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.core.words import counted
from datasetkit.dataset.trigger import KnownTrigger
from datasetkit.images.listing import Listing
from datasetkit.images.scan import Scan, require_images, scan
from datasetkit.options.tag import RulesOptions
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.verbs.shared.caption_rules import (
    NO_TAG_LEFT,
    AppliedRules,
    build_rule_set,
    written_caption,
)
from datasetkit.verbs.shared.caption_writes import current_listing, with_failed, write_captions
from datasetkit.verbs.shared.concept_folders import tag_options
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
from datasetkit.verbs.shared.pruning_table import chosen_rows, scored, table_of
from datasetkit.verbs.shared.stored_scores import StoredScores
from datasetkit.verbs.shared.triggers import captions_of, triggers_of, triggers_to_store
from datasetkit.verbs.shared.where_filter import needs_ids, passing_in


@dataclass(frozen=True, slots=True)
class RulesResult:
    """What rules did, or would do in a dry run: outcomes, changed captions, and hits of each rule.

    left_out: images that do not pass the filter. suggestions: the table of --suggest.
    """

    report: RunReport[Caption]
    changes: Sequence[CaptionChange]
    hits: tuple[RuleHits, ...]
    warnings: tuple[str, ...]
    entry: int | None
    left_out: int = 0
    suggestions: tuple[Suggestion, ...] = ()


def groups() -> tuple[Group, ...]:
    """Return the tag groups that `@name` selects."""
    return tuple(load_groups().values())


def rules(
    folder: Path, options: RulesOptions, context: RunContext = DEFAULT_CONTEXT
) -> RulesResult:
    """Apply rules to the captions of a folder that pass a filter; other tags keep their order.

    Raises ConfigError without a rule, DatasetError without images.
    """
    # 1. Everything that can be wrong with the options, before any work.
    rule_set = build_rule_set(options)
    if options.suggest:
        return _suggested(folder, options, context)
    if options.apply:
        raise ConfigError(
            "--apply takes rows of a table", hint="dsk rules DIR --suggest --apply recommended"
        )
    if not (rule_set or options.escape_brackets or options.split or options.underscores_to_spaces):
        raise ConfigError(
            "no rule was given", hint="e.g. dsk rules DIR --exclude @face --trigger NAME --dry-run"
        )
    # 2. A plan that a killed run left half done comes first: file names may be temporary. Then
    #    nothing is read where the run before had nothing to do, and nothing has changed since.
    recover_projects([folder], context, recursive=options.recursive)
    inputs = _inputs(folder, options, context.reporter)
    dry_run = replace(context, dry_run=True, reporter=SILENT)
    if (kept := inputs.kept(_KeptRules)) is not None:
        return kept.result(rule_set, lambda: _rules(folder, options, rule_set, dry_run, NOT_KEPT))
    return _rules(folder, options, rule_set, context, inputs)


def _rules(
    folder: Path,
    options: RulesOptions,
    rule_set: RuleSet,
    context: RunContext,
    inputs: RunInputs,
) -> RulesResult:
    """Read the images, and write the captions that the rules change."""
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    with open_project(folder, context) as project:
        if not context.dry_run:
            require_writable(folder)
        # 3. Read the images and their captions, and select those that pass the filter.
        scanned, selected = _select(folder, listing, options, project)
        where = f"where {options.where}" if options.where else ""
        title = display(f"{folder.resolve().name} {where}".strip())

        # 4. Decide: pure functions from records to outcomes.
        def decide(records: Sequence[ImageRecord]) -> Sequence[Outcome[Caption]]:
            counted = counted_off(records, "deciding", context.reporter)
            return PackedList(apply_to_captions(counted, rule_set, options, triggers, applied))

        # 5. One plan for all changes, over the texts that were read. In a dry run `apply` only
        #    checks it.
        applied = AppliedRules()
        triggers = triggers_of(captions_of(scanned.records))
        written = write_captions(
            project,
            decide(selected),
            "rules",
            title,
            decide=decide,
            triggers=lambda after: triggers_to_store(
                rule_set.triggers,
                captions_of(scanned.records),
                after,
                triggers,
                partial=bool(options.where),
                replaced=rule_set.replace,
            ),
        )
        # 6. The result: data only; the command line and the notebook format it.
        hits = summary(rule_set, applied.fired())
        warnings = (
            *rule_set.warnings,
            *(hit.warning for hit in hits if hit.warning),
            *misnamed_warnings(misnamed_captions(record.path for record in selected)),
        )
        outcomes = with_failed(written.outcomes, scanned.failed)
        report = RunReport("rules", outcomes, scanned.left_out)
        left_out = len(scanned.records) - len(selected)
        result = RulesResult(report, written.changes, hits, warnings, written.entry, left_out)
        if is_idle(project, written.entry, changed=bool(written.changes)):
            _KeptRules.keep(result, inputs, project)
    return result


def _inputs(folder: Path, options: RulesOptions, reporter: Reporter) -> RunInputs:
    if options.where:  # filters read more than captions
        return NOT_KEPT
    tables = [Path(options.implies)] if options.implies else []
    root = find_root(folder)
    return inputs_of(
        "rules", root, [(folder, options.recursive)], options, files=tables, reporter=reporter
    )


@dataclass(frozen=True, slots=True)
class _KeptRules:
    """What is kept of the result of a run that changed no caption."""

    report: KeptReport
    hits: tuple[KeptHits, ...]
    warnings: tuple[str, ...]

    @classmethod
    def keep(cls, result: RulesResult, inputs: RunInputs, project: Project) -> None:
        report = KeptReport.of(result.report)
        if report is not None:
            inputs.keep(project.store, cls(report, kept_hits(result.hits), result.warnings))

    def result(self, rules: RuleSet, read: Callable[[], RulesResult]) -> RulesResult:
        """Return the result. read: reads the images."""
        report: RunReport[Caption] = self.report.report(lambda: read().report.outcomes)
        hits = hits_of(self.hits, rules)
        return RulesResult(report, (), hits, self.warnings, None)


def _suggested(folder: Path, options: RulesOptions, context: RunContext) -> RulesResult:
    """Make the table of suggestions, and take those of its rows that `options.apply` names."""
    recover_projects([folder], context, recursive=options.recursive)
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    with open_project(folder, context) as project:
        if options.apply and not context.dry_run:
            require_writable(folder)
        scanned, selected = _select(folder, listing, options, project, with_ids=True)
        triggers = triggers_of(captions_of(scanned.records))
        tagging = tag_options(folder, {}, only_read=True)
        scores = StoredScores(project.store, tagging)
        scores.read(project.store, [record.id for record in selected])
        rows = table_of(
            [(record.path, record.id, record.caption) for record in selected],
            triggers,
            options.kind,
            lambda image: scored(scores, tagging, image),
        )
        taken_rows = chosen_rows(rows, options.apply)

        def decide(records: Sequence[ImageRecord]) -> list[Outcome[Caption]]:
            return [_taken(record, taken_rows) for record in records]

        title = display(f"{folder.resolve().name} {counted(len(taken_rows), 'suggestion')}")
        written = write_captions(
            project, decide(selected) if taken_rows else [], "rules", title, decide=decide
        )
    return RulesResult(
        RunReport("rules", (*written.outcomes, *scanned.failed), scanned.left_out),
        written.changes,
        (),
        (),
        written.entry,
        len(scanned.records) - len(selected),
        rows,
    )


def _taken(record: ImageRecord, rows: Sequence[Suggestion]) -> Outcome[Caption]:
    """Return the caption of an image after the rows that are about it."""
    if record.caption is None or record.caption.is_empty:
        return Skipped(record, "it has no caption")
    after = taken(record.caption, record.path, rows)
    return Skipped(record, NO_TAG_LEFT) if after.is_empty else Done(record, after)


def _select(
    folder: Path,
    listing: Listing,
    options: RulesOptions,
    project: Project,
    *,
    with_ids: bool = False,
) -> tuple[Scan, Sequence[ImageRecord]]:
    """Scan the folder; return the scan, and the records that pass `options.where`."""
    reporter = project.context.reporter
    scanned = scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=with_ids or needs_ids(options.where),
        listing=current_listing(folder, listing, options, project.context),
        reporter=reporter,
    )
    if not options.where:
        return scanned, scanned.records
    passing = passing_in(
        folder,
        scanned.records,
        options.where,
        project.store,
        recursive=options.recursive,
        max_pixels=options.max_pixels,
        reporter=reporter,
    )
    return scanned, PackedList(record for record in scanned.records if record.path in passing)


def apply_to_captions(
    records: Iterable[ImageRecord],
    rule_set: RuleSet,
    options: RulesOptions,
    triggers: Mapping[Path, KnownTrigger],
    applied: AppliedRules,
) -> Iterator[Outcome[Caption]]:
    """Apply rules to existing captions; yield an outcome per image, and add the rules that fired to
    `applied`.

    triggers: the trigger of each folder, before which nothing is inserted.
    """
    words = vocabulary.load()
    for record in records:
        if record.caption is None or record.caption.is_empty:
            yield Skipped(record, "it has no caption")
            continue
        before = record.caption
        if options.split:
            before = separators.at_any(before, words)
        if options.underscores_to_spaces:
            before = separators.without_underscores(before, words)
        forms = triggers[record.path.parent].forms
        result = apply_to(rule_set, before, category=words.category, trigger=forms)
        applied.add(record.path, result)
        if not result.caption.is_empty:
            yield Done(record, written_caption(result.caption, options))
        else:
            yield Skipped(record, NO_TAG_LEFT)
    applied.end_first()
