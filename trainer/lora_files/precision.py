"""Numbers as safetensors files store them, to and from float64."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Bytes of an element, in the order in which the safetensors library sorts tensors: the hash of a
# LoRA file depends on it.
ITEM_BYTES: Final[Mapping[str, int]] = {
    "U64": 8, "I64": 8, "F64": 8, "F32": 4, "U32": 4, "I32": 4, "BF16": 2, "F16": 2, "U16": 2,
    "I16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
FLOATS: Final = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
# What the options call them.
PRECISIONS: Final[Mapping[str, str]] = {"float": "F32", "fp16": "F16", "bf16": "BF16"}
TITLES: Final[Mapping[str, str]] = {
    "F64": "float64", "F32": "float", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8 (e4m3)",
    "F8_E5M2": "fp8 (e5m2)",
}  # fmt: skip
_PLAIN: Final[Mapping[str, str]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def decode(data: bytes, dtype: str) -> Array:
    """Return the numbers of a tensor's bytes, in one dimension."""
    if dtype == "BF16":
        wide = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).astype(np.float64)
    if dtype == "F8_E5M2":
        half = np.frombuffer(data, "u1").astype(np.uint16) << np.uint16(8)
        return half.view(np.float16).astype(np.float64)
    if dtype == "F8_E4M3":
        return np.take(_e4m3(), np.frombuffer(data, "u1"))
    plain: NDArray[Any] = np.frombuffer(data, _PLAIN[dtype])
    return plain.astype(np.float64)


def encode(values: Array, dtype: str) -> bytes:
    """Return the bytes of float64 numbers in a float type of a file, each rounded once."""
    if dtype == "BF16":
        return _bf16(values).tobytes()
    if dtype not in ("F64", "F32", "F16"):
        raise ValueError(dtype)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(_PLAIN[dtype]).tobytes()


def rounded(values: Array, dtype: str) -> Array:
    """Return numbers as they are once a file has been read that holds them."""
    return decode(encode(values, dtype), dtype).reshape(values.shape)


def _bf16(values: Array) -> NDArray[Any]:
    """Round float64 to the nearest bfloat16, ties to even."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values).astype(np.float32)
    # Rounding twice would be wrong for a number that the first rounding puts on a tie: the last bit
    # of an inexact float32 is made odd instead.
    inexact = np.isfinite(single) & (single.astype(np.float64) != values)
    bits = single.view(np.uint32)
    even = inexact & ((bits & 1) == 0)
    toward = np.where(single.astype(np.float64) < values, np.inf, -np.inf).astype(np.float32)
    single = np.where(even, np.nextafter(single, toward), single)
    bits = single.view(np.uint32).astype(np.uint64)
    high = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    high = np.where(np.isnan(single), np.uint64(0x7FC0), high)
    return high.astype("<u2")


@cache
def _e4m3() -> Array:
    """Return the 256 numbers of float8 e4m3, which has no infinity."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal)
    values[codes & 127 == 127] = np.nan
    result: Array = np.where(codes & 128, -values, values)
    return result
