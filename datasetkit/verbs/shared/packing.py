"""Dataclasses as JSON and back, by the types of their fields: for results that the store keeps."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Callable, Mapping, Sequence
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


# What makes a value of one type out of JSON; made once for each type, since a result may have
# hundreds of thousands of values.
_Reader = Callable[[Any], Any]


def _typed(hint: Any, value: Any) -> Any:
    return _reader(hint)(value)


@functools.cache
def _reader(hint: Any) -> _Reader:
    origin = get_origin(hint) or hint
    if isinstance(hint, type) and is_dataclass(hint):
        return functools.partial(_dataclass, hint)
    if hint is Path:
        return Path
    if origin in (tuple, dict, Mapping, Sequence):
        return functools.partial(_container, origin, get_args(hint))
    if origin in (Union, types.UnionType):
        return functools.partial(_optional, get_args(hint))
    if origin is Literal:
        return functools.partial(_literal, get_args(hint))
    allowed = (float, int) if origin is float else origin
    return functools.partial(_scalar, allowed) if isinstance(origin, type) else _unchanged


def _dataclass(kind: Any, values: Any) -> Any:
    return kind(*[read(value) for read, value in zip(_fields(kind), values, strict=True)])


def _container(origin: Any, kinds: tuple[Any, ...], values: Any) -> Any:
    readers = [_reader(kind) for kind in kinds if kind is not Ellipsis]
    if origin in (dict, Mapping):
        of_key, of_value = readers
        return {of_key(key): of_value(value) for key, value in values}
    if origin is Sequence or kinds[-1] is Ellipsis:
        return tuple(map(readers[0], values))
    return tuple(read(value) for read, value in zip(readers, values, strict=True))


def _optional(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        return None
    # JSON does not say which of several it is.
    (kind,) = (each for each in kinds if each is not type(None))
    return _reader(kind)(value)


def _literal(allowed: tuple[Any, ...], value: Any) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is not one of {allowed}")
    return value


def _scalar(allowed: Any, value: Any) -> Any:
    if not isinstance(value, allowed):
        raise ValueError(f"{value!r} is not a {allowed}")
    return value


def _unchanged(value: Any) -> Any:
    return value


@functools.cache
def _fields(kind: Any) -> tuple[_Reader, ...]:
    """Return the readers of the fields of a dataclass, in order."""
    hints = get_type_hints(kind)
    return tuple(_reader(hints[about.name]) for about in fields(kind))
