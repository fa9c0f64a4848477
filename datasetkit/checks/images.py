"""Checks of images: those that a trainer cannot read, misreads, or should not learn from."""

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
from datasetkit.core.words import counted
from datasetkit.dataset.buckets import Bucket, Size, select
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
    "HEIC": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
# The formats of sd-scripts (train_util.py, IMAGE_EXTENSIONS); AVIF only with a plugin of Pillow.
TRAINED: Final = frozenset({"JPEG", "PNG", "WEBP", "BMP"})
# Share of changed pixels that counts as a lost alpha channel: less is the soft edge of a cut-out.
_REVEALED = 0.001


def _measured(data: CheckInput) -> Iterator[tuple[CheckImage, ImageMeasures]]:
    return ((item, item.measures) for item in data.items if item.measures is not None)


def unreadable(data: CheckInput) -> Iterator[Finding]:
    for failed in data.failed:
        reason = failed.error
        for name in (display(failed.path), display(failed.path.name)):
            reason = (
                reason.removeprefix("cannot read ")
                .removeprefix(f"{name}: ")
                .removeprefix(f"{name} ")
            )
        yield Finding(failed.path, reason)


def unsupported(data: CheckInput) -> Iterator[Finding]:
    for item in data.left_out:
        if item.group not in ("system", "folder"):
            is_image = item.group not in ("video", "archive")
            yield Finding(item.path, f"{item.kind}: {item.advice}", float(is_image))


def proper_name(path: Path, form: str) -> Path:
    """Return the name that an image of this format should have: its own if that is right."""
    suffixes = SUFFIXES.get(form, (path.suffix,))
    if path.suffix.lower() not in suffixes:
        return path.with_suffix(suffixes[0])
    return (
        path
        if path.suffix in (path.suffix.lower(), path.suffix.upper())
        else path.with_suffix(path.suffix.lower())
    )


