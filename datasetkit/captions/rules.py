"""Rules: how a person's wishes about tags (exclude, replace, add, trigger, prune) change a caption.

    replace -> implies -> exclude -> dedupe -> additional -> trigger

The rest of a caption keeps the order in which it came; triggers and additional tags always lead it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """A caption's tags after the rules, and the rules that had something to do in it."""

    tags: tuple[str, ...]
    fired: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RuleHits:
    """In how many captions a rule had something to do; `warning` says what may be wrong with one
    that had nothing.
    """

    rule: Rule
    captions: int
    warning: str | None = None


def apply(
    rules: RuleSet, tags: Sequence[str], *, category: Callable[[str], str | None]
) -> RuleResult:
    """Return a caption's tags under the rules: triggers, additional tags, then the rest in the
    order given.

    category: the category of a tag, None where unknown (`Vocabulary.category`). Globs, groups,
    categories and implications never touch a leading tag. Replacing is one simultaneous pass:
    `a=b,b=a` swaps, and `a=b,b=c` leaves `b` for an `a`. So a second run changes nothing, unless
    replacements chain (`build` warns of it).
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
        # A tag may be dropped for several reasons: each is counted, so that none seems to have
        # found nothing.
        reasons: list[Rule] = []
        if form in rules.implied_by:
            reasons += (rule for other, rule in rules.implied_by[form] if other in present)
        if rules.exclude:
            reasons += _excluding(rules, form, tag, category)
        if reasons:
            fired |= dict.fromkeys(reasons)
        else:
            kept.setdefault(form, tag)
    fired |= {
        rule: None
        for place, rule in enumerate(rules.leading)
        if tuple(tags[place : place + 1]) != (leading_tag(rule),)
    }
    return RuleResult((*rules.leading_tags, *kept.values()), tuple(fired))


def summary(
    rules: RuleSet,
    applied: Iterable[RuleResult],
    *,
    vocabulary: Vocabulary | None = None,
    groups: Mapping[str, Group] | None = None,
) -> tuple[RuleHits, ...]:
    """Count over many captions how many each rule touched, and explain the ones that found nothing.

    Implications come from a long table: only those that found something are listed, and they never
    warn; triggers and additional tags do not warn either. Without a vocabulary or groups, the
    shipped ones help to explain.
    """
    vocabulary = load() if vocabulary is None else vocabulary
    groups = load_groups() if groups is None else groups
    counts = Counter(rule for one in applied for rule in one.fired)
    implied = [rule for rule in rules.implies if counts[rule]]
    hits = [RuleHits(rule, counts[rule]) for rule in rules.leading]
    searching: list[Replace | Exclude] = [
        *rules.replace,
        *(written for written, _ in rules.exclude),
    ]
    for rule in searching:
        warning = None if counts[rule] else _why_nothing(rule, vocabulary, groups)
        hits.append(RuleHits(rule, counts[rule], warning))
    return (*hits, *(RuleHits(rule, counts[rule]) for rule in implied))


def escape_brackets(tags: Iterable[str]) -> tuple[str, ...]:
    r"""Return the tags with `\(` and `\)` for their brackets, as some web interfaces want prompts;
    twice is as once.
    """
    return tuple(re.sub(r"\\?([()])", r"\\\1", tag) for tag in tags)


def _excluding(
    rules: RuleSet, form: str, tag: str, category: Callable[[str], str | None]
) -> list[Exclude]:
    asked = (form, category(tag) if rules.asks_category else None)
    found = rules.verdicts.get(asked)
    if found is None:
        found = rules.verdicts[asked] = [
            written for written, selector in rules.exclude if selector.matches(*asked)
        ]
    return found


def _why_nothing(
    rule: Exclude | Replace, vocabulary: Vocabulary, groups: Mapping[str, Group]
) -> str:
    """Say what may be wrong with a rule that found nothing."""
    written = rule.selector if isinstance(rule, Exclude) else rule.old
    form = normal_form(written)
    nothing = f"'{rule}' found nothing"
    if form in vocabulary:
        return f"{nothing}: {written!r} is a tag of the vocabulary, but no caption has it"
    if form in groups:
        return (
            f"{nothing}: {written!r} is no tag of the vocabulary; did you mean @{form} "
            f"({groups[form].description})?"
        )
    if form.startswith(("@", CATEGORY_PREFIX)):
        return f"{nothing}: no caption has a tag of it"
    near = vocabulary.nearest(form.replace("*", " ").replace("?", " "))
    meant = f"; the nearest tag of the vocabulary is {near[0]!r}" if near else ""
    if "*" in form or "?" in form:
        return f"{nothing}: no tag of a caption looks like it{meant}"
    return f"{nothing}: {written!r} is no tag of the vocabulary{meant}"
