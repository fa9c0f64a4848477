"""Check an ONNX file without loading it: whether it is complete, and which other files it reads."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from datasetkit.core.errors import ModelFileError

# Protocol buffer wire types (protobuf.dev, "Encoding").
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GIT_LFS_POINTER = b"version https://git-lfs"
# Field numbers of onnx.proto3, for each message the fields that can hold a tensor further down.
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
MODEL_IR_VERSION, MODEL_GRAPH = 1, 7
TENSOR_EXTERNAL_DATA = 13
ENTRY_KEY, ENTRY_VALUE = 1, 2
# The graphs within If and Loop nodes are nested. No real model is nested so deep; a hostile one
# could exhaust the stack.
DEEPEST = 48

Span = tuple[int, int]


class _WireError(Exception):
    """The bytes do not follow the wire format."""


def check(path: Path) -> tuple[Path, ...]:
    """Return the external data files of a model, sorted; most models have none.

    Raises ModelFileError for a file that is not a complete ONNX model, or that reads files outside
    of its folder. Only lengths and field numbers are read, which takes milliseconds: damaged
    weights are found by their sha256.
    """
    again = "download it again; if you copied it, compare its size with the original"
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(GIT_LFS_POINTER)] == GIT_LFS_POINTER:
                raise ModelFileError(
                    f"{path} is a Git LFS pointer, not the model", hint="run `git lfs pull` there"
                )
            locations = sorted(_locations(data))
    except (OSError, ValueError) as error:  # mmap raises ValueError for an empty file
        raise ModelFileError(
            f"{path}: the model file cannot be read: {error}", hint=again
        ) from error
    except _WireError as error:
        raise ModelFileError(f"{path} is not a complete ONNX model: {error}", hint=again) from error
    return tuple(_beside(path, location) for location in locations)


def _beside(path: Path, location: str) -> Path:
    """Return the external data file of this name, which must be a regular file beside the model."""
    data = path.parent / location
    is_name = location not in ("", ".", "..") and not any(char in location for char in "/\\:\0")
    if not is_name or data.is_symlink() or not data.is_file():
        raise ModelFileError(
            f"{path} reads weights from {location!r}, not a regular file in the same folder",
            hint="use a model with all weights in its .onnx file, or put the data file beside it",
        )
    return data


def _locations(data: mmap.mmap) -> set[str]:
    numbers = {number for number, _, _ in _fields(data, (0, len(data)))}
    if not {MODEL_IR_VERSION, MODEL_GRAPH} <= numbers:
        raise _WireError("it has no graph")
    return {
        location
        for tensor in _tensors(data, "model", (0, len(data)), 0)
        for location in _external(data, tensor)
    }


def _tensors(data: mmap.mmap, message: str, span: Span, depth: int) -> Iterator[Span]:
    if depth > DEEPEST:
        raise _WireError("its graphs are nested too deeply")
    if message == "tensor":
        yield span
        return
    children = CHILDREN[message]
    for number, wire, inner in _fields(data, span):
        if wire == BYTES and number in children:
            yield from _tensors(data, children[number], inner, depth + 1)


def _external(data: mmap.mmap, tensor: Span) -> Iterator[str]:
    """Yield the `location` entries of a tensor."""
    for number, wire, entry in _fields(data, tensor):
        if number == TENSOR_EXTERNAL_DATA and wire == BYTES:
            texts = {n: data[a:b] for n, w, (a, b) in _fields(data, entry) if w == BYTES}
            if texts.get(ENTRY_KEY) == b"location":
                yield texts.get(ENTRY_VALUE, b"").decode("utf-8", "backslashreplace")


def _fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Yield (field number, wire type, span of the value) of one message; values are not read."""
    at, end = span
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            _, after = _varint(data, at, end)
        elif wire == BYTES:
            length, at = _varint(data, at, end)
            after = at + length
        elif wire in (FIXED64, FIXED32):
            after = at + (8 if wire == FIXED64 else 4)
        else:
            raise _WireError(f"unknown wire type {wire} at byte {at}")
        if after > end:
            raise _WireError(f"it ends at byte {end}, {after - end} bytes too early")
        yield number, wire, (at, after)
        at = after


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _WireError(f"it ends at byte {end}, within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _WireError(f"a number at byte {at} is too long")
