r"""The grammar of captions: where a text has tags, and how it is changed without touching the rest.

One grammar for all that reads, edits and trains captions:

- commas and line breaks separate tags. A comma inside `{a, b|c}`, between digits (`1,000`), or
  after a backslash does not.
- `{a|b}` is a wildcard, one piece: rules, dedupe and checks leave it alone. `{{` and `}}` are
  braces.
- `keep_tokens_separator` and `secondary_separator` are boundaries, not parts of tags.
- With `enable_wildcard` each line is a caption of its own.
- With `weighted_captions` tags are compared without `(tag:1.2)`, `(tag)` and `[tag]`.
- `captions = "sentence"` (of a concept in dsk.toml): the text is a sentence, one piece, behind the
  trigger words that dsk.toml declares. `captions = "mixed"`: some lines have tags, the others are
  sentences: those that end with a full stop; if none does, all but the first.

The trainer expands wildcards first and splits what is left (`comma_tags`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from datasetkit.captions.invisible import without_invisible
from datasetkit.core.records import CaptionSyntax

SEPARATOR: Final = ","
BOM: Final = "\ufeff"
PLAIN: Final = CaptionSyntax()
# What is stripped from a tag: white space as `str.isspace` knows it, and byte-order marks.
_BLANK: Final = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + BOM
)
_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_SPACES: Final = re.compile(r"\s+")
# Most texts are ASCII, and only commas and line breaks separate their tags: then a tag is one
# match. What needs another look: braces, backslashes, invisible characters, commas in numbers.
_NOT_SIMPLE: Final = re.compile(r"[{\\\x00-\x08\x0e-\x1b\x7f]|\d,\d")
_SIMPLE_TAG: Final = re.compile(
    r"[^,\s\x1c-\x1f](?:[^,\n\r\x0b\x0c\x1c-\x1e]*[^,\s\x1c-\x1f])?", re.ASCII
)
# Digits after a comma that begin a tag of their own: `2023,1girl`, `solo_2022,2023`.
_TAG_OF_DIGITS: Final = re.compile(
    r"(?:\d+\+?(?:girl|boy|other|koma)|(?:19|20)\d\d(?!\d)|\d+(?:s|d|:))", re.IGNORECASE
)
# A wildcard as the trainer replaces it; `{{` and `}}` are replaced by these characters meanwhile.
_WILDCARD: Final = re.compile(r"\{([^{}]+)\}")
_OPEN_BRACE, _CLOSE_BRACE = "\ue000", "\ue001"
# The number of a weight, before the closing bracket.
WEIGHT: Final = r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"
_WEIGHTED: Final = re.compile(rf"(?<!\\)\(((?:\\.|[^()\\])*?){WEIGHT}\)")
_EXTRA_NETWORK: Final = re.compile(r"<(?:lora|lyco|hypernet|embedding|ti)\b[^<>]*>", re.IGNORECASE)
_BREAK: Final = re.compile(r"\bBREAK\b")
_WRAPPED: Final = re.compile(r"\(+[^()\[\]]*[^\W_][^()\[\]]*\)+|\[+[^()\[\]]*[^\W_][^()\[\]]*\]+")
# A caption with one of these is prose: its commas are punctuation, and its words may repeat.
_FULL_STOP: Final = re.compile(r"(?:\w{2}[)\"'”’»\]]?[.!?]|[。！？])[)\"'”’»\]]*$")
_ARTICLE: Final = re.compile(r"^(?:an?|the|and|this|there) ", re.IGNORECASE)
_SENTENCE_WORDS: Final = 6
# So many words are part of a sentence where the caption ends with a full stop, or after an article.
_CLAUSE_WORDS: Final = 3
# Weights of longer tags are not looked for.
_LONGEST_TAG: Final = 500

Span = tuple[int, int]
# A tag of a changed caption: the number of the tag that it was, None for a new one, and its text.
Entry = tuple[int | None, str]


# ---- from text to tags
# --------------------------------------------------------------------------------------------------


def spans(text: str, syntax: CaptionSyntax = PLAIN) -> list[Span]:
    """Return where each tag of a text starts and ends, without the spaces around it. Sentences are
    no tags.
    """
    if syntax.kind == "tags":
        return _tag_spans(text, syntax)
    return [
        (part.start + start, part.start + end)
        for part in parts(text, syntax)
        if not part.is_sentence
        for start, end in _tag_spans(text[part.start : part.end], syntax)
    ]


def _tag_spans(text: str, syntax: CaptionSyntax) -> list[Span]:
    if _is_simple(text, syntax):
        return [match.span() for match in _SIMPLE_TAG.finditer(text)]
    protected = _protected(text, syntax)
    pieces: list[Span] = []
    start = at = 0
    for match in _separators(syntax).finditer(text):
        while at < len(protected) and protected[at][1] <= match.start():
            at += 1
        inside = at < len(protected) and protected[at][0] <= match.start()
        if inside or not _splits(text, match, syntax):
            continue
        _add_span(text, start, match.start(), pieces)
        start = match.end()
    _add_span(text, start, len(text), pieces)
    return pieces


def simple_tags(text: str, syntax: CaptionSyntax) -> tuple[str, ...] | None:
    """Return the tags of a text whose tags are its pieces between commas and line breaks, as they
    are; None for another text, which has to be looked at in full.
    """
    if "  " in text or "\t" in text or syntax.enable_wildcard or not _is_simple(text, syntax):
        return None
    if text.isprintable():  # no line break; splitting takes half the time of matching
        tags = [tag for piece in text.split(SEPARATOR) if (tag := piece.strip(" "))]
    else:
        tags = _SIMPLE_TAG.findall(text)
    # Captions share their tags: one text for each takes a fifth of the memory.
    return tuple(map(sys.intern, tags))


def _is_simple(text: str, syntax: CaptionSyntax) -> bool:
    """Tell whether every comma and line break of a text separates tags, and nothing else does."""
    has_separators = syntax.keep_tokens_separator or syntax.secondary_separator
    return (
        not has_separators
        and text.isascii()
        and (_is_plain(text) or _NOT_SIMPLE.search(text) is None)
        and not (syntax.weighted_captions and ("(" in text or "[" in text))
    )


def _is_plain(text: str) -> bool:
    """Tell without a search, which takes ten times as long, that `_NOT_SIMPLE` is not in a text."""
    return (
        text.isprintable()
        and "{" not in text
        and "\\" not in text
        and text.count(SEPARATOR) == text.count(f"{SEPARATOR} ")
    )


def _add_span(text: str, start: int, end: int, found: list[Span]) -> None:
    piece = text[start:end]
    left = piece.lstrip(_BLANK)
    if not is_blank(piece):
        start = end - len(left)
        found.append((start, start + len(left.rstrip(_BLANK))))


@lru_cache(maxsize=64)
def _separators(syntax: CaptionSyntax) -> re.Pattern[str]:
    words = [word.strip() for word in (syntax.keep_tokens_separator, syntax.secondary_separator)]
    escaped = [re.escape(word) for word in sorted(words, key=len, reverse=True) if word]
    return re.compile("|".join([*escaped, SEPARATOR, _LINE_BREAK.pattern]))


def _splits(text: str, separator: re.Match[str], syntax: CaptionSyntax) -> bool:
    """Tell whether a comma or a line break separates tags: not after a backslash, and not within a
    number.
    """
    at = separator.start()
    is_comma = separator[0] == SEPARATOR
    if not is_comma and (syntax.enable_wildcard or not _LINE_BREAK.fullmatch(separator[0])):
        return True
    before = text[max(0, at - 64) : at]
    behind = before.replace(BOM, "").rstrip(_BLANK)  # a mark is ignored, also between backslashes
    if (len(behind) - len(behind.rstrip("\\"))) % 2:
        return False
    if is_comma and before[-1:].isdigit() and text[at + 1 : at + 2].isdigit():
        return _TAG_OF_DIGITS.match(text, at + 1) is not None
    return True


def _protected(text: str, syntax: CaptionSyntax) -> list[Span]:
    """Return the outermost groups, in order: inside them nothing separates tags."""
    groups = _brace_groups(text, syntax) if "{" in text else []
    if syntax.weighted_captions and ("(" in text or "[" in text):
        groups = sorted([*groups, *_bracket_groups(text, syntax)])
    outermost: list[Span] = []
    for start, end in groups:
        if not outermost or start >= outermost[-1][1]:
            outermost.append((start, end))
    return outermost


def _brace_groups(text: str, syntax: CaptionSyntax) -> list[Span]:
    """Return the groups `{...}` by their start."""
    pairs = _pairs(text, r"[{}]", "{}", syntax)
    groups: list[Span] = []
    skipped = -1
    for start in sorted(pairs):
        end = pairs[start]
        if start == skipped:
            continue
        if pairs.get(start + 1) == end - 1:  # `{{...}}` are braces, no group
            skipped = start + 1
        elif end > start + 1:
            groups.append((start, end + 1))
    return groups


def _bracket_groups(text: str, syntax: CaptionSyntax) -> list[Span]:
    pairs = _pairs(text, r"\\.|[()]", "()", syntax) | _pairs(text, r"\\.|[\[\]]", "[]", syntax)
    return [(start, end + 1) for start, end in pairs.items()]


def _pairs(text: str, pattern: str, brackets: str, syntax: CaptionSyntax) -> dict[int, int]:
    """Return opening -> closing bracket; one that has no partner is text. Where lines are captions
    of their own, the partner is in the same line.
    """
    opened: list[int] = []
    pairs: dict[int, int] = {}
    if syntax.enable_wildcard:
        pattern = f"{pattern}|{_LINE_BREAK.pattern}"
    for match in re.finditer(pattern, text):
        if match[0] == brackets[0]:
            opened.append(match.start())
        elif match[0] == brackets[1]:
            if opened:
                pairs[opened.pop()] = match.start()
        elif not match[0].startswith("\\"):
            opened.clear()
    return pairs


def tag_text(raw: str) -> str:
    """Return a tag as it is compared and shown: one space between words, no byte-order marks and
    other invisible characters.
    """
    if raw.isascii() and raw.isprintable() and "  " not in raw:  # nearly always
        return raw.strip()
    return _SPACES.sub(" ", without_invisible(raw.replace(BOM, ""))).strip()


def is_group(tag: str, syntax: CaptionSyntax = PLAIN) -> bool:
    """Tell whether a tag is or has a wildcard, or is a weight over several tags: it is left alone
    by everything but a rule that writes all of it.
    """
    if "{" in tag and _brace_groups(tag, syntax):
        return True
    if not syntax.weighted_captions or not ("(" in tag or "[" in tag):
        return False
    groups = _bracket_groups(tag, syntax) if SEPARATOR in tag else []
    return any(SEPARATOR in tag[start:end] for start, end in groups)


def is_prose(tags: Sequence[str]) -> bool:
    """Tell whether the tags of a caption are the parts of sentences: the last one ends like a
    sentence, or one is as long as a sentence or begins with an article.
    """
    return ends_as_sentence(tags) or any(map(_is_part_of_sentence, tags))


@lru_cache(maxsize=1 << 16)  # the same tags are in many captions
def _is_part_of_sentence(tag: str) -> bool:
    return (
        " " in tag
        and "{" not in tag
        and (tag.count(" ") >= _SENTENCE_WORDS - 1 or begins_as_sentence(tag))
    )


def ends_as_sentence(tags: Sequence[str]) -> bool:
    """Tell whether the last tag ends with a full stop."""
    stop = _FULL_STOP.search(tags[-1]) if tags else None
    return stop is not None and (len(tags) > 1 or " " in tags[-1] or not stop[0].isascii())


def before_sentences(tags: Sequence[str]) -> Sequence[str]:
    """Return the tags before the first part of a sentence; all of them if there is none."""
    ends = ends_as_sentence(tags)
    for n, tag in enumerate(tags):
        if " " not in tag:
            continue
        least = _CLAUSE_WORDS if ends or begins_as_sentence(tag) else _SENTENCE_WORDS
        if "{" not in tag and tag.count(" ") >= least - 1:
            return tags[:n]
    return tags[:-1] if ends else tags


def begins_as_sentence(tag: str) -> bool:
    """Tell whether a tag begins with an article, or the like."""
    return _ARTICLE.match(tag) is not None


def marks(text: str, tags: Sequence[Span], syntax: CaptionSyntax) -> tuple[tuple[int, str], ...]:
    """Return the boundaries between tags that are not commas, see `Caption.marks`."""
    special = _special(syntax)
    if special is None:
        return ()
    found: list[tuple[int, str]] = []
    for n, gap in enumerate(gaps(text, tags)):
        if special.search(gap):
            found += [(n, mark)] if (mark := _mark(gap, n in (0, len(tags)))) else []
    return tuple(found)


def sentence_marks(
    text: str, tags: Sequence[Span], split: Sequence[Part]
) -> tuple[tuple[int, str], ...]:
    """Return the boundaries between tags that have sentences, as `marks` does: in lines of their
    own, but behind a comma after the leading words of a sentence.
    """
    between: dict[int, list[Part]] = {}
    for part in split:
        if part.is_sentence:
            number = sum(end <= part.start for _, end in tags)
            between.setdefault(number, []).append(part)
    boundaries: list[tuple[int, str]] = []
    for n, sentences in sorted(between.items()):
        before = text[tags[n - 1][1] if n else 0 : sentences[0].start]
        lead = "" if not n else "\n" if _LINE_BREAK.search(before) else f"{SEPARATOR} "
        body = "\n".join(tag_text(text[part.start : part.end]) for part in sentences)
        boundaries.append((n, f"{lead}{body}" + ("\n" if n < len(tags) else "")))
    return tuple(boundaries)


@lru_cache(maxsize=64)
def _special(syntax: CaptionSyntax) -> re.Pattern[str] | None:
    words = [
        re.escape(word.strip())
        for word in (syntax.keep_tokens_separator, syntax.secondary_separator)
        if word.strip()
    ]
    if syntax.enable_wildcard:
        words.append(_LINE_BREAK.pattern)
    return re.compile("|".join(words)) if words else None


def _mark(gap: str, at_edge: bool) -> str:
    lines = [_SPACES.sub(" ", line) for line in _LINE_BREAK.split(gap.replace(BOM, ""))]
    if len(lines) == 1:
        return lines[0]
    first, last = lines[0].strip(" ,"), lines[-1].strip(" ,")
    if at_edge:
        return " ".join(part for part in (line.strip(" ,") for line in lines) if part)
    return (f" {first}" if first else "") + "\n" + (f"{last} " if last else "")


def gaps(text: str, tags: Sequence[Span]) -> list[str]:
    """Return what is before, between and after the tags: one more than there are tags."""
    ends = [0, *(end for _, end in tags)]
    starts = [*(start for start, _ in tags), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


# ---- tags and sentences
# --------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A part of a text: tags, which may be none, or a sentence. line: the number of its line."""

    start: int
    end: int
    is_sentence: bool
    line: int


