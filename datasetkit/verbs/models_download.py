"""`dsk models download`: download a tagger."""

from __future__ import annotations

from datasetkit.core.progress import SILENT
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from taggers import models
from taggers.models import ModelFiles


def download(name: str, context: RunContext = DEFAULT_CONTEXT) -> ModelFiles:
    """Download a tagger at its pinned revision and check its hash. Raises ModelFileError."""
    return models.download(name, context.reporter or SILENT)
