"""Imports: captions out of what other tools leave beside images (gallery-dl, hydrus, booru dumps,
sd-scripts).
"""

from __future__ import annotations

import errno
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from datasetkit.captions.caption import dedupe, parse, spell
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import IMAGE_SUFFIXES, display, read_regular
from datasetkit.core.records import Caption, Failed

# Bytes. A side-car holds one image's tags, sd-scripts' metadata file those of a whole set.
MAX_SIDECAR: Final = 4_000_000
MAX_META: Final = 400_000_000

# What boorus call a category, and hydrus a namespace.
_AS_NAMESPACE: Final = {"artist": "creator", "copyright": "series"}
# The order of a booru's categories in a caption; other categories are left out.
_CATEGORIES: Final = ("character", "copyright", "person", "species", "general")
_GENERAL: Final = "general"


class ImportedCaption(NamedTuple):
    """An image, the caption that was found for it, and the file that held it."""

    image: Path
    caption: Caption
    source: Path


@dataclass(frozen=True, slots=True)
class TagSyntax:
    """How tags are read.

    bare: namespaces that are taken off (`character:hatsune miku` -> `hatsune miku`). dropped:
    namespaces whose tags are left out. Any other colon belongs to its tag (`re:zero`, `:d`).
    respell: underscores become spaces, but for kaomoji.
    """

    bare: frozenset[str] = frozenset({"character", "series", "person", "species"})
    dropped: frozenset[str] = frozenset(
        {
            "creator",
            "rating",
            "title",
            "page",
            "chapter",
            "volume",
            "studio",
            "medium",
            "meta",
            "source",
            "site",
        }
    )
    respell: bool = True


Parser = Callable[[str, TagSyntax], Caption]
DEFAULT: Final = TagSyntax()


