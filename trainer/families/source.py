"""Find a base model: a file, a folder, a name on the hub, or the shipped tiny base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from trainer.files import hub_model
from trainer.tinybase import shipped

_ON: Final = ("1", "ON", "YES", "TRUE")  # as the hub's client reads a switch
_PICKLES: Final = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})


def require_safe(base: str) -> Path:
    """Return a model's name as a path, which need not exist. Raises ModelFileError for a file that
    is not read: a pickle, or anything but .safetensors.
    """
    path = Path(base).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise ModelFileError(
            f"{display(path)} is a pickle, which can run arbitrary code when it is loaded",
            hint="convert it to .safetensors with a tool that you trust, and name that file",
        )
    if path.exists() and not path.is_dir() and path.suffix.lower() != ".safetensors":
        raise ModelFileError(
            f"{display(path)} is not a .safetensors file",
            hint="name a .safetensors file or a folder",
        )
    return path


def require(base: str, revision: str = "", *, layouts: Sequence[hub_model.Files] = ()) -> None:
    """Raise what `find` would raise, without a download: for a model that is not named, does not
    exist, or whose name on the hub has no commit.

    layouts: as in `find`. Raises ConfigError, ModelFileError.
    """
    name = _hub_name(base, revision)
    if name is not None:
        hub_model.require_commit(name)
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in _ON:  # a download fails at once
            find(base, revision, layouts=layouts or hub_model.MODEL)


def local(
    base: str, revision: str = "", *, layouts: Sequence[hub_model.Files] = hub_model.MODEL
) -> Path | None:
    """Return a model's file or folder, also in the hub's cache; None if it is not on this
    machine. layouts: as in `find`.
    """
    if not base:
        return None
    if base == shipped.NAME:
        return shipped.FOLDER
    path = Path(base).expanduser()
    if path.exists():
        return path
    name = hub_model.parse(base, revision)
    return hub_model.cached(name, layouts) if name is not None else None


def find(
    base: str, revision: str = "", *, layouts: Sequence[hub_model.Files] = hub_model.MODEL
) -> Path:
    """Return a model's file or folder; a model on the hub is downloaded at its pinned commit.

    layouts: the files that a hub repository must have.
    """
    name = _hub_name(base, revision)
    if name is not None:
        return hub_model.fetch(name, layouts)
    if base == shipped.NAME:
        shipped.check()
        return shipped.FOLDER
    return require_safe(base)


def _hub_name(base: str, revision: str) -> hub_model.HubName | None:
    """Return a model's name on the hub; None for one that is on this machine.

    Raises ConfigError without a name, ModelFileError for one that is neither.
    """
    if not base:
        raise ConfigError(
            "no base model is given", hint="set pretrained_model_name_or_path in [train]"
        )
    if base == shipped.NAME or require_safe(base).exists():
        return None
    name = hub_model.parse(base, revision)
    if name is None:
        raise ModelFileError(
            f"the model {display(base)} does not exist",
            hint="name a .safetensors file, a diffusers folder, or owner/name on the hub",
        )
    return name
