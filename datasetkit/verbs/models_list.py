"""`dsk models list`: the taggers and captioners by short name."""

from __future__ import annotations

from taggers import florence2_models
from taggers.models import ModelRow, list_models


def models() -> tuple[ModelRow, ...]:
    """Return the models with a short name, and whether their files are downloaded."""
    captioners = [
        (model, florence2_models.cached(model)) for model in florence2_models.MODELS.values()
    ]
    rows = [
        ModelRow(
            model.name,
            model.repo,
            model.revision,
            files is not None,
            files[florence2_models.DECODER] if files else None,
        )
        for model, files in captioners
    ]
    return (*list_models(), *rows)
