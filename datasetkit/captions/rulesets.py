"""Rule sets: the rules, their written form, and the check that they do not contradict."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from datasetkit.captions.caption import normal_form, parse
from datasetkit.captions.implications import close_chains
from datasetkit.captions.selectors import Exact, Glob, Group, Selector, parse_selector
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class _Written:
    """A rule that prints as it is written: its kind, then its fields with `between` between."""

    between: ClassVar[str] = " "

    def __str__(self) -> str:
        values = (getattr(self, about.name) for about in fields(self))
        return f"{type(self).__name__.lower()} {self.between.join(values)}"


@dataclass(frozen=True, slots=True)
class Exclude(_Written):
    """Drop the tags that a selector matches. selector: as it was written, e.g. `*_hair`."""

    selector: str


@dataclass(frozen=True, slots=True)
class Replace(_Written):
    """Replace one tag by another."""

    between: ClassVar[str] = "="
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Additional(_Written):
    """Add a tag to every caption, after the triggers."""

    tag: str


@dataclass(frozen=True, slots=True)
class Trigger(_Written):
    """Begin every caption with the name of the subject."""

    name: str


@dataclass(frozen=True, slots=True)
class Implies(_Written):
    """Drop `implied` from captions with `tag`, which makes it redundant."""

    between: ClassVar[str] = " -> "
    tag: str
    implied: str


Rule = Exclude | Replace | Additional | Trigger | Implies


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Validated rules, made by `build`. Picklable; false if there is no rule.

    leading: triggers, then additional tags, without repeats; every caption begins with them.
    exclude: each exclusion with its parsed selector. warnings: one line each, for people.
    replaces, implied_by, leading_tags, leading_forms: the same rules indexed by normal form (of
    the old tag; of the implied tag, with the normal form of the specific one). asks_category:
    whether an exclusion depends on the category of a tag. verdicts: a cache of the exclusions that
    match a (normal form, category): captions share a few hundred tags.
    """

    leading: tuple[Trigger | Additional, ...] = ()
    exclude: tuple[tuple[Exclude, Selector | Group], ...] = ()
    replace: tuple[Replace, ...] = ()
    implies: tuple[Implies, ...] = ()
    warnings: tuple[str, ...] = ()
    replaces: Mapping[str, Replace] = field(init=False, repr=False, compare=False)
    implied_by: Mapping[str, Sequence[tuple[str, Implies]]] = field(
        init=False, repr=False, compare=False
    )
    leading_tags: tuple[str, ...] = field(init=False, repr=False, compare=False)
    leading_forms: frozenset[str] = field(init=False, repr=False, compare=False)
    asks_category: bool = field(init=False, repr=False, compare=False)
    verdicts: dict[tuple[str, str | None], list[Exclude]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        implied_by: dict[str, list[tuple[str, Implies]]] = {}
        for rule in self.implies:
            implied_by.setdefault(normal_form(rule.implied), []).append(
                (normal_form(rule.tag), rule)
            )
        tags = tuple(map(leading_tag, self.leading))
        object.__setattr__(self, "replaces", {normal_form(rule.old): rule for rule in self.replace})
        object.__setattr__(self, "implied_by", implied_by)
        object.__setattr__(self, "leading_tags", tags)
        object.__setattr__(self, "leading_forms", frozenset(map(normal_form, tags)))
        asks = any(not isinstance(selector, Exact | Glob) for _, selector in self.exclude)
        object.__setattr__(self, "asks_category", asks)

    def __bool__(self) -> bool:
        return bool(self.leading or self.exclude or self.replace or self.implies)

    @property
    def triggers(self) -> tuple[str, ...]:
        """Return the triggers in their written form."""
        return tuple(rule.name for rule in self.leading if isinstance(rule, Trigger))

    @property
    def additional(self) -> tuple[str, ...]:
        """Return the additional tags in their written form."""
        return tuple(rule.tag for rule in self.leading if isinstance(rule, Additional))

    @property
    def keep_tokens(self) -> int:
        """Return how many leading tags a trainer must not shuffle away."""
        return len(self.leading)


def build(
    trigger: Sequence[str] = (),
    additional: Sequence[str] = (),
    exclude: Sequence[str] = (),
    replace: Sequence[str] = (),
    implies: Iterable[tuple[str, str]] = (),
    *,
    vocabulary: Vocabulary,
    groups: Mapping[str, Group],
) -> RuleSet:
    """Validate the rules of a command line; `replace` entries are `old=new`.

    Additional and new tags that are in the vocabulary get its spelling, triggers keep theirs.
    Raises ConfigError for tags that a caption cannot hold, for rules that contradict each other and
    for unknown selectors.
    """
    names = [Trigger(writable(name, "trigger")) for name in trigger]
    tags = [
        Additional(_as_known(writable(tag, "additional tag"), vocabulary)) for tag in additional
    ]
    leading: dict[str, Trigger | Additional] = {}
    everything: list[Trigger | Additional] = [*names, *tags]
    for rule in everything:
        leading.setdefault(normal_form(leading_tag(rule)), rule)
    excludes = tuple(
        (Exclude(text.strip()), parse_selector(text, vocabulary, groups)) for text in exclude
    )
    for exclusion, selector in excludes:
        if isinstance(selector, Exact) and selector.form in leading:
            _refuse(exclusion, leading[selector.form])
    replaces = _replacements(replace, vocabulary, groups)
    for form, replacement in replaces.items():
        if form in leading:
            _refuse(replacement, leading[form])
    return RuleSet(
        leading=tuple(leading.values()),
        exclude=excludes,
        replace=tuple(replaces.values()),
        implies=tuple(Implies(tag, implied) for tag, implied in close_chains(implies)),
        warnings=(*_ordinary_triggers(leading.values(), vocabulary), *_chained(replaces)),
    )


def leading_tag(rule: Trigger | Additional) -> str:
    """Return the tag that a leading rule writes."""
    return rule.name if isinstance(rule, Trigger) else rule.tag


def writable(tag: str, what: str) -> str:
    """Return the tag if it survives being written to a caption file, else raise ConfigError."""
    if (
        any(unicodedata.category(character) == "Cs" for character in tag)
        or parse(f"{tag}, {tag}").tags != (tag, tag)
        or not normal_form(tag)
    ):
        raise ConfigError(
            f"{tag!r} cannot be a {what}" if what == "trigger" else f"{tag!r} cannot be an {what}",
            hint="write one tag without commas, line breaks, invisible characters, and repeated, "
            "leading or trailing spaces",
        )
    return tag


def _as_known(tag: str, vocabulary: Vocabulary) -> str:
    return vocabulary.spelling(tag) or tag


def _replacements(
    entries: Sequence[str], vocabulary: Vocabulary, groups: Mapping[str, Group]
) -> Mapping[str, Replace]:
    """Parse the `old=new` entries; a tag can have only one replacement."""
    replaces: dict[str, Replace] = {}
    for entry in entries:
        old, new = split_replace(entry, vocabulary)
        selector = parse_selector(old, vocabulary, groups)
        if not isinstance(selector, Exact):
            raise ConfigError(
                f"replace {entry!r}: {old!r} is not one tag",
                hint="name the tags to replace one by one",
            )
        rule = Replace(old, _as_known(writable(new, "old=new tag"), vocabulary))
        first = replaces.setdefault(selector.form, rule)
        if normal_form(first.new) != normal_form(rule.new):
            raise ConfigError(
                f"{old!r} has two replacements: {first.new!r} and {rule.new!r}",
                hint="keep one of them",
            )
    return replaces


def split_replace(entry: str, vocabulary: Vocabulary) -> tuple[str, str]:
    """Split `old=new`. Some tags have a `=` (`=_=`, `:>=`), so prefer the split into known tags.

    Both sides in the vocabulary beats the left side alone, that beats the right side alone, that
    beats neither; then the first `=` counts.
    """
    positions = [at for at, character in enumerate(entry) if character == "="]
    splits = [(entry[:at].strip(), entry[at + 1 :].strip()) for at in positions]
    splits = [(old, new) for old, new in splits if old and new]
    if not splits:
        raise ConfigError(
            f"replace {entry!r} is not of the form old=new", hint="to drop a tag, exclude it"
        )
    return max(splits, key=lambda sides: 2 * (sides[0] in vocabulary) + (sides[1] in vocabulary))


def _refuse(rule: Exclude | Replace, leading: Trigger | Additional) -> None:
    raise ConfigError(
        f"'{rule}' would remove the tag that '{leading}' adds", hint="keep one of the two rules"
    )


def _ordinary_triggers(
    leading: Iterable[Trigger | Additional], vocabulary: Vocabulary
) -> list[str]:
    return [
        f"the trigger {rule.name!r} is a tag of the vocabulary: your subject will mix with what "
        "the base model knows by it; use a made-up name"
        for rule in leading
        if isinstance(rule, Trigger) and rule.name in vocabulary
    ]


def _chained(replaces: Mapping[str, Replace]) -> list[str]:
    chained: list[str] = []
    for form, rule in replaces.items():
        after = replaces.get(normal_form(rule.new))
        if after is not None and normal_form(rule.new) != form:
            chained.append(
                f"'{rule}' and '{after}' chain: replacing is one pass, so every run changes the "
                "captions again; write the final tag in both"
            )
    return chained
