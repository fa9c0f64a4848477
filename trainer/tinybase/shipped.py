"""The shipped tiny base: its name, its folder, and the check of its files. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import file_sha256
from datasetkit.core.install import reinstall_command

NAME: Final = "tiny"
FOLDER: Final = Path(__file__).parent / "weights"
# The files that the trainer loads; the README.md beside them is the model card.
SHA256: Final[Mapping[str, str]] = {
    "unet/diffusion_pytorch_model.safetensors": "cd45a00e0d400e7eb57a2a2452b19035dae4ffaa9a63058d1962958c8ab97301",  # noqa: E501
    "text_encoder/model.safetensors": "936458700c61d7216b4e0108095338902a47f1e130e30d28e3daa7375089dfe6",  # noqa: E501
    "vae/diffusion_pytorch_model.safetensors": "091c1b4140525db19d681e61b5e6ec0a0b8911e52860b0e2f628c78a4a837908",  # noqa: E501
}


def located(base: str) -> str:
    """Return a base model's path: for `tiny` that of the shipped base, else `base` itself.

    A folder or file with that name can be given as ./tiny.
    """
    return str(FOLDER) if base == NAME else base


def check() -> None:
    """Raise ModelFileError if a file of the shipped base is missing or changed."""
    for name, expected in SHA256.items():
        try:
            actual = file_sha256(FOLDER / name)
        except OSError as error:
            raise ModelFileError(
                f"the tiny base's {name} cannot be read: {error}",
                hint=f"the installation is damaged: {reinstall_command()}",
            ) from error
        if actual != expected:
            raise ModelFileError(
                f"the tiny base's {name} has another sha256 ({actual[:12]}…, expected "
                f"{expected[:12]}…)",
                hint=f"the installation is damaged: {reinstall_command()}",
            )