def parts(text: str, syntax: CaptionSyntax = PLAIN) -> list[Part]:
    """Return the parts of a text, in order: the whole text where captions are tags, else the lines
    that are not blank.

    Before a sentence that begins a caption there is a part with its leading words.
    """
    if syntax.kind == "tags":
        return [Part(0, len(text), False, 0)]
    split: list[Part] = []
    for number, (start, end, is_sentence) in enumerate(_kinds_of_lines(text, syntax)):
        if not is_sentence:
            split.append(Part(start, end, False, number))
            continue
        body = start
        if not number or syntax.enable_wildcard:
            front, body = _leading_end(text, start, end, syntax)
            split.append(Part(start, front, False, number))
        if body < end:
            split.append(Part(body, end, True, number))
    return split


def _kinds_of_lines(text: str, syntax: CaptionSyntax) -> list[tuple[int, int, bool]]:
    """Return the lines that are not blank, without the space around them, and whether each is a
    sentence.
    """
    filled: list[Span] = []
    start = 0
    for line, ending in lines(text):
        if not is_blank(line):
            begin = start + len(line) - len(line.lstrip(_BLANK))
            filled.append((begin, begin + len(line.strip(_BLANK))))
        start += len(line) + len(ending)
    if syntax.kind == "sentence":
        return [(*span, True) for span in filled]
    within = [text[slice(*span)] for span in filled]
    ends = [ends_line_as_sentence(line) for line in within]
    if not any(ends):
        has_tags = [bool(_tag_spans(line, syntax)) for line in within]
        first = has_tags.index(True) if any(has_tags) else len(within)
        ends = [number > first for number in range(len(within))]
    return [(*span, end) for span, end in zip(filled, ends, strict=True)]


