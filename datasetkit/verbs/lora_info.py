"""`dsk lora info`: what a LoRA file is: family, ranks, precision, training, tags, hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasetkit.verbs.shared.paths import AnyPath, paths_of
from trainer.lora_files.describe import LoraDescription, describe
from trainer.lora_files.lora_file import read


@dataclass(frozen=True, slots=True)
class LoraInfoResult:
    """The descriptions of LoRA files, in their order."""

    files: tuple[LoraDescription, ...]


def lora_info(files: AnyPath | Sequence[AnyPath]) -> LoraInfoResult:
    """Describe LoRA files; nothing is changed. Raises ModelFileError for another file."""
    return LoraInfoResult(tuple(describe(read(path)) for path in paths_of(files)))
