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
from typing import NamedTuple

from datasetkit.captions import encodings, grammar
from datasetkit.captions.grammar import PLAIN, Entry, is_group, is_prose
from datasetkit.captions.invisible import without_invisible
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
    return forms_of_tags(caption.tags, caption.syntax)


def forms_of_tags(tags: Sequence[str], syntax: CaptionSyntax = PLAIN) -> tuple[str, ...]:
    """Return the normal forms of the tags of a line, see `tag_form`."""
    if not syntax.weighted_captions:
        return tuple(map(normal_form, tags))
    return tuple(tag_form(tag, syntax) for tag in tags)


def bare_tags(caption: Caption) -> tuple[str, ...]:
    """Return the tags of a caption without their weights."""
    if not caption.syntax.weighted_captions:
        return caption.tags
    return tuple(
        tag if is_group(tag, caption.syntax) else grammar.without_weights(tag)
        for tag in caption.tags
    )


# A few, since a caption is often parsed twice in a row: as it is, and as rules leave it.
@lru_cache(maxsize=16)
def parse(text: str, syntax: CaptionSyntax = PLAIN) -> Caption:
    """Parse a caption; see `captions/grammar.py`.

    Byte-order marks (also in the middle, as in concatenated files), CRLF, repeated separators and
    blank lines are ignored.
    """
    if syntax.kind == "tags" and (simple := grammar.simple_tags(text, syntax)) is not None:
        return Caption(simple, (), syntax)
    spans = grammar.spans(text, syntax)
    tags = tuple(grammar.tag_text(text[start:end]) for start, end in spans)
    marks = grammar.marks(text, spans, syntax)
    if syntax.kind == "tags":
        return Caption(tags, marks, syntax)
    parts = grammar.parts(text, syntax)
    with_sentences = {**dict(marks), **dict(grammar.sentence_marks(text, spans, parts))}
    sentences = tuple(grammar.tag_text(text[p.start : p.end]) for p in parts if p.is_sentence)
    return Caption(tags, tuple(sorted(with_sentences.items())), syntax, sentences=sentences)


def has_fixed_part(caption: Caption) -> bool:
    """Tell whether `keep_tokens_separator` says which tags are fixed: trainers do not apply
    `keep_tokens` to such a caption.
    """
    separator = caption.syntax.keep_tokens_separator.strip()
    return bool(separator) and any(separator in mark for _, mark in caption.marks)


class CaptionLine(NamedTuple):
    """What is one caption in training: a line where lines are separate captions, else all lines.
    begins_as_sentence: a sentence comes first, at most behind its leading words.
    """

    tags: tuple[str, ...]
    sentences: tuple[str, ...] = ()
    begins_as_sentence: bool = False


def caption_lines(caption: Caption) -> tuple[CaptionLine, ...]:
    """Return each line where lines are separate captions, else all of a caption as one."""
    if caption.syntax.kind == "tags":
        return tuple(map(CaptionLine, lines_of(caption)))
    text = caption.text()
    return tuple(
        _line_of(text, parts, caption.syntax)
        for parts in grammar.by_caption(grammar.parts(text, caption.syntax), caption.syntax)
    ) or (CaptionLine(()),)


def _line_of(text: str, parts: Sequence[grammar.Part], syntax: CaptionSyntax) -> CaptionLine:
    tags = tuple(
        tag
        for part in parts
        if not part.is_sentence
        for tag in parse(text[part.start : part.end], grammar.without_kind(syntax)).tags
    )
    sentences = tuple(
        grammar.tag_text(text[part.start : part.end]) for part in parts if part.is_sentence
    )
    return CaptionLine(tags, sentences, grammar.begin_as_sentence(parts))


def lines_of(caption: Caption) -> tuple[tuple[str, ...], ...]:
    """Return the tags of each line where lines are separate captions, else all tags as one."""
    if caption.syntax.kind != "tags":
        return tuple(line.tags for line in caption_lines(caption))
    ends = [n for n, mark in caption.marks if "\n" in mark] if caption.marks else []
    starts = [0, *ends]
    return tuple(
        caption.tags[start:end]
        for start, end in zip(starts, [*ends, len(caption.tags)], strict=True)
    )


def with_entries(caption: Caption, change: Callable[[tuple[str, ...]], Sequence[Entry]]) -> Caption:
    """Return a caption with other tags; the text of those that are kept does not change, and no
    sentence does.

    change: returns the entries that become of the tags of one line. Lines are separate captions
    with `enable_wildcard`; a line without tags is then removed.
    """
    return with_line_entries(caption, lambda line: change(line.tags))


