"""How an option is declared: its default, and with it all that help, checks, docs, the schema of
dsk.toml and forms need. `describe` gives it as plain data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, MISSING, asdict, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range, one_of

T = TypeVar("T")
P = ParamSpec("P")
# input: read; output: written. A model is a file, a folder, or a name on the hub.
PathKind = Literal["", "input file", "input folder", "output file", "output folder", "model"]
Applies = Literal["at start", "on resume", "at once"]
Level = Literal["run", "dataset", "subset"]
# The panels of a command's help: what the result is, and how dsk gets there.
Panel = Literal["What you want", "How it runs"]
# From where an option counts: any dsk.toml, one that is named on the command line, or the command
# line alone. A dsk.toml that is found beside or above images may have come with them.
CountsFrom = Literal["any file", "named file", "command line"]
MANY: Final = 10**9  # as a limit: there is none in practice
READING: Final = "Reading images"  # the group that commands show last
_KEY: Final = "option"


@dataclass(frozen=True, slots=True)
class Option:
    """What is declared of an option besides its type and default.

    help: what it does, one or more sentences. change: when another value is wanted; goes on after
    "change it when". shown: the default in words, where the value says little. see: the page that
    says more, as seen from docs/. range: least and greatest number; no_range: why a number has
    none. choices: the values it takes; those of a Literal type need not be repeated. group: the
    heading of this option and of those after it. unit: of the number. slot: its place among the ten
    options of the training form. usual: family -> the range that is usual there. families: those in
    which it has a meaning, () for all. path: what kind of path it is; one that is written counts
    from a found dsk.toml only within the folder of that file. imports_code: its value may be an
    import path; a file may name classes of these packages, others need --allow-import.
    counts_from: where the option may be set, if not in any dsk.toml. is_limit: it protects the
    machine; a file that is only found may lower it, not raise it. literal: a list of name=value,
    each value a Python literal. needs: the option without which it does nothing. applies: when a
    new value takes effect in a training run.

    Of the command line: panel: under which heading help lists it. flags: its spellings, where not
    --name. metavar. repeat: a list that is given one by one, not with commas.

    Of sd-scripts: section: of its config.toml, "" for options that it does not have. level: the
    deepest table in which its files may give it. sd_default: what it takes where its files say
    nothing, where that is not our default. in_metadata: it is written to the LoRA file as
    ss_<name>. off: the value that an export leaves out, because sd-scripts does the same without
    it. old_names: what sd-scripts called it before, or elsewhere.
    """

    help: str
    _: KW_ONLY
    change: str = ""
    shown: str = ""
    see: str = ""
    range: tuple[float, float] | None = None
    no_range: str = ""
    choices: tuple[str | int, ...] = ()
    group: str = ""
    unit: str = ""
    slot: int | None = None
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    path: PathKind = ""
    imports_code: tuple[str, ...] = ()
    counts_from: CountsFrom = "any file"
    is_limit: bool = False
    literal: bool = False
    instead: str = ""
    applies: Applies = "at start"
    panel: Panel = "What you want"
    flags: tuple[str, ...] = ()
    metavar: str = ""
    repeat: bool = False
    section: str = ""
    level: Level = "run"
    sd_default: object = None
    in_metadata: bool = False
    off: object = None
    needs: str = ""
    old_names: tuple[str, ...] = ()


def _with_default(declare: Callable[P, Option]) -> Callable[Concatenate[T, P], T]:
    """Give `field` the arguments of Option behind the default, so that both are typed."""

    def option(default: T, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return field(default=default, metadata={_KEY: declare(*args, **kwargs)})

    return option


option = _with_default(Option)


def required(declared: Option) -> Mapping[str, Option]:
    """Return the metadata of an option without a default: `field(metadata=required(...))`."""
    return {_KEY: declared}


@dataclass(frozen=True, slots=True)
class DeclaredOption:
    """An option of a class. type: its annotation, resolved. default: MISSING where there is none.
    choices: those declared, or those of its Literal type.
    """

    name: str
    type: Any
    default: Any
    about: Option
    group: str
    choices: tuple[str | int, ...]

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of a value, without None: `int | tuple[int, int] | None` has two."""
        union = get_origin(self.type) in (Union, UnionType)
        return tuple(t for t in (get_args(self.type) if union else (self.type,)) if t is not _NONE)

    @property
    def is_written(self) -> bool:
        """Tell whether dsk writes to the path that it names."""
        return self.about.path in ("output file", "output folder")

    @property
    def switch(self) -> str:
        """Its first spelling on the command line, such as `--out`."""
        flag = self.about.flags[0] if self.about.flags else f"--{self.name.replace('_', '-')}"
        return flag.partition("/")[0]

    @property
    def off_switch(self) -> str:
        """What turns a flag off on the command line, such as `--no-recursive`."""
        off = self.about.flags[0].partition("/")[2] if self.about.flags else ""
        return off or f"--no-{self.switch.removeprefix('--')}"

    @property
    def is_number(self) -> bool:
        return any(t in (int, float) or set(get_args(t)) & {int, float} for t in self.kinds)


