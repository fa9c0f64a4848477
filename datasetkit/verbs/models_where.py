"""`dsk models where`: the folders that hold model files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where model files lie: the hub's cache, and what comes with the package."""

    hub_cache: Path
    shipped: Path


def where() -> ModelFolders:
    """Return the folders in which model files lie."""
    from importlib.resources import files

    import huggingface_hub.constants

    return ModelFolders(
        Path(huggingface_hub.constants.HF_HUB_CACHE),
        Path(str(files("datasetkit.vision") / "weights")),
    )
