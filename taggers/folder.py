"""A model in a folder of one's own: which files it has, and the hash that stands for its
revision.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import file_sha256
from taggers import onnx_file
from taggers.kinds import KINDS
from taggers.labels import CSV_FILE
from taggers.models import MODEL_FILE, ModelFiles

CHECKSUM_SUFFIX = ".sha256"


def find(folder: Path) -> ModelFiles:
    """Return the model's files. Raises ModelFileError unless there are weights and exactly one
    label file.
    """
    wanted = f"--model-dir needs {MODEL_FILE} and one of {', '.join(KINDS)}"
    if not (folder / MODEL_FILE).is_file():
        raise ModelFileError(f"{folder / MODEL_FILE} is missing", hint=wanted)
    labels = [folder / name for name in KINDS if (folder / name).is_file()]
    if not labels:
        raise ModelFileError(f"{folder / CSV_FILE} is missing", hint=wanted)
    if len(labels) > 1:
        raise ModelFileError(
            f"{folder} holds {labels[0].name} and {labels[1].name}", hint="keep the model's own"
        )
    return ModelFiles(folder / MODEL_FILE, labels[0])


def stamp(files: ModelFiles) -> tuple[tuple[int, ...], ...]:
    """Return what changes with any write to the model's files: reading them again costs a second a
    gigabyte.
    """
    paths = (files.weights, files.labels, *onnx_file.check(files.weights))
    found = (path.stat() for path in paths)
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in found)


def content(files: ModelFiles) -> str:
    """Return what stands for a revision where there is no hub: a hash over the bytes of all files
    of the model.

    A `model.onnx.sha256` beside the weights, as `sha256sum` writes it, is checked where there is
    one.
    """
    beside = onnx_file.check(files.weights)
    hashes = [file_sha256(path) for path in (files.weights, files.labels, *beside)]
    checksum = files.weights.with_name(MODEL_FILE + CHECKSUM_SUFFIX)
    if checksum.is_file() and checksum.read_text("utf-8").split()[:1] != hashes[:1]:
        raise ModelFileError(
            f"{files.weights} is damaged or incomplete: its sha256 is not that of {checksum.name}",
            hint="copy the model again",
        )
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:40]