def with_line_entries(
    caption: Caption, change: Callable[[CaptionLine], Sequence[Entry]]
) -> Caption:
    """Return the same; change is given the sentences of the line as well."""
    syntax = caption.syntax
    text = source_text(caption)
    if syntax.kind != "tags":
        text = _with_changed_parts(text, change, syntax)
    elif not syntax.enable_wildcard:
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


def _with_changed_parts(
    text: str, change: Callable[[CaptionLine], Sequence[Entry]], syntax: CaptionSyntax
) -> str:
    """Return the text of a caption with sentences with other tags."""
    for parts in reversed(grammar.by_caption(grammar.parts(text, syntax), syntax)):
        line = _line_of(text, parts, syntax)
        entries = change(line)
        if list(entries) != list(enumerate(line.tags)):
            text = grammar.rewrite_parts(text, parts, entries, syntax)
    return text


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


def with_sentences(caption: Caption, change: Callable[[str], str]) -> Caption:
    """Return a caption with other sentences. change: returns what becomes of one."""
    text = source_text(caption)
    for part in reversed(grammar.parts(text, caption.syntax)):
        if part.is_sentence:
            text = text[: part.start] + change(text[part.start : part.end]) + text[part.end :]
    after = parse(text, caption.syntax)
    return after if caption.source is None else with_source(after, text)


def with_tags_beside(caption: Caption, tags: Sequence[str]) -> Caption:
    """Return a mixed caption with these as its only tags, in a line; its sentences are kept."""
    syntax = caption.syntax
    text = source_text(caption)
    parts = grammar.parts(text, syntax)
    of_sentence = {part.line for part in parts if part.is_sentence}
    lines: list[str] = []
    at: int | None = None  # where the first line of tags is
    for part in parts:
        if part.is_sentence:
            front = next(p for p in parts if p.line == part.line)
            start = front.start if syntax.enable_wildcard else part.start
            lines.append(grammar.tag_text(text[start : part.end]))
        elif part.line not in of_sentence and at is None:
            at = len(lines)
    lines.insert(at or 0, ", ".join(tags))
    return of_lines(lines, syntax)


def with_sentence(
    caption: Caption, sentence: str, *, first: bool = False, words: Sequence[str] = ()
) -> Caption:
    """Return a caption with this as its only sentence; its tags are kept.

    first: where captions are mixed, put it before the tags, behind these words, which no tag then
    repeats. A sentence there ends with a full stop, by which it is known. Where lines are separate
    captions, a sentence is replaced with the tags in its line. Raises ValueError for a caption of
    tags.
    """
    syntax = caption.syntax
    if syntax.kind == "tags":
        raise ValueError("a caption of tags has no sentence")
    text = grammar.tag_text(sentence)
    if syntax.kind == "sentence":
        return of_lines([", ".join((*caption.tags, text))], syntax)
    if not grammar.ends_line_as_sentence(text):
        text = f"{text.rstrip(' ,;:')}."
    forms = set(map(normal_form, words))
    lines = [
        [tag for tag in line.tags if normal_form(tag) not in forms]
        for line in caption_lines(caption)
        if not (syntax.enable_wildcard and line.sentences)
    ]
    tags = [", ".join(line) for line in lines if line]
    return of_lines([", ".join((*words, text)), *tags] if first else [*tags, text], syntax)


def of_lines(lines: Iterable[str], syntax: CaptionSyntax) -> Caption:
    """Return the caption whose file has these lines."""
    text = "".join(f"{line}\n" for line in lines)
    return with_source(parse(text, syntax), text)


def with_source(caption: Caption, text: str) -> Caption:
    """Return a caption whose file has this text."""
    return Caption(caption.tags, caption.marks, caption.syntax, text, caption.sentences)


def with_syntax(caption: Caption, syntax: CaptionSyntax) -> Caption:
    """Return the caption of the same text in another syntax."""
    parsed = parse(source_text(caption), syntax)
    return parsed if caption.source is None else with_source(parsed, caption.source)


def _changed_line(
    text: str, change: Callable[[CaptionLine], Sequence[Entry]], syntax: CaptionSyntax
) -> str:
    tags = parse(text, syntax).tags
    entries = change(CaptionLine(tags))
    if entries == [(n, tag) for n, tag in enumerate(tags)]:
        return text
    return grammar.rewrite(text, entries, syntax)


def names(caption: Caption, name: str) -> bool:
    """Tell whether a caption has a name: as a tag, or as words inside a wildcard or a sentence."""
    return any(line_names(line, name, caption.syntax) for line in caption_lines(caption))


def line_names(line: CaptionLine, name: str, syntax: CaptionSyntax = PLAIN) -> bool:
    """Tell whether a line has a name, see `names`."""
    return name_in(name, line.tags, syntax, line.sentences)