def ends_line_as_sentence(line: str) -> bool:
    """Tell whether a line of a mixed caption ends with a full stop, by which it is a sentence."""
    return _FULL_STOP.search(tag_text(line).strip(" ,")) is not None


def _leading_end(text: str, start: int, end: int, syntax: CaptionSyntax) -> Span:
    """Return where the leading words of a sentence end, and where the sentence begins."""
    words = {_plain_word(word) for word in syntax.leading}
    front = start
    while start < end:
        comma = text.find(SEPARATOR, start, end)
        stop = end if comma < 0 else comma
        if _plain_word(text[start:stop]) not in words:
            break
        front = start + len(text[start:stop].rstrip(_BLANK))
        start = stop + 1
        start += len(text[start:end]) - len(text[start:end].lstrip(_BLANK))
    return front, min(start, end)


def _plain_word(tag: str) -> str:
    return tag_text(tag.replace("_", " ")).casefold()


@lru_cache(maxsize=64)
def without_kind(syntax: CaptionSyntax) -> CaptionSyntax:
    """Return the syntax of the tags of a caption, between its sentences."""
    return replace(syntax, kind="tags", leading=())


def by_caption(split: Sequence[Part], syntax: CaptionSyntax) -> list[list[Part]]:
    """Return the parts of each line where lines are separate captions, else all of them as one."""
    if not syntax.enable_wildcard:
        return [list(split)]
    return [[part for part in split if part.line == n] for n in sorted({p.line for p in split})]