def parse_lines(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Read one tag a line, with hydrus' namespaces: `image.jpg.txt` as gallery-dl and hydrus write
    it.
    """
    return _caption(_named(parse(text).tags, reading), reading)


def parse_caption(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Read a caption of another file name (`.caption`): tags parted by commas; colons have no
    meaning.
    """
    return _caption(parse(text).tags, reading)


def parse_post(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Read the metadata of a post as gallery-dl and booru dumps write it: `image.jpg.json`.

    Categories win where the post has them (`tags_general`, `tag_string_general`, or `tags` with a
    list each), since they tell artists and remarks from what is seen; else `tags` or `tag_string`
    as it is. Raises InputError.
    """
    post = _json_object(text)
    sorted_out = [tag for category in _CATEGORIES for tag in _of_category(post, category, reading)]
    if _of_category(post, _GENERAL, reading):
        return _caption(sorted_out, reading)
    unsorted = next(
        (tags for key in ("tags", "tag_string") if (tags := _tags(key, post.get(key)))), sorted_out
    )
    return _caption(_named(unsorted, reading), reading)


def parse_meta(text: str, reading: TagSyntax = DEFAULT) -> dict[str, Caption]:
    """Read sd-scripts' metadata file into captions by image key: the sentence first, then the tags,
    as it trains them.

    Raises InputError where it is no such file.
    """
    captions = {}
    for key, entry in _json_object(text).items():
        if not isinstance(entry, dict):
            raise InputError(
                f"the entry {display(key)} is no object", hint="give sd-scripts' metadata file"
            )
        parts = [entry.get(name) for name in ("caption", "tags")]
        joined = [
            _tags("tags", part) if isinstance(part, list) else parse(str(part)).tags
            for part in parts
            if part
        ]
        captions[key] = _caption((tag for tags in joined for tag in tags), reading)
    return captions


def _beside(ending: str) -> Callable[[Path], Path]:
    """`image.jpg` -> `image.jpg` + ending."""
    return lambda image: image.with_name(image.name + ending)


def _instead(ending: str) -> Callable[[Path], Path]:
    """`image.jpg` -> `image` + ending."""
    return lambda image: image.with_suffix(ending)


Place = tuple[Callable[[Path], Path], Parser]
_POSTS: Final[tuple[Place, ...]] = ((_beside(".json"), parse_post), (_instead(".json"), parse_post))
_HYDRUS: Final[Place] = (_beside(".txt"), parse_lines)
_CAPTION: Final[Place] = (_instead(".caption"), parse_caption)

# For each kind, where the side-car of an image may stand and who reads it; the first that exists is
# taken. In `auto` a post's JSON goes first, since it knows the categories, and captions of another
# name last.
KINDS: Final[Mapping[str, tuple[Place, ...]]] = {
    "auto": (*_POSTS, _HYDRUS, _CAPTION),
    "gallery-dl": (*_POSTS, (_beside(".txt"), parse_caption)),
    "hydrus": (_HYDRUS,),
    "caption": (_CAPTION,),
    "meta": (),
}


def plan_import(
    images: Sequence[Path],
    kind: str = "auto",
    *,
    meta: Path | None = None,
    folder: Path | None = None,
    reading: TagSyntax = DEFAULT,
) -> tuple[list[ImportedCaption], list[Failed]]:
    """Find the captions that other tools left for these images; nothing is written.

    meta: sd-scripts' metadata file, whose keys are full paths, or paths below `folder` (by default
    the file's own). It serves the images that have no side-car. Returns what was found, in the
    order of the images, and what could not be read; an image without a side-car is in neither.
    Raises ConfigError for an unknown kind, and for `meta` without its file.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no import from {kind!r}", hint="choose " + ", ".join(KINDS))
    if kind == "meta" and meta is None:
        raise ConfigError("the metadata file is not named", hint="--meta meta.json names it")
    found: dict[Path, ImportedCaption] = {}
    failed: list[Failed] = []
    for image in images:
        result = _from_sidecar(image, KINDS[kind], reading)
        if isinstance(result, Failed):
            failed.append(result)
        elif result is not None:
            found[image] = result
    if meta is not None and kind in ("auto", "meta"):
        more, problems = _from_meta(images, meta, folder or meta.parent, reading)
        found = more | found
        failed += problems
    return [found[image] for image in images if image in found], failed


def _from_sidecar(
    image: Path, places: Iterable[Place], reading: TagSyntax
) -> ImportedCaption | Failed | None:
    """Read the first side-car that exists; None where there is none."""
    for place, parser in places:
        source = place(image)
        try:
            text = _text(source, MAX_SIDECAR)
            if text is None:
                continue
            caption = parser(text, reading)
        except InputError as error:
            return Failed(source, error.message, error.hint)
        return (
            ImportedCaption(image, caption, source)
            if caption.tags
            else Failed(source, "holds no tags")
        )
    return None


def _from_meta(
    images: Sequence[Path], meta: Path, folder: Path, reading: TagSyntax
) -> tuple[dict[Path, ImportedCaption], list[Failed]]:
    """Match the entries of a metadata file to images: by full path, by path below the folder, by
    a unique stem.
    """
    try:
        text = _text(meta, MAX_META)
        if text is None:
            return {}, [Failed(meta, "does not exist")]
        entries = parse_meta(text, reading)
    except InputError as error:
        return {}, [Failed(meta, error.message, error.hint)]
    by_key = {_key(key): key for key in reversed(entries)}
    by_stem = _unique({key: posixpath.basename(_key(key)) for key in entries})
    stems = Counter(image.stem for image in images)
    matched: dict[Path, str] = {}
    for image in images:
        names = (_key(str(image.absolute())), _key(str(image)), *_below(image, folder))
        key = next((by_key[name] for name in names if name in by_key), None)
        if key is None and stems[image.stem] == 1:
            key = by_stem.get(image.stem)
        if key is not None:
            matched[image] = key
    used = set(matched.values())
    failed = [
        Failed(meta, f"no image for the entry {display(key)}") for key in entries if key not in used
    ]
    failed += [
        Failed(meta, f"the entry {display(key)} holds no tags")
        for key in sorted(used)
        if not entries[key].tags
    ]
    return {
        i: ImportedCaption(i, entries[key], meta) for i, key in matched.items() if entries[key].tags
    }, failed


def _text(source: Path, limit: int) -> str | None:
    """Read a text file; None where nothing stands. Raises InputError for a link, a huge file, or
    other than UTF-8.
    """
    try:
        data = read_regular(source, limit=limit)
    except OSError as error:
        if (
            error.errno == errno.ENAMETOOLONG
        ):  # the image's name leaves no room for an ending: no such file
            return None
        raise InputError(f"cannot be read: {error.strerror}") from error
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", hint="save it as UTF-8") from None


def _below(image: Path, folder: Path) -> list[str]:
    """Return the key of an image relative to a folder; nothing where it is not in it."""
    try:
        return [_key(image.absolute().relative_to(folder.absolute()).as_posix())]
    except ValueError:
        return []


def _key(text: str) -> str:
    """Return an image key without the image's suffix, with slashes."""
    plain = posixpath.normpath(text.replace("\\", "/"))
    stem, suffix = posixpath.splitext(plain)
    return stem if suffix.lower() in IMAGE_SUFFIXES else plain


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """Turn a mapping round, leaving out what would be ambiguous."""
    counts = Counter(names.values())
    return {name: key for key, name in names.items() if counts[name] == 1}


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = (
            "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON: {error}"
        )
        raise InputError(reason) from None
    if not isinstance(value, dict):
        raise InputError("is not a JSON object", hint="one object an image is expected")
    return value


def _of_category(post: Mapping[str, object], category: str, reading: TagSyntax) -> list[str]:
    """Return the tags of one category of a post, if the reading wants it."""
    namespace = _AS_NAMESPACE.get(category, category)
    if category != _GENERAL and namespace not in reading.bare:
        return []
    by_category = post.get("tags")
    values = [(key, post.get(key)) for key in (f"tags_{category}", f"tag_string_{category}")]
    values += [("tags", by_category.get(category))] if isinstance(by_category, dict) else []
    return next((tags for key, value in values if (tags := _tags(key, value))), [])


def _tags(key: str, value: object) -> list[str]:
    """Return the tags of a list, of a string (parted by spaces, or by commas where it has any), or
    of objects.
    """
    if isinstance(value, str):
        commas = "," in value and not key.startswith("tag_string")
        return list(parse(value).tags) if commas or "\n" in value else value.split()
    if isinstance(value, list):
        return [name for item in value if (name := _name(item))]
    return []


def _name(item: object) -> str:
    """Return a tag of a list: a string, or what an object calls its name, translated where
    it is.
    """
    if isinstance(item, dict):
        names = (item.get(key) for key in ("translated_name", "name", "tag"))
        return next((name for name in names if isinstance(name, str) and name), "")
    return item if isinstance(item, str) else ""


def _named(tags: Iterable[str], reading: TagSyntax) -> Iterator[str]:
    """Take known namespaces off, or their tags out."""
    for tag in tags:
        namespace, colon, name = tag.partition(":")
        namespace = namespace.strip().casefold()
        if tag.startswith("::"):  # hydrus' way to write a tag that begins with a colon
            yield tag[1:]
        elif not colon or namespace not in reading.bare | reading.dropped:
            yield tag
        elif namespace in reading.bare:
            yield name.strip()


def _caption(tags: Iterable[str], reading: TagSyntax) -> Caption:
    """Make a caption: respelled, each tag once, in the order found; a comma inside of a tag parts
    it.
    """
    pieces = (piece for tag in tags for piece in parse(tag).tags)
    spelled = (spell(piece) if reading.respell else piece for piece in pieces)
    # Read once more: an underscore at the end of a piece has become a space.
    return Caption(dedupe(tag for piece in spelled for tag in parse(piece).tags))
