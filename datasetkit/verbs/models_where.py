"""`dsk models where`: the folders that hold model files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """The folders of model files: the cache of the hub, and the models of the package."""

    hub_cache: Path
    shipped: Path


def where() -> ModelFolders:
    """Return the folders of the model files."""
    from importlib.resources import files

    import huggingface_hub.constants

    return ModelFolders(
        Path(huggingface_hub.constants.HF_HUB_CACHE),
        Path(str(files("datasetkit.vision") / "weights")),
    )
