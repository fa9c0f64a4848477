"""Options of `dsk rename`, `resize`, `faces` and `cutout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.captions import backgrounds
from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import CheckedOptions, check, option
from datasetkit.options.scan import ScanOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameOptions(CheckedOptions):
    """`dsk rename`: plain, unique, numbered names."""

    prefix: str = option(
        "",
        "New names are PREFIX_001.jpg, ... .",
        group="Names",
        change="the concept has no prefix of its own",
        shown="none",
    )
    start: int = option(
        1,
        "The first number.",
        range=(0, 10**9),
        change="the numbers must begin elsewhere",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeOptions(ScanOptions):
    """`dsk resize`: the size that trainers use, upright, in sRGB, without metadata."""

    max: int = option(
        1024,
        "The long edge in pixels, or with `--mode area` the side of the area.",
        group="Size and format",
        range=(16, 16384),
        unit="pixels",
        change="you train at another resolution",
    )
    mode: Literal["long-edge", "area"] = option(
        "long-edge",
        "Limit the long edge, or the area to max x max pixels.",
        change="you train at 1024 (SDXL): `area` keeps enough of wide images",
    )
    format: Literal["keep", "jpg", "png", "webp"] = option(
        "keep",
        "The format to write; formats that trainers do not read become PNG in any case.",
        change="all images must have one format",
    )
    quality: int = option(
        95,
        "Quality of JPEG and WebP.",
        range=(1, 100),
        change="files must be smaller, or finer",
    )
    alpha: Literal["flatten", "keep"] = option(
        "flatten",
        "Lay transparent images onto white, or keep the transparency.",
        change="`keep` for trainers that use transparency as a mask",
    )
    in_place: bool = option(
        False,
        "Replace the images; the originals go to .dsk/originals. `dsk run` refuses it.",
        change="the disk has no room for both",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.alpha == "keep" and self.format == "jpg":
            raise ConfigError(
                "JPEG has no transparency", hint="--format png or webp with --alpha keep"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesOptions(ScanOptions):
    """`dsk faces`: find faces and lines of text, crop or erase them.

    margin: None takes a half to crop, a fifth to erase.
    """

    do: Literal["crop", "erase"] = option(
        "crop",
        "What `dsk run` does with the faces.",
        group="Faces",
        change="faces must not be learned",
    )
    detector: str = option(
        "blazeface",
        "The detector of faces, on photos and drawings.",
        panel="How it runs",
        shown="blazeface, shipped",
        change="never: there is no other yet",
    )
    # Lower scores are not stored, so a lower threshold would not find more.
    threshold: float = option(
        0.5,
        "Minimum score for a face.",
        range=(0.3, 1),
        change="lower finds more faces, higher leaves out what is not a face",
    )
    text: bool = option(
        False,
        "Find lines of text and watermarks too; with `crop` it does nothing.",
        change="images have signatures or watermarks",
    )
    only: Literal["all", "faces", "text"] = option(
        "all",
        "Erase faces or lines of text alone; `text` finds them without --text.",
        change="faces must stay and text must go",
    )
    text_threshold: float = option(
        0.7,
        "Minimum score for a line of text.",
        range=(0.6, 1),
        needs="text",
        change="lower finds faint text, higher leaves out ornaments",
    )
    margin: float | None = option(
        None,
        "Room on each side of a face, as a share of its size.",
        range=(0, 5),
        shown="0.5 to crop, 0.2 to erase",
        change="crops must show more around the face, or erased areas must be tighter",
    )
    size: int = option(
        512,
        "Pixels of a crop's side; larger crops are shrunk to it.",
        range=(16, 16384),
        unit="pixels",
        change="you train at another resolution",
    )
    min_size: int = option(
        128,
        "Crops with fewer pixels a side are left out.",
        range=(1, 16384),
        unit="pixels",
        change="small faces are useful to you, or blurred ones get in",
    )
    most: int = option(
        0,
        "At most this many faces of each image, the largest first.",
        range=(0, 1000),
        shown="0: all",
        change="there are strangers in the background",
    )
    fill: Literal["white", "blur", "paint"] = option(
        "white",
        "What erased areas are filled with: white, a blur, or the colours around.",
        change="see the table above",
    )
    review: str = option(
        "",
        "Draw a contact sheet with what was found: a PNG.",
        path="output file",
        shown="none",
        change="you want to see what was found",
    )

    @property
    def finds_faces(self) -> bool:
        """Tell whether faces are searched for."""
        return self.only != "text"

    @property
    def finds_text(self) -> bool:
        """Tell whether lines of text are searched for."""
        return self.only == "text" or (self.text and self.only == "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutOptions(ScanOptions):
    """`dsk cutout`: which model finds the subject, and what is put behind it."""

    model: str = option(
        "u2netp",
        "The model that finds the subject: one of rembg's, by name.",
        group="Cut-out",
        shown="u2netp, shipped",
        change="the subject is not found well",
    )
    provider: str = option(
        "auto",
        "Where the model runs: auto, cpu, cuda, ...",
        panel="How it runs",
        change="`auto` takes the wrong device: an NVIDIA card where onnxruntime is built for one",
    )
    bg: str = option(
        "white",
        "The colour behind the subject: white, black, grey, ..., #rrggbb, or random.",
        change="the subject is white; `random` gives each image one of eleven colours, always the "
        "same for the same image, so that no background is learned",
    )
    keep_alpha: bool = option(
        False,
        "Write transparent images; the colour is below.",
        change="your trainer uses transparency as a mask",
    )
    feather: float = option(
        0.0,
        "Soften the edge inwards by this many pixels.",
        range=(0, 1000),
        unit="pixels",
        shown="0",
        change="the edge looks cut with scissors",
    )
    min_area: float = option(
        0.01,
        "A mask of less than this share of the image, or of all but this share, is not used.",
        range=(0, 0.49),
        change="subjects are tiny or fill the image: 0 takes every mask",
    )

    def __post_init__(self) -> None:
        check(self)
        backgrounds.require(self.bg)