def name_in(
    name: str,
    tags: Sequence[str],
    syntax: CaptionSyntax = PLAIN,
    sentences: Sequence[str] = (),
) -> bool:
    """Tell whether the tags or the sentences of one line have a name, see `names`."""
    form = normal_form(name)
    if any(tag_form(tag, syntax) == form for tag in tags):
        return True
    within = tags if is_prose(tags) else [tag for tag in tags if is_group(tag, syntax)]
    within = [*within, *sentences]
    if not within or not form:
        return False
    pattern = _name_pattern(form)
    return any(pattern.search(normal_form(tag)) for tag in within)


@lru_cache(maxsize=256)
def _name_pattern(form: str) -> re.Pattern[str]:
    """Return the pattern of a name in normal form as words of their own."""
    first, last = (r"" if _NO_SPACES.match(edge) else r"\w" for edge in (form[0], form[-1]))
    before, after = (f"(?<!{first})" if first else ""), (f"(?!{last})" if last else "")
    return re.compile(f"{before}{re.escape(form)}{after}", re.IGNORECASE)


def replaced_names(sentence: str, names: Iterable[str], new: str) -> str:
    """Return a sentence with another name for these."""
    for name in filter(normal_form, names):
        for spelling in dict.fromkeys((name.strip(), normal_form(name))):
            sentence = _name_pattern(spelling).sub(new.replace("\\", r"\\"), sentence)
    return sentence


def file_text(caption: Caption) -> str:
    """Return the text of a caption file: as it was read and changed, else one line with a final
    newline.

    Callers never write an empty caption: it would stop trainers.
    """
    return caption.text() + "\n" if caption.source is None else caption.source


def source_text(caption: Caption) -> str:
    """Return the text that a caption was read from, or its own if it was made from tags."""
    return caption.text() if caption.source is None else caption.source


def laid_out_text(caption: Caption) -> str:
    """Return the text of a caption for trainers, which read only the first line: without
    invisible characters, and as one line unless lines are separate captions, or of another kind.
    """
    text = without_invisible(file_text(caption).replace(grammar.BOM, ""))
    filled = [line for line, _ in grammar.lines(text) if not grammar.is_blank(line)]
    is_first = bool(filled) and not grammar.is_blank(grammar.lines(text)[0][0])
    if (len(filled) == 1 and is_first) or caption.syntax.enable_wildcard:
        return text
    if caption.syntax.kind == "mixed":
        return text if is_first else "".join(f"{line.strip()}\n" for line in filled)
    return joined_lines(filled) + "\n"


def on_one_line(caption: Caption) -> str:
    """Return what `laid_out_text` returns, with the lines of a mixed caption joined."""
    text = laid_out_text(caption)
    if caption.syntax.kind != "mixed" or caption.syntax.enable_wildcard:
        return text
    return joined_lines([line for line, _ in grammar.lines(text)]) + "\n"


def has_joined_lines(caption: Caption) -> bool:
    """Tell whether several lines of a caption become one in a layout."""
    if caption.syntax.enable_wildcard or caption.source is None or caption.syntax.kind == "mixed":
        return False
    return sum(not grammar.is_blank(line) for line, _ in grammar.lines(caption.source)) > 1


def one_line(caption: Caption) -> str:
    """Return the text of a caption as the text encoder reads it: tags and sentences joined, unless
    lines are separate captions.
    """
    text = caption.text()
    if caption.syntax.enable_wildcard or "\n" not in text:
        return text
    return joined_lines(text.split("\n"))


def is_laid_out(caption: Caption, source: Caption) -> bool:
    """Tell whether a caption is as `dsk layout` writes that of its source."""
    if source.is_empty:
        return caption.is_empty
    return any(
        caption == parse(text, source.syntax)
        for text in (laid_out_text(source), on_one_line(source))
    )


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


def read_caption(image: Path, syntax: CaptionSyntax) -> Caption | None:
    """Read the caption file of an image; None if there is none.

    syntax: how to parse it (`project.caption_syntax.syntax_of`). Raises InputError for a file that
    is not UTF-8, is a link, or is too large to be a caption.
    """
    return decode_caption(caption_path(image), read_caption_data(image), syntax)


def read_caption_data(image: Path) -> bytes | None:
    """Read the bytes of an image's caption file; None if there is none. Raises InputError for a
    link, and for a file that is too large to be a caption.
    """
    return read_regular(caption_path(image), limit=MAX_CAPTION_BYTES)


def decode_caption(path: Path, data: bytes | None, syntax: CaptionSyntax) -> Caption | None:
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
    return with_source(parse(text, syntax), data.decode("utf-8"))
