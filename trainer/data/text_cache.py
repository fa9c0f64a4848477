"""The conditioning of texts on disk: one file for each text, so that nothing holds all of them.

A caption of a large text encoder takes megabytes (Flux.2: 12 to 16), and a run has one for each
wording. A file is named by a hash of its text and of everything else that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.files import write_atomic, writing
from trainer.families.base import Conditioning
from trainer.files.safetensors_bytes import safetensors_bytes

FOLDER: Final = "text-cache"
_CHECKSUM: Final = "sha256"


class TextCache:
    """The files of a model's texts below a folder. identity: of the text encoders, of the precision
    and of the options that the conditioning depends on.
    """

    def __init__(self, folder: Path, identity: object) -> None:
        self.folder = folder
        self._identity = json.dumps(identity, sort_keys=True)

    def path(self, text: str) -> Path:
        """Return the file of a text."""
        key = hashlib.sha256(f"{self._identity}\n{text}".encode("utf-8", "surrogatepass"))
        return self.folder / f"{key.hexdigest()[:32]}.safetensors"

    def read(self, text: str) -> Conditioning | None:
        """Return the conditioning of a text, one row on the CPU; None where it is missing or
        damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(text), "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                stated = (file.metadata() or {}).get(_CHECKSUM)
        except (SafetensorError, OSError):
            return None
        row = Conditioning.of_tensors(tensors) if "states" in tensors else None
        return row if row is not None and stated == _checksum(row) else None

    def write(self, text: str, row: Conditioning) -> None:
        """Write the conditioning of a text, completely or not at all. Raises StorageError."""
        path = self.path(text)
        with writing(path):
            make_folders(self.folder)
            write_atomic(path, safetensors_bytes(row.tensors(), {_CHECKSUM: _checksum(row)}))

    def delete(self) -> None:
        """Delete the files, and the folder if nothing else is in it."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def _checksum(row: Conditioning) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(row.tensors().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
