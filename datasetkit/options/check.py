"""Options of `dsk check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.encodings import require_text_encoding
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.dataset.kinds import Kind
from datasetkit.options.declare import check, option
from datasetkit.options.scan import ScanOptions, Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions(ScanOptions):
    """`dsk check`: which checks, and their thresholds.

    resolution: None takes that of `[train]`.
    """

    resolution: int | None = option(
        None,
        "The training resolution, by which images are too small, or are cut.",
        group="Checks",
        range=(64, 8192),
        unit="pixels",
        shown="that of [train], 512",
        change="you train at 768 or 1024",
    )
    kind: Kind = option(
        "character",
        "What is trained; only images of a character must have one face.",
        change="you train a style, a garment, an object or another concept",
    )
    trigger: Tags = option(
        (),
        "The words that lead every caption.",
        shown="the known ones",
        change="the guess is wrong",
    )
    only: tuple[str, ...] = option(
        (),
        "Run these checks only, by their names.",
        shown="all checks",
        change="you care about these alone",
    )
    skip: tuple[str, ...] = option(
        (),
        "Leave these checks out, by their names.",
        change="you do not care about these",
    )
    strict: bool = option(
        False,
        "Exit with 20 if anything is found and not fixed.",
        change="a script must stop",
    )
    upscale: float = option(
        1.05,
        "Images that their bucket enlarges by more are too small.",
        range=(1, 100),
        unit="x",
        change="you mind enlarged images less, or more",
    )
    cut: float = option(
        0.2,
        "The share of an image's area that a bucket may cut off.",
        range=(0, 1),
        change="you mind cut images less, or more",
    )
    blur: float = option(
        0.55,
        "Images of this blur or more are reported.",
        range=(0, 1),
        change="drawings with soft shades are found, or blurred photos are not",
    )
    text: float = option(
        0.7,
        "Minimum score for a line of text.",
        range=(0.6, 1),
        change="ornaments are taken for text (higher), or faint watermarks are missed (lower)",
    )
    faces: float = option(
        0.5,
        "Minimum score for a face.",
        range=(0.3, 1),
        change="objects are taken for faces (higher), or small faces are missed (lower)",
    )
    keep_duplicates: tuple[str, ...] = option(
        (),
        "Keep the near-duplicates of these images: they are found no more, here and on the review "
        "page. `all` keeps every group, `none` finds all of them again.",
        shown="none",
        change="near-duplicates are meant, such as two expressions of one pose",
    )
    encoding: str = option(
        "",
        "The encoding of captions that are not UTF-8; --fix converts them.",
        shown="none",
        change="a program saved them as e.g. cp1252 or gbk",
    )
    csv: str = option(
        "",
        "Write what is found as a table: a .csv.",
        path="output file",
        shown="none",
        change="you want a table",
    )
    sheet: str = option(
        "",
        "Draw the flagged images with the reasons: a .png outside of the images' folder.",
        path="output file",
        shown="none",
        change="you want to see the flagged images",
    )

    def __post_init__(self) -> None:
        check(self)
        require_text_encoding(self.encoding)
        for name, suffix in (("csv", ".csv"), ("sheet", ".png")):
            given = getattr(self, name)
            if given and Path(given).suffix.lower() != suffix:
                raise ConfigError(
                    f"{name} = {display(given)}: it is written as {suffix}",
                    hint=f"name a {suffix} file",
                )
