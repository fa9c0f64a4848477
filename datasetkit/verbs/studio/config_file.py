"""The dsk.toml of a project, for the page: its values, and changes that keep its comments.

The page sends the hash of the text that it has seen. Where the file has another one meanwhile,
nothing is written, and the answer has the difference. Changes in a row are one entry of the
history.
"""

from __future__ import annotations

import hashlib
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError, DskError, InputError, PlanConflict
from datasetkit.core.files import CONFIG_NAME, config_path, display, read_existing
from datasetkit.options import presets, toml, trust
from datasetkit.options.declare import declared
from datasetkit.options.run import ConceptOptions
from datasetkit.options.toml_edit import TableChange, with_changes
from datasetkit.project.journal import Journal, JournalEntry
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import RunContext, open_project
from datasetkit.verbs.studio.commands import refuse_imports, refuse_unknown_optimizer
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]
VERB: Final = "config"
# Edits that follow each other within this time are one entry of the history.
SECONDS_OF_BURST: Final = 20
_SET, _MORE = "set ", " and more"
_MOST_CHANGES: Final = 2000


class ConfigChanged(PlanConflict):
    """dsk.toml is not what the page has seen. config: what it is now; differences: what the page
    wants otherwise.
    """

    def __init__(self, config: Json, differences: list[Json]) -> None:
        super().__init__(
            "dsk.toml was changed meanwhile", hint="choose for each value which one counts"
        )
        self.config, self.differences = config, differences


class WrongValues(ConfigError):
    """Values that cannot be written. problems: "train.network_dim" -> {"error", "hint"}."""

    def __init__(self, problems: Mapping[str, Json]) -> None:
        first = next(iter(problems.values()))
        super().__init__(first["error"], hint=first["hint"])
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ConfigEdit:
    """What the page wants to change. values: table -> key -> value; unset: table -> keys;
    concepts: {"at", "set", "unset"}, {"add": {...}} or {"remove": number}, one after the other.
    """

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unset: Mapping[str, Sequence[str]] = field(default_factory=dict)
    concepts: Sequence[Mapping[str, Any]] = ()


def path_of(session: StudioSession) -> Path:
    """Return the dsk.toml of the project, which may not exist yet."""
    return config_path(session.root) or session.root / CONFIG_NAME


def version(session: StudioSession) -> str:
    """Return the hash of the text of dsk.toml, "" where there is none."""
    return _hash(read_existing(path_of(session)))


