"""Connect to the cluster that `[executor]` names, before a verb changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datasetkit.core.cluster import Cluster

if TYPE_CHECKING:
    from datasetkit.options.executor import ExecutorOptions


@contextmanager
def connected(options: ExecutorOptions | None) -> Iterator[Cluster | None]:
    """Connect to a cluster, for as long as the context is held; None where the work runs here.

    Raises MissingExtra without Ray, and ClusterError where the cluster cannot be used.
    """
    if options is None or options.is_local:
        yield None
        return
    from datasetkit.executors import ray_cluster  # only where it is wanted

    with ray_cluster.connected(
        options.address,
        actors=options.actors,
        cpus=options.cpus,
        gpus=options.gpus,
        batch_images=options.batch_images,
        ship_images=options.ship_images,
    ) as cluster:
        yield cluster
