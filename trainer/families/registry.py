"""The families by name. A new family is a module in this package and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trainer.families import anima, chroma, flux, flux2, krea2, qwen, sd, sd2, sd3, sdxl, z_image
from trainer.families.base import Anatomy, Family, FamilyName

# In the order in which a model's files are compared with them. The families of UNets are modules.
_FAMILIES: Final[tuple[Family, ...]] = (
    sdxl,
    sd2,
    sd,
    z_image.FAMILY,
    anima.FAMILY,
    flux2.FAMILY,
    chroma.FAMILY,
    flux.FAMILY,
    krea2.FAMILY,
    qwen.FAMILY,
    sd3.FAMILY,
)
FAMILIES: Final[Mapping[FamilyName, Family]] = {each.NAME: each for each in _FAMILIES}
# Assumed for a model whose files are not on this machine.
ASSUMED: Final[FamilyName] = sd.NAME


def assumed_anatomy() -> Anatomy:
    """Return the full-size anatomy of the family that is assumed."""
    return sd.assumed_anatomy()


def family(name: FamilyName) -> Family:
    """Return the functions of a family."""
    return FAMILIES[name]


def families() -> tuple[Family, ...]:
    """Return all families, in the order in which a model's files are compared with them."""
    return _FAMILIES
