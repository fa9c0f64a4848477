"""dsk.toml: the file, its tables, and the one function that merges them with the command line.

Precedence: default < dsk.toml < command line. Ranges are checked in `__post_init__`, so library
callers get them too; pydantic, in strict mode, only turns values from TOML into options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from datasetkit.captions import filters
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import CONFIG_NAME, config_path, display
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.toml_text import read_toml, refuse_control
from datasetkit.options import presets, trust
from datasetkit.options.declare import by_name, check_value, declared, type_name
from datasetkit.options.run import ConceptOptions

Options = TypeVar("Options")

# The tables of dsk.toml with their options classes, which are imported when they are asked for.
# `concept`, a list of tables, stands apart.
TABLES: Final[Mapping[str, str]] = {
    "run": "run:RunOptions",
    "executor": "executor:ExecutorOptions",
    "dataset": "dataset:DatasetOptions",
    "rename": "images:RenameOptions",
    "faces": "images:FacesOptions",
    "resize": "images:ResizeOptions",
    "cutout": "images:CutoutOptions",
    "tag": "tag:TagOptions",
    "caption": "caption:CaptionOptions",
    "rules": "tag:RulesOptions",
    "plan-repeats": "dataset:PlanRepeatsOptions",
    "layout": "dataset:LayoutOptions",
    "reg": "reg:RegOptions",
    "reg-generate": "reg:RegGenerateOptions",
    "report": "dataset:ReportOptions",
    "check": "check:CheckOptions",
    "review": "review:ReviewOptions",
    "export": "dataset:ExportOptions",
    "import": "dataset:ImportOptions",
    "train": "train:TrainOptions",
    "publish": "publish:PublishOptions",
    "find-lr": "find_lr:FindLrOptions",
    "grid": "grid:GridOptions",
    "keep": "keep:KeepOptions",
    "lora-check": "lora:LoraCheckOptions",
    "lora-resize": "lora:LoraResizeOptions",
    "lora-convert": "lora:LoraConvertOptions",
    "lora-merge": "lora:LoraMergeOptions",
    "lora-extract": "lora:LoraExtractOptions",
}


def options_class(table: str) -> type:
    """Return the options class of a table of dsk.toml, such as `tag`."""
    module, _, name = TABLES[table].partition(":")
    cls: type = getattr(import_module(f"datasetkit.options.{module}"), name)
    return cls


def _command(table: str) -> str:
    """Return the command whose options a table has: `reg generate`, `lora check`, `import`."""
    group, dash, name = table.partition("-")
    return f"{group} {name}" if dash and group in ("reg", "lora") else table


# How the options of a table are typed where they are not `--name`.
TYPED: Final = {"train": "--set {}"}
# Their paths are placed elsewhere: `work` and the folders of concepts are always taken from the
# project's root, and an export writes those of [train] as they stand in the file.
_PLACED_ELSEWHERE: Final = ("run", "train")
_NO_PATH = ("", "none", "common")  # not given, and the tables of implications that have names


def _seen_from_here(path: Path) -> str:
    """Return a path as seen from the current folder where it lies below it, else the whole path."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@dataclass(frozen=True, slots=True)