def _hash(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()


def read(session: StudioSession) -> Json:
    """Return dsk.toml as values and text, with what is wrong with it."""
    path = path_of(session)
    data = read_existing(path)
    text = "" if data is None else data.decode("utf-8", "replace")
    problem: Json | None = None
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(text.removeprefix("\ufeff"))
        if data is not None:
            toml.find(session.root)
    except tomllib.TOMLDecodeError as error:
        problem = {"error": f"{display(path)} is not valid TOML: {error}", "hint": "correct it"}
    except DskError as error:
        problem = {"error": error.message, "hint": error.hint}
    concepts = values.pop("concept", [])
    return {
        "path": str(path),
        "exists": data is not None,
        "hash": _hash(data),
        "text": text,
        "tables": _json(values),
        "concepts": _json(concepts) if isinstance(concepts, list) else [],
        "problem": problem,
        "layers": _layers(values.get("train")),
    }


def _layers(table: object) -> list[Json]:
    """Return the presets that [train] names, the weakest first."""
    name = table.get("preset") if isinstance(table, dict) else None
    if not isinstance(name, str) or not name:
        return []
    try:
        return [
            {"name": each.name, "layer": each.layer, "title": each.title, "tables": each.tables,
             "source": each.source}
            for each in presets.layers(presets.parse(name))
        ]  # fmt: skip
    except DskError:
        return []  # `problem` says it


def _json(value: Any) -> Any:
    """Return values of TOML as JSON has them: dates become text."""
    if isinstance(value, dict):
        return {key: _json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_json(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def change(session: StudioSession, seen: str, edit: ConfigEdit, *, dry_run: bool = False) -> Json:
    """Write changes into dsk.toml; return what it is now.

    seen: the hash of the text that the page has seen, "" for no file. Raises ConfigChanged,
    WrongValues, NotAllowed for code that would be imported, Locked while another command works in
    the project.
    """
    path = path_of(session)
    old = read_existing(path)
    if _hash(old) != seen:
        raise ConfigChanged(read(session), _differences(session, edit))
    changes = list(_changes(session, edit, old))
    try:
        text = "" if old is None else old.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{display(path)} is not UTF-8 text", hint="save it as UTF-8") from None
    new = with_changes(text, changes, source=display(path))
    _require_valid(session, new, edit)
    if not dry_run and new != text:
        _write(session, path, old, new, edit)
    return read(session) if not dry_run else {**read(session), "text": new}


def _write(
    session: StudioSession, path: Path, old: bytes | None, new: str, edit: ConfigEdit
) -> None:
    names = [f"{table}.{key}" for table, values in edit.values.items() for key in values]
    names += [f"{table}.{key}" for table, keys in edit.unset.items() for key in keys]
    names += ["concepts"] if edit.concepts else []
    plan = Plan((WriteText(path, new, over=old),))
    with open_project(path.parent, RunContext(wait=False)) as project:
        journal = project.journal
        burst = _burst(journal, path, old)
        entry = project.apply(plan, VERB, _title(names), edited=[path])
        if burst is not None and entry is not None:
            before = burst.title.removeprefix(_SET).removesuffix(_MORE).split(", ")
            journal.join(burst.id, entry, _title([*before, *names], cut=_MORE in burst.title))


def _title(names: Iterable[str], *, cut: bool = False) -> str:
    """Return what the history shows for changed keys. cut: whether there are others."""
    shown = list(dict.fromkeys(names))
    return _SET + ", ".join(shown[:3]) + (_MORE if cut or len(shown) > 3 else "")


def _burst(journal: Journal, path: Path, old: bytes | None) -> JournalEntry | None:
    """Return the newest entry if it is an edit of the same file a moment ago, and nobody has
    changed the file since: what a person types in a row is one entry.
    """
    newest = journal.newest()
    if newest is None or newest.verb != VERB or newest.id + 1 != journal.next_id():
        return None
    operations = journal.operations(newest.id)
    is_same = len(operations) == 1 and operations[0].dst == path and operations[0].after == old
    is_recent = 0 <= time.time() - newest.started < SECONDS_OF_BURST
    return newest if is_same and is_recent and journal.is_signed(newest.id) else None


def _changes(session: StudioSession, edit: ConfigEdit, old: bytes | None) -> Iterator[TableChange]:
    count = sum(map(len, (*edit.values.values(), *edit.unset.values()))) + len(edit.concepts)
    if count > _MOST_CHANGES:
        raise InputError(f"the request has more than {_MOST_CHANGES:,} changes")
    for table in dict.fromkeys((*edit.values, *edit.unset)):
        if table not in toml.TABLES:
            raise InputError(f"dsk.toml has no table [{display(table)}]")
        values = dict(edit.values.get(table, {}))
        _require_values(table, values)
        refuse_imports(session, table, values)
        refuse_unknown_optimizer(table, values)
        trust.refuse_command_line_only(
            toml.options_class(table), values, where=f"[{table}]", verb=table
        )
        yield TableChange(table, values, _defaults(table, edit.unset.get(table, ())))
    count = _concept_count(old)
    for concept in edit.concepts:
        done = _concept_change(concept, count)
        count += 1 if done.at == count and not done.removed else -1 if done.removed else 0
        yield done


def _concept_count(data: bytes | None) -> int:
    try:
        concepts = tomllib.loads((data or b"").decode("utf-8-sig")).get("concept", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return 0
    return len(concepts) if isinstance(concepts, list) else 0


def _concept_change(concept: Mapping[str, Any], count: int) -> TableChange:
    match dict(concept):
        case {"add": dict() as values, **rest} if not rest:
            return TableChange("concept", values, at=count)
        case {"remove": int() as number, **rest} if not rest and 0 <= number < count:
            return TableChange("concept", at=number, removed=True)
        case {"at": int() as number, **rest} if set(rest) <= {"set", "unset"} and number < count:
            values, unset = rest.get("set", {}), rest.get("unset", [])
            if number >= 0 and isinstance(values, dict) and isinstance(unset, list):
                names = {str(key): None for key in unset}
                return TableChange("concept", values, names, at=number)
    raise InputError(
        "concepts has an entry that is not known",
        hint='{"at": 0, "set": {...}, "unset": [...]}, {"add": {...}} or {"remove": 0}',
    )


def _require_values(table: str, values: Mapping[str, Any]) -> None:
    """Raise WrongValues for keys that are not known and values that an option does not take."""
    cls = toml.options_class(table)
    names = [d.name for d in declared(cls)]
    problems: dict[str, Json] = {
        f"{table}.{key}": {"error": f"{display(key)} is not an option of [{table}]", "hint": ""}
        for key in values
        if key not in names
    }
    none = [key for key, value in values.items() if value is None]
    problems |= {
        f"{table}.{key}": {"error": f"{key} has no value", "hint": "unset it"} for key in none
    }
    valid = {key: value for key, value in values.items() if key in names and key not in none}
    problems |= {
        f"{table}.{key}": {"error": error, "hint": hint}
        for key, (error, hint) in toml.wrong_values(cls, valid).items()
    }
    if problems:
        raise WrongValues(problems)


def _defaults(table: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the default that a key has when it is reset, None for one that leaves no line."""
    by_name = {d.name: d.default for d in declared(toml.options_class(table))}
    return {
        key: None if by_name.get(key) in (None, MISSING) else by_name[key] for key in map(str, keys)
    }


def _require_valid(session: StudioSession, text: str, edit: ConfigEdit) -> None:
    """Raise WrongValues where the changed tables are wrong as a whole. What was wrong before in
    other tables stays as it is.
    """
    data = tomllib.loads(text.removeprefix("\ufeff"))
    problems: dict[str, Json] = {}
    for table in dict.fromkeys((*edit.values, *edit.unset)):
        cls = toml.options_class(table)
        try:
            values = data.get(table, {})
            values = presets.with_preset(values) if table == "train" else values
            toml.build(cls, values, {}, where=f"[{table}]")
        except ConfigError as error:
            problems[table] = {"error": error.message, "hint": error.hint}
            continue
        outside = trust.outside(cls, edit.values.get(table, {}), session.root)
        problems |= {
            f"{table}.{name}": {
                "error": f"{name} = {display(path)} lies outside of the project",
                "hint": "a dsk.toml that is only found does not write there: choose the folder "
                "when you start the command",
            }
            for name, path in outside.items()
        }
    for number, concept in enumerate(data.get("concept", []) if edit.concepts else ()):
        try:
            toml.build(ConceptOptions, concept, {}, where=f"[[concept]] {number + 1}")
        except ConfigError as error:
            problems[f"concept.{number}"] = {"error": error.message, "hint": error.hint}
    if problems:
        raise WrongValues(problems)


def _differences(session: StudioSession, edit: ConfigEdit) -> list[Json]:
    """Return the values that the page wants and the file does not have."""
    now = read(session)["tables"]
    wanted = [(t, k, v) for t, values in edit.values.items() for k, v in values.items()]
    wanted += [(t, k, None) for t, keys in edit.unset.items() for k in keys]
    return [
        {"table": table, "key": key, "yours": value, "theirs": now.get(table, {}).get(key)}
        for table, key, value in wanted
        if now.get(table, {}).get(key) != value
    ]
