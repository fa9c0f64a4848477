"""The values of an axis, as text: a list with commas and quotes, ranges of numbers.

`a-b` is every whole number, `a-b (+s)` steps of s, `a-b [n]` n values at equal distances; both ends
belong to it.
"""

from __future__ import annotations

import csv
import math
import re
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

MOST: Final = 1000  # values of one axis
_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_RANGE: Final = re.compile(
    rf"(?P<low>{_NUMBER})\s*-\s*(?P<high>{_NUMBER})"
    rf"(?:\s*\(\s*(?P<step>{_NUMBER})\s*\)|\s*\[\s*(?P<count>\d+)\s*\])?"
)
# Steps may miss the end by rounding.
_NOISE: Final = 1e-9
_DIGITS: Final = 10


def split(text: str, axis: str) -> list[str]:
    """Split a list at its commas; a value with commas stands in double quotes. Raises
    ConfigError.
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error:
        raise ConfigError(
            f"the values of {axis} cannot be read: {display(text)}",
            hint='a value with commas stands in double quotes: "a, b",c',
        ) from None
    parts = [part.strip() for row in rows for part in row]
    if any(not part for part in parts):
        raise ConfigError(
            f"a value of {axis} is empty: {display(text)}", hint="separate values by single commas"
        )
    return parts


def numbers(text: str, axis: str, *, whole: bool) -> list[float]:
    """Return the numbers of a list, in its order. whole: only whole numbers are values. Raises
    ConfigError.
    """
    values: list[float] = []
    for part in split(text, axis):
        values += _range_of(part, axis, whole=whole)
        if len(values) > MOST:
            raise _too_many(axis)
    return values


def _range_of(part: str, axis: str, *, whole: bool) -> list[float]:
    if re.fullmatch(_NUMBER, part):
        values = [float(part)]
    elif match := _RANGE.fullmatch(part):
        values = _expanded(match, axis, whole=whole)
    else:
        raise ConfigError(
            f"{axis}={display(part)} is not a number", hint=f"write {axis}=1,2,3 or {axis}=1-3"
        )
    if whole:
        for value in values:
            if not value.is_integer():
                raise ConfigError(
                    f"{axis}={value:g} is not a whole number", hint=f"write {axis}=1,2,3"
                )
    return values


def _expanded(match: re.Match[str], axis: str, *, whole: bool) -> list[float]:
    low, high = float(match["low"]), float(match["high"])
    if match["count"] is not None:
        count = int(match["count"])
        if count > MOST:
            raise _too_many(axis)
        if count < 2:
            return [low][:count] or _empty(match, axis)
        values = [low + (high - low) * n / (count - 1) for n in range(count)]
        return [float(round(v)) if whole else round(v, _DIGITS) for v in values]
    step = float(match["step"]) if match["step"] is not None else math.copysign(1, high - low)
    if match["step"] is None and not (low.is_integer() and high.is_integer()):
        raise ConfigError(
            f"{axis}={display(match[0])} does not say which values are between the ends",
            hint=f"write {axis}={match[0]} [5] for five values, or {match[0]} (+0.1)",
        )
    if step == 0 or (high - low) / step < 0:
        _empty(match, axis)
    count = math.floor((high - low) / step + _NOISE) + 1
    if count > MOST:
        raise _too_many(axis)
    return [round(low + n * step, _DIGITS) for n in range(count)]


def _empty(match: re.Match[str], axis: str) -> list[float]:
    raise ConfigError(
        f"{axis}={display(match[0])} has no values", hint=f"write {axis}=1-3, or {axis}=1-2 (+0.5)"
    )


def _too_many(axis: str) -> ConfigError:
    return ConfigError(f"{axis} has more than {MOST:,} values", hint="give fewer")
