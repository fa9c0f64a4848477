"""Tables of what tags mean in another language, as people have them.

Read are `tag,meaning` (also with `;` or a tab), the tables of a1111-sd-webui-tagcomplete with three
columns (tag, number, meaning) and four (tag, category, posts, `"alias,alias,meaning"`), tables with
a column for the language, and BooruDatasetTagManager's `tag=meaning` with its comments and marks.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datasetkit.captions import encodings
from datasetkit.captions.caption import normal_form
from datasetkit.captions.invisible import without_invisible
from datasetkit.core.errors import DskError
from datasetkit.core.files import display, read_regular

# Beside the project's dsk.toml; the page writes new meanings to the first one.
OWN_NAME: Final = "translations.csv"
NAMES: Final = (OWN_NAME, "translations.txt")
HEADER: Final = ("tag", "translation")
LARGEST: Final = 40_000_000  # bytes: the largest table that is known has four million
_LONGEST_LINE: Final = 100_000
_LONGEST_MEANING: Final = 500
_LOOKED_AT: Final = 50  # lines, to find out the format
_LEAST_READ: Final = 0.5  # of the lines, or the file is another thing
_SEPARATORS: Final = (",", "\t", ";")
_HEADERS: Final = frozenset(
    {"tag", "name", "word", "key", "id", "translation", "meaning", "category", "translated_name"}
)
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?")
_NUMBER: Final = re.compile(r"-?[\d.,]+")
_TAGS_ONLY: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Translations:
    """Meanings by the normal form of the tag, and why a file could not be read, a line for each."""

    meanings: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.meanings)

    def of(self, tag: str) -> str:
        """Return what a tag means, "" if no table has it. tag: in any spelling."""
        return self.meanings.get(normal_form(tag), "")

    def with_own(self, own: Translations) -> Translations:
        """Return both; where both have a tag, the other one's meaning counts."""
        return Translations({**self.meanings, **own.meanings}, (*own.problems, *self.problems))


def read_all(paths: Iterable[Path], *, language: str = "") -> Translations:
    """Read several tables; the first that has a tag says what it means. A path that does not exist
    is a problem, too.

    language: of tables that have several, such as `zh`; "" takes the first meaning of a tag.
    """
    meanings: dict[str, str] = {}
    problems: list[str] = []
    for path in paths:
        table = read(path, language=language)
        meanings = {**table.meanings, **meanings}
        problems += table.problems
    return Translations(meanings, tuple(problems))


def read(path: Path, *, language: str = "") -> Translations:
    """Read one table. What cannot be read is a problem, and never an error."""
    try:
        data = read_regular(path, limit=LARGEST)
    except DskError as error:
        return Translations(problems=(error.message,))
    if data is None:
        return Translations(problems=(f"{display(path)} does not exist",))
    return parse(data, display(path.name), language=language)


def parse(data: bytes, name: str, *, language: str = "") -> Translations:
    """Parse the bytes of a table. name: of the file, for problems."""
    text = _decoded(data)
    if text is None:
        return Translations(problems=(f"{name} is not text in UTF-8, UTF-16 or GB18030",))
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return Translations()
    if any(len(line) > _LONGEST_LINE for line in lines):
        return Translations(problems=(f"{name} is not a table: it has a line of 100,000 letters",))
    rows = _equations(lines) if _has_equations(lines) else _columns(text, lines, language)
    bad = [number for number, row in rows if row is None]
    if len(bad) > len(rows) * (1 - _LEAST_READ):
        first = lines[bad[0]].strip()[:60]
        return Translations(
            problems=(
                f"{name} has no meanings in {len(bad):,} of {len(rows):,} lines, e.g. "
                f"{display(first)}; its lines should be tag,meaning",
            )
        )
    return Translations(_first_meanings(row for _, row in rows if row is not None))


