"""What identifies the models of a run: a hash of samples of each file that is read.

A hash of all bytes takes seconds for each gigabyte, and a plan must not. Another model differs in
its header, its size or any of 256 samples. Needs no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from datasetkit.core.files import reading
from datasetkit.options.train import TrainOptions
from trainer.families import source
from trainer.files import hub_model

# Of a diffusers folder: what is loaded, and not the other precisions and formats beside it.
_READ: Final = re.compile(
    r"(scheduler_)?config\.json|(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
)
_NOT_LOADED: Final = frozenset({"safety_checker", "image_encoder"})
_SAMPLES: Final = 256
_SAMPLE_BYTES: Final = 16 * 1024


def of_run(options: TrainOptions) -> dict[str, dict[str, str] | None]:
    """Return option -> file -> fingerprint, for the base model and for a VAE in place of its own;
    None for a model that is not on this machine. Raises InputError.
    """
    base = source.local(options.pretrained_model_name_or_path, options.revision)
    models = {"pretrained_model_name_or_path": _fingerprints(base)}
    if options.base_folder:
        models["base_folder"] = _fingerprints(source.local(options.base_folder))
    if options.vae:
        models["vae"] = _fingerprints(source.local(options.vae, layouts=hub_model.VAE))
    return models


def _fingerprints(model: Path | None) -> dict[str, str] | None:
    if model is None:
        return None
    if model.is_file():
        return {"": _fingerprint(model)}
    return {path.relative_to(model).as_posix(): _fingerprint(path) for path in _files(model)}


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, and of the parts in it, that are loaded."""
    with reading(folder):
        entries = sorted(folder.iterdir())
    for entry in entries:
        if entry.is_file() and _READ.fullmatch(entry.name):
            yield entry
        elif entry.is_dir() and entry.parent == folder and entry.name not in _NOT_LOADED:
            with reading(entry):
                files = sorted(entry.iterdir())
            yield from (path for path in files if _READ.fullmatch(path.name) and path.is_file())


def _fingerprint(path: Path) -> str:
    """Return a hash of a file's size and of samples at equal distances, the start and the end among
    them; of all bytes, if it is small.
    """
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        if size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
        else:
            last = size - _SAMPLE_BYTES
            for n in range(_SAMPLES):
                file.seek(last * n // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]
