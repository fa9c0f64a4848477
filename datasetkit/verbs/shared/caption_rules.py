"""The rules that options ask for, and the caption that they make of the tags of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import dedupe
from datasetkit.captions.rules import (
    RuleResult,
    RuleSet,
    apply,
    build,
    escape_brackets,
    load_groups,
    load_implications,
)
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, Skipped
from datasetkit.options.tag import TagOptions, TagRules
from taggers.base import ScoredTag


def rule_set(options: TagRules) -> RuleSet:
    """Build the rules that options ask for. Raises ConfigError for rules that contradict or name
    unknown groups.
    """
    return build(
        trigger=options.trigger,
        additional=options.additional,
        exclude=options.exclude,
        replace=options.replace,
        implies=load_implications(options.implies),
        vocabulary=vocabulary.load(),
        groups=load_groups(),
    )


def edge_rules(rules: RuleSet) -> RuleSet:
    """Return only the rules for what stands first: triggers and additional tags."""
    return replace(rules, exclude=(), replace=(), implies=())


def written_tags(tags: Sequence[str], options: TagRules) -> tuple[str, ...]:
    """Give tags the spelling that the file shall have."""
    return escape_brackets(tags) if options.escape_brackets else tuple(tags)


def is_by_person(record: ImageRecord, ours: set[Caption]) -> bool:
    """Tell whether an image has a caption that a person wrote or edited."""
    return record.caption is not None and bool(record.caption.tags) and record.caption not in ours


def decide_caption(
    record: ImageRecord,
    chosen: Sequence[ScoredTag],
    rules: RuleSet,
    options: TagOptions,
    by_person: bool,
    applied: list[RuleResult],
) -> Outcome[Caption]:
    """Decide one image's caption: made anew, joined to what a person wrote, or left as it is."""
    before = record.caption
    if by_person and options.existing == "skip":
        return Skipped(record, "its caption was edited by a person or by dsk rules")
    categories = {scored.name: scored.category for scored in chosen}
    result = apply(rules, [scored.name for scored in chosen], category=categories.get)
    applied.append(result)
    tags = result.tags
    if by_person and before is not None and options.existing in ("append", "prepend"):
        joined = (*before.tags, *tags) if options.existing == "append" else (*tags, *before.tags)
        tags = apply(edge_rules(rules), dedupe(joined), category=categories.get).tags
    if not tags:
        return Skipped(
            record, "no tag reaches the threshold, and an empty caption would stop the trainers"
        )
    return Done(record, Caption(written_tags(tags, options)))
