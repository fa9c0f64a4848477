"""Checks of option values: a number within its range, a name among its choices."""

from __future__ import annotations

from datasetkit.core.errors import ConfigError
from datasetkit.core.suggest import did_you_mean


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        shown, least, most = (
            f"{n:,}" if isinstance(n, int) else f"{n:g}" for n in (value, low, high)
        )
        raise ConfigError(
            f"{name} = {shown} is out of range", hint=f"give a value from {least} to {most}"
        )


def one_of(name: str, value: str, *choices: str) -> None:
    """Raise ConfigError unless value is one of the choices."""
    if value not in choices:
        hint = did_you_mean(value, choices, f"choose {', '.join(choices)}", form="'{}'")
        raise ConfigError(f"{name} = {value!r} is not known", hint=hint)
