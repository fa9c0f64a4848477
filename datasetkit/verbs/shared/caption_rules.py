"""Build the rules of options, and decide the caption of an image from its tags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import dedupe
from datasetkit.captions.rules import (
    RuleResult,
    RuleSet,
    apply,
    build,
    end_of,
    escape_brackets,
    load_groups,
    load_implications,
)
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, Skipped
from datasetkit.dataset.trigger import kept_first
from datasetkit.options.tag import TagOptions, TagRules
from taggers.base import ScoredTag

# The values of `existing` that join the new tags with those of a person's caption.
JOINED = ("append", "prepend")
NO_TAG_LEFT = "no tag would be left, and an empty caption would stop the trainers"


def build_rule_set(options: TagRules) -> RuleSet:
    """Build the rules of the options. Raises ConfigError for contradictory rules and unknown
    groups.
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


def leading_rules(rules: RuleSet) -> RuleSet:
    """Return only the rules for leading tags: triggers and additional tags."""
    return replace(rules, exclude=(), replace=(), implies=())


def written_tags(tags: Sequence[str], options: TagRules) -> tuple[str, ...]:
    """Return tags as they are written to the file: brackets escaped if requested."""
    return escape_brackets(tags) if options.escape_brackets else tuple(tags)


def is_by_person(record: ImageRecord, by_dsk: set[Caption]) -> bool:
    """Tell whether the caption of an image was written or edited by a person.

    by_dsk: the existing captions that dsk wrote.
    """
    return record.caption is not None and bool(record.caption.tags) and record.caption not in by_dsk


def decide_caption(
    record: ImageRecord,
    chosen: Sequence[ScoredTag],
    rules: RuleSet,
    options: TagOptions,
    by_person: bool,
    applied: list[RuleResult],
    trigger: Collection[str] = (),
) -> Outcome[Caption]:
    """Decide the caption of one image: new, joined with the existing one, or unchanged.

    by_person: the existing caption was written or edited by a person. applied: collects the rules
    that fired. trigger: the normal forms of the known trigger: without a trigger among the rules,
    a caption that has it keeps it, at its place before what is added.
    """
    before = record.caption
    if by_person and options.existing == "skip":
        return Skipped(record, "its caption was edited by a person or by dsk rules")
    categories = {scored.name: scored.category for scored in chosen}
    forms = () if rules.triggers else trigger
    existing = before.tags if before is not None else ()
    joins = by_person and options.existing in JOINED
    names = tuple(scored.name for scored in chosen)
    names = names if joins else kept_first(forms, existing, names)
    result = apply(rules, names, category=categories.get, trigger=forms)
    applied.append(result)
    tags = result.tags
    if joins:
        at = len(existing) if options.existing == "append" else end_of(forms, existing)
        joined = dedupe((*existing[:at], *tags, *existing[at:]))
        tags = apply(leading_rules(rules), joined, category=categories.get, trigger=forms).tags
    if not tags:
        return Skipped(
            record, "no tag reaches the threshold, and an empty caption would stop the trainers"
        )
    return Done(record, Caption(written_tags(tags, options)))
