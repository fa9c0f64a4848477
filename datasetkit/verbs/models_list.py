"""`dsk models list`: the taggers by short name."""

from __future__ import annotations

from taggers.models import ModelRow, list_models


def models() -> tuple[ModelRow, ...]:
    """Return the taggers with a short name, and whether their files are downloaded."""
    return tuple(list_models())
