"""The nouns of the checks: what is looked at, what a check is, and what one finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datasetkit.captions.caption import normal_form
from datasetkit.core.records import Failed
from datasetkit.dataset.buckets import BucketRules
from datasetkit.dataset.layout import Misread
from datasetkit.options.check import CheckOptions

Group = Literal["image", "caption", "folder"]
GROUPS: tuple[Group, ...] = ("image", "caption", "folder")
# What of an image costs time to find out; a check says which of them it needs.
Measure = Literal["looks", "text", "faces"]


@dataclass(frozen=True, slots=True)
class ImageRegion:
    """Something within an image: its box as fractions of width and height, 0..1, and its score,
    0..1.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """What the pixels and the header of an image say.

    orientation: EXIF's, 1..8. revealed: share of the pixels that change when trainers drop the
    alpha channel, 0..1; hidden: the one colour (#rrggbb) that they show then, "" where it is no
    single colour. blur: see vision/blur.py. look: see looks.py.
    """

    format: str
    frames: int
    orientation: int
    revealed: float
    hidden: str
    blur: float
    look: bytes


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """The caption of an image as it stands on disk. path: the file that holds it, whatever its
    name.

    proper: whether that name is `<stem>.txt`, which every trainer is told to read. others: more
    files of this image that look like its captions. fault: why the file cannot be read, "" where
    it can.
    """

    path: Path
    data: bytes
    tags: tuple[str, ...]
    proper: bool = True
    others: tuple[Path, ...] = ()
    fault: str = ""

    @property
    def forms(self) -> tuple[str, ...]:
        """Return the normal forms of the tags, in order."""
        return tuple(map(normal_form, self.tags))


@dataclass(frozen=True, slots=True)
class CheckFolder:
    """One folder of images that is trained together. repeats: of its name, 1 where it has none.

    triggers: what leads its captions, as given, by dsk.toml or, with `guessed`, as most captions
    have it.
    """

    name: str
    folder: Path
    repeats: int = 1
    triggers: tuple[str, ...] = ()
    guessed: bool = False
    is_reg: bool = False
    laid_out: bool = False


@dataclass(frozen=True, slots=True)
class CheckImage:
    """One readable image. text, faces: None where nobody looked for them."""

    path: Path
    id: str
    width: int
    height: int
    place: CheckFolder
    caption: CaptionFile | None = None
    looks: ImageMeasures | None = None
    text: tuple[ImageRegion, ...] | None = None
    faces: tuple[ImageRegion, ...] | None = None


@dataclass(frozen=True, slots=True)
class UnreachedFiles:
    """Files in or below a folder that no trainer reaches."""

    folder: Path
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class CheckInput:
    """All that the checks look at.

    failed: images that cannot be used. misread: folders that are no concept, with their parent.
    astray: see there. strays: captions without an image. latents: cached latents without a
    image, or older than theirs. empty: concept folders without images. sources: laid-out
    image -> the image it was linked from. digests: hashes the pixels of images, which costs a
    whole decode each.
    """

    folder: Path
    options: CheckOptions
    rules: BucketRules
    max_tokens: int
    places: tuple[CheckFolder, ...]
    items: tuple[CheckImage, ...]
    failed: tuple[Failed, ...] = ()
    misread: tuple[tuple[Path, Misread], ...] = ()
    astray: tuple[UnreachedFiles, ...] = ()
    strays: tuple[Path, ...] = ()
    latents: tuple[tuple[Path, str], ...] = ()
    empty: tuple[Path, ...] = ()
    sources: Mapping[Path, Path] = field(default_factory=dict)
    digests: Callable[[Sequence[CheckImage]], Mapping[Path, str]] = lambda items: {}

    @property
    def captioned(self) -> list[tuple[CheckImage, CaptionFile]]:
        """Return the images with a caption that has tags."""
        return [
            (item, item.caption)
            for item in self.items
            if item.caption is not None and item.caption.tags
        ]

    @property
    def trained(self) -> list[tuple[CheckImage, CaptionFile]]:
        """Return those of them that are no regularisation images."""
        return [(item, caption) for item, caption in self.captioned if not item.place.is_reg]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found once. path: the image, caption's image or folder; subject: the tag,
    where it is one.

    weight: how bad it is, for comparing findings of one check.
    """

    path: Path
    reason: str
    weight: float = 0.0
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. name: as in --only and --skip. measure, threshold: what is looked at, and when it
    is a finding.

    step: what to do about it. fix: what --fix does, "" for nothing. needs: the measures without
    which it cannot run.
    """

    name: str
    group: Group
    title: str
    measure: str
    threshold: str
    step: str
    find: Callable[[CheckInput], Iterable[Finding]]
    fix: str = ""
    needs: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """A finding and the check that made it; fixed: --fix has mended it."""

    check: str
    group: Group
    path: Path
    concept: str
    reason: str
    weight: float
    subject: str = ""
    fixed: bool = False