def begin_as_sentence(split: Sequence[Part]) -> bool:
    """Tell whether a caption begins with a sentence, at most behind its leading words."""
    return any(part.is_sentence and part.line == split[0].line for part in split)


def rewrite_parts(
    text: str, split: Sequence[Part], entries: Sequence[Entry], syntax: CaptionSyntax
) -> str:
    """Return a text with other tags in the parts of one caption; its sentences do not change.

    entries: what becomes of all its tags, as for `rewrite`. A new tag goes to the part of the tag
    before it, the first ones to the first part. A part without tags is removed with its line.
    """
    within = without_kind(syntax)
    held = [part for part in split if not part.is_sentence]
    if not held:  # a blank text
        return rewrite(text, entries, within)
    sizes = [len(_tag_spans(text[part.start : part.end], within)) for part in held]
    shares = _shares(entries, sizes)
    for part, size, share in reversed(list(zip(held, sizes, shares, strict=True))):
        if share or size:
            if syntax.kind == "mixed" and _ends_line(text, part.end):
                share = _not_as_sentence(text[part.start : part.end], share, within)
            text = _with_part(text, part, share, within)
    return text


def _ends_line(text: str, at: int) -> bool:
    """Tell whether a line ends here, but for blanks and commas."""
    rest = text[at:].lstrip(f" \t{SEPARATOR}")
    return not rest or _LINE_BREAK.match(rest) is not None


