"""`dsk models download`: download a tagger or a captioner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.progress import SILENT
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from taggers import florence2_models, models


@dataclass(frozen=True, slots=True)
class DownloadedModel:
    """A model whose files are there and intact. weights: its largest file."""

    name: str
    weights: Path
    files: tuple[Path, ...]


def download(name: str, context: RunContext = DEFAULT_CONTEXT) -> DownloadedModel:
    """Download a model at its pinned revision and check its hashes. Raises ModelFileError."""
    reporter = context.reporter or SILENT
    if name == florence2_models.DEFAULT_NAME or name in florence2_models.MODELS:
        files = florence2_models.download(name, reporter)
        return DownloadedModel(name, files[florence2_models.DECODER], tuple(files.values()))
    tagger = models.download(name, reporter)
    return DownloadedModel(name, tagger.weights, (tagger.weights, tagger.labels))