class Config:
    """A `dsk.toml` that was read and checked; an empty one without a file.

    is_named: the user named the file. One that was only found beside or above images does not
    decide where outside of its folder dsk writes. allow_import: its import paths may lead to any
    package.
    """

    path: Path | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    concepts: tuple[ConceptOptions, ...] = ()
    is_named: bool = False
    allow_import: bool = False

    @property
    def root(self) -> Path | None:
        return self.path.parent if self.path else None

    def _shown(self) -> str:
        return _seen_from_here(self.path) if self.path else CONFIG_NAME

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a table; [train] with the values of its preset below its own. Raises ConfigError
        for a preset that dsk does not have.
        """
        table = self.tables.get(name, {})
        return presets.with_preset(table) if name == "train" else table

    def _with_chosen_preset(
        self, given: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return [train] with the values of the preset that was given below it, and what was given
        with it. The values of the user's own stand for it: the run needs no file of the user.
        """
        written, name = self.tables.get("train", {}), str(given["preset"])
        of_user = presets.with_own(written, name)
        if of_user is not None:
            return of_user, {key: value for key, value in given.items() if key != "preset"}
        return presets.with_preset({**written, "preset": name}), given

    def for_concept(self, concept: ConceptOptions) -> Config:
        """Return the same with the concept's own trigger, exclude and additional in `[tag]`.

        Its trigger stands in place of the one of `[tag]`, its exclusions and additional tags come
        behind those.
        """
        tag = dict(self.table("tag"))
        if concept.trigger:
            tag["trigger"] = concept.trigger
        for key, own in (("exclude", concept.exclude), ("additional", concept.additional)):
            tag[key] = tuple(dict.fromkeys((*tag.get(key, ()), *own)))
        return replace(self, tables={**self.tables, "tag": tag})

    def build(
        self,
        cls: type[Options],
        name: str,
        given: Mapping[str, Any] | None = None,
        *,
        only_read: bool = False,
    ) -> Options:
        """Build a verb's options from its table and from what was given on the command line (None:
        not given).

        What is given is as seen from the current folder; paths of the dsk.toml, and the default
        ones of its project, are as seen from its folder. only_read: the caller neither writes to
        the paths of these options nor imports what they name. Raises ConfigError for a value that
        must not come from this file (see options/trust.py).
        """
        table, where = self.table(name), f"{display(self._shown())} [{name}]"
        if name == "train" and given and given.get("preset"):
            table, given = self._with_chosen_preset(given)
        options = build(cls, table, given or {}, where=where, typed=TYPED.get(name, "--{}"))
        if not only_read:
            self._refuse_untrusted(cls, name, given or {}, where)
        if self.root is None or name in _PLACED_ELSEWHERE:
            return options
        paths = {
            key: getattr(options, key)
            for key, about in by_name(cls).items()
            if about.path not in ("", "model")
            and (given or {}).get(key) is None
            and getattr(options, key) not in _NO_PATH
        }
        # dataclasses.replace knows no type variable that is bound to dataclasses.
        root = self.root
        return replace(
            options,
            **{
                key: tuple(_seen_from_here(root / path) for path in value)
                if isinstance(value, tuple)
                else _seen_from_here(root / value)
                for key, value in paths.items()
            },
        )  # type: ignore[type-var]

    def locate(self, built: str, folder: Path) -> Path:
        """Return the path that `build` returned of an option, which is as seen from the current
        folder; without a dsk.toml as seen from `folder`.
        """
        return folder / built if self.root is None else Path(built).absolute()

    def refuse_imports(self, cls: type, name: str, *, hint: str) -> None:
        """Raise ConfigError for an import path of a table that leads to an unknown package."""
        where = f"{display(self._shown())} [{name}]"
        trust.refuse_imports(cls, self.table(name), where=where, hint=hint)

    def outside_lines(self, cls: type, name: str) -> tuple[str, ...]:
        """Return a line for each place outside of the file's folder that its options of a table,
        or its concepts, name.
        """
        if self.root is None:
            return ()
        paths = {
            f"[{name}] {option}": path
            for option, path in trust.outside(cls, self.table(name), self.root).items()
        }
        paths |= {
            f"[[concept]] folder {c.folder}": Path(self.root, c.folder).resolve()
            for c in self.concepts
            if trust.is_outside(self.root / c.folder, self.root)
        }
        return tuple(
            f"{display(what)} lies outside of {display(self.root)}: {display(path)}"
            for what, path in paths.items()
        )

    def require_inside(self, path: Path, what: str, hint: str) -> None:
        """Raise ConfigError for a path that a file that was only found makes dsk write to, outside
        of its folder. what: the key with its value; hint: what to type, before the path.
        """
        if self.root is None or self.is_named or not trust.is_outside(path, self.root):
            return
        raise ConfigError(
            f"{display(self._shown())} {display(what)} lies outside of the folder of that file",
            hint=f"{hint} {display(path.resolve())}",
        )

    def _refuse_untrusted(self, cls: type, name: str, given: Mapping[str, Any], where: str) -> None:
        table = {k: v for k, v in self.table(name).items() if given.get(k) is None}
        if self.root is not None and not self.is_named:
            trust.refuse_found(
                cls, table, self.root, where=where, verb=_command(name), file=self._shown()
            )
        if not self.allow_import:
            trust.refuse_imports(cls, table, where=where)


def build(
    cls: type[Options],
    table: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    where: str,
    typed: str = "--{}",
) -> Options:
    """Merge default < table < given into one checked options object; unknown keys are refused with
    the nearest. All keys of the table that are wrong are one error.

    where: what errors name for a key of the table; typed: for a given one.
    """
    try:
        return _build(cls, table, given, where, typed)
    except ConfigError as error:
        lines = _problems(cls, table)
        if len(lines) < 2 or not error.message.startswith(f"{where}: "):
            raise
        raise several(f"{where}: {len(lines):,} keys must be changed", lines) from None


