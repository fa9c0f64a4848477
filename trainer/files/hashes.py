"""The hashes by which other tools identify a LoRA and its base checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from datasetkit import hub
from datasetkit.core.files import file_sha256

# The bytes that the oldest hashes use (A1111's, before it hashed whole files).
_LEGACY_START, _LEGACY_END = 0x100000, 0x110000


def sshs_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """Return (model hash, legacy hash) as sd-scripts' `sshs_model_hash` and `sshs_legacy_hash`.

    Both hash the file as it would be with its `ss_*` keys only: the first is the sha256 of
    everything after the header, the second the first 8 digits of the sha256 of 64 KiB at 1 MiB of
    that file.
    """
    ss_keys = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    data = memoryview(safetensors.torch.save(dict(tensors), ss_keys))
    body = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(data[body:]).hexdigest(), _short(data[_LEGACY_START:_LEGACY_END])


def checkpoint_hashes(path: Path) -> tuple[str, str]:
    """Return a checkpoint file's short hash (64 KiB at 1 MiB) and full hash (seconds per
    gigabyte, if the file is not the hub's).
    """
    with path.open("rb") as file:
        file.seek(_LEGACY_START)
        short = _short(file.read(_LEGACY_END - _LEGACY_START))
    return short, _sha256(path)


def model_hash(source: Path) -> str:
    """Return the sha256 of a model: of its file, or of the names and hashes of a folder's
    weights.
    """
    if source.is_file():
        return _sha256(source)
    each = {
        path.relative_to(source).as_posix(): model_hash(path)
        for path in sorted(source.rglob("*.safetensors"))
    }
    return hashlib.sha256(
        "".join(f"{name} {digest}\n" for name, digest in each.items()).encode()
    ).hexdigest()


def _sha256(path: Path) -> str:
    """Return the sha256 of a file. One in the hub's cache is not read for it: its hash is recorded,
    and it was compared with that when it was fetched or loaded.
    """
    recorded = hub.etag(path)
    return recorded if hub.SHA256.fullmatch(recorded) else file_sha256(path)


def _short(window: bytes | memoryview) -> str:
    return hashlib.sha256(window).hexdigest()[:8]
