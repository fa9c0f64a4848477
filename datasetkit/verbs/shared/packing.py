"""Dataclasses as JSON and back, by the types of their fields: for results that the store keeps."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_SCALARS = (str, int, float, bool, type(None))


def pack(value: object) -> bytes:
    """Return a dataclass as JSON. Raises TypeError for what `unpack` cannot make again."""
    return json.dumps(_plain(value), separators=(",", ":")).encode()


def unpack(kind: type[T], data: bytes) -> T:
    """Return the dataclass that `pack` was given. Raises ValueError for anything else."""
    try:
        result: T = _typed(kind, json.loads(data))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return result


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, about.name)) for about in fields(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(each)] for key, each in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(each) for each in value]
    if type(value) not in _SCALARS:
        raise TypeError(f"cannot be kept: {type(value).__name__}")
    return value


def _typed(hint: Any, value: Any) -> Any:
    origin = get_origin(hint) or hint
    if isinstance(hint, type) and is_dataclass(hint):
        return hint(*(_typed(each, v) for each, v in zip(_hints(hint), value, strict=True)))
    if hint is Path:
        return Path(value)
    if origin in (tuple, dict, Mapping, Sequence):
        return _container(origin, get_args(hint), value)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        # JSON does not say which of several it is.
        (kind,) = (each for each in get_args(hint) if each is not type(None))
        return _typed(kind, value)
    if origin is Literal and value not in get_args(hint):
        raise ValueError(f"{value!r} is not one of {get_args(hint)}")
    allowed = (float, int) if origin is float else origin
    if isinstance(origin, type) and not isinstance(value, allowed):
        raise ValueError(f"{value!r} is not a {origin.__name__}")
    return value


def _container(origin: Any, kinds: tuple[Any, ...], values: Any) -> Any:
    if origin in (dict, Mapping):
        return {_typed(kinds[0], key): _typed(kinds[1], value) for key, value in values}
    if origin is Sequence or kinds[-1] is Ellipsis:
        return tuple(_typed(kinds[0], value) for value in values)
    return tuple(_typed(kind, value) for kind, value in zip(kinds, values, strict=True))


@functools.cache
def _hints(kind: type[Any]) -> tuple[Any, ...]:
    """Return the types of the fields of a dataclass, in order."""
    hints = get_type_hints(kind)
    return tuple(hints[about.name] for about in fields(kind))