def _first_meanings(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first meaning of each tag, by its normal form."""
    meanings: dict[str, str] = {}
    for tag, meaning in rows:
        form, plain = normal_form(tag), _shown(meaning)
        if form and plain:
            meanings.setdefault(form, plain)
    return meanings


def own_table(text: str, tag: str, meaning: str) -> str:
    """Return the text of the own table with a new meaning of a tag, "" removes it. The other lines
    do not change, and the new one is written as they are.
    """
    form = normal_form(tag)
    lines = text.splitlines(keepends=True)
    filled = [line.lstrip("\ufeff") for line in lines if line.strip("\ufeff\r\n ")]
    separator = "=" if filled and _has_equations(filled) else _separator(filled)
    kept = [line for line in lines if _tag_of(line, separator) != form]
    if not meaning:
        return "".join(kept)
    if kept and not kept[-1].endswith(("\n", "\r")):
        kept[-1] += "\n"
    head = "" if filled else ",".join(HEADER) + "\n"
    return "".join((*kept, head, _row_text(tag, meaning, separator)))


def _row_text(tag: str, meaning: str, separator: str) -> str:
    if separator == "=":
        return f"{tag}={meaning}\n"
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerow((tag, meaning))
    return out.getvalue()


def _tag_of(line: str, separator: str) -> str:
    plain = line.strip("\ufeff\r\n")
    if separator == "=":
        pair = _equation(plain)
        return normal_form(pair[0]) if pair and not plain.lstrip().startswith("//") else ""
    row = _row_of(plain, separator)
    return normal_form(row[0]) if row else ""


def _decoded(data: bytes) -> str | None:
    """Decode UTF-8, then UTF-16 by its mark, then GB18030, in which old Chinese tables are."""
    text = encodings.decode_utf8(data)
    if text is None:
        text = encodings.decode_other(data)
    if text is None and not encodings.marked_encoding(data) and b"\0" not in data:
        text = encodings.decode_other(data, "gb18030")
    return None if text is None else text.replace("\ufeff", "")


# ---- tag=meaning
# --------------------------------------------------------------------------------------------------


def _has_equations(lines: Sequence[str]) -> bool:
    """Tell whether most lines are `tag=meaning`: some tags have a `=` of their own (`=_=`)."""
    looked_at = [line for line in lines if not line.lstrip().startswith("//")][:_LOOKED_AT]
    equations = sum(_equation(line) is not None for line in looked_at)
    separated = sum(any(mark in line for mark in _SEPARATORS) for line in looked_at)
    return equations * 2 > len(looked_at) and separated * 2 < len(looked_at)


def _equations(lines: Sequence[str]) -> list[tuple[int, tuple[str, str] | None]]:
    return [
        (number, _equation(line))
        for number, line in enumerate(lines)
        if not line.lstrip().startswith("//")
    ]


def _equation(line: str) -> tuple[str, str] | None:
    """Return tag and meaning of a line, without the star before a tag that a person translated."""
    tag, _, meaning = line.strip().rpartition("=")
    tag = tag.strip().removeprefix("*").strip()
    return (tag, meaning.strip()) if tag and meaning.strip() else None


# ---- columns
# --------------------------------------------------------------------------------------------------


def _columns(
    text: str, lines: Sequence[str], language: str
) -> list[tuple[int, tuple[str, str] | None]]:
    rows = [[cell.strip() for cell in row] for row in _rows(text, lines)]
    is_multilingual = _has_language(rows)
    picked: list[tuple[int, tuple[str, str] | None]] = []
    for number, cells in enumerate(rows):
        if not number and _is_header(cells):
            continue
        if is_multilingual and len(cells) > 2:
            if _is_in(cells[-1], language):
                picked.append((number, _meaning_of(cells[:2])))
        else:
            picked.append((number, _meaning_of(cells)))
    return picked


def _rows(text: str, lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of each line; an open quote does not join lines."""
    separator = _separator(lines)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:  # a quote within a cell: each line by itself
        rows = []
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    return rows if len(rows) == len(lines) else [_row_of(line, separator) for line in lines]


def _is_in(code: str, language: str) -> bool:
    """Tell whether the code of a line is the language that is looked for: `zh-CN` is `zh`."""
    wanted, given = (word.replace("_", "-").casefold() for word in (language, code))
    return not wanted or given == wanted or given.startswith(f"{wanted}-")


def _row_of(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _separator(lines: Sequence[str]) -> str:
    """Return what separates the columns: what most of the first lines have."""
    counts = Counter(mark for line in lines[:_LOOKED_AT] for mark in _SEPARATORS if mark in line)
    return max(_SEPARATORS, key=lambda mark: counts[mark])


def _has_language(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the last of three columns is a code of a language in most lines."""
    three = [row for row in rows[: _LOOKED_AT + 1] if len(row) == 3]
    codes = sum(_LANGUAGE.fullmatch(row[2].strip()) is not None for row in three)
    meanings = sum(not _NUMBER.fullmatch(row[1].strip()) for row in three)
    return bool(three) and codes * 2 > len(three) and meanings * 2 > len(three)


def _is_header(cells: Sequence[str]) -> bool:
    return bool(cells) and sum(cell.casefold() in _HEADERS for cell in cells) * 2 >= len(cells)


def _meaning_of(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the tag and what it means.

    Of two columns the second; of more the last text: of several aliases the last one that is not
    written like a tag, and no number.
    """
    if len(cells) < 2 or not cells[0]:
        return None
    if len(cells) == 2 and not _NUMBER.fullmatch(cells[1]):
        return (cells[0], cells[1]) if cells[1] else None
    last = next((cell for cell in reversed(cells[1:]) if cell and not _NUMBER.fullmatch(cell)), "")
    aliases = [alias.strip() for alias in last.split(",") if alias.strip()]
    foreign = [alias for alias in aliases if not _TAGS_ONLY.fullmatch(alias)]
    if foreign:
        return cells[0], foreign[-1]
    # tag, number, meaning in Latin letters
    return (cells[0], last) if last and len(cells) == 3 else None


def _shown(meaning: str) -> str:
    plain = " ".join(without_invisible(meaning).split())
    return plain[:_LONGEST_MEANING]
