"""Read and write safetensors files: a header is checked whole before anything of it is used, and
tensors are read one by one.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.lora_files.precision import FLOATS, ITEM_BYTES, Array, decode

_MAX_HEADER: Final = 100_000_000  # the safetensors library's limit
_CHUNK: Final = 1 << 24
_DOWNLOAD: Final = "download the file again"
_PICKLE: Final = (
    "a pickle, which can run code when it is loaded",
    "convert it to .safetensors in the program that wrote it",
)
_WEB_PAGE: Final = ("a web page", "log in where the file is, and download it again")
# First bytes -> what the file is, and what to do.
_OTHER_FORMATS: Final[Mapping[bytes, tuple[str, str]]] = {
    b"PK\x03\x04": _PICKLE,
    b"\x80\x02": _PICKLE,
    b"\x80\x03": _PICKLE,
    b"\x80\x04": _PICKLE,
    b"\x80\x05": _PICKLE,
    b"GGUF": ("a GGUF file", "name a .safetensors file"),
    b"<!DOCTYPE": _WEB_PAGE,
    b"<!doctype": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b"<HTML": _WEB_PAGE,
    b"version https://git-lfs": ("a pointer of Git LFS", "run git lfs pull"),
}
_LEGACY_START, _LEGACY_END = 0x100000, 0x110000
_ORDER: Final = {dtype: n for n, dtype in enumerate(ITEM_BYTES)}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file. start, end: bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A safetensors file whose header was read and checked. body: where the tensors begin."""

    path: Path
    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    body: int
    size: int

    def bytes_of(self, name: str) -> bytes:
        """Return a tensor's bytes. Raises ModelFileError."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a tensor's bytes, 16 MiB at a time. Raises ModelFileError."""
        entry = self.entries[name]
        missing = entry.end - entry.start
        try:
            with self.path.open("rb") as file:
                file.seek(self.body + entry.start)
                while missing:
                    data = file.read(min(missing, _CHUNK))
                    if not data:
                        raise _cut_off(self.path)
                    missing -= len(data)
                    yield data
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def array(self, name: str) -> Array:
        """Return a tensor in float64. Raises ModelFileError."""
        entry = self.entries[name]
        return decode(self.bytes_of(name), entry.dtype).reshape(entry.shape)


def open_file(path: Path) -> TensorFile:
    """Read and check the header of a safetensors file. Raises ModelFileError with what else the
    file is.
    """
    try:
        size = _regular_size(path)
        with path.open("rb") as file:
            start = file.read(64)
            # A header of 640 bytes begins as a pickle does, but with `{` behind its length.
            is_header = start[8:9] == b"{"
            for magic, (what, hint) in _OTHER_FORMATS.items():
                if start.startswith(magic) and not is_header:
                    raise ModelFileError(f"{display(path)} is {what}", hint=hint)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > _MAX_HEADER:
                raise _not_safetensors(path)
            if 8 + length > size:
                raise _cut_off(path)
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from error
    entries, metadata = _header(path, text)
    _check_layout(path, entries, size - 8 - length)
    return TensorFile(path, {e.name: e for e in entries}, metadata, 8 + length, size)