def _not_as_sentence(text: str, entries: list[Entry], syntax: CaptionSyntax) -> list[Entry]:
    """Return the entries in an order in which their line is not read as a sentence: where the last
    tag ends with a full stop, and did not before, the last one without goes behind it.
    """
    if ends_line_as_sentence(text) or not ends_line_as_sentence(rewrite(text, entries, syntax)):
        return entries
    for n in reversed(range(len(entries))):
        if not ends_line_as_sentence(entries[n][1]):
            return [*entries[:n], *entries[n + 1 :], (None, entries[n][1])]
    return entries


def _shares(entries: Sequence[Entry], sizes: Sequence[int]) -> list[list[Entry]]:
    """Share entries among the parts whose tags they were; numbers are counted from each part."""
    shares: list[list[Entry]] = [[] for _ in sizes]
    at = first = 0
    for source, tag in entries:
        while source is not None and source >= first + sizes[at]:
            first += sizes[at]
            at += 1
        shares[at].append((None if source is None else source - first, tag))
    return shares


def _with_part(text: str, part: Part, share: Sequence[Entry], syntax: CaptionSyntax) -> str:
    """Return a text with other tags in one part."""
    before, after = text[: part.start], text[part.end :]
    changed = rewrite(text[part.start : part.end], share, syntax)
    if part.start == part.end:  # before a sentence
        return f"{before}{changed}{SEPARATOR} {after}" if changed else text
    if share:
        return f"{before}{changed}{after}"
    rest = after.lstrip(_BLANK.replace("\n", "").replace("\r", "") + SEPARATOR)
    ending = _LINE_BREAK.match(rest)
    if ending is not None and ending.end() < len(rest):
        return before + rest[ending.end() :]
    if ending is None and rest:
        return before + rest
    # The last line: the line before it ends the text as this one did.
    return before.rstrip("\r\n") + rest if before else rest


