"""`dsk rules`: change the captions that exist, by rules, as a plan; `dsk rules groups` shows the
groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import file_text
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.rules import (
    Group,
    RuleHits,
    RuleResult,
    RuleSet,
    apply,
    load_groups,
    summary,
)
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import caption_path, display, require_writable
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.images.scan import require_images, scan
from datasetkit.options.tag import RulesOptions, TagRules
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, finish_interrupted, open_project
from datasetkit.verbs.shared.caption_rules import rule_set, written_tags
from datasetkit.verbs.shared.where_filter import needs_ids, passing_in


@dataclass(frozen=True, slots=True)
class RulesResult:
    """What rules did, or in a dry run would do: outcomes, changed captions, and what each rule
    touched.

    left_out: images that do not pass the filter.
    """

    report: RunReport[Caption]
    changes: tuple[CaptionChange, ...]
    hits: tuple[RuleHits, ...]
    warnings: tuple[str, ...]
    entry: int | None
    left_out: int = 0


def groups() -> tuple[Group, ...]:
    """Return the tag groups that `@name` stands for."""
    return tuple(load_groups().values())


def rules(
    folder: Path, options: RulesOptions, context: RunContext = DEFAULT_CONTEXT
) -> RulesResult:
    """Apply rules to the captions of a folder that pass a filter; the order that a person gave the
    other tags stays.

    Raises ConfigError when no rule is given, DatasetError without images.
    """
    rule_list = rule_set(options)
    if not rule_list and not options.escape_brackets:
        raise ConfigError(
            "no rule was given", hint="e.g. dsk rules DIR --exclude @face --trigger NAME --dry-run"
        )
    finish_interrupted(folder, context)
    require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    with open_project(folder, context) as project:
        found = scan(
            folder,
            project.store,
            recursive=options.recursive,
            follow_links=options.follow_links,
            max_pixels=options.max_pixels,
            with_ids=needs_ids(options.where),
            reporter=context.reporter,
        )
        meant = passing_in(
            folder, found.records, options.where, project.store, recursive=options.recursive,
            max_pixels=options.max_pixels, reporter=context.reporter,
        )  # fmt: skip
        if not context.dry_run:
            require_writable(folder)
        outcomes, applied = _ruled(
            [r for r in found.records if r.path in meant], rule_list, options
        )
        changes = tuple(
            CaptionChange(o.record.path, o.record.caption, o.value)
            for o in outcomes
            if isinstance(o, Done) and o.record.caption != o.value
        )
        plan = Plan(tuple(WriteText(caption_path(c.path), file_text(c.after)) for c in changes))
        where = f"where {options.where}" if options.where else ""
        entry = project.apply(plan, "rules", display(f"{folder.name} {where}".strip()))
    hits = summary(rule_list, applied)
    warnings = (*rule_list.warnings, *(hit.warning for hit in hits if hit.warning))
    report = RunReport("rules", (*outcomes, *found.failed))
    return RulesResult(report, changes, hits, warnings, entry, len(found.records) - len(meant))


def _ruled(
    records: Sequence[ImageRecord], rule_list: RuleSet, options: TagRules
) -> tuple[list[Outcome[Caption]], list[RuleResult]]:
    """Apply rules to the captions that there are: what becomes of each image, and which rules
    fired.
    """
    outcomes: list[Outcome[Caption]] = []
    applied: list[RuleResult] = []
    category = vocabulary.load().category
    for record in records:
        if record.caption is None or not record.caption.tags:
            outcomes.append(Skipped(record, "it has no caption"))
            continue
        result = apply(rule_list, record.caption.tags, category=category)
        applied.append(result)
        if result.tags:
            outcomes.append(Done(record, Caption(written_tags(result.tags, options))))
        else:
            outcomes.append(
                Skipped(
                    record, "no tag would be left, and an empty caption would stop the trainers"
                )
            )
    return outcomes, applied
