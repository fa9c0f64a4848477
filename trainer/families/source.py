"""Where a base model is: a file, a folder, a name on the hub, or the one that is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from trainer.files import hub_model
from trainer.tinybase import shipped

_PICKLES: Final = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})


def find(
    base: str, revision: str = "", *, layouts: Sequence[hub_model.Files] = hub_model.MODEL
) -> Path:
    """Return the file or folder of a model; one of the hub is fetched at its pinned commit.

    layouts: what a repository of the hub has to hold.
    """
    if not base:
        raise ConfigError(
            "no model to train on", hint="set pretrained_model_name_or_path in [train]"
        )
    if base == shipped.NAME:
        shipped.check()
        return shipped.FOLDER
    path = Path(base).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise ModelFileError(
            f"{display(path)} is a pickle, which may run any code when it is read",
            hint="convert it to .safetensors with a tool that you trust, and name that file",
        )
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".safetensors"):
        return path
    if path.exists():
        raise ModelFileError(
            f"{display(path)} is no .safetensors file", hint="name a .safetensors file or a folder"
        )
    name = hub_model.parse(base, revision)
    if name is None:
        raise ModelFileError(
            f"the model {display(base)} does not exist", hint="check its path in [train]"
        )
    return hub_model.fetch(name, layouts)
