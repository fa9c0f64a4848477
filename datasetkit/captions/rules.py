"""Rules: apply exclusions, replacements, additional tags, triggers and implications to a caption.

    replace -> implies -> exclude -> dedupe -> additional -> trigger

Triggers come first, then additional tags; the other tags keep their order. `apply` works on the
tags of a tagger. `apply_to` works on a caption that exists: it changes what a rule matches, and
nothing else of its text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasetkit.captions.caption import (
    CaptionLine,
    forms_of_tags,
    name_in,
    normal_form,
    tag_form,
    with_line_entries,
)
from datasetkit.captions.grammar import PLAIN, Entry, is_group, reweighted
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
from datasetkit.captions.selectors import (
    CATEGORY_PREFIX,
    Exact,
    Group,
    load_groups,
    parse_selector,
)
from datasetkit.captions.vocabulary import Vocabulary, load
from datasetkit.core.records import Caption, CaptionSyntax
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
    "apply_to",
    "build",
    "escape_brackets",
    "load_groups",
    "load_implications",
    "parse_selector",
    "summary",
]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """A caption after the rules, and the rules that changed something in it."""

    caption: Caption
    fired: tuple[Rule, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        return self.caption.tags


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
    """Apply the rules to tags: triggers, additional tags, then the rest in order, each tag once.

    category: returns the category of a tag, None if unknown (`Vocabulary.category`). trigger: the
    normal forms of the trigger that the caption may have already: rules without a trigger insert
    additional tags behind it. Globs, groups,
    categories and implications never drop a leading tag. Replacements are one simultaneous pass:
    `a=b,b=a` swaps, and `a=b,b=c` turns `a` into `b`. So a second run changes nothing, unless
    replacements chain (`build` warns about that).
    """
    line = _Line(rules, CaptionLine(tuple(tags)), PLAIN, category, trigger)
    entries = line.entries(once=True)
    return RuleResult(Caption(tuple(tag for _, tag in entries)), tuple(line.fired))


def apply_to(
    rules: RuleSet,
    caption: Caption,
    *,
    category: Callable[[str], str | None],
    trigger: Collection[str] = (),
) -> RuleResult:
    """Apply the rules to a caption, to each of its lines where lines are separate captions.

    category, trigger: as for `apply`. What no rule matches is not rewritten, repetitions included.
    Wildcards are left alone, unless an exclusion or a replacement writes all of one. A trigger
    inside a wildcard or a sentence is not written again. A caption that is a sentence changes only
    at its front.
    """
    fired: dict[Rule, None] = {}

    def change(tags: CaptionLine) -> list[Entry]:
        line = _Line(rules, tags, caption.syntax, category, trigger)
        entries = line.entries(once=False)
        fired.update(line.fired)
        return entries

    after = with_line_entries(caption, change)
    return RuleResult(after if after != caption else caption, tuple(fired))


class _Line:
    """The rules on one line of tags. fired: the rules that changed something."""

    def __init__(
        self,
        rules: RuleSet,
        line: CaptionLine,
        syntax: CaptionSyntax,
        category: Callable[[str], str | None],
        trigger: Collection[str],
    ) -> None:
        self.rules, self.tags, self.syntax, self.category = rules, line.tags, syntax, category
        self.forms = forms_of_tags(line.tags, syntax)
        # Behind tags a sentence does not speak for them: the trigger stands first all the same.
        self.sentences = line.sentences if line.begins_as_sentence else ()
        self.fired: dict[Rule, None] = {}
        self.leading = self._leading()
        # Behind these tags the others of `leading` are inserted.
        self.trigger = {
            normal_form(rule.name)
            for rule in rules.leading
            if isinstance(rule, Trigger) and rule not in self.leading
        }
        if not rules.triggers:
            self.trigger |= set(trigger)

    def _leading(self) -> list[Trigger | Additional]:
        """Return the leading rules whose tag is to be written: not a trigger that stands inside a
        wildcard or a sentence, and no additional tag that stands inside a sentence.
        """
        forms = set(self.forms)

        def is_inside(rule: Trigger | Additional) -> bool:
            tags = () if isinstance(rule, Additional) else self.tags
            return name_in(leading_tag(rule), tags, self.syntax, self.sentences)

        return [
            rule
            for rule in self.rules.leading
            if normal_form(leading_tag(rule)) in forms or not is_inside(rule)
        ]

    def entries(self, *, once: bool) -> list[Entry]:
        """Return the tags that remain, with the numbers of those that stay where they are.

        once: drop repeated tags; else only those that a rule wrote.
        """
        replaced = [
            self._replaced(form, tag) for form, tag in zip(self.forms, self.tags, strict=True)
        ]
        leading_forms = {normal_form(leading_tag(rule)) for rule in self.leading}
        present = {form for form, _, _ in replaced} | self.rules.leading_forms
        is_new: dict[str, bool] = {}  # form -> whether a rule wrote the tag
        rest: list[tuple[int, str, str]] = []
        remaining: list[str] = []  # the forms of all tags that are not dropped
        for n, (form, tag, matched) in enumerate(replaced):
            if form in leading_forms:
                remaining.append(form)
                continue
            if self._drops(form, tag, present):
                continue
            if form in is_new and (once or matched or is_new[form]):
                continue
            is_new[form] = matched or is_new.get(form, False)
            remaining.append(form)
            rest.append((n, form, tag))
        at = 0
        if self.trigger:
            ends = (n for n, (_, form, tag) in enumerate(rest, 1) if self._ends(form, tag))
            at = max(ends, default=0)
        kept: list[Entry] = [(n, tag) for n, _, tag in rest]
        forms = [form for form, _, _ in replaced]
        after = kept[at - 1][0] if at else None
        return [*kept[:at], *self._leading_entries(at, after, forms, remaining), *kept[at:]]

    def _replaced(self, form: str, tag: str) -> tuple[str, str, bool]:
        """Return the form and the text of a tag after the replacements, and whether one matched."""
        replace = self.rules.replaces.get(form)
        if replace is None:
            return form, tag, False
        self.fired[replace] = None
        weighted = self.syntax.weighted_captions
        text = reweighted(tag, replace.new) if weighted else replace.new
        return normal_form(replace.new), text, True

    def _ends(self, form: str, tag: str) -> bool:
        """Tell whether a tag is of the trigger, or a wildcard that has it."""
        if form in self.trigger:
            return True
        return is_group(tag, self.syntax) and any(
            name_in(name, [tag], self.syntax) for name in self.trigger
        )

    def _leading_entries(
        self, at: int, after: int | None, forms: Sequence[str], remaining: Sequence[str]
    ) -> list[Entry]:
        """Return the entries of the leading tags, which begin at the position `at`; those that are
        there already keep their place. after: the number of the tag before them.
        """
        entries: list[Entry] = []
        for n, rule in enumerate(self.leading, at):
            name = leading_tag(rule)
            form = normal_form(name)
            previous = entries[-1][0] if entries else after
            is_in_place = list(remaining[n : n + 1]) == [form] and (previous is not None or n == 0)
            number = forms.index(form) if is_in_place else None
            in_order = number is not None and (previous is None or number > previous)
            weighted = in_order and self.syntax.weighted_captions
            text = self.tags[number] if weighted and number is not None else name
            entries.append((number if in_order else None, text))
            is_as_written = list(self.tags[n : n + 1]) == [name] or weighted
            if not is_as_written or forms.count(form) > 1:
                self.fired[rule] = None
        return entries

    def _drops(self, form: str, tag: str, present: set[str]) -> bool:
        """Tell whether rules drop a tag. Several may: count all of them, or one would seem to match
        nothing.
        """
        reasons: list[Rule] = []
        if is_group(tag, self.syntax):
            reasons += [
                rule
                for rule, selector in self.rules.exclude
                if isinstance(selector, Exact) and selector.form == form
            ]
        else:
            if form in self.rules.implied_by:
                reasons += [r for other, r in self.rules.implied_by[form] if other in present]
            if self.rules.exclude:
                reasons += _excluding(self.rules, form, tag, self.category)
        if reasons:
            self.fired |= dict.fromkeys(reasons)
        return bool(reasons)


def end_of(trigger: Collection[str], tags: Sequence[str], syntax: CaptionSyntax = PLAIN) -> int:
    """Return the position behind the last trigger word of a caption, 0 if it has none. trigger: its
    normal forms.
    """
    return max(
        (at for at, tag in enumerate(tags, 1) if tag_form(tag, syntax) in trigger), default=0
    )


def summary(
    rules: RuleSet,
    applied: Iterable[Sequence[Rule]],
    *,
    vocabulary: Vocabulary | None = None,
    groups: Mapping[str, Group] | None = None,
) -> tuple[RuleHits, ...]:
    """Count the captions that each rule changed, and explain the rules that matched none. applied:
    the rules that fired in each caption.

    Implications come from a long table: only those that matched are listed, without warnings.
    Triggers and additional tags do not warn either. vocabulary, groups: what the explanations look
    tags up in; the shipped ones by default.
    """
    vocabulary = load() if vocabulary is None else vocabulary
    groups = load_groups() if groups is None else groups
    counts = Counter(rule for fired in applied for rule in fired)
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
