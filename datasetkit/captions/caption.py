"""Captions: parse the text of a `.txt` into tags, change it, write it, and compare tags.

`captions/grammar.py` says where tags begin and end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

from datasetkit.captions import encodings, grammar
from datasetkit.captions.grammar import PLAIN, Entry, is_group, is_prose
from datasetkit.captions.invisible import without_invisible
from datasetkit.captions.syntax import syntax_of
from datasetkit.core.errors import InputError
from datasetkit.core.files import MAX_CAPTION_BYTES, caption_path, display, read_regular
from datasetkit.core.records import Caption, CaptionSyntax

# Emoticons whose underscores are part of them: SmilingWolf's own list (wd-tagger app), Apache-2.0.
_FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
KAOMOJI = frozenset(_FACES.split())
_KAOMOJI_FOLDED = frozenset(k.casefold() for k in KAOMOJI)
_WHITESPACE = re.compile(r"\s+")
_ESCAPED_BRACKET = re.compile(r"\\+([()])")
# Letters without spaces between words: a name stands inside a sentence without a boundary.
_NO_SPACES = re.compile("[\u2e80-\ua4cf\uf900-\ufaff]")


def spell(name: str) -> str:
    """Return a vocabulary label as captions spell it: underscores become spaces, except in
    kaomoji.
    """
    return name if name in KAOMOJI else name.replace("_", " ")


@lru_cache(maxsize=1 << 16)
def normal_form(tag: str) -> str:
    r"""Return a tag in normal form: NFC, lower case, `_` as a space, `\(` as `(`, no invisible
    characters.

    Two spellings are one tag when their normal forms are equal. Kaomoji keep their underscore, so
    `^_^` is not `^ ^`.
    """
    plain = unicodedata.normalize("NFC", without_invisible(tag)).strip().casefold()
    plain = _ESCAPED_BRACKET.sub(r"\1", plain)
    if plain in _KAOMOJI_FOLDED:
        return plain
    return _WHITESPACE.sub(" ", plain.replace("_", " ")).strip()


def tag_form(tag: str, syntax: CaptionSyntax = PLAIN) -> str:
    """Return the normal form of a caption's tag: without weights where captions have them."""
    form = normal_form(tag)
    if not syntax.weighted_captions or form in _KAOMOJI_FOLDED or is_group(tag, syntax):
        return form
    return normal_form(grammar.without_weights(tag))


def forms_of(caption: Caption) -> tuple[str, ...]:
    """Return the normal forms of the tags of a caption, in order."""
    return tuple(tag_form(tag, caption.syntax) for tag in caption.tags)


def bare_tags(caption: Caption) -> tuple[str, ...]:
    """Return the tags of a caption without their weights."""
    if not caption.syntax.weighted_captions:
        return caption.tags
    return tuple(
        tag if is_group(tag, caption.syntax) else grammar.without_weights(tag)
        for tag in caption.tags
    )


def parse(text: str, syntax: CaptionSyntax = PLAIN) -> Caption:
    """Parse a caption; see `captions/grammar.py`.

    Byte-order marks (also in the middle, as in concatenated files), CRLF, repeated separators and
    blank lines are ignored.
    """
    spans = grammar.spans(text, syntax)
    tags = tuple(grammar.tag_text(text[start:end]) for start, end in spans)
    return Caption(tags, grammar.marks(text, spans, syntax), syntax)


def has_fixed_part(caption: Caption) -> bool:
    """Tell whether `keep_tokens_separator` says which tags are fixed: trainers do not apply
    `keep_tokens` to such a caption.
    """
    separator = caption.syntax.keep_tokens_separator.strip()
    return bool(separator) and any(separator in mark for _, mark in caption.marks)


def lines_of(caption: Caption) -> tuple[tuple[str, ...], ...]:
    """Return the tags of each line where lines are separate captions, else all tags as one."""
    ends = [n for n, mark in caption.marks if "\n" in mark] if caption.marks else []
    starts = [0, *ends]
    return tuple(
        caption.tags[start:end]
        for start, end in zip(starts, [*ends, len(caption.tags)], strict=True)
    )


def with_entries(caption: Caption, change: Callable[[tuple[str, ...]], Sequence[Entry]]) -> Caption:
    """Return a caption with other tags; the text of those that are kept does not change.

    change: returns the entries that become of the tags of one line. Lines are separate captions
    with `enable_wildcard`; a line without tags is then removed.
    """
    syntax = caption.syntax
    text = caption.text() if caption.source is None else caption.source
    if not syntax.enable_wildcard:
        text = _changed_line(text, change, syntax)
    else:
        changed = [
            (line if grammar.is_blank(line) else _changed_line(line, change, syntax), line, ending)
            for line, ending in grammar.lines(text)
        ]
        kept = [
            (new, ending)
            for new, line, ending in changed
            if not (grammar.is_blank(new) and not grammar.is_blank(line))
        ]
        if kept and len(kept) < len(changed) and text and not changed[-1][2]:
            kept[-1] = (kept[-1][0], "")
        text = "".join(new + ending for new, ending in kept)
    after = parse(text, syntax)
    if caption.source is None:
        return after
    return with_source(after, text)


def with_tags(caption: Caption, change: Callable[[tuple[str, ...]], Sequence[str]]) -> Caption:
    """Return a caption with other tags, as `with_entries`. change: returns the tags that become of
    those of one line.
    """

    def entries(tags: tuple[str, ...]) -> list[Entry]:
        after = list(change(tags))
        numbers: list[int | None] = [None] * len(after)
        matcher = SequenceMatcher(a=tags, b=after, autojunk=False)
        for _, start, end, first, last in matcher.get_opcodes():
            if end - start == last - first:  # the same tags, or one in the place of each
                numbers[first:last] = range(start, end)
        return list(zip(numbers, after, strict=True))

    return with_entries(caption, entries)


