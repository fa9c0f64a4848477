"""The types of the checks: their input, a check, and a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from datasetkit.captions.caption import (
    CaptionLine,
    caption_lines,
    forms_of_tags,
    lines_of,
    parse,
    tag_form,
    with_source,
)
from datasetkit.captions.grammar import PLAIN, is_group
from datasetkit.captions.tokens import TokenLimit
from datasetkit.core.records import Caption, CaptionSyntax, Failed, LeftOut
from datasetkit.dataset.buckets import BucketRules
from datasetkit.dataset.layout import Misread
from datasetkit.dataset.unreached import UnreachedFiles
from datasetkit.options.check import CheckOptions

Group = Literal["image", "caption", "folder"]
GROUPS: tuple[Group, ...] = ("image", "caption", "folder")
# Measurements of an image that take time; a check names those that it needs.
Measure = Literal["looks", "text", "faces"]


@dataclass(frozen=True, slots=True)
class ImageRegion:
    """A region of an image: its box as fractions of width and height, 0..1, and a score, 0..1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """What the header and the pixels of an image say.

    orientation: of EXIF, 1..8. revealed: the share of pixels that change when trainers drop the
    alpha channel, 0..1; hidden: the colour (#rrggbb) that they then show, "" if there are several.
    blur: see vision/blur.py. look: see images/near_duplicates.py.
    """

    format: str
    frames: int
    orientation: int
    revealed: float
    hidden: str
    blur: float
    look: bytes


@dataclass(frozen=True)
class CaptionFile:
    """The caption of an image as it is on disk. path: its file, also one with another name.

    proper: whether the name is `<stem>.txt`, which every trainer reads. others: further files
    that look like captions of the image. fault: why the file cannot be read, else "".
    converted: its text, where it is not UTF-8 and its encoding is known.
    """

    path: Path
    data: bytes
    tags: tuple[str, ...]
    proper: bool = True
    others: tuple[Path, ...] = ()
    fault: str = ""
    converted: str = ""
    syntax: CaptionSyntax = PLAIN
    sentences: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether it has no tag and no sentence."""
        return not self.tags and not self.sentences

    @property
    def forms(self) -> tuple[str, ...]:
        """Return the normal forms of the tags, in order."""
        return forms_of_tags(self.tags, self.syntax)

    @property
    def caption(self) -> Caption:
        """Return the caption with its text; a file that is not UTF-8 has none."""
        text = self.data.decode("utf-8", "replace")
        return with_source(parse(text, self.syntax), text)

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """Return the tags of each line where lines are separate captions, else all tags as one."""
        return lines_of(self.caption) if self.syntax.enable_wildcard else (self.tags,)

    @property
    def whole_lines(self) -> tuple[CaptionLine, ...]:
        """Return `lines` with their sentences, without empty ones."""
        if self.syntax.kind == "tags":
            return tuple(CaptionLine(line) for line in self.lines if line)
        return tuple(line for line in caption_lines(self.caption) if line.tags or line.sentences)

    @cached_property
    def line_forms(self) -> tuple[tuple[str, ...], ...]:
        """Return the normal forms of each of `lines`, without its wildcards."""
        return tuple(
            tuple(tag_form(tag, self.syntax) for tag in line if not is_group(tag, self.syntax))
            for line in self.lines
        )

    @property
    def all_forms(self) -> frozenset[str]:
        """Return the normal forms of all tags that are not wildcards."""
        return frozenset(form for line in self.line_forms for form in line)


@dataclass(frozen=True, slots=True)
class CheckFolder:
    """One folder of images. repeats: from its name, 1 if it has none.

    triggers: as given, from dsk.toml, stored, or with `guessed` inferred from the captions.
    excluded: what dsk.toml excludes from its captions, for the trigger to absorb.
    possible_trigger: a word that may be the trigger, "" where the trigger is known.
    """

    name: str
    folder: Path
    repeats: int = 1
    triggers: tuple[str, ...] = ()
    guessed: bool = False
    possible_trigger: str = ""
    excluded: tuple[str, ...] = ()
    is_reg: bool = False
    laid_out: bool = False


@dataclass(frozen=True, slots=True)
class CheckImage:
    """One readable image. measures, text, faces: None if they were not measured."""

    path: Path
    id: str
    width: int
    height: int
    folder: CheckFolder
    caption: CaptionFile | None = None
    measures: ImageMeasures | None = None
    text: tuple[ImageRegion, ...] | None = None
    faces: tuple[ImageRegion, ...] | None = None


@dataclass(frozen=True, slots=True)
class CheckInput:
    """The data that the checks examine.

    failed: images that cannot be used. left_out: files that are not read, or not images.
    same_names: image -> an earlier image of the folder with its name but for the suffix. misread:
    folders that are not concepts, with their parent. astray: files that trainers do not find.
    strays: captions without an image. latents: cached latents without an image, or older than it,
    with the reason. empty: concept folders without images. sources: laid-out image -> the image
    that it links to. digests: hashes the pixels of images; each needs a full decode.
    is_kept: whether a person keeps all images of a group of near-duplicates.
    """

    folder: Path
    options: CheckOptions
    rules: tuple[BucketRules, ...]
    tokens: TokenLimit
    folders: tuple[CheckFolder, ...]
    items: tuple[CheckImage, ...]
    failed: tuple[Failed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    same_names: Mapping[Path, Path] = field(default_factory=dict)
    misread: tuple[tuple[Path, Misread], ...] = ()
    astray: tuple[UnreachedFiles, ...] = ()
    strays: tuple[Path, ...] = ()
    latents: tuple[tuple[Path, str], ...] = ()
    empty: tuple[Path, ...] = ()
    sources: Mapping[Path, Path] = field(default_factory=dict)
    digests: Callable[[Sequence[CheckImage]], Mapping[Path, str]] = lambda items: {}
    is_kept: Callable[[Sequence[CheckImage]], bool] = lambda items: False

    @property
    def captioned(self) -> list[tuple[CheckImage, CaptionFile]]:
        """Return the images whose caption has tags or a sentence."""
        return [
            (item, item.caption)
            for item in self.items
            if item.caption is not None and not item.caption.is_empty
        ]

    @property
    def trained(self) -> list[tuple[CheckImage, CaptionFile]]:
        """Return those of `captioned` that are not regularisation images."""
        return [(item, caption) for item, caption in self.captioned if not item.folder.is_reg]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem that a check found. path: the image or folder, for a caption its image.

    weight: severity, to sort the findings of one check. subject: the tag, if it is about one. step:
    what to do about it, if not that of its check.
    """

    path: Path
    reason: str
    weight: float = 0.0
    subject: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. name: as in --only and --skip. measure, threshold: what it examines, and when it
    reports a finding.

    step: what to do about it. fix: what --fix does, "" for nothing. needs: the measurements that it
    uses.
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
    """A finding and its check. fixed: --fix fixes it. step: if not that of its check."""

    check: str
    group: Group
    path: Path
    concept: str
    reason: str
    weight: float
    subject: str = ""
    fixed: bool = False
    step: str = ""
