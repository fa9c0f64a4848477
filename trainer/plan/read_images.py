"""Read the images of a folder for a plan: sizes, contents, captions and masks, but no pixels."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from datasetkit.captions import grammar
from datasetkit.captions.caption import decode_caption, joined_lines
from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.core.errors import DatasetError, DskError, InputError
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    MAX_CAPTION_BYTES,
    display,
    image_id,
    mask_path,
    read_regular,
    reading,
)
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Caption, CaptionSyntax, Failed, LeftOut
from datasetkit.core.words import counted
from datasetkit.dataset.buckets import BucketRules, Size, select
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.images.listing import list_images, same_names
from datasetkit.images.scan import refuse_shared_caption
from trainer.plan import stored_images
from trainer.plan.stored_images import ReadImageFacts, StoredImage

# Whether an image has a caption file; without a caption, the subset's name is its caption.
Captioned = Literal["written", "missing", "empty"]
# Is called with images that were read and decoded, so that they need not be read again.
Recorder = Callable[[Sequence[ReadImageFacts]], None]
# A plan that only looks reads at most so many images as a whole: a million take hours.
MOST_WHOLE: Final = 20_000
_RECORDED_AT_ONCE: Final = 10_000
_OTHER_CAPTION: Final = ".caption"
# How a caption is opened where the system can refuse links; no pipe is waited for. 0 elsewhere.
_NO_LINKS: Final[int] = getattr(os, "O_NOFOLLOW", 0) and os.O_NOFOLLOW | os.O_NONBLOCK
_SMALL: Final = 1 << 14


class ReadImage(NamedTuple):
    """What the file of an image says. id: "" if its content was not read. caption: None without a
    caption file; two_captions: it has a .txt and a .caption.
    """

    path: Path
    id: str
    size: Size
    caption: str | None
    mask: Path | None
    two_captions: bool

    @property
    def captioned(self) -> Captioned:
        return "missing" if self.caption is None else "written" if self.caption else "empty"


@dataclass(frozen=True, slots=True)
class ReadFolder:
    """The images of a folder, and what else it has."""

    images: tuple[ReadImage, ...]
    failed: tuple[Failed, ...]
    left_out: tuple[LeftOut, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads images in threads. rules: of all blocks that train them; masks: read these too.

    whole: read every image as a whole that its project has not recorded so, however many they are.
    record: is called with those, some at a time. decoded: the ids of images that were decoded;
    equal files are decoded once.
    """

    rules: tuple[BucketRules, ...]
    masks: bool
    whole: bool = True
    record: Recorder | None = None
    decoded: set[str] = field(default_factory=set)

    def folder(self, folder: Path, syntax: CaptionSyntax, reporter: Reporter) -> ReadFolder:
        """Read the images of a folder. syntax: of its captions. Raises DatasetError without it."""
        if not folder.is_dir():
            raise DatasetError(
                f"{display(folder)} does not exist", hint="check the folder of this subset"
            )
        listing = list_images(folder)
        owners = same_names(listing.images)
        seen = stored_images.read(folder)
        stored: dict[str, StoredImage | Failed] = {**seen}
        paths = list(listing.images)  # the plan keeps them
        whole = [path for path in paths if not _is_whole(stored.get(path.name))]
        sizes: list[Path] = []
        if not self.whole and len(whole) > MOST_WHOLE:
            sizes = [path for path in whole if path.name not in stored]
            # Without an id an image counts as not read as a whole.
            stored |= {p.name: seen[p.name]._replace(id="") for p in whole if p.name in seen}
            whole = []
        stored |= self._open(whole, sizes, reporter)
        others = _other_captions(folder)

        def finish(path: Path) -> ReadImage | Failed:
            if owners and path in owners:
                refuse_shared_caption(path, owners[path])
            facts = stored[path.name]
            if isinstance(facts, Failed):
                return facts
            return self._with_caption(path, facts, syntax, others)

        results = (
            local.each(finish, paths, name="reading masks", reporter=reporter)
            if self.masks
            else map(_guarded(finish), paths)
        )
        images: list[ReadImage] = []
        failed = [*listing.failed]
        for result in results:
            if isinstance(result, Failed):
                failed.append(result)
            else:
                images.append(result)
        notices = _notices(folder, images, listing.images)
        return ReadFolder(tuple(images), tuple(failed), listing.left_out, tuple(notices))

    def _open(
        self, whole: Sequence[Path], sizes: Sequence[Path], reporter: Reporter
    ) -> dict[str, StoredImage | Failed]:
        """Open images, as a whole or for their size; return what they are by name."""
        opened: dict[str, StoredImage | Failed] = {}
        new: list[ReadImageFacts] = []
        work = ((self._read_whole, whole), (_read_size, sizes))
        try:
            for function, paths in work:
                results = local.each(function, paths, name="reading images", reporter=reporter)
                for path, facts in zip(paths, results, strict=True):
                    if isinstance(facts, Failed):
                        opened[path.name] = facts
                        continue
                    opened[path.name] = StoredImage(facts.id, facts.size, bool(facts.id))
                    if facts.id and self.record is not None:
                        new.append(facts)
                    if len(new) == _RECORDED_AT_ONCE:
                        self._record(new)
        finally:
            self._record(new)
        return opened

    def _record(self, new: list[ReadImageFacts]) -> None:
        if self.record is not None and new:
            self.record(new)
            new.clear()

    def _read_whole(self, path: Path) -> ReadImageFacts:
        """Read an image as training will: its size, hash and pixels. Raises InputError."""
        facts = _read_size(path)
        key = image_id(path)
        if key not in self.decoded:
            # The largest size that any block needs: a JPEG is decoded no larger than that.
            sizes = [select(rules, *facts.size).resized for rules in self.rules]
            pixels.load(path, shrink_to=max(map(max, sizes)))
            self.decoded.add(key)
        return facts._replace(id=key)

    def _with_caption(
        self, path: Path, image: StoredImage, syntax: CaptionSyntax, others: Collection[str]
    ) -> ReadImage:
        """Read the caption and the mask of an image. Raises InputError."""
        caption, both = _caption(path, syntax, others)
        mask: Path | None = mask_path(path) if self.masks else None
        if mask is None or not mask.is_file():
            mask = None
        else:
            _require_mask(mask, image.size)
        return ReadImage(path, image.id, image.size, caption, mask, both)


