"""The families by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from trainer.families.base import Family
from trainer.families.detect import FamilyName

FAMILIES: Final[Mapping[FamilyName, str]] = {
    "sd1": "trainer.families.sd",
    "sd2": "trainer.families.sd2",
    "sdxl": "trainer.families.sdxl",
}


def family(name: FamilyName) -> Family:
    """Return the functions of a family."""
    return cast(Family, import_module(FAMILIES[name]))
