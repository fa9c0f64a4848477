"""The resize stage: how large an image becomes, and the one case in which its file is kept byte
for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Literal

from PIL import Image

from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.files import display, reading, write_atomic, writing
from datasetkit.core.records import Done, ImageRecord, Outcome
from datasetkit.images import pixels
from datasetkit.images.lossless import holds_pixels_only
from datasetkit.options.images import ResizeOptions

Size = tuple[int, int]
# Less than elsewhere, so that 2,816 pixels and more are still halved for 1,024; measured to lose
# nothing at JPEG quality 90, and 0.14 dB at 95 (docs/performance.md).
DRAFT_FACTOR = 1.375


@dataclass(frozen=True, slots=True)
class ResizedImage:
    """One image's result. source, size: (width, height) in pixels as it is looked at, before and
    after.

    copied: the file already was what would be written, and was copied byte for byte.
    """

    path: Path
    source: Size
    size: Size
    copied: bool = False


def target_size(
    width: int, height: int, *, max_side: int, mode: Literal["long-edge", "area"]
) -> Size:
    """Return the size an image is shrunk to, in pixels; never larger than it is, at least 1 a
    side.

    long-edge: the longer side becomes max_side, the other keeps the aspect, halves rounded up.
    area: the smallest size of the same aspect, up to rounding, whose area is at least max_side
    squared.
    """
    return _MODES[mode](width, height, max_side)


def _by_long_edge(width: int, height: int, max_side: int) -> Size:
    long = max(width, height)
    if long <= max_side:
        return width, height

    def scaled(side: int) -> int:
        return max(1, (2 * side * max_side + long) // (2 * long))

    return scaled(width), scaled(height)


def _by_area(width: int, height: int, max_side: int) -> Size:
    wanted = max_side * max_side
    if width * height <= wanted:
        return width, height
    candidates = [
        (w, h)
        for w in _both_roundings(wanted * width, height)
        for h in _both_roundings(wanted * height, width)
        if w * h >= wanted
    ]
    # Both rounded up always qualifies; of equal areas the one nearer to the aspect is taken.
    return min(
        candidates, key=lambda size: (size[0] * size[1], abs(size[0] * height - size[1] * width))
    )


def _both_roundings(numerator: int, denominator: int) -> tuple[int, ...]:
    """Return the square root of a fraction rounded down (at least 1) and up, in whole numbers
    throughout.
    """
    down = isqrt(numerator // denominator)
    up = down if down * down * denominator == numerator else down + 1
    return (max(1, down), max(1, up))


_MODES = {"long-edge": _by_long_edge, "area": _by_area}


@dataclass(frozen=True, slots=True)
class ResizeStage:
    """Shrink images to files elsewhere. targets: (source, output) of each image."""

    targets: tuple[tuple[Path, Path], ...]
    options: ResizeOptions
    batch_size: int = 1
    name: str = "resize"

    def __post_init__(self) -> None:
        owners = {source: source for source, _ in self.targets}
        for source, output in self.targets:
            if (owner := owners.setdefault(output, source)) != source or output == source:
                what = f"{display(source)} would be written to {display(output)}"
                raise PlanConflict(
                    f"{what}, which belongs to {display(owner)}", hint="name another output folder"
                )

    @classmethod
    def of(cls, options: ResizeOptions, targets: Mapping[Path, Path]) -> ResizeStage:
        """Build the stage from the verb's options and each source's output. Raises PlanConflict for
        one used twice.
        """
        return cls(tuple(targets.items()), options)

    @contextmanager
    def open(self) -> Iterator[ResizeWorker]:
        """There is nothing to load."""
        yield ResizeWorker(dict(self.targets), self.options)


class ResizeWorker:
    """Does one image from file to file in `prepare`, in parallel; `process` only hands the
    outcomes on.
    """

    def __init__(self, targets: Mapping[Path, Path], options: ResizeOptions) -> None:
        self.targets = targets
        self.options = options

    def prepare(self, record: ImageRecord) -> Done[ResizedImage]:
        """Read, shrink and write one image. Raises InputError for it, StorageError for
        the disk.
        """
        options, target = self.options, self.targets[record.path]
        source = (record.width, record.height)
        size = target_size(*source, max_side=options.max, mode=options.mode)
        writer = pixels.WRITERS.get(target.suffix.lower(), "")
        alpha = options.alpha if writer in pixels.WITH_ALPHA else "flatten"
        # Also what could be copied is decoded: a damaged file must not be passed on.
        wanted = max(size) if size != source else None
        image = pixels.load_reduced(
            record.path, wanted, alpha=alpha, max_pixels=options.max_pixels, factor=DRAFT_FACTOR
        )
        if (image.width, image.height) != source:
            raise InputError(
                f"{display(record.path)} was changed while it was read", hint="run again"
            )
        seen = _probed(record, image, options.max_pixels)
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        plain = size == source and seen.frames == 1 and seen.format == writer
        data = _read(record.path) if plain and (not seen.has_alpha or alpha == "keep") else b""
        copied = bool(data) and holds_pixels_only(data, writer)
        if copied:
            write_atomic(target, data)
        else:
            pixels.save(shrink(image.image, size, image.box), target, quality=options.quality)
        return Done(
            record, ResizedImage(target, source, size, copied), _note(seen, options.alpha != alpha)
        )

    def process(
        self, batch: Sequence[tuple[ImageRecord, object]]
    ) -> Sequence[Outcome[ResizedImage]]:
        return [done for _, done in batch if isinstance(done, Done)]


def _probed(record: ImageRecord, image: pixels.ReducedImage, max_pixels: int) -> pixels.ImageHeader:
    """Return what the header says; of a JPEG nothing has to be read again."""
    if image.format == "JPEG":
        return pixels.ImageHeader(record.width, record.height, "JPEG", 1, False)
    return pixels.probe(record.path, max_pixels=max_pixels)


def shrink(
    image: Image.Image, size: Size, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Scale by Lanczos; colours under transparency do not bleed into the edge (they are weighted by
    alpha).

    box: the part of `image` that is the image, where that ends inside of a pixel; None = all.
    """
    if image.size == size:
        return image
    if image.mode == "RGBA":
        return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS, box).convert("RGBA")
    return image.resize(size, Image.Resampling.LANCZOS, box)


def _read(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


def _note(seen: pixels.ImageHeader, lost_alpha: bool) -> str:
    notes = []
    if seen.frames > 1:
        notes.append(
            "several pages: only the first was used"
            if seen.format == "TIFF"
            else "animated: only the first frame was used"
        )
    if lost_alpha and seen.has_alpha:
        notes.append("JPEG has no transparency: laid onto white")
    return "; ".join(notes)