# ---- changing a text
# --------------------------------------------------------------------------------------------------


def rewrite(text: str, entries: Sequence[Entry], syntax: CaptionSyntax = PLAIN) -> str:
    """Return a text with other tags. What belongs to the tags that are kept, and what separates
    them, is not changed.

    entries: the tags of the new text. The numbers of tags that are kept must increase; a tag that
    moves is a new one.
    """
    tags = spans(text, syntax)
    if not tags and not entries:
        return text
    between = gaps(text, tags)
    parts = [_head(between, entries[0][0] if entries else None, syntax)]
    last = -1
    for n, (source, tag) in enumerate(entries):
        if n:
            parts.append(_gap(between, last, source, syntax))
        raw = tag if source is None else text[slice(*tags[source])]
        parts.append(raw if tag == tag_text(raw) else tag)
        last = last if source is None else source
    if last >= 0:
        parts.append(_marked(between[last + 1 : -1], syntax).rstrip(_BLANK + SEPARATOR))
    return "".join((*parts, between[-1] if tags else ""))


def _head(between: Sequence[str], source: int | None, syntax: CaptionSyntax) -> str:
    """Return what is before the first tag. source: the number of the tag that it was."""
    first = "" if _marked(between[:1], syntax) else between[0]
    if source is None:
        return first
    if source == 0:
        return between[0]
    return first + _marked(between[: source + 1], syntax).lstrip(_BLANK + SEPARATOR)


def _gap(between: Sequence[str], last: int, source: int | None, syntax: CaptionSyntax) -> str:
    """Return what is before a tag that is not the first. last: the number of the last tag that was
    kept, -1 for none; source: the number of the tag itself, None if it is new.
    """
    if source is None:
        return f"{SEPARATOR} "
    if last >= 0:
        return _strongest(between[last + 1 : source + 1], syntax)
    mark = _marked(between[: source + 1], syntax)
    return f" {mark.lstrip(_BLANK)}" if mark else f"{SEPARATOR} "


def _marked(between: Sequence[str], syntax: CaptionSyntax) -> str:
    """Return the first boundary with a separator of kept tags, "" if none has one."""
    keep = syntax.keep_tokens_separator.strip()
    return next((gap for gap in between if keep and keep in gap), "")


def _strongest(between: Sequence[str], syntax: CaptionSyntax) -> str:
    """Return the boundary that remains where tags between boundaries were removed."""
    keep = syntax.keep_tokens_separator.strip()

    def rank(gap: str) -> int:
        if keep and keep in gap:
            return 3
        if _LINE_BREAK.search(gap):
            return 2
        return SEPARATOR in gap

    return max(between, key=rank)


def lines(text: str) -> list[tuple[str, str]]:
    """Split a text into lines, each with the line break behind it."""
    split: list[tuple[str, str]] = []
    start = 0
    for match in _LINE_BREAK.finditer(text):
        split.append((text[start : match.start()], match[0]))
        start = match.end()
    return [*split, (text[start:], "")] if start < len(text) else split


def is_blank(text: str) -> bool:
    """Tell whether a text has nothing but white space and invisible characters."""
    if text.isascii() and text.isprintable():
        return not text or text.isspace()
    return not without_invisible(text).strip(_BLANK)


# ---- weights and other syntax of prompts
# --------------------------------------------------------------------------------------------------


def without_weights(tag: str) -> str:
    r"""Return a tag without `(tag:1.2)`, `(tag)` and `[tag]`; `\(` and `fate (series)` stay."""
    if len(tag) > _LONGEST_TAG:
        return tag
    before = None
    while before != tag:
        before, tag = tag, _WEIGHTED.sub(r"\1", tag, count=1)
    while tag[:1] in ("(", "[") and (0, len(tag)) in _bracket_groups(tag, PLAIN):
        tag = tag[1:-1].strip()
    return tag


def unweighted(text: str) -> str:
    """Return a whole caption without the brackets and numbers of weights."""
    text = _WEIGHTED.sub(r"\1", text)
    return "".join(
        character
        for character, is_escaped in characters(text)
        if is_escaped or character not in "()[]"
    )