def several(message: str, lines: Sequence[str], *, hint: str = "") -> ConfigError:
    """Return one error for several mistakes, a line for each."""
    more = len(lines) - _MOST_LINES
    named = [*lines[:_MOST_LINES], f"and {more:,} more"] if more > 0 else lines
    return ConfigError(message, hint=hint or "change or remove each of them", details=named)


def _problems(cls: type, table: Mapping[str, Any]) -> list[str]:
    """Return a line for each key of a table that is not known or has a wrong value."""
    names = [d.name for d in declared(cls)]
    unknown = sorted(key for key in table if key not in names)
    lines: list[str] = []
    for key in unknown:
        is_named = len(lines) < _MOST_LINES
        hint = did_you_mean(key, names, "remove it", form="'{}'") if is_named else ""
        lines.append(f"unknown key {key!r}: {hint}")
    wrong = wrong_values(cls, {key: value for key, value in table.items() if key in names})
    return lines + [f"{text}: {hint}" for text, hint in wrong.values()]


def _build(
    cls: type[Options],
    table: Mapping[str, Any],
    given: Mapping[str, Any],
    where: str,
    typed: str,
) -> Options:
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    given = {key: value for key, value in given.items() if value is not None}
    for key in (*table, *given):
        if key not in names:
            hint = did_you_mean(key, names, f"known: {', '.join(names)}", form="'{}'")
            if key in given:
                raise ConfigError(f"{typed.format(display(key))}: unknown option", hint=hint)
            raise ConfigError(f"{where}: unknown key {key!r}", hint=hint)
    merged = {**table, **given}
    _refuse_control(cls, table, where)
    if typed.startswith("--set"):  # their values are TOML, too
        _refuse_control(cls, given, "--set")
    _refuse_bytes(merged, given, where, typed)
    from pydantic import ValidationError

    try:
        # Through JSON, where strict mode takes a list for a tuple as TOML has it, and still no "5"
        # for a 5.
        made: Options = _adapter(cls).validate_json(json.dumps(merged))  # type: ignore[arg-type]
        return made
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        expected, hint = _expected(cls, key)
        if first["type"] == "missing":
            raise ConfigError(f"{where}: {key} must be given", hint=hint) from None
        where = typed.format(key) if key in given else f"{where}: {key}"
        raise ConfigError(f"{where} = {_shown(merged[key])} is not {expected}", hint=hint) from None
    except (ConfigError, filters.FilterError) as error:
        if given:
            raise  # files are checked when they are read: the command line is what is wrong
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


@cache
def _adapter(cls: type) -> Any:
    """Return what turns values into options of a class; making it takes a while."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def wrong_values(cls: type, table: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what is wrong with each value by itself: key -> a sentence and its hint."""
    from pydantic import ValidationError

    wrong: dict[str, tuple[str, str]] = {}
    for d in declared(cls):
        if d.name in table:
            try:
                check_value(d, table[d.name])
            except ConfigError as error:
                wrong[d.name] = (error.message, error.hint)
    try:
        _adapter(cls).validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        for row in error.errors():
            key = str(row["loc"][0]) if row["loc"] else ""
            if key in table:
                expected, hint = _expected(cls, key)
                wrong.setdefault(key, (f"{key} = {_shown(table[key])} is not {expected}", hint))
    except (ConfigError, filters.FilterError):
        pass  # of several options together: the caller builds them and sees it
    return wrong


def _refuse_bytes(
    values: Mapping[str, Any], given: Mapping[str, Any], where: str, typed: str
) -> None:
    """Refuse text that is not Unicode, such as the path of a folder whose name is not UTF-8."""
    for key, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            name = typed.format(key) if key in given else f"{where}: {key}"
            raise ConfigError(
                f"{name} = {display(str(value))} is not UTF-8",
                hint="rename the file or folder, or name it by a link",
            ) from None


def _refuse_control(cls: type, values: Mapping[str, Any], where: str) -> None:
    for d in declared(cls):
        if d.about.path and isinstance(value := values.get(d.name), str):
            refuse_control(value, where=f"{where}: {d.name}")


# How much of a wrong value an error shows.
_LONGEST: Final = 60
_MOST_LINES: Final = 100  # of an error
# What the types of options are called in a dsk.toml.
_TYPES: Final[Mapping[str, str]] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text in quotes",
    "list of int": "a list of whole numbers, e.g. [512, 768]",
    "list of str": 'a list of texts, e.g. ["one", "two"]',
    "pair of int": "a pair [width, height]",
    "pair of float": "a pair of numbers",
}


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:_LONGEST]}..." if len(text) > _LONGEST else text