def with_source(caption: Caption, text: str) -> Caption:
    """Return a caption whose file has this text."""
    return Caption(caption.tags, caption.marks, caption.syntax, text)


def _changed_line(
    text: str, change: Callable[[tuple[str, ...]], Sequence[Entry]], syntax: CaptionSyntax
) -> str:
    tags = parse(text, syntax).tags
    entries = change(tags)
    if entries == [(n, tag) for n, tag in enumerate(tags)]:
        return text
    return grammar.rewrite(text, entries, syntax)


def names(caption: Caption, name: str) -> bool:
    """Tell whether a caption has a name: as a tag, or as words inside a wildcard or a sentence."""
    return any(name_in(name, tags, caption.syntax) for tags in lines_of(caption))


def name_in(name: str, tags: Sequence[str], syntax: CaptionSyntax = PLAIN) -> bool:
    """Tell whether the tags of one line have a name, see `names`."""
    form = normal_form(name)
    if any(tag_form(tag, syntax) == form for tag in tags):
        return True
    within = tags if is_prose(tags) else [tag for tag in tags if is_group(tag, syntax)]
    if not within or not form:
        return False
    first, last = (r"" if _NO_SPACES.match(edge) else r"\w" for edge in (form[0], form[-1]))
    before, after = (f"(?<!{first})" if first else ""), (f"(?!{last})" if last else "")
    pattern = re.compile(f"{before}{re.escape(form)}{after}")
    return any(pattern.search(normal_form(tag)) for tag in within)


def file_text(caption: Caption) -> str:
    """Return the text of a caption file: as it was read and changed, else one line with a final
    newline.

    Callers never write an empty caption: it would stop trainers.
    """
    return caption.text() + "\n" if caption.source is None else caption.source


def laid_out_text(caption: Caption) -> str:
    """Return the text of a caption for trainers, which read only the first line: without
    invisible characters, and as one line unless lines are separate captions.
    """
    text = without_invisible(file_text(caption).replace(grammar.BOM, ""))
    filled = [line for line, _ in grammar.lines(text) if not grammar.is_blank(line)]
    is_first = bool(filled) and not grammar.is_blank(grammar.lines(text)[0][0])
    if (len(filled) == 1 and is_first) or caption.syntax.enable_wildcard:
        return text
    return joined_lines(filled) + "\n"


def has_joined_lines(caption: Caption) -> bool:
    """Tell whether several lines of a caption become one in a layout."""
    if caption.syntax.enable_wildcard or caption.source is None:
        return False
    return sum(not grammar.is_blank(line) for line, _ in grammar.lines(caption.source)) > 1


def laid_out(caption: Caption) -> Caption:
    """Return a caption as it is read where `laid_out_text` was written."""
    return parse(laid_out_text(caption), caption.syntax)


def joined_lines(lines: Sequence[str]) -> str:
    """Return lines as one: with a comma between, but none after the end of a sentence."""
    joined = ""
    for line in lines:
        line = line.strip(" \t,")
        sentence = " " in joined and joined.endswith((".", "!", "?", "\u3002"))
        joined = line if not joined else f"{joined}{' ' if sentence else ', '}{line}"
    return joined


def dedupe(tags: Iterable[str]) -> tuple[str, ...]:
    """Drop repeated tags (equal normal forms); the first of each is kept."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(normal_form(tag), tag)
    return tuple(first.values())


def repeated(tags: Sequence[str], syntax: CaptionSyntax = PLAIN) -> list[int]:
    """Return which tags of a line repeat an earlier one. Wildcards and sentences may repeat."""
    if is_prose(tags):
        return []
    forms: set[str] = set()
    numbers: list[int] = []
    for n, tag in enumerate(tags):
        if is_group(tag, syntax):
            continue
        form = tag_form(tag, syntax)
        if form in forms:
            numbers.append(n)
        forms.add(form)
    return numbers


def read_caption(image: Path, syntax: CaptionSyntax | None = None) -> Caption | None:
    """Read the caption file of an image; None if there is none.

    syntax: how to parse it; None: as the dsk.toml that governs its folder says. Raises InputError
    for a file that is not UTF-8, is a link, or is too large to be a caption.
    """
    return decode_caption(caption_path(image), read_caption_data(image), syntax)


def read_caption_data(image: Path) -> bytes | None:
    """Read the bytes of an image's caption file; None if there is none. Raises InputError for a
    link, and for a file that is too large to be a caption.
    """
    return read_regular(caption_path(image), limit=MAX_CAPTION_BYTES)


def decode_caption(
    path: Path, data: bytes | None, syntax: CaptionSyntax | None = None
) -> Caption | None:
    """Decode the bytes of a caption file; None stays None. Raises InputError if not UTF-8."""
    if data is None:
        return None
    text = encodings.decode_utf8(data)
    if text is None:
        encoding = encodings.marked_encoding(data).upper()
        what = f"is {encoding} text, not UTF-8" if encoding else "is not UTF-8 text"
        raise InputError(
            f"the caption {display(path.name)} {what}",
            hint=encodings.fix_command(path.parent, data),
        )
    parsed = parse(text, syntax_of(path.parent) if syntax is None else syntax)
    return with_source(parsed, data.decode("utf-8"))