def reweighted(tag: str, new: str) -> str:
    """Return another tag with the brackets and number of this one: `(smile:1.2)`, `grin` ->
    `(grin:1.2)`.
    """
    bare = unweighted(tag).strip()
    return tag.replace(bare, new, 1) if bare else new


def prompt_syntax(tag: str, syntax: CaptionSyntax = PLAIN) -> str:
    """Return the part of a tag that only prompts understand, "" if it has none."""
    match = _EXTRA_NETWORK.search(tag) or _BREAK.search(tag)
    if match is None and not syntax.weighted_captions:
        shown = tag[:_LONGEST_TAG]
        match = _WEIGHTED.search(shown) or _WRAPPED.fullmatch(shown)
    return match[0] if match else ""


# ---- what the trainer does
# --------------------------------------------------------------------------------------------------


def choose_wildcards(caption: str, choose: Callable[[list[str]], str]) -> str:
    """Replace each wildcard by one of its options, from left to right."""
    escaped = caption.replace("{{", _OPEN_BRACE).replace("}}", _CLOSE_BRACE)
    chosen = _WILDCARD.sub(lambda match: choose(match[1].split("|")), escaped)
    return chosen.replace(_OPEN_BRACE, "{").replace(_CLOSE_BRACE, "}")


def kept_and_free(caption: str, separator: str) -> tuple[str, str, str] | None:
    """Split a caption into kept | free | kept; None where it has no such separator."""
    if not separator or separator not in caption:
        return None
    first, _, rest = caption.partition(separator)
    free, _, last = rest.partition(separator)
    return first, free, last


class Piece(NamedTuple):
    """A part of a caption in training: tags that may be ordered and dropped, or a sentence with its
    leading words, of which there are so many.
    """

    text: str
    is_sentence: bool = False
    leading: int = 0


def pieces(text: str, syntax: CaptionSyntax) -> list[list[Piece]]:
    """Return the pieces of each line where lines are separate captions, else all as one caption.
    Neighbouring lines of tags are one piece.
    """
    captions: list[list[Piece]] = []
    for split in by_caption(parts(text, syntax), syntax):
        made: list[Piece] = []
        front = ""
        leading = 0
        for part in split:
            piece = text[part.start : part.end].strip(_BLANK)
            if part.is_sentence:
                words = f"{front}{SEPARATOR} {piece}" if front else piece
                made.append(Piece(words, True, leading))
                front, leading = "", 0
            elif not made and begin_as_sentence(split):
                front, leading = piece, len(_tag_spans(piece, PLAIN))
            elif made and not made[-1].is_sentence:
                made[-1] = Piece(f"{made[-1].text.rstrip(' ,')}{SEPARATOR} {piece}")
            else:
                made.append(Piece(piece))
        captions.append([*made, Piece(front, True, leading)] if front else made)
    return [made for made in captions if made] or [[Piece(text)]]


def comma_tags(text: str) -> list[str]:
    """Return the tags that the trainer shuffles and drops: those between commas, as in sd-scripts.

    Numbers and escaped commas that sd-scripts would tear stay whole (`1,000 people`). Without a
    space beside it, such a comma separates tags (`2023,1000`).
    """
    if text.count(SEPARATOR) == text.count(f"{SEPARATOR} ") and "\\" not in text:
        # Nearly always, and many times as fast: no comma is in a number, and none is escaped.
        return [tag for piece in text.split(SEPARATOR) if (tag := piece.strip())]
    pieces: list[str] = []
    start = 0
    for match in re.finditer(SEPARATOR, text):
        if _splits(text, match, PLAIN) or not _in_phrase(text, start, match.start()):
            pieces.append(text[start : match.start()])
            start = match.end()
    pieces.append(text[start:])
    return [tag for piece in pieces if (tag := piece.strip())]


def _in_phrase(text: str, start: int, at: int) -> bool:
    """Tell whether there is a space between the words before or after a comma."""
    end = text.find(SEPARATOR, at + 1)
    after = text[at + 1 : end if end >= 0 else len(text)]
    return " " in text[start:at].strip() or " " in after.rstrip()


def characters(caption: str) -> Iterator[tuple[str, bool]]:
    """Yield each character of a weighted caption, and whether a backslash escapes it."""
    remaining = iter(caption)
    for character in remaining:
        after = next(remaining, "") if character == "\\" else ""
        if after and after in "()[]\\":
            yield after, True
            continue
        yield character, False
        if after:
            yield after, False
