"""The label file of a WD14 model: `selected_tags.csv`, one row for each output of the network."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from datasetkit.core.captions import spell
from datasetkit.core.errors import ModelFileError
from taggers.base import CHARACTER, GENERAL, RATING, Label, Labels

HEADER = ("tag_id", "name", "category", "count")
# The numbers are Danbooru's categories; 9 is SmilingWolf's own for the four ratings.
CATEGORY_NUMBERS = {"0": GENERAL, "4": CHARACTER, "9": RATING}
HINT = "take selected_tags.csv from the same repository and revision as model.onnx"


def read_labels(path: Path) -> Labels:
    """Read `selected_tags.csv` as labels in file order, spelled as captions spell them.

    Raises ModelFileError for a file that is missing, is no UTF-8, or has another header, an unknown category, a
    ragged row or the same name twice: each of these would shift or rename tags without a word.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelFileError(f"{path}: the label file cannot be read: {error.strerror}", hint=HINT) from error
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: the label file is not UTF-8 text", hint=HINT) from error
    return parse_labels(text, str(path))


def parse_labels(text: str, source: str) -> Labels:
    """Read the text of a label file; `source` names it in errors."""
    rows = _rows(text, source)
    if not rows or tuple(rows[0]) != HEADER:
        raise ModelFileError(f"{source}: the first line is not {','.join(HEADER)}", hint=HINT)
    if len(rows) == 1:
        raise ModelFileError(f"{source}: the label file names no tag", hint=HINT)
    names: set[str] = set()
    labels = []
    for number, row in enumerate(rows[1:], start=1):
        label = _label(row, f"{source}: label {number}")
        if label.name in names:
            raise ModelFileError(f"{source}: label {number} ({label.name}) is there twice", hint=HINT)
        names.add(label.name)
        labels.append(label)
    return Labels(tuple(labels))


def _rows(text: str, source: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ModelFileError(f"{source}: no readable CSV: {error}", hint=HINT) from error


def _label(row: list[str], where: str) -> Label:
    if len(row) != len(HEADER):
        raise ModelFileError(f"{where} has {len(row)} fields, not {len(HEADER)}", hint=HINT)
    _, name, category, _ = row
    if not name.strip():
        raise ModelFileError(f"{where} has no name", hint=HINT)
    if category not in CATEGORY_NUMBERS:
        known = ", ".join(CATEGORY_NUMBERS)
        raise ModelFileError(f"{where} ({name}) has category {category!r}, not one of {known}", hint=HINT)
    return Label(spell(name), CATEGORY_NUMBERS[category])
