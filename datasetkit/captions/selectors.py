"""Selectors: parse a tag, glob, group or category of a rule, and match tags against it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from datasetkit.captions.caption import normal_form
from datasetkit.captions.vocabulary import CATEGORIES, Vocabulary
from datasetkit.core.errors import ConfigError
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.toml_text import parse_toml

GROUPS_FILE = "groups.toml"
CATEGORY_PREFIX = "category:"
_GROUP_KEYS = frozenset({"description", "includes", "tags", "globs", "except", "words"})


@dataclass(frozen=True, slots=True)
class Exact:
    """One tag in any spelling. form: its normal form."""

    form: str

    def matches(self, form: str, category: str | None) -> bool:
        """Tell whether a tag of this normal form matches."""
        return form == self.form


@dataclass(frozen=True, slots=True)
class Glob:
    """All tags that a pattern matches from end to end."""

    pattern: re.Pattern[str]

    def matches(self, form: str, category: str | None) -> bool:
        """Tell whether a tag of this normal form matches."""
        return self.pattern.match(form) is not None


@dataclass(frozen=True, slots=True)
class Category:
    """All tags of one category of the vocabulary. name: "general", "character" or "rating"."""

    name: str

    def matches(self, form: str, category: str | None) -> bool:
        """Tell whether a tag of this category matches."""
        return category == self.name


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """The tags of a group: its listed tags and those that its globs match, except its exceptions
    and character tags.
    """

    forms: frozenset[str]
    globs: re.Pattern[str] | None
    exceptions: re.Pattern[str] | None

    def matches(self, form: str, category: str | None) -> bool:
        """Tell whether a tag of this normal form belongs to the group."""
        if form in self.forms:
            return True
        if category == "character" or self.globs is None or self.globs.match(form) is None:
            return False
        return self.exceptions is None or self.exceptions.match(form) is None


Selector = Exact | Glob | Category | GroupMembers


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of tags from `groups.toml` (the head of the file explains the keys).

    members: its own tags and those of the groups that it includes.
    """

    name: str
    description: str
    tags: tuple[str, ...]
    globs: tuple[str, ...]
    exceptions: tuple[str, ...]
    words: tuple[str, ...]
    includes: tuple[str, ...]
    members: tuple[GroupMembers, ...]

    def matches(self, form: str, category: str | None) -> bool:
        """Tell whether a tag of this normal form is in the group or in a group that it includes."""
        return any(part.matches(form, category) for part in self.members)


def glob_pattern(globs: Iterable[str]) -> re.Pattern[str]:
    r"""Compile globs to one pattern over whole normal forms: `*` is any text, `?` one character.

    Globs are matched in normal form too (`*_Hair` = `* hair`). Atomic groups keep a glob of many
    `*` linear.
    """
    return re.compile("|".join(_one_glob(normal_form(glob)) for glob in globs), re.DOTALL)


def _one_glob(form: str) -> str:
    first, *rest = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", form)]
    if not rest:
        return rf"(?:{first}\Z)"
    *middle, last = rest
    return rf"(?:{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}\Z)"


def parse_selector(
    text: str, vocabulary: Vocabulary, groups: Mapping[str, Group]
) -> Selector | Group:
    """Parse a selector: a tag of the vocabulary, else `@group`, `category:NAME`, a glob, else any
    other tag.

    The vocabulary comes first because `@_@`, `?` and `!?` are tags. A selector always matches whole
    tags. Raises ConfigError for an empty selector, an unknown group or an unknown category.
    """
    form = normal_form(text)
    if not form:
        raise ConfigError(
            f"{text!r} does not name a tag",
            hint="write a tag, @group, a glob such as *_hair, or category:rating",
        )
    if form in vocabulary:
        return Exact(form)
    if form.startswith("@"):
        return _known_group(form.removeprefix("@"), groups)
    if form.startswith(CATEGORY_PREFIX):
        return _known_category(form.removeprefix(CATEGORY_PREFIX).strip())
    if "*" in form or "?" in form:
        return Glob(glob_pattern([text]))
    return Exact(form)


def _known_group(name: str, groups: Mapping[str, Group]) -> Group:
    if name in groups:
        return groups[name]
    otherwise = f"groups: {', '.join(f'@{group}' for group in groups)}; see `dsk rules groups`"
    hint = did_you_mean(name, groups, otherwise, form="@{}", cutoff=0.5)
    raise ConfigError(f"unknown group @{name}", hint=hint)


def _known_category(name: str) -> Category:
    names = sorted(set(CATEGORIES.values()))
    if name in names:
        return Category(name)
    otherwise = f"categories: {', '.join(names)}"
    hint = did_you_mean(name, names, otherwise, form="category:{}", cutoff=0.5)
    raise ConfigError(f"unknown category {name!r}", hint=hint)


@cache
def load_groups() -> Mapping[str, Group]:
    """Return the shipped groups by name, in the order of the file (read once per process)."""
    text = resources.files("datasetkit").joinpath("data", GROUPS_FILE).read_text(encoding="utf-8")
    return read_groups(text, source=GROUPS_FILE)


def read_groups(text: str, *, source: str) -> Mapping[str, Group]:
    """Parse groups from TOML, one table per group. source: the file's name for errors.

    Raises ConfigError.
    """
    tables = parse_toml(text, source=source)
    members = {name: _own_members(name, table, source) for name, table in tables.items()}
    groups: dict[str, Group] = {}
    for name, table in tables.items():
        includes = tuple(table.get("includes", ()))
        unknown = [other for other in includes if other not in members]
        if unknown:
            raise ConfigError(
                f"{source}: [{name}] includes an unknown group, {unknown[0]!r}",
                hint="correct the file",
            )
        groups[name] = Group(
            name=name,
            description=str(table.get("description", "")),
            tags=tuple(table.get("tags", ())),
            globs=tuple(table.get("globs", ())),
            exceptions=tuple(table.get("except", ())),
            words=tuple(table.get("words", ())),
            includes=includes,
            members=(members[name], *(members[other] for other in includes)),
        )
    return groups


def _own_members(name: str, table: object, source: str) -> GroupMembers:
    """Compile the tags that one table lists itself, after checking its keys and types."""
    if not isinstance(table, dict) or not table.keys() <= _GROUP_KEYS:
        raise ConfigError(
            f"{source}: [{name}] is not a group",
            hint=f"a group has the keys {', '.join(sorted(_GROUP_KEYS))}",
        )
    lists = {key: value for key, value in table.items() if key != "description"}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(
                f"{source}: [{name}] {key} must be a list of strings", hint="correct the file"
            )
    globs, exceptions = lists.get("globs"), lists.get("except")
    return GroupMembers(
        forms=frozenset(
            normal_form(tag) for key in ("tags", "words") for tag in lists.get(key, ())
        ),
        globs=glob_pattern(globs) if globs else None,
        exceptions=glob_pattern(exceptions) if exceptions else None,
    )
