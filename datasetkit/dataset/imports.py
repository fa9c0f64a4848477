"""Imports: read captions from the sidecars of other tools (gallery-dl, Grabber, hydrus, booru
dumps, sd-scripts).
"""

from __future__ import annotations

import errno
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import dedupe, of_lines, parse, spell, with_sentence
from datasetkit.captions.encodings import decode_other, decode_utf8
from datasetkit.captions.side_car_tags import BARE, DROPPED, split_namespace, unescape
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import display, read_regular
from datasetkit.core.records import Caption, CaptionKind, CaptionSyntax, Failed
from datasetkit.project.caption_syntax import syntax_of

# Largest files in bytes: a sidecar has the tags of one image, sd-scripts' metadata file of all.
MAX_SIDECAR: Final = 4_000_000
MAX_META: Final = 400_000_000

# The order of the categories of a booru in a caption; others are not imported.
_CATEGORIES: Final = ("character", "copyright", "person", "species", "general")
_GENERAL: Final = "general"


class ImportedCaption(NamedTuple):
    """An image, its imported caption, and the file that the caption comes from."""

    image: Path
    caption: Caption
    source: Path


@dataclass(frozen=True, slots=True)
class TagSyntax:
    """How tags are parsed.

    bare: namespaces that are removed (`character:hatsune miku` -> `hatsune miku`). dropped:
    namespaces whose tags are not imported. Any other colon is part of the tag (`re:zero`, `:d`).
    respell: replace underscores by spaces, except in kaomoji. kind: what the captions will be;
    only texts of a `.caption` and of a metadata file can have sentences.
    """

    bare: frozenset[str] = BARE
    dropped: frozenset[str] = DROPPED
    respell: bool = True
    kind: CaptionKind = "tags"


Parser = Callable[[str, TagSyntax], Caption]
DEFAULT: Final = TagSyntax()