def _regular_size(path: Path) -> int:
    """Return the bytes of a regular file, of which alone a read is sure to end. Raises
    ModelFileError, OSError.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ModelFileError(
            f"{display(path)} is a folder, not a LoRA file", hint="name the .safetensors file in it"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(
            f"{display(path)} is not a regular file", hint="name a .safetensors file"
        )
    return status.st_size


def _header(path: Path, text: bytes) -> tuple[list[TensorEntry], dict[str, str]]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise _not_safetensors(path) from None
    if not isinstance(header, dict):
        raise _not_safetensors(path)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "its metadata is not a table of texts")
    try:
        "".join([*header, *metadata, *metadata.values()]).encode()
    except UnicodeEncodeError:
        raise _damaged(path, "a text in its header is not valid Unicode") from None
    return [_entry(path, name, entry) for name, entry in header.items()], metadata


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table


def _entry(path: Path, name: str, entry: object) -> TensorEntry:
    table = entry if isinstance(entry, dict) else {}
    dtype = table.get("dtype")
    shape, offsets = _counts(table.get("shape")), _counts(table.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise _damaged(path, f"the header's entry of {display(name[:80])} is not one of a tensor")
    if dtype not in ITEM_BYTES:
        raise ModelFileError(
            f"{display(path)}: {display(name[:80])} is stored as {display(dtype)}, which is not "
            "supported",
            hint="name a file in float, fp16 or bf16",
        )
    start, end = offsets
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        shown = " x ".join(f"{side:,}" for side in shape)
        raise _damaged(
            path,
            f"{display(name[:80])} of {shown} does not fit its {max(end - start, 0):,} bytes",
        )
    return TensorEntry(name, dtype, tuple(shape), start, end)


def _counts(value: object) -> list[int] | None:
    """Return a list of sizes as it is, None for anything else."""
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        return None
    return value


def _check_layout(path: Path, entries: Sequence[TensorEntry], size: int) -> None:
    """Raise ModelFileError unless the tensors fill the file without gaps and overlaps."""
    end = 0
    for entry in sorted(entries, key=lambda e: (e.start, e.end)):
        if entry.start != end:
            raise _damaged(path, f"{display(entry.name[:80])} overlaps another tensor, or a gap")
        end = entry.end
    if end > size:
        raise _cut_off(path, f": {end - size:,} bytes are missing")
    if end < size:
        raise _damaged(path, f"{size - end:,} bytes belong to no tensor")


def _not_safetensors(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{display(path)} is not a safetensors file", hint="name a LoRA in .safetensors"
    )


def _damaged(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{display(path)} is damaged: {why}", hint=_DOWNLOAD)


def _cut_off(path: Path, more: str = "") -> ModelFileError:
    return ModelFileError(f"{display(path)} is cut off{more}", hint=_DOWNLOAD)


def _unreadable(path: Path, error: OSError) -> ModelFileError:
    return ModelFileError(
        f"cannot read {display(path)}: {error.strerror or error}", hint="check the name of the file"
    )


# ---- writing


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to write. data: returns its bytes, in parts; called once, when it is its turn."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], Iterable[bytes]]

    @property
    def size(self) -> int:
        """Return its bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def sort_tensors(tensors: Iterable[NewTensor]) -> list[NewTensor]:
    """Return tensors in the order of the safetensors library: wide types first, then by name."""
    return sorted(tensors, key=lambda t: (_ORDER[t.dtype], t.name.encode()))


def header_bytes(tensors: Sequence[NewTensor], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file with these tensors, in this order; metadata is sorted."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for tensor in tensors:
        offsets = [end, end := end + tensor.size]
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text


def file_size(tensors: Sequence[NewTensor], metadata: Mapping[str, str]) -> int:
    """Return the bytes of a file with these tensors."""
    return len(header_bytes(tensors, metadata)) + sum(tensor.size for tensor in tensors)


def write(
    file: BinaryIO,
    tensors: Sequence[NewTensor],
    metadata: Mapping[str, str],
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write a safetensors file, tensor by tensor. advance: called after each."""
    file.write(header_bytes(tensors, metadata))
    for tensor in tensors:
        written = sum(file.write(part) for part in tensor.data())
        if written != tensor.size:
            raise ValueError(f"{tensor.name}: {written} bytes instead of {tensor.size}")
        advance()


# ---- hashes


def copied(file: TensorFile) -> list[NewTensor]:
    """Return the tensors of a file, to be written as they are."""
    return [
        NewTensor(e.name, e.dtype, e.shape, lambda name=e.name: file.chunks(name))  # type: ignore[misc]
        for e in file.entries.values()
    ]


def sshs_hashes(tensors: Iterable[NewTensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """Return sd-scripts' `sshs_model_hash` and `sshs_legacy_hash`, see trainer/files/hashes.py; the
    tensors are read one by one.
    """
    ordered = sort_tensors(tensors)
    header = header_bytes(ordered, {k: v for k, v in metadata.items() if k.startswith("ss_")})
    whole, window = hashlib.sha256(), hashlib.sha256()
    at = len(header)
    for tensor in ordered:
        for part in tensor.data():
            whole.update(part)
            window.update(part[max(_LEGACY_START - at, 0) : max(_LEGACY_END - at, 0)])
            at += len(part)
    return whole.hexdigest(), window.hexdigest()[:8]
