"""The base models that the page offers: those in a folder, and those in the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from datasetkit.core.files import natural_key
from datasetkit.verbs.studio import folders
from datasetkit.verbs.studio.commands import seen
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]
_INDEX: Final = "model_index.json"
_SUFFIX: Final = ".safetensors"
# Bytes: what is smaller in the hub's cache is the model of a tagger, a VAE or a LoRA.
_LEAST: Final = 1_500_000_000
_MOST: Final = 500  # that are listed


def models(studio: StudioSession, path: str) -> Json:
    """Return the base models in a folder, its subfolders, and the models that need no path.

    path: a folder or a model, "" for the folder of the project. A model is a `.safetensors` file or
    a folder in diffusers' layout; each has the text that [train] takes. Raises as `browse`.
    """
    chosen = studio.roots.path(path)
    if chosen.is_file() or _is_diffusers(chosen):
        chosen = studio.roots.path(str(chosen.parent))
    listing = folders.browse(studio, str(chosen))
    here = sorted(_in_folder(Path(listing["path"])), key=lambda entry: natural_key(entry.name))
    return {
        **listing,
        "models": [
            {"name": entry.name, "value": seen(studio, Path(entry.path)), "size": _size(entry)}
            for entry in here[:_MOST]
        ],
        "known": [{"value": "tiny", "size": None}, *_cached(_hub_cache())],
    }


def _in_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the models in a folder that `browse` has listed; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            is_file = entry.name.lower().endswith(_SUFFIX) and entry.is_file()
            if is_file or (entry.is_dir() and _is_diffusers(Path(entry.path))):
                yield entry


def _is_diffusers(folder: Path) -> bool:
    return (folder / _INDEX).is_file()


def _size(entry: os.DirEntry[str]) -> int | None:
    return entry.stat().st_size if entry.is_file() else None


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(cache: Path) -> Iterator[Json]:
    """Yield the base models in the cache of the hub, each by its name and commit."""
    for repo in sorted(cache.glob("models--*--*")):
        name = repo.name.removeprefix("models--").replace("--", "/")
        for snapshot in sorted(repo.glob("snapshots/*")):
            if _is_diffusers(snapshot):
                yield {"value": f"{name}@{snapshot.name}", "size": None}
                continue
            for file in sorted(snapshot.rglob(f"*{_SUFFIX}"))[:_MOST]:
                with suppress(OSError):  # a link into the cache that leads nowhere
                    size = file.stat().st_size
                    if size >= _LEAST and "-of-" not in file.stem:  # a part of a large model
                        inside = file.relative_to(snapshot).as_posix()
                        yield {"value": f"{name}/{inside}@{snapshot.name}", "size": size}