def parse_lines(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Parse one tag per line with namespaces: the `image.jpg.txt` of gallery-dl, Grabber and
    hydrus.
    """
    return _caption(_without_namespaces(parse(text).tags, reading), reading)


def parse_words(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Parse the tags that Grabber and gallery-dl save: separated by commas, by line breaks, or all
    in one line by spaces, as boorus spell them.
    """
    tags = parse(text).tags
    words = text.split()
    if len(tags) == 1 and _are_tags(words) and tags[0] not in vocabulary.load():
        tags = tuple(words)
    return _caption(_without_namespaces(tags, reading), reading)


def parse_caption(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Parse a `.caption` file: tags separated by commas, without namespaces, or the text of a
    caption of another kind.
    """
    if reading.kind != "tags":
        return _text_of_kind(text, reading.kind)
    return _caption(parse(text).tags, reading)


def parse_post(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Parse the metadata of a post, `image.jpg.json` of gallery-dl and booru dumps.

    Tags by category (`tags_general`, `tag_string_general`, or lists in `tags`) are preferred, as
    they separate artists and metadata from the content; else `tags` or `tag_string`. Raises
    InputError.
    """
    post = _json_object(text)
    categorised = [tag for category in _CATEGORIES for tag in _of_category(post, category, reading)]
    if _of_category(post, _GENERAL, reading):
        return _caption(categorised, reading)
    general = next(
        (tags for key in ("tags", "tag_string") if (tags := _tags(key, post.get(key)))),
        categorised,
    )
    return _caption(_without_namespaces(general, reading), reading)


def parse_meta(text: str, reading: TagSyntax = DEFAULT) -> dict[str, Caption]:
    """Parse sd-scripts' metadata file into captions by image key: the sentence, then the tags, as
    sd-scripts trains them.

    Raises InputError for any other file.
    """
    captions = {}
    for key, entry in _json_object(text).items():
        if not isinstance(entry, dict):
            raise InputError(
                f"the entry {display(key)} is not an object",
                hint="use the metadata file of sd-scripts",
            )
        parts = [entry.get(name) for name in ("caption", "tags")]
        if reading.kind != "tags" and entry.get("caption"):
            captions[key] = _with_sentence(str(parts[0]), parts[1], reading)
            continue
        joined = [
            _tags("tags", part) if isinstance(part, list) else parse(str(part)).tags
            for part in parts
            if part
        ]
        captions[key] = _caption((tag for tags in joined for tag in tags), reading)
    return captions


def _with_sentence(sentence: str, tags: object, reading: TagSyntax) -> Caption:
    """Return the caption of an entry that has a sentence. A caption that is a sentence leaves out
    the tags.
    """
    if reading.kind == "sentence":
        return _text_of_kind(sentence, reading.kind)
    given = _tags("tags", tags) if isinstance(tags, list) else parse(str(tags or "")).tags
    line = ", ".join(_caption(given, replace(reading, kind="tags")).tags)
    text = f"{line}\n" if line else ""
    return with_sentence(_text_of_kind(text, reading.kind), sentence)


def _text_of_kind(text: str, kind: CaptionKind) -> Caption:
    lines = [" ".join(line.split()) for line in text.replace("\ufeff", "").splitlines()]
    return of_lines(filter(None, lines), CaptionSyntax(kind=kind))


def _beside(ending: str) -> Callable[[Path], Path]:
    """Return `image.jpg` -> `image.jpg` + ending."""
    return lambda image: image.with_name(image.name + ending)


def _instead(ending: str) -> Callable[[Path], Path]:
    """Return `image.jpg` -> `image` + ending."""
    return lambda image: image.with_suffix(ending)


def parse_escaped(text: str, reading: TagSyntax = DEFAULT) -> Caption:
    """Parse the captions of BooruDatasetTagManager: separated by commas; it may have escaped
    brackets, as prompts need them.
    """
    return parse_caption(re.sub(r"\\([()])", r"\1", text), reading)


def parse_captions_json(text: str, reading: TagSyntax = DEFAULT) -> dict[str, Caption]:
    """Parse the captions.json of diffusion-pipe: file name -> one caption or several, of which the
    first is taken as it is. Raises InputError for any other file.
    """
    captions = {}
    for key, value in _json_object(text).items():
        first = value[0] if isinstance(value, list) and value else value
        if not isinstance(first, str):
            raise InputError(
                f"the entry {display(key)} is not a caption", hint="use the file of diffusion-pipe"
            )
        captions[key] = Caption(parse(first).tags)
    return captions


SideCar = tuple[Callable[[Path], Path], Parser]
_POSTS: Final[tuple[SideCar, ...]] = (
    (_beside(".json"), parse_post),
    (_instead(".json"), parse_post),
)
_LINES: Final[SideCar] = (_beside(".txt"), parse_lines)
_WORDS: Final[SideCar] = (_beside(".txt"), parse_words)
_CAPTION: Final[SideCar] = (_instead(".caption"), parse_caption)

# For each kind the possible sidecars of an image with their parsers; the first that exists is
# used. In `auto` the JSON of a post comes first, as it has categories, and `.caption` last.
KINDS: Final[Mapping[str, tuple[SideCar, ...]]] = {
    "auto": (*_POSTS, _WORDS, _CAPTION),
    "gallery-dl": (*_POSTS, _WORDS),
    "grabber": (_WORDS, (_instead(".txt"), parse_words)),
    "hydrus": (_LINES, (_instead(".txt"), parse_lines)),
    "caption": (_CAPTION,),
    "meta": (),
    "booru-dataset-tag-manager": ((_instead(".txt"), parse_escaped),),
    "taggui": ((_instead(".txt"), parse_caption),),
    "filename": (),
    "captions-json": (),
}
# The kinds that edit captions themselves: theirs are spelled as dsk spells them.
CAPTION_EDITORS: Final = frozenset({"booru-dataset-tag-manager", "taggui"})
# The kinds whose captions are all in one file.
_IN_ONE_FILE: Final[Mapping[str, Callable[[str, TagSyntax], dict[str, Caption]]]] = {
    "auto": parse_meta,
    "meta": parse_meta,
    "captions-json": parse_captions_json,
}
CAPTIONS_JSON: Final = "captions.json"


def plan_import(
    images: Sequence[Path],
    kind: str = "auto",
    *,
    meta: Path | None = None,
    folder: Path | None = None,
    reading: TagSyntax = DEFAULT,
    encoding: str = "",
) -> tuple[list[ImportedCaption], list[Failed]]:
    """Read the captions that other tools wrote for these images; nothing is written.

    meta: sd-scripts' metadata file, used for images without a sidecar; its keys are full paths, or
    paths below `folder` (default: the folder of the file). encoding: of files that are not UTF-8.
    Returns the captions in the order of the
    images, and the failures; an image without a sidecar is in neither. Raises ConfigError for an
    unknown kind, and for `meta` without its file.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown import source {kind!r}", hint="one of: " + ", ".join(KINDS))
    if kind == "meta" and meta is None:
        raise ConfigError("no metadata file is given", hint="name it with --meta meta.json")
    of_folder = {folder: syntax_of(folder).kind for folder in {p.parent for p in images}}
    syntaxes = {image: replace(reading, kind=of_folder[image.parent]) for image in images}
    captions, failed = _from_sidecars(syntaxes, KINDS[kind], encoding)
    if kind == "filename":
        captions = {image: _from_name(image, syntaxes[image]) for image in images}
    if meta is not None and kind in _IN_ONE_FILE:
        from_meta, problems = _from_meta(
            syntaxes, meta, folder or meta.parent, encoding, _IN_ONE_FILE[kind]
        )
        captions = from_meta | captions
        failed += problems
    return [captions[image] for image in images if image in captions], failed


def _from_sidecars(
    syntaxes: Mapping[Path, TagSyntax], side_cars: Sequence[SideCar], encoding: str
) -> tuple[dict[Path, ImportedCaption], list[Failed]]:
    """Read the captions beside images, each with its syntax; return them, and the problems."""
    results = {
        image: _from_sidecar(image, side_cars, syntax, encoding)
        for image, syntax in syntaxes.items()
    }
    captions = {i: result for i, result in results.items() if isinstance(result, ImportedCaption)}
    return captions, [result for result in results.values() if isinstance(result, Failed)]


def _from_sidecar(
    image: Path, side_cars: Iterable[SideCar], reading: TagSyntax, encoding: str
) -> ImportedCaption | Failed | None:
    """Read the first sidecar that exists; None if there is none."""
    for path_of, parser in side_cars:
        source = path_of(image)
        try:
            text = _text(source, MAX_SIDECAR, encoding)
            if text is None:
                continue
            caption = parser(text, reading)
        except InputError as error:
            return Failed(source, error.message, error.hint)
        return (
            ImportedCaption(image, caption, source)
            if not caption.is_empty
            else Failed(source, "has no tags")
        )
    return None


def _from_name(image: Path, reading: TagSyntax) -> ImportedCaption:
    """Return the caption that an image's name is; OneTrainer reads it as a prompt."""
    return ImportedCaption(image, parse_caption(image.stem, reading), image)


def _from_meta(
    images: Mapping[Path, TagSyntax],
    meta: Path,
    folder: Path,
    encoding: str,
    parser: Callable[[str, TagSyntax], dict[str, Caption]],
) -> tuple[dict[Path, ImportedCaption], list[Failed]]:
    """Read the captions of a metadata file; return them by image, and the problems. images: each
    with how its text is parsed.
    """
    try:
        text = _text(meta, MAX_META, encoding)
        if text is None:
            return {}, [Failed(meta, "does not exist")]
        parsed = {reading: parser(text, reading) for reading in {*images.values(), DEFAULT}}
    except InputError as error:
        return {}, [Failed(meta, error.message, error.hint)]
    entries = parsed[DEFAULT]
    matched = _match_entries(list(images), entries, folder)
    used = set(matched.values())
    unused = [f"no image for the entry {display(key)}" for key in entries if key not in used]
    empty = [f"the entry {display(k)} has no tags" for k in sorted(used) if entries[k].is_empty]
    captions = {
        image: ImportedCaption(image, parsed[images[image]][key], meta)
        for image, key in matched.items()
        if not entries[key].is_empty
    }
    return captions, [Failed(meta, problem) for problem in (*unused, *empty)]


def _match_entries(
    images: Sequence[Path], entries: dict[str, Caption], folder: Path
) -> dict[Path, str]:
    """Return image -> key of its entry: by full path, by path below the folder, or by a stem that
    is unique among images and entries.
    """
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
    return matched


def _text(source: Path, limit: int, encoding: str) -> str | None:
    """Read a text file; None if there is none. Raises InputError for a link, a huge file, or text
    that is neither UTF-8 nor in `encoding`, and has no byte-order mark.
    """
    try:
        data = read_regular(source, limit=limit)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # such a file cannot exist
            return None
        raise InputError(f"cannot be read: {error.strerror}") from error
    if data is None:
        return None
    text = decode_utf8(data)
    text = decode_other(data, encoding) if text is None else text
    if text is None:
        raise InputError("is not UTF-8 text", hint="name its encoding, e.g. --encoding cp1252")
    return text


def _below(image: Path, folder: Path) -> list[str]:
    """Return the key of an image relative to a folder; none if it is outside."""
    try:
        return [_key(image.absolute().relative_to(folder.absolute()).as_posix())]
    except ValueError:
        return []


def _key(text: str) -> str:
    """Return an image key without suffix, with slashes."""
    plain = posixpath.normpath(text.replace("\\", "/"))
    stem, suffix = posixpath.splitext(plain)
    return stem if suffix.lower() in IMAGE_SUFFIXES else plain


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """Invert a mapping, without ambiguous values."""
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
        raise InputError(
            "is not a JSON object", hint="the file must have one object with the tags of the image"
        )
    return value


def _of_category(post: Mapping[str, object], category: str, reading: TagSyntax) -> list[str]:
    """Return the tags of one category of a post, if it is imported."""
    if category not in reading.bare:
        return []
    by_category = post.get("tags")
    values = [(key, post.get(key)) for key in (f"tags_{category}", f"tag_string_{category}")]
    values += [("tags", by_category.get(category))] if isinstance(by_category, dict) else []
    return next((tags for key, value in values if (tags := _tags(key, value))), [])


def _tags(key: str, value: object) -> list[str]:
    """Return the tags of a list, of a string (separated by commas if it has any, else by spaces),
    or of objects.
    """
    if isinstance(value, str):
        commas = "," in value and not key.startswith("tag_string")
        return list(parse(value).tags) if commas or "\n" in value else value.split()
    if isinstance(value, list):
        return [name for item in value if (name := _name(item))]
    return []


def _name(item: object) -> str:
    """Return a tag of a list: a string, or the name of an object, preferably translated, with the
    category of the object as its namespace.
    """
    if not isinstance(item, dict):
        return item if isinstance(item, str) else ""
    names = (item.get(key) for key in ("translated_name", "name", "tag"))
    name = next((name for name in names if isinstance(name, str) and name), "")
    categories = (item.get(key) for key in ("category", "type", "namespace"))
    known = BARE | DROPPED
    category = next((c for c in categories if isinstance(c, str) and c.casefold() in known), "")
    return f"{category}:{name}" if category and name else name


def _without_namespaces(tags: Iterable[str], reading: TagSyntax) -> Iterator[str]:
    """Remove known namespaces, or drop their tags."""
    for tag in tags:
        namespace, name = split_namespace(tag, reading.bare | reading.dropped)
        if namespace not in reading.dropped:
            yield name


def _are_tags(words: Sequence[str]) -> bool:
    """Tell whether the words of a line are tags, and not a text: one has an underscore, two have a
    namespace, or at least half are in the vocabulary.
    """
    known = vocabulary.load()
    namespaces = sum(bool(split_namespace(word)[0]) for word in words)
    in_vocabulary = sum(word in known for word in words)
    return any("_" in w for w in words) or namespaces > 1 or 2 * in_vocabulary >= len(words)


def _caption(tags: Iterable[str], reading: TagSyntax) -> Caption:
    """Make a caption: without HTML entities, respelled, without repeated tags, in order; a comma
    in a tag splits it.
    """
    pieces = (piece for tag in tags for piece in parse(unescape(tag)).tags)
    spelled = (spell(piece) if reading.respell else piece for piece in pieces)
    # Parse again: an underscore at the end of a piece has become a space.
    return Caption(dedupe(tag for piece in spelled for tag in parse(piece).tags))