_NONE: Final = type(None)


@cache
def declared(options_class: type) -> tuple[DeclaredOption, ...]:
    """Return the options of a class in their order."""
    hints = get_type_hints(options_class)
    options: list[DeclaredOption] = []
    group = ""
    for f in fields(options_class):
        about: Option = f.metadata[_KEY]
        group = about.group or group
        words = tuple(
            word
            for kind in (hints[f.name], *get_args(hints[f.name]))
            if get_origin(kind) is Literal
            for word in get_args(kind)
        )
        options.append(
            DeclaredOption(f.name, hints[f.name], f.default, about, group, about.choices or words)
        )
    return tuple(options)


def by_name(options_class: type) -> Mapping[str, Option]:
    """Return what is declared of each option of a class."""
    return {d.name: d.about for d in declared(options_class)}


class CheckedOptions:
    """The base of every options class: its types are strict, its ranges and choices are checked."""

    __slots__ = ()
    # How values from TOML become options: no "5" for a 5, and no unknown keys.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        check(self)


def check(options: CheckedOptions) -> None:
    """Raise ConfigError for a number out of its range and a word that is not a choice."""
    options_class: type = type(options)
    for d in declared(options_class):
        check_value(d, getattr(options, d.name))


def check_value(d: DeclaredOption, value: object) -> None:
    """Raise ConfigError for a value of an option that is out of its range or not a choice."""
    for part in value if isinstance(value, tuple | list) else (value,):
        _check(d, part)


def _check(d: DeclaredOption, value: object) -> None:
    if isinstance(value, str):
        if d.choices:
            one_of(d.name, value, *map(str, d.choices))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{d.name} = {value} is not a finite number", hint="give a number")
        if d.about.range is not None:
            in_range(d.name, value, *d.about.range)
        elif d.choices and value not in d.choices:
            *most, last = map(str, d.choices)
            raise ConfigError(
                f"{d.name} = {value} is not known", hint=f"give {', '.join(most)} or {last}"
            )


def describe(options_class: type) -> tuple[dict[str, Any], ...]:
    """Return the options of a class as plain data that JSON can hold, one dict for each."""
    return tuple(
        asdict(d.about)
        | {
            "name": d.name,
            "group": d.group,
            "types": [type_name(kind) for kind in d.kinds],
            "required": d.default is MISSING,
            "default": None if d.default is MISSING else d.default,
            "choices": d.choices,
            "usual": {family: list(limits) for family, limits in d.about.usual.items()},
        }
        for d in declared(options_class)
    )


def type_name(kind: Any) -> str:
    """Return what a type is called in a form: `int`, `bool`, `list of str`, `pair of int`, ..."""
    args = get_args(kind)
    if get_origin(kind) is Literal:
        return "str"
    if args and args[-1] is Ellipsis:
        return f"list of {args[0].__name__}"
    return f"pair of {args[0].__name__}" if args else str(kind.__name__)
