"""The contract of a stage: a function that makes the files of one image.

A stage gets the record of an image and the paths to write, and returns `Done` with what it made. It
keeps no state and writes nothing but these paths, so `executors.place.each` can call it in many
threads or on other machines, and `outputs.produce` can ask for the same files somewhere else to
compare them.

What a stage may raise:
  InputError     this image cannot be used: it becomes `Failed`, the others go on
  StorageError, MissingExtra, ModelFileError, ConfigError     nothing can work: the run stops
  anything else  is a bug

A stage writes through `pixels.save` or `files.write_atomic`, so that a kill leaves no half file. A
model is loaded once, by the function that binds the options (see `open_cutout`). A model that takes
several images at once needs a batch stage (`executors/batches.py`, `stages/tag.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageFilter

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.core.records import Done, ImageRecord
from datasetkit.images import pixels

T = TypeVar("T")
# The files made of one image. The first one decides whether all are up to date; some of the others
# may not be made.
Files = tuple[Path, ...]
# `stage(record, files)`, or `stage(record, files, detail)` where `produce` is given details.
Stage = Callable[..., Done[T]]


def bound(stage: Stage[T], options: object) -> Stage[T]:
    """Return a stage with its options. `partial(bound, stage, options)` is what `produce` wants: it
    can be pickled, and be called on another machine.
    """
    return partial(stage, options=options)


def require_unchanged(record: ImageRecord, size: tuple[int, int]) -> None:
    """Raise InputError if an image does not have the size that it had when it was scanned."""
    if size != (record.width, record.height):
        raise InputError(f"{display(record.path)} was changed while it was read", hint="run again")


# ---- an example to copy
# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlurOptions:
    """Options of the example. radius: of the blur, in pixels."""

    radius: float = 2.0
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True)
class BlurredImage:
    """What the example made of one image: the result of a stage is data, for reports and JSON."""

    path: Path
    radius: float


def blur_image(record: ImageRecord, files: Files, *, options: BlurOptions) -> Done[BlurredImage]:
    """Write a blurred copy of one image. Raises InputError for it, StorageError for the disk."""
    (target,) = files
    image = pixels.load(record.path, max_pixels=options.max_pixels)  # upright 8-bit sRGB
    require_unchanged(record, image.size)
    radius = min(options.radius, min(image.size) / 4)
    pixels.save(_blurred(image, radius), target)
    note = "the radius was reduced: the image is small" if radius < options.radius else ""
    return Done(record, BlurredImage(target, radius), note)


def _blurred(image: Image.Image, radius: float) -> Image.Image:
    """Blur an image: the arithmetic is a function of its own, so that tests need no file."""
    return image.filter(ImageFilter.GaussianBlur(radius))


# A verb binds the options, and `produce` runs the stage on the images that are not up to date:
#
#     spec = OutputSpec(out, f"blur-1 {options.radius}", names, "would be blurred")
#     plan = plan_outputs(scan, spec, gather(scan, spec, project))
#     produced = produce(plan, partial(bound, blur_image, options), project)
