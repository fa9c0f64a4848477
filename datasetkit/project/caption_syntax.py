"""How captions are written in a folder: what its dsk.toml says in `[train]`, the kind that
`[dataset]` or the folder's `[[concept]]` gives them, and the words that stand before a sentence:
triggers and additional tags of dsk.toml, and all triggers that commands stored.

Read here and not with the other options, which are above the project: everything that reads a
caption needs it, and must not be able to forget it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, get_args

from datasetkit.core.files import config_path
from datasetkit.core.records import CaptionKind, CaptionSyntax
from datasetkit.project.stored_triggers import LAID_OUT, words_ever_stored

_KINDS: Final[tuple[CaptionKind, ...]] = get_args(CaptionKind)
# Longer texts, and those with a comma, are no separators; the trainer refuses them.
_LONGEST_SEPARATOR: Final = 32

Table = Mapping[str, Any]


def syntax_of(folder: Path) -> CaptionSyntax:
    """Return the syntax of the captions of a folder. A dsk.toml that cannot be read says nothing:
    the command that needs it reports it.
    """
    path = config_path(folder)
    if path is None:
        return CaptionSyntax()
    try:
        info = path.stat()
        syntax = _declared(path, info.st_mtime_ns, info.st_size, folder.resolve())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return CaptionSyntax()
    if syntax.kind == "tags":
        return syntax
    words = (*syntax.leading, *words_ever_stored(folder))
    return replace(syntax, leading=tuple(dict.fromkeys(words)))


@lru_cache(maxsize=256)
def _declared(path: Path, modified: int, size: int, folder: Path) -> CaptionSyntax:
    config = _tables(path, modified, size)
    syntax = of_options(_table(config, "train"))
    concepts = _concepts_of(folder, path.parent, config)
    default = _kind_in(_table(config, "dataset")) or "tags"
    kinds = {_kind_in(concept) or default for concept in concepts}
    kind = kinds.pop() if len(kinds) == 1 else default
    if kind == "tags":
        return syntax
    tables = (*concepts, _table(config, "tag"), _table(config, "rules"))
    words = [word for table in tables for word in leading_words(table)]
    return replace(syntax, kind=kind, leading=tuple(dict.fromkeys(words)))


@lru_cache(maxsize=32)
def _tables(path: Path, modified: int, size: int) -> Table:
    return tomllib.loads(path.read_text(encoding="utf-8-sig"))


def of_options(options: Table) -> CaptionSyntax:
    """Return the syntax that options of `[train]` say, by name; values of a wrong type are
    ignored.
    """

    def separator(name: str) -> str:
        text = options.get(name)
        usable = isinstance(text, str) and "," not in text and len(text) <= _LONGEST_SEPARATOR
        return text if usable and isinstance(text, str) else ""

    return CaptionSyntax(
        keep_tokens_separator=separator("keep_tokens_separator"),
        secondary_separator=separator("secondary_separator"),
        enable_wildcard=options.get("enable_wildcard") is True,
        weighted_captions=options.get("weighted_captions") is True,
    )


def leading_words(table: Table) -> list[str]:
    """Return the words that a table of dsk.toml puts before captions: its triggers and additional
    tags.
    """
    words = [*_list(table.get("trigger")), *_list(table.get("additional"))]
    return [word for word in words if isinstance(word, str)]


def concept_name(name: str, trigger: Sequence[str], folder: str) -> str:
    """Return the name of a `[[concept]]`: its own, else its first trigger, else its folder's."""
    return name or (trigger[0] if trigger else Path(folder).name)


def _concepts_of(folder: Path, root: Path, config: Table) -> Sequence[Table]:
    """Return the concepts whose images (raw, finished or laid out) are in a folder or above it:
    the one of this name, else those that share the raw images.
    """
    concepts = [c for c in _list(config.get("concept")) if isinstance(c, dict)]
    if not concepts:
        return []
    work = (root / str(_table(config, "run").get("work", "work"))).resolve()
    for here in (folder, *folder.parents):
        names = _names_at(here, work)
        named = [concept for concept in concepts if _name(concept) in names]
        raw = [c for c in concepts if (root / _text(c.get("folder"))).resolve() == here]
        if named or raw:
            return named[:1] or raw
        if here == root:
            break
    return []


def _names_at(folder: Path, work: Path) -> set[str]:
    """Return the names that the concept of a folder may have: finished images lie in `work/NAME`
    or `work/.step/NAME`, laid-out ones in `N_NAME`.
    """
    laid_out = LAID_OUT.fullmatch(folder.name)
    names = {laid_out[1]} if laid_out else set()
    of_step = folder.parent.name.startswith(".")
    if work in (folder.parent, folder.parent.parent if of_step else folder.parent):
        names.add(folder.name)
    return names


def _name(concept: Table) -> str:
    trigger = [word for word in _list(concept.get("trigger")) if isinstance(word, str)]
    return concept_name(_text(concept.get("name")), trigger, _text(concept.get("folder")))


def _kind_in(table: Table) -> CaptionKind | None:
    return next((kind for kind in _KINDS if kind == table.get("captions")), None)


def _table(config: Table, name: str) -> Table:
    table = config.get(name)
    return table if isinstance(table, dict) else {}


def _list(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
