"""`dsk models list`: the taggers by short name."""

from __future__ import annotations

from taggers.models import ModelRow, list_models


def models() -> tuple[ModelRow, ...]:
    """Return the taggers that can be named, and whether their files are here."""
    return tuple(list_models())
