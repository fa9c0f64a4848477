"""Build the rules of options, and decide the caption of an image from its tags."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import (
    laid_out_text,
    normal_form,
    tag_form,
    with_entries,
    with_source,
    with_tags_beside,
)
from datasetkit.captions.grammar import Entry, ends_as_sentence
from datasetkit.captions.rules import (
    Rule,
    RuleResult,
    RuleSet,
    apply,
    apply_to,
    build,
    end_of,
    escape_brackets,
    load_groups,
    load_implications,
)
from datasetkit.core.packed import PackedList
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, Skipped
from datasetkit.dataset.trigger import kept_first
from datasetkit.options.tag import TagOptions, TagRules
from datasetkit.project.caption_syntax import syntax_of
from taggers.base import ScoredTag

# The values of `existing` that join the new tags with those of a person's caption.
JOINED = ("append", "prepend")
IS_SENTENCE = "captions are sentences here, which dsk caption writes; the scores are stored"
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


class AppliedRules:
    """The rules that fired in each caption. A caption that is decided again, since somebody saved
    it meanwhile, counts with its last decision.
    """

    def __init__(self) -> None:
        self._first: PackedList[tuple[Path, tuple[Rule, ...]]] = PackedList()
        self._again: dict[Path, tuple[Rule, ...]] = {}
        self._is_first = True

    def add(self, image: Path, result: RuleResult) -> None:
        """Add the decision about a caption."""
        if self._is_first:
            self._first.append((image, result.fired))
        else:
            self._again[image] = result.fired

    def end_first(self) -> None:
        """Take what is added from now on as decided again."""
        self._is_first = False

    def fired(self) -> Iterator[tuple[Rule, ...]]:
        """Yield the rules that fired in each caption."""
        again = dict(self._again)
        for image, rules in self._first:
            yield again.pop(image, rules)
        yield from again.values()

    def __bool__(self) -> bool:
        return len(self._first) > 0 or len(self._again) > 0


def leading_rules(rules: RuleSet) -> RuleSet:
    """Return only the rules for leading tags: triggers and additional tags."""
    return replace(rules, exclude=(), replace=(), implies=())


def written_caption(caption: Caption, options: TagRules) -> Caption:
    """Return a caption as it is written to the file: brackets escaped if requested."""
    if not options.escape_brackets:
        return caption
    return with_entries(caption, lambda tags: list(enumerate(escape_brackets(tags))))


def joined(
    before: Caption,
    tags: Sequence[str],
    *,
    at_end: bool,
    rules: RuleSet,
    trigger: Collection[str],
) -> Caption:
    """Return a caption with new tags at its end, or behind its trigger. Its own tags, wildcards and
    sentences are not changed; of a tag that both have the first one is kept. trigger: its normal
    forms.
    """

    def change(line: tuple[str, ...]) -> list[Entry]:
        forms = [tag_form(tag, before.syntax) for tag in line]
        existing: list[Entry] = list(enumerate(line))
        at = len(line) if at_end else end_of(trigger, line, before.syntax)
        present = forms if ends_as_sentence(line) else forms[:at]
        new: list[Entry] = [(None, tag) for tag in tags if normal_form(tag) not in present]
        added = {normal_form(tag) for _, tag in new}
        rest = zip(existing[at:], forms[at:], strict=True)
        return [*existing[:at], *new, *(entry for entry, form in rest if form not in added)]

    on_one_line = with_source(before, laid_out_text(before))
    category = vocabulary.load().category
    after = with_entries(on_one_line, change)
    return apply_to(leading_rules(rules), after, category=category, trigger=trigger).caption


def is_by_person(record: ImageRecord, by_dsk: Container[Caption]) -> bool:
    """Tell whether the caption of an image was written or edited by a person.

    by_dsk: the existing captions that dsk wrote.
    """
    caption = record.caption
    return caption is not None and not caption.is_empty and caption not in by_dsk


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
    syntax = syntax_of(record.path.parent) if before is None else before.syntax
    if syntax.kind == "sentence":
        return Skipped(record, IS_SENTENCE)
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
    caption = result.caption
    if joins and before is not None:
        at_end = options.existing == "append"
        caption = joined(before, caption.tags, at_end=at_end, rules=rules, trigger=forms)
    elif before is not None and before.sentences:
        caption = with_tags_beside(before, caption.tags)
    if not caption.tags:
        return Skipped(
            record, "no tag reaches the threshold, and an empty caption would stop the trainers"
        )
    return Done(record, written_caption(caption, options))
