"""Whether the workers of a cluster see the images that they are to work on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasetkit.images.scan import require_images
from datasetkit.options.scan import ScanOptions
from datasetkit.project.session import RunContext


def require_visible(
    folder: Path, options: ScanOptions, context: RunContext, written: Sequence[Path] = ()
) -> None:
    """Raise ClusterError unless the workers of the cluster see the images of a folder as this
    machine does, and can write to some folders. Nothing is checked without a cluster.

    Raises DatasetError without images.
    """
    if context.cluster is None:
        return
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    context.cluster.require_visible(sorted({*listing.images[:1], *listing.images[-1:]}), written)
