"""Options of every verb that reads a folder of images."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.options.declare import READING, CheckedOptions, option

Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions(CheckedOptions):
    """How images are read."""

    recursive: bool = option(
        False,
        "Go into subfolders.",
        group=READING,
        change="images are in subfolders",
        flags=("--recursive/--no-recursive", "-r"),
    )
    follow_links: bool = option(
        False,
        "Read images that are symbolic links.",
        panel="How it runs",
        counts_from="named file",
        change="the images are symbolic links that you trust",
    )
    workers: int = option(
        0,
        "Threads that read images.",
        panel="How it runs",
        range=(0, 256),
        change="the machine has other work to do",
        shown="0: one more than cores",
    )
    max_pixels: int = option(
        64_000_000,
        "Refuse images of more pixels than this.",
        panel="How it runs",
        range=(1, 2**31),
        unit="pixels",
        is_limit=True,
        change="you trust an image of more than 64 megapixels",
    )
