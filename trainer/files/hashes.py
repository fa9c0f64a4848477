"""The hashes by which other tools know a LoRA and the checkpoint that it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from datasetkit.core.files import file_sha256

# The window that the oldest hashes look at (A1111's, before it hashed whole files).
_LEGACY_START, _LEGACY_END = 0x100000, 0x110000


def sshs_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """Return (model hash, legacy hash) as sd-scripts' `sshs_model_hash` and `sshs_legacy_hash`.

    Both look at the file as it would be with its `ss_*` keys alone: the first is the sha256 of all
    behind the header, the second 8 digits of the sha256 of 64 KiB at 1 MiB, counted from the start
    of that file.
    """
    told = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    written = memoryview(safetensors.torch.save(dict(tensors), told))
    body = 8 + int.from_bytes(written[:8], "little")
    return hashlib.sha256(written[body:]).hexdigest(), _short(written[_LEGACY_START:_LEGACY_END])


def checkpoint_hashes(path: Path) -> tuple[str, str]:
    """Return (short, full) hash of a checkpoint file: the 64 KiB at 1 MiB, and all of it (seconds
    for gigabytes).
    """
    with path.open("rb") as file:
        file.seek(_LEGACY_START)
        short = _short(file.read(_LEGACY_END - _LEGACY_START))
    return short, file_sha256(path)


def model_hash(source: Path) -> str:
    """Return the sha256 of a model's weights: of a file its own, of a folder that of the names and
    hashes in it.
    """
    if source.is_file():
        return file_sha256(source)
    each = {
        path.relative_to(source).as_posix(): model_hash(path)
        for path in sorted(source.rglob("*.safetensors"))
    }
    return hashlib.sha256(
        "".join(f"{name} {found}\n" for name, found in each.items()).encode()
    ).hexdigest()


def _short(window: bytes | memoryview) -> str:
    return hashlib.sha256(window).hexdigest()[:8]