def suffix(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        name = proper_name(item.path, measures.format)
        if name.suffix.lower() != item.path.suffix.lower():
            yield Finding(item.path, f"is a {measures.format} file", 1.0)
        elif name != item.path:
            yield Finding(item.path, f"trainers only find {name.suffix} and {name.suffix.upper()}")


def file_format(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        if measures.format not in TRAINED:
            yield Finding(item.path, f"sd-scripts does not list {measures.format} files")


def _buckets(data: CheckInput, item: CheckImage) -> list[Bucket]:
    """Return the bucket of an image at each resolution."""
    return [select(rules, item.width, item.height) for rules in data.rules]


def small(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        bucket = max(_buckets(data, item), key=lambda bucket: bucket.scale)
        if bucket.scale > data.options.upscale:
            size = f"{_size((item.width, item.height))} is enlarged {bucket.scale:.2f} x"
            yield Finding(
                item.path, f"{size} for its bucket of {_size(bucket.bucket)}", bucket.scale
            )


def cut(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        bucket = max(_buckets(data, item), key=lambda bucket: bucket.cropped)
        if bucket.cropped > data.options.cut:
            reason = f"{_size((item.width, item.height))} loses {bucket.cropped:.0%} in its bucket"
            yield Finding(item.path, f"{reason} of {_size(bucket.bucket)}", bucket.cropped)


def blurred(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        if measures.blur >= data.options.blur:
            yield Finding(item.path, f"blur {measures.blur:.2f}", measures.blur)


def duplicate(data: CheckInput) -> Iterator[Finding]:
    for group in _copies(data, _near(data)):
        best = _best(group)
        yield from (
            Finding(i.path, f"has the same pixels as {_named(best, i)}")
            for i in group
            if i is not best
        )


def near_duplicate(data: CheckInput) -> Iterator[Finding]:
    near = _near(data)
    copies = {
        item.path for group in _copies(data, near) for item in group if item is not _best(group)
    }
    for group in near:
        distinct = [item for item in group if item.path not in copies]
        best = _best(distinct)
        for item in distinct:
            if item is not best:
                yield Finding(
                    item.path,
                    f"looks like {_named(best, item)}, {_why(best, item)}",
                    len(distinct),
                )


def near_groups(data: CheckInput) -> list[list[CheckImage]]:
    """Return the groups of near-duplicates, those that a person keeps included."""
    measured = list(_measured(data))
    groups = perceptual.groups([measures.look for _, measures in measured])
    return [[measured[i][0] for i in group] for group in groups]


def _near(data: CheckInput) -> list[list[CheckImage]]:
    return [group for group in near_groups(data) if not data.is_kept(group)]


def _copies(data: CheckInput, near: Sequence[Sequence[CheckImage]]) -> list[list[CheckImage]]:
    """Group images with the same pixels; only near-duplicates of one size have to be compared."""
    by_size: defaultdict[tuple[int, int, int], list[CheckImage]] = defaultdict(list)
    for number, group in enumerate(near):
        for item in group:
            by_size[number, item.width, item.height].append(item)
    candidates = [group for group in by_size.values() if len(group) > 1]
    digests = data.digests([item for group in candidates for item in group])
    same: defaultdict[str, list[CheckImage]] = defaultdict(list)
    for group in candidates:
        for item in group:
            if item.path in digests:
                same[digests[item.path]].append(item)
    return [group for group in same.values() if len(group) > 1]


def _best(group: Sequence[CheckImage]) -> CheckImage:
    """Return the image to keep: of a format that trainers read, the largest, sharpest, first."""
    return max(group, key=_quality)


def _quality(item: CheckImage) -> tuple[bool, int, float]:
    trained = item.measures is not None and item.measures.format in TRAINED
    return (
        trained,
        item.width * item.height,
        -item.measures.blur if item.measures is not None else 0.0,
    )


def _why(best: CheckImage, other: CheckImage) -> str:
    if _quality(best)[0] > _quality(other)[0]:
        return "whose format trainers read"
    if best.width * best.height > other.width * other.height:
        return f"which is larger ({_size((best.width, best.height))})"
    return "which is sharper" if _quality(best) > _quality(other) else "which comes first"


def _named(item: CheckImage, beside: CheckImage) -> str:
    same = item.folder.folder == beside.folder.folder
    return display(item.path.name if same else f"{item.folder.folder.name}/{item.path.name}")


def text(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        lines = _scores_above(item.text, data.options.text)
        if lines:
            yield Finding(
                item.path,
                f"{counted(len(lines), 'line')} of text (score {lines[0]:.2f})",
                lines[0],
            )


def alpha(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        if measures.revealed > _REVEALED:
            what = measures.hidden or "hidden pixels"
            yield Finding(
                item.path,
                f'convert("RGB") shows {what} in {measures.revealed:.0%} of it',
                measures.revealed,
            )


def turned(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        if measures.orientation != 1:
            yield Finding(
                item.path,
                f"EXIF orientation {measures.orientation} is ignored: it is trained rotated or "
                "mirrored",
            )


def animated(data: CheckInput) -> Iterator[Finding]:
    for item, measures in _measured(data):
        if measures.frames > 1:
            yield Finding(
                item.path, f"{measures.frames} frames; trainers use the first", measures.frames
            )


def faces(data: CheckInput) -> Iterator[Finding]:
    if data.options.kind != "character":
        return
    for item in data.items:
        scores = _scores_above(item.faces, data.options.faces)
        if len(scores) > 1 and not item.folder.is_reg:
            yield Finding(item.path, f"{len(scores)} faces", len(scores))


def _scores_above(regions: Iterable[ImageRegion] | None, least: float) -> list[float]:
    return sorted((r.score for r in regions or () if r.score >= least), reverse=True)


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


CHECKS: Final = (
    Check(
        "unreadable",
        "image",
        "cannot be read",
        "each image is decoded, at full or (if the format allows it) at reduced size",
        "decoding fails: damaged, truncated, empty, not an image, over --max-pixels, a link, an "
        "unprintable name",
        "copy it again, or remove it",
        unreadable,
        needs=("looks",),
    ),
    Check(
        "unsupported",
        "image",
        "is left out",
        "the other files of a folder: suffixes, and where they are unknown the first bytes",
        "an image that dsk does not read (HEIC without the extra `formats`, JXL, camera raw, PSD), "
        "one whose name does not show it, a hidden one, a video or an archive",
        "convert or move them; the findings name what reads each",
        unsupported,
    ),
    Check(
        "suffix",
        "image",
        "wrong extension",
        "the format of the content, against the suffix of the name",
        "the suffix of another format, or one in mixed case such as `.Jpg`, which trainers do "
        "not find",
        "dsk check {dataset} --fix",
        suffix,
        fix="renames the image; its caption and mask still belong to it",
        needs=("looks",),
    ),
    Check(
        "format",
        "image",
        "format that trainers skip",
        "the format of the content",
        "GIF, TIFF, AVIF or HEIC: sd-scripts lists PNG, JPEG, WebP and BMP",
        "dsk resize {folder}{out} --format png",
        file_format,
        needs=("looks",),
    ),
    Check(
        "small",
        "image",
        "too small for the resolution",
        "the scale factor from the image to its bucket, as the trainer computes it",
        "more than --upscale (1.05)",
        "find larger ones, or train at a lower resolution",
        small,
    ),
    Check(
        "cut",
        "image",
        "large part cut off",
        "the share of the area that the bucket cuts off",
        "more than --cut (0.2)",
        "crop it yourself, or widen min_bucket_reso and max_bucket_reso",
        cut,
    ),
    Check(
        "blurred",
        "image",
        "blurred",
        "the blur effect of Crete et al. (2007) at a long edge of 512 pixels, from 0 (sharp) to 1",
        "--blur (0.55) or more; sharp photos and drawings have 0.2 to 0.35, after a Gaussian "
        "of 2 pixels 0.52 to 0.66",
        "remove it, or find a sharper one",
        blurred,
        needs=("looks",),
    ),
    Check(
        "duplicate",
        "image",
        "same pixels",
        "a hash of all pixels, upright and in sRGB, of near-duplicates of one size",
        "equal hashes: every image of a group except the best",
        "keep one of them",
        duplicate,
        needs=("looks",),
    ),
    Check(
        "near-duplicate",
        "image",
        "nearly the same",
        "a perceptual hash (128 bits of shape, and the mean colour; the review page uses it too), "
        "for every pair",
        "a difference of at most 12 bits and 32 levels: every image of a group except the best (a "
        "format that trainers read, the most pixels, then the sharpest)",
        "keep the named one, unless they show different things",
        near_duplicate,
        needs=("looks",),
    ),
    Check(
        "text",
        "image",
        "text or watermark",
        "lines of text that PaddleOCR's detector finds at a long edge of 768 pixels",
        "a score of --text (0.7) or more",
        "dsk check {dataset} --sheet {contact_sheet} shows it; "
        "dsk faces erase {folder}{out} --only text",
        text,
        needs=("text",),
    ),
    Check(
        "alpha",
        "image",
        "transparency that trainers drop",
        'the share of pixels that differ between convert("RGB") and a white background',
        "more than 0.1 %",
        "dsk resize {folder}{out} flattens onto white",
        alpha,
        needs=("looks",),
    ),
    Check(
        "turned",
        "image",
        "EXIF rotation",
        "the orientation in EXIF or XMP",
        "not 1: trainers use the pixels as stored",
        "dsk resize {folder}{out} rotates them",
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
        "faces that BlazeFace finds in the image and in its mirror image; for --kind character "
        "only, and not in reg/",
        "two or more with a score of --faces (0.5) or more",
        "crop to one, or remove it",
        faces,
        needs=("faces",),
    ),
)