def _guarded(
    function: Callable[[Path], ReadImage | Failed],
) -> Callable[[Path], ReadImage | Failed]:
    """Return a function with the errors of one image turned into failures, as `local.each` does. A
    caption takes less time than a thread.
    """

    def guarded(path: Path) -> ReadImage | Failed:
        try:
            return function(path)
        except DskError as error:
            return Failed(path, error.message, error.hint)

    return guarded


def _is_whole(image: StoredImage | Failed | None) -> bool:
    return isinstance(image, StoredImage) and bool(image.id) and image.is_decoded


def _read_size(path: Path) -> ReadImageFacts:
    """Read the size of an image. Raises InputError."""
    with reading(path):
        info = path.stat()
    header = pixels.probe(path)
    return ReadImageFacts(path, info, "", (header.width, header.height))


def _notices(folder: Path, images: Sequence[ReadImage], paths: Sequence[Path]) -> list[str]:
    """Return what a person should know of the files of a folder."""
    unread = sum(not image.id for image in images)
    notices = [
        f"{display(image.path.name)} has a .txt and a .caption: the .txt is used"
        for image in images
        if image.two_captions
    ]
    if unread:
        notices.append(
            f"{display(folder.name)}: of {counted(unread, 'image')} only the size was read; the "
            "run reads them as a whole before its first step"
        )
    misnamed = {
        image: others
        for image, paths in misnamed_captions(paths).items()
        if (others := [path for path in paths if path != image.with_suffix(_OTHER_CAPTION)])
    }
    return [*notices, *misnamed_warnings(misnamed)]


# ---- masks


def _require_mask(mask: Path, image: Size) -> None:
    """Raise InputError for a mask that cannot be used: damaged, of another shape, or black."""
    loaded = pixels.load(mask)
    require_mask_shape(mask, loaded.size, image)
    if loaded.convert("L").getbbox() is None:
        raise InputError(
            f"the mask {display(mask)} is black: nothing of its image would be trained",
            hint="make the mask again: dsk cutout; or remove the image",
        )


def require_mask_shape(mask: Path, size: Size, image: Size) -> None:
    """Raise InputError for a mask of another shape than its image."""
    if size[0] * image[1] != size[1] * image[0]:
        raise InputError(
            f"the mask {display(mask)} is {size[0]} x {size[1]}, its image {image[0]} x {image[1]}",
            hint="make the mask again: dsk cutout",
        )


# ---- captions


def _other_captions(folder: Path) -> frozenset[str]:
    """Return the names in a folder that end in `.caption`."""
    with reading(folder), os.scandir(folder) as entries:
        return frozenset(e.name for e in entries if e.name.endswith(_OTHER_CAPTION))


def _caption(path: Path, syntax: CaptionSyntax, others: Collection[str]) -> tuple[str | None, bool]:
    """Return an image's caption, None for none, and whether there is a `.caption` beside the
    `.txt`. Its lines are joined, unless they are separate captions, or tags and sentences.

    others: the names of the folder that end in `.caption`.
    """
    whole = str(path)
    stem = whole[: whole.rindex(".")]
    source = stem + CAPTION_SUFFIX
    data = _read_text(source)
    has_other = bool(others) and f"{path.stem}{_OTHER_CAPTION}" in others
    if data is None and has_other:
        source = stem + _OTHER_CAPTION
        data = _read_text(source)
    if data is None:
        return None, False
    text = _one_line(data, syntax)
    if text is None:
        caption = decode_caption(Path(source), data, syntax)
        text = "" if caption is None else _as_written(caption)
    return text, has_other and source.endswith(CAPTION_SUFFIX)


def _read_text(path: str) -> bytes | None:
    """Return the bytes of a caption file, None if there is none. Raises InputError.

    Most captions are small regular files, which take half the time of `read_regular`.
    """
    if not _NO_LINKS:
        return read_regular(Path(path), limit=MAX_CAPTION_BYTES)
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINKS)
    except FileNotFoundError:
        return None
    except OSError:
        return read_regular(Path(path), limit=MAX_CAPTION_BYTES)  # it says what is wrong
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, _SMALL) if is_regular else b""
    finally:
        os.close(descriptor)
    if is_regular and len(data) < _SMALL:
        return data
    return read_regular(Path(path), limit=MAX_CAPTION_BYTES)


def _one_line(data: bytes, syntax: CaptionSyntax) -> str | None:
    """Return the text of a caption that is one line of tags; None for another one, which has to be
    parsed.
    """
    if syntax.kind != "tags":
        return None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and text.strip(" ,") else None


def _as_written(caption: Caption) -> str:
    """Return the text of a caption as in its file, which sd-scripts trains too; a caption of
    several lines is one text, unless lines are separate captions, or tags and sentences.
    """
    text = (caption.source or "").replace(grammar.BOM, "")
    written = [line.strip() for line, _ in grammar.lines(text) if grammar.spans(line)]
    if len(written) > 1 and not caption.syntax.enable_wildcard:
        if caption.syntax.kind == "sentence":
            return joined_lines(written)
        if caption.syntax.kind == "tags":
            return caption.text()
    return "\n".join(written)
