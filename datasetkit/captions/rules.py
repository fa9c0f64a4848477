"""Rules: apply exclusions, replacements, additional tags, triggers and implications to a caption.

    replace -> implies -> exclude -> dedupe -> additional -> trigger

Triggers come first, then additional tags; the other tags keep their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasetkit.captions.caption import normal_form
from datasetkit.captions.implications import load_implications
from datasetkit.captions.rulesets import (
    Additional,
    Exclude,
    Implies,
    Replace,
    Rule,
    RuleSet,
    Trigger,
    build,
    leading_tag,
)
from datasetkit.captions.selectors import CATEGORY_PREFIX, Group, load_groups, parse_selector
from datasetkit.captions.vocabulary import Vocabulary, load
from datasetkit.core.suggest import nearest

__all__ = [
    "Additional",
    "Exclude",
    "Group",
    "Implies",
    "Replace",
    "Rule",
    "RuleHits",
    "RuleResult",
    "RuleSet",
    "Trigger",
    "apply",
    "build",
    "escape_brackets",
    "load_groups",
    "load_implications",
    "parse_selector",
    "summary",
]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The tags of a caption after the rules, and the rules that changed something in it."""

    tags: tuple[str, ...]
    fired: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RuleHits:
    """How many captions a rule changed; `warning` explains a rule that changed none."""

    rule: Rule
    captions: int
    warning: str | None = None


def apply(
    rules: RuleSet,
    tags: Sequence[str],
    *,
    category: Callable[[str], str | None],
    trigger: Collection[str] = (),
) -> RuleResult:
    """Apply the rules to the tags of a caption: triggers, additional tags, then the rest in order.

    category: returns the category of a tag, None if unknown (`Vocabulary.category`). trigger: the
    normal forms of the trigger that the caption may have already: rules without a trigger insert
    additional tags behind it. Globs, groups,
    categories and implications never drop a leading tag. Replacements are one simultaneous pass:
    `a=b,b=a` swaps, and `a=b,b=c` turns `a` into `b`. So a second run changes nothing, unless
    replacements chain (`build` warns about that).
    """
    fired: dict[Rule, None] = {}
    rest: list[tuple[str, str]] = []
    for tag in tags:
        form = normal_form(tag)
        replace = rules.replaces.get(form)
        if replace is not None:
            fired[replace] = None
            form, tag = normal_form(replace.new), replace.new
        rest.append((form, tag))
    present = {form for form, _ in rest} | rules.leading_forms
    kept: dict[str, str] = {}
    for form, tag in rest:
        if form in rules.leading_forms:
            continue
        # Several rules may drop one tag: count all of them, or one would seem to match nothing.
        reasons: list[Rule] = []
        if form in rules.implied_by:
            reasons += (rule for other, rule in rules.implied_by[form] if other in present)
        if rules.exclude:
            reasons += _excluding(rules, form, tag, category)
        if reasons:
            fired |= dict.fromkeys(reasons)
        else:
            kept.setdefault(form, tag)
    at = 0 if rules.triggers else end_of(trigger, tuple(kept))
    fired |= {
        rule: None
        for position, rule in enumerate(rules.leading, at)
        if tuple(tags[position : position + 1]) != (leading_tag(rule),)
    }
    others = tuple(kept.values())
    return RuleResult((*others[:at], *rules.leading_tags, *others[at:]), tuple(fired))


def end_of(trigger: Collection[str], tags: Sequence[str]) -> int:
    """Return the position behind the last trigger word of a caption, 0 if it has none. trigger: its
    normal forms.
    """
    return max((at for at, tag in enumerate(tags, 1) if normal_form(tag) in trigger), default=0)


def summary(
    rules: RuleSet,
    applied: Iterable[RuleResult],
    *,
    vocabulary: Vocabulary | None = None,
    groups: Mapping[str, Group] | None = None,
) -> tuple[RuleHits, ...]:
    """Count the captions that each rule changed, and explain the rules that matched none.

    Implications come from a long table: only those that matched are listed, without warnings.
    Triggers and additional tags do not warn either. vocabulary, groups: what the explanations look
    tags up in; the shipped ones by default.
    """
    vocabulary = load() if vocabulary is None else vocabulary
    groups = load_groups() if groups is None else groups
    counts = Counter(rule for result in applied for rule in result.fired)
    implied = [rule for rule in rules.implies if counts[rule]]
    hits = [RuleHits(rule, counts[rule]) for rule in rules.leading]
    matching: list[Replace | Exclude] = [
        *rules.replace,
        *(exclusion for exclusion, _ in rules.exclude),
    ]
    for rule in matching:
        warning = None if counts[rule] else _explain_no_match(rule, vocabulary, groups)
        hits.append(RuleHits(rule, counts[rule], warning))
    return (*hits, *(RuleHits(rule, counts[rule]) for rule in implied))


def escape_brackets(tags: Iterable[str]) -> tuple[str, ...]:
    r"""Return the tags with `\(` and `\)` for brackets, as some web interfaces expect."""
    return tuple(re.sub(r"\\?([()])", r"\\\1", tag) for tag in tags)


def _excluding(
    rules: RuleSet, form: str, tag: str, category: Callable[[str], str | None]
) -> list[Exclude]:
    """Return the exclusions that match a tag, cached in the rule set."""
    key = (form, category(tag) if rules.asks_category else None)
    matches = rules.verdicts.get(key)
    if matches is None:
        matches = rules.verdicts[key] = [
            exclusion for exclusion, selector in rules.exclude if selector.matches(*key)
        ]
    return matches


def _near_group(form: str, groups: Mapping[str, Group]) -> str | None:
    """Return the group whose name a text has, or has with letters that changed places or one that
    is wrong.
    """
    singular = form.removesuffix("s")
    for name in groups:
        if sorted(name.removesuffix("s")) == sorted(singular):
            return name
    return nearest(form, groups, cutoff=0.8)


def _explain_no_match(
    rule: Exclude | Replace, vocabulary: Vocabulary, groups: Mapping[str, Group]
) -> str:
    """Explain why a rule matched no caption."""
    written = rule.selector if isinstance(rule, Exclude) else rule.old
    form = normal_form(written)
    nothing = f"'{rule}' matched nothing"
    if form in vocabulary:
        return f"{nothing}: {written!r} is in the vocabulary, but in no caption"
    if form.startswith(("@", CATEGORY_PREFIX)):
        return f"{nothing}: no caption has a tag of this group or category"
    if (group := _near_group(form, groups)) is not None:
        return (
            f"{nothing}: {written!r} is not in the vocabulary; did you mean @{group} "
            f"({groups[group].description})?"
        )
    near = vocabulary.nearest(form.replace("*", " ").replace("?", " "))
    suggestion = f"; the nearest tag of the vocabulary is {near[0]!r}" if near else ""
    if "*" in form or "?" in form:
        return f"{nothing}: no tag of a caption matches it{suggestion}"
    return f"{nothing}: {written!r} is not in the vocabulary{suggestion}"
