"""`dsk models`: which taggers there are, fetching one, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.progress import SILENT
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from taggers import models as known
from taggers.models import ModelFiles, ModelRow


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where model files lie: the hub's cache, and what comes with the package."""

    hub_cache: Path
    shipped: Path


def models() -> tuple[ModelRow, ...]:
    """Return the taggers that can be named, and whether their files are here."""
    return tuple(known.list_models())


def download(name: str, context: RunContext = DEFAULT_CONTEXT) -> ModelFiles:
    """Fetch a tagger at its pinned revision and check it. Raises ModelFileError with the way to try
    again.
    """
    return known.download(name, context.reporter or SILENT)


def where() -> ModelFolders:
    """Return the folders in which model files lie."""
    from importlib.resources import files

    import huggingface_hub.constants

    return ModelFolders(
        Path(huggingface_hub.constants.HF_HUB_CACHE),
        Path(str(files("datasetkit.vision") / "weights")),
    )
