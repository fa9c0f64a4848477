"""`[executor]`: where the work on images runs, here or on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datasetkit.core.cluster import is_head
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.options.declare import CheckedOptions, check, option

LOCAL: Final = "local"
_SCHEME: Final = "ray://"
# Ray counts in ten-thousandths.
_LEAST_SHARE: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions(CheckedOptions):
    """`[executor]`: where `tag`, `caption`, `resize`, `cutout`, `faces`, `check` work on images."""

    address: str = option(
        LOCAL,
        "Where the images are worked on: local, ray (this machine, or the cluster of RAY_ADDRESS), "
        "or ray://HEAD.",
        group="Cluster",
        panel="How it runs",
        flags=("--executor",),
        metavar="local|ray|ray://HEAD",
        see="scale.md",
        counts_from="named file",
        change="one machine is too slow",
    )
    actors: int = option(
        0,
        "Ray: workers, each with its own model.",
        panel="How it runs",
        range=(0, 10_000),
        shown="0: one a node, or as many as --cpus and --gpus give",
        change="the model is small, and the nodes have many cores",
    )
    cpus: float = option(
        0.0,
        "Ray: CPUs of each worker, and threads that read its images.",
        panel="How it runs",
        range=(0, 1024),
        shown="0: all of its node, shared out",
        change="a node has room for several workers",
    )
    gpus: float = option(
        0.0,
        "Ray: GPUs of each worker; 0.25 lets four share one.",
        panel="How it runs",
        range=(0, 64),
        shown="0: models run on the CPU",
        change="the nodes have GPUs",
    )
    batch_images: int = option(
        32,
        "Ray: images that a worker gets at once.",
        panel="How it runs",
        range=(1, 10_000),
        change="the work on one image takes milliseconds (larger), or minutes (smaller)",
    )
    ship_images: bool = option(
        False,
        "Ray: send the images to the workers, and the outputs back, since they do not see the same "
        "storage.",
        panel="How it runs",
        flags=("--ship-images/--no-ship-images",),
        change="the nodes have no shared storage",
    )

    def __post_init__(self) -> None:
        check(self)
        head = self.address.removeprefix(_SCHEME).removesuffix("/")
        is_address = self.address.startswith(_SCHEME) and is_head(head)
        if self.address not in (LOCAL, "ray") and not is_address:
            raise ConfigError(
                f"the executor address {display(self.address)} is not known",
                hint="give local, ray, or ray://HEAD, such as ray://10.0.0.1:10001",
            )
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ConfigError(
                f"{self.gpus:g} GPUs a worker are not possible: above 1 they are whole GPUs",
                hint=f"--gpus {int(self.gpus)}, or a share of one such as --gpus 0.5",
            )
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if 0 < value < _LEAST_SHARE:
                raise ConfigError(
                    f"{value:g} {name.upper()[:-1]}s a worker are too few",
                    hint=f"--{name} {_LEAST_SHARE} or more; 0 is the default",
                )

    @property
    def is_local(self) -> bool:
        """Tell whether the work runs in this process."""
        return self.address == LOCAL
