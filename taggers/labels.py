"""Label files: the tag of each output of a model, in `selected_tags.csv` or `tag_mapping.json`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasetkit.captions.caption import spell
from datasetkit.core.errors import ModelFileError
from taggers.base import CATEGORIES, CHARACTER, GENERAL, RATING, Label, Labels

CSV_FILE, MAPPING_FILE = "selected_tags.csv", "tag_mapping.json"
HEADER = ("tag_id", "name", "category", "count")
# Danbooru's numbers of categories; 9 is SmilingWolf's, for the four ratings.
CATEGORY_NUMBERS = {"0": GENERAL, "4": CHARACTER, "9": RATING}
HINT = "take the label file from the same repository and revision as model.onnx"


def read_labels(path: Path) -> Labels:
    """Read a label file, whose name tells its kind: labels in the order of the outputs, spelled as
    in captions.

    Raises ModelFileError for a file that is missing, not UTF-8 or malformed, or has an unknown
    category, a gap or a duplicate: each of these could shift or rename tags silently.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelFileError(
            f"{path}: the label file cannot be read: {error.strerror}", hint=HINT
        ) from error
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: the label file is not UTF-8 text", hint=HINT) from error
    return (parse_mapping if path.name == MAPPING_FILE else parse_labels)(text, str(path))


def parse_labels(text: str, source: str) -> Labels:
    """Read the text of a `selected_tags.csv`: one row for each output. source: its path, for
    errors.
    """
    rows = _rows(text, source)
    if not rows or tuple(rows[0]) != HEADER:
        raise ModelFileError(f"{source}: the first line is not {','.join(HEADER)}", hint=HINT)
    return _unique(
        (_label(row, f"{source}: label {number}") for number, row in enumerate(rows[1:], start=1)),
        source,
    )


def parse_mapping(text: str, source: str) -> Labels:
    """Read the text of a `tag_mapping.json`. source: its path, for errors.

    Two forms are in use: `{"0": {"tag": "1girl", "category": "General"}, ...}`, and
    `{"idx_to_tag": {"0": "1girl", ...}, "tag_to_category": {"1girl": "General", ...}}`.
    """
    try:
        data = json.loads(text)
        if "idx_to_tag" in data:
            labels = {
                int(n): (tag, data["tag_to_category"][tag]) for n, tag in data["idx_to_tag"].items()
            }
        else:
            labels = {int(n): (entry["tag"], entry["category"]) for n, entry in data.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{source} is not a {MAPPING_FILE}: {error!r}", hint=HINT) from error
    if sorted(labels) != list(range(len(labels))):
        raise ModelFileError(
            f"{source}: the labels are not numbered 0 to {len(labels) - 1} without a gap", hint=HINT
        )
    in_order = (labels[n] for n in range(len(labels)))
    return _unique(
        (_mapped(*label, f"{source}: label {n}") for n, label in enumerate(in_order)), source
    )


def _unique(labels: Iterable[Label], source: str) -> Labels:
    """Raise ModelFileError for a file without labels, or with a tag twice in one category."""
    # A work may share its name with a character: names are unique within a category only.
    seen: set[tuple[str, str]] = set()
    kept: list[Label] = []
    for number, label in enumerate(labels, start=1):
        if (label.name, label.category) in seen:
            raise ModelFileError(
                f"{source}: label {number} ({label.name}) is a duplicate", hint=HINT
            )
        seen.add((label.name, label.category))
        kept.append(label)
    if not kept:
        raise ModelFileError(f"{source}: the label file has no tags", hint=HINT)
    return Labels(tuple(kept))


def _rows(text: str, source: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ModelFileError(f"{source} is not readable CSV: {error}", hint=HINT) from error


def _label(row: list[str], where: str) -> Label:
    if len(row) != len(HEADER):
        raise ModelFileError(f"{where} has {len(row)} fields, not {len(HEADER)}", hint=HINT)
    _, name, category, _ = row
    if category not in CATEGORY_NUMBERS:
        known = ", ".join(CATEGORY_NUMBERS)
        raise ModelFileError(
            f"{where} ({name}) has category {category!r}, not one of {known}", hint=HINT
        )
    return _named(name, CATEGORY_NUMBERS[category], where)


def _mapped(name: Any, category: Any, where: str) -> Label:
    if not isinstance(category, str) or category.lower() not in CATEGORIES:
        known = ", ".join(CATEGORIES)
        raise ModelFileError(
            f"{where} ({name}) has category {category!r}, not one of {known}", hint=HINT
        )
    return _named(name, category.lower(), where)


def _named(name: Any, category: str, where: str) -> Label:
    if not isinstance(name, str) or not name.strip():
        raise ModelFileError(f"{where} has no name", hint=HINT)
    return Label(spell(name), category)
