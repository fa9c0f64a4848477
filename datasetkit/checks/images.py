"""Checks of images: what a trainer cannot read, would show otherwise, or should not learn
from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from datasetkit.checks.base import (
    Check,
    CheckImage,
    CheckInput,
    Finding,
    ImageMeasures,
    ImageRegion,
)
from datasetkit.core.files import display
from datasetkit.dataset.buckets import Size, select
from datasetkit.images import near_duplicates as perceptual

# The suffixes of each format, the usual one first.
SUFFIXES: Final = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
# What sd-scripts lists (train_util.py, IMAGE_EXTENSIONS); AVIF only where a plugin of Pillow is
# installed.
TRAINED: Final = frozenset({"JPEG", "PNG", "WEBP", "BMP"})
# Share of the pixels from which a lost alpha channel is seen: less is the soft edge of a cut-out.
_REVEALED = 0.001


def _seen(of: CheckInput) -> Iterator[tuple[CheckImage, ImageMeasures]]:
    return ((item, item.looks) for item in of.items if item.looks is not None)


def unreadable(of: CheckInput) -> Iterator[Finding]:
    for failed in of.failed:
        reason = failed.error
        for known in (display(failed.path), display(failed.path.name)):
            reason = (
                reason.removeprefix("cannot read ")
                .removeprefix(f"{known}: ")
                .removeprefix(f"{known} ")
            )
        yield Finding(failed.path, reason)


def proper_name(path: Path, form: str) -> Path:
    """Return the name that an image of this format should have; its own where that is right."""
    suffixes = SUFFIXES.get(form, (path.suffix,))
    if path.suffix.lower() not in suffixes:
        return path.with_suffix(suffixes[0])
    return (
        path
        if path.suffix in (path.suffix.lower(), path.suffix.upper())
        else path.with_suffix(path.suffix.lower())
    )


def suffix(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        name = proper_name(item.path, seen.format)
        if name.suffix.lower() != item.path.suffix.lower():
            yield Finding(item.path, f"is a {seen.format} file", 1.0)
        elif name != item.path:
            yield Finding(
                item.path, f"trainers look for {name.suffix} and {name.suffix.upper()} only"
            )


def file_format(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        if seen.format not in TRAINED:
            yield Finding(item.path, f"sd-scripts does not list {seen.format} files")


def small(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        bucket = select(of.rules, item.width, item.height)
        if bucket.scale > of.options.upscale:
            size = f"{_size((item.width, item.height))} is enlarged {bucket.scale:.2f} x"
            yield Finding(
                item.path, f"{size} for its bucket of {_size(bucket.bucket)}", bucket.scale
            )


def cut(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        bucket = select(of.rules, item.width, item.height)
        if bucket.cropped > of.options.cut:
            reason = f"{_size((item.width, item.height))} loses {bucket.cropped:.0%} in its bucket"
            yield Finding(item.path, f"{reason} of {_size(bucket.bucket)}", bucket.cropped)


def blurred(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        if seen.blur >= of.options.blur:
            yield Finding(item.path, f"blur {seen.blur:.2f}", seen.blur)


def duplicate(of: CheckInput) -> Iterator[Finding]:
    for group in _copies(of, _near(of)):
        best = _best(group)
        yield from (
            Finding(i.path, f"shows the same pixels as {_named(best, i)}")
            for i in group
            if i is not best
        )


def near_duplicate(of: CheckInput) -> Iterator[Finding]:
    near = _near(of)
    copies = {
        item.path for group in _copies(of, near) for item in group if item is not _best(group)
    }
    for group in near:
        left = [item for item in group if item.path not in copies]
        best = _best(left)
        for item in left:
            if item is not best:
                yield Finding(
                    item.path, f"looks like {_named(best, item)}, {_why(best, item)}", len(left)
                )


def _near(of: CheckInput) -> list[list[CheckImage]]:
    seen = list(_seen(of))
    return [
        [seen[i][0] for i in group]
        for group in perceptual.groups([looks.look for _, looks in seen])
    ]


def _copies(of: CheckInput, near: Sequence[Sequence[CheckImage]]) -> list[list[CheckImage]]:
    """Group the images of the same pixels: only those that look alike and are of one size need be
    compared.
    """
    by_size: defaultdict[tuple[int, int, int], list[CheckImage]] = defaultdict(list)
    for number, group in enumerate(near):
        for item in group:
            by_size[number, item.width, item.height].append(item)
    candidates = [group for group in by_size.values() if len(group) > 1]
    digests = of.digests([item for group in candidates for item in group])
    same: defaultdict[str, list[CheckImage]] = defaultdict(list)
    for group in candidates:
        for item in group:
            if item.path in digests:
                same[digests[item.path]].append(item)
    return [group for group in same.values() if len(group) > 1]


def _best(group: Sequence[CheckImage]) -> CheckImage:
    """Return the image to keep: one that trainers read, of the most pixels, then the sharpest,
    then the first.
    """
    return max(group, key=_worth)


def _worth(item: CheckImage) -> tuple[bool, int, float]:
    trained = item.looks is not None and item.looks.format in TRAINED
    return trained, item.width * item.height, -item.looks.blur if item.looks is not None else 0.0


def _why(best: CheckImage, other: CheckImage) -> str:
    if _worth(best)[0] > _worth(other)[0]:
        return "whose format trainers read"
    if best.width * best.height > other.width * other.height:
        return f"which is larger ({_size((best.width, best.height))})"
    return "which is sharper" if _worth(best) > _worth(other) else "which stands first"


def _named(item: CheckImage, beside: CheckImage) -> str:
    same = item.place.folder == beside.place.folder
    return display(item.path.name if same else f"{item.place.folder.name}/{item.path.name}")


def text(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        lines = _above(item.text, of.options.text)
        if lines:
            yield Finding(
                item.path,
                f"{_counted(len(lines), 'line')} of text (score {lines[0]:.2f})",
                lines[0],
            )


def alpha(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        if seen.revealed > _REVEALED:
            what = seen.hidden or "what lies hidden"
            yield Finding(
                item.path,
                f'convert("RGB") shows {what} on {seen.revealed:.0%} of it',
                seen.revealed,
            )


def turned(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        if seen.orientation != 1:
            yield Finding(
                item.path,
                f"EXIF orientation {seen.orientation} is ignored: it is trained turned or mirrored",
            )


def animated(of: CheckInput) -> Iterator[Finding]:
    for item, seen in _seen(of):
        if seen.frames > 1:
            yield Finding(
                item.path, f"{seen.frames} frames, of which the first is trained", seen.frames
            )


def faces(of: CheckInput) -> Iterator[Finding]:
    if of.options.kind != "character":
        return
    for item in of.items:
        scores = _above(item.faces, of.options.faces)
        if len(scores) > 1 and not item.place.is_reg:
            yield Finding(item.path, f"{len(scores)} faces", len(scores))


def _above(spots: Iterable[ImageRegion] | None, least: float) -> list[float]:
    return sorted((spot.score for spot in spots or () if spot.score >= least), reverse=True)


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


CHECKS: Final = (
    Check(
        "unreadable",
        "image",
        "cannot be read",
        "each image is decoded whole or, where the format allows it, at a reduced size",
        "it cannot be: damaged, cut short, empty, not an image, over --max-pixels, a link, an "
        "unprintable name",
        "copy it again, or take it out",
        unreadable,
        needs=("looks",),
    ),
    Check(
        "suffix",
        "image",
        "wrong extension",
        "the format that the content has, beside the suffix of the name",
        "another format's suffix, or one in mixed case such as `.Jpg`, for which trainers do "
        "not look",
        "dsk check {folder} --fix",
        suffix,
        fix="renames the image; its caption and mask go on belonging to it",
        needs=("looks",),
    ),
    Check(
        "format",
        "image",
        "format that trainers skip",
        "the format that the content has",
        "GIF, TIFF or AVIF: sd-scripts lists PNG, JPEG, WebP and BMP",
        "dsk resize {folder} --format png",
        file_format,
        needs=("looks",),
    ),
    Check(
        "small",
        "image",
        "too small for the resolution",
        "the factor from the image to its bucket, by the trainer's own arithmetic",
        "more than --upscale (1.05)",
        "find larger ones, or train at a lower resolution",
        small,
    ),
    Check(
        "cut",
        "image",
        "much is cut off",
        "the share of the image's area that its bucket cuts off",
        "more than --cut (0.2)",
        "crop it yourself, or widen min_bucket_reso and max_bucket_reso",
        cut,
    ),
    Check(
        "blurred",
        "image",
        "blurred",
        "the blur effect of Crete et al. (2007) at a long edge of 512 pixels: 0 is sharp, 1 is "
        "nothing left",
        "--blur (0.55) or more; sharp photos and drawings have 0.2 to 0.35, after a Gaussian "
        "of 2 pixels 0.52 to 0.66",
        "take it out, or find a sharper one",
        blurred,
        needs=("looks",),
    ),
    Check(
        "duplicate",
        "image",
        "same pixels",
        "a hash of all pixels, upright and in sRGB, of images that look alike and are of one size",
        "equal: every image of such a group but the best",
        "keep one of them",
        duplicate,
        needs=("looks",),
    ),
    Check(
        "near-duplicate",
        "image",
        "nearly the same",
        "128 bits of shape and the mean colour (the hash of the review page), of every pair",
        "at most 12 other bits and 32 other levels: every image of such a group but the best "
        "(a format "
        "that trainers read, the most pixels, then the sharpest)",
        "keep the one that is named, unless they show different things",
        near_duplicate,
        needs=("looks",),
    ),
    Check(
        "text",
        "image",
        "text or watermark",
        "lines of text that PaddleOCR's detector finds at a long edge of 768 pixels",
        "a score of --text (0.7) or more",
        "crop it off, or dsk faces erase {folder} --text",
        text,
        needs=("text",),
    ),
    Check(
        "alpha",
        "image",
        "transparency that trainers drop",
        'the share of pixels that look otherwise after convert("RGB") than on white',
        "more than 0.1 %",
        "dsk resize {folder} flattens onto white",
        alpha,
        needs=("looks",),
    ),
    Check(
        "turned",
        "image",
        "EXIF rotation",
        "the orientation in EXIF or XMP",
        "not 1: trainers take the pixels as they are stored",
        "dsk resize {folder} turns them",
        turned,
        needs=("looks",),
    ),
    Check(
        "animated",
        "image",
        "animation",
        "the frames of the file",
        "more than 1",
        "save the frame that you want",
        animated,
        needs=("looks",),
    ),
    Check(
        "faces",
        "image",
        "more than one face",
        "faces that BlazeFace finds in the image and in its mirror image; not for --kind "
        "style, nor in reg/",
        "two or more of a score of --faces (0.5) or more",
        "crop to one, or take it out",
        faces,
        needs=("faces",),
    ),
)