def _expected(cls: type, key: str) -> tuple[str, str]:
    """Say in words what a key takes (a number, true or false, ...), and as a hint."""
    for d in declared(cls):
        if d.name == key:
            types = [
                "one of " + ", ".join(map(repr, get_args(kind)))
                if get_origin(kind) is Literal
                else _TYPES[type_name(kind)]
                for kind in d.kinds
            ]
            expected = " or ".join(types)
            hint = f"{key} is {expected}"
            return expected, f"{hint}; {d.about.instead}" if d.about.instead else hint
    return "a valid value", ""


def _with_name(concept: ConceptOptions, root: Path) -> ConceptOptions:
    """Return a concept with the name of its folder where its path has none, as `.` and `..`."""
    if concept.name or concept.trigger or Path(concept.folder).name not in ("", ".."):
        return concept
    return replace(concept, name=(root / concept.folder).resolve().name)


def load(path: Path) -> Config:
    """Read and check a dsk.toml that the user named, all of it, so that a mistake in any table is
    found before the first step.
    """
    data = read_toml(path, hint="dsk init writes one")
    concepts = data.pop("concept", [])
    if not isinstance(concepts, list) or not all(isinstance(c, dict) for c in concepts):
        raise ConfigError(
            f"{display(path)}: concept is not a list of tables",
            hint="write [[concept]], with two brackets",
        )
    _require_tables(data, path)
    errors: list[ConfigError] = []
    declared_concepts: list[ConceptOptions] = []
    for number, concept in enumerate(concepts, 1):
        try:
            where = f"{display(path)} [[concept]] {number}"
            declared = build(ConceptOptions, concept, {}, where=where)
            declared_concepts.append(_with_name(declared, path.absolute().parent))
        except ConfigError as error:
            errors.append(error)
    config = Config(path.absolute(), data, tuple(declared_concepts), is_named=True)
    for name in data:
        try:
            _check_table(config, name)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [line for error in errors for line in _lines(error)]
        raise several(f"{display(config._shown())} has {len(lines):,} mistakes", lines)
    return config


def _require_tables(data: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a table that dsk.toml does not have, and for a key outside of all."""
    for name, table in data.items():
        if name in TABLES and not isinstance(table, dict):
            hint = f"write [{name}], with one bracket, and its keys below"
            raise ConfigError(f"{display(path)}: {name} is not a table", hint=hint)
        if name not in TABLES:
            tables = [*TABLES, "concept"]
            hint = did_you_mean(name, tables, f"known: {', '.join(TABLES)}", form="[{}]")
            raise ConfigError(f"{display(path)}: unknown table [{name}]", hint=hint)


def _check_table(config: Config, name: str) -> None:
    """Raise ConfigError for a table of a dsk.toml that is wrong."""
    cls = options_class(name)
    trust.refuse_command_line_only(
        cls,
        config.table(name),
        where=f"{display(config._shown())} [{name}]",
        verb=_command(name),
    )
    config.build(cls, name, only_read=True)


def _lines(error: ConfigError) -> list[str]:
    """Return the lines of an error, each with the table that it is about."""
    if error.details:
        table = error.message.rpartition(": ")[0]
        return [f"{table}: {line}" for line in error.details]
    return [f"{error.message}: {error.hint}" if error.hint else error.message]


# The dsk.toml that stood for its folder on the command line: at most one.
_NAMED: Final[set[Path]] = set()


def folder_of(path: Path) -> Path:
    """Return the folder that an argument of the command line means. A dsk.toml stands for its
    folder, and counts as named by the user until `forget_named`.
    """
    if path.suffix != ".toml" or not path.is_file():
        return path
    _require_name(path)
    _NAMED.add(path.resolve())
    return path.parent


def forget_named() -> None:
    """End the command whose file `folder_of` was given."""
    _NAMED.clear()


def find(folder: Path) -> Config:
    """Return the dsk.toml of the folder or its nearest ancestor; an empty Config where there is
    none. It was named only if `folder_of` was given it, see `Config.is_named`.
    """
    path = config_path(folder)
    return Config() if path is None else replace(load(path), is_named=path in _NAMED)


def named_or_found(path: Path) -> Config:
    """Return the dsk.toml that a path names, or the one that governs the folder that it names."""
    if not path.is_file():
        return find(path)
    _require_name(path)
    return load(path)


def _require_name(path: Path) -> None:
    if path.name != CONFIG_NAME:
        raise ConfigError(
            f"{display(path)} is not called {CONFIG_NAME}",
            hint=f"give each project its folder with a {CONFIG_NAME}",
        )
