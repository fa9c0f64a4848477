"""Writes the tables of options in docs/train.md, with the defaults and ranges of the code."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

from datasetkit.core.config import TrainOptions
from datasetkit.core.files import write_atomic
from datasetkit.core.train_options import CHOICES, RANGES
from trainer.option_docs import DOCS, GROUPS

PAGE: Final = Path(__file__).parents[1] / "docs" / "train.md"
BEGIN, END = "<!-- options: written by python -m trainer.options_page -->", "<!-- end of options -->"
_MANY: Final = 10**9


def tables() -> str:
    """Return a table for each group: option, default, range, what it does, when to change it."""
    defaults = {f.name: f.default for f in fields(TrainOptions)}
    parts = []
    for title, rows in GROUPS.items():
        lines = [
            f"### {title}",
            "",
            "| option | default | range | what it does | when to change it |",
            "|---|---|---|---|---|",
        ]
        for name, doc in rows.items():
            default = doc.default or _value(defaults[name])
            lines.append(f"| `{name}` | {default} | {_range(name)} | {doc.what} | {doc.change} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _range(name: str) -> str:
    """Return what values an option takes, as far as a table can say it."""
    if name in CHOICES:
        return ", ".join(f"`{word}`" for word in CHOICES[name])
    if name not in RANGES:
        return ""
    low, high = RANGES[name]
    return f"{_number(low)} to {_number(high)}" if high < _MANY else f"{_number(low)} or more"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def _value(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str):
        return f'`"{default}"`' if default else "none"
    # 5e-05 is how Python writes it, and not how people do.
    return f"{default:f}".rstrip("0") if isinstance(default, float) and 0 < default < 0.001 else str(default)


def page(text: str) -> str:
    """Return a page with its tables as they should be. Raises ValueError for a page without the two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def undocumented() -> list[str]:
    """Return the options that have no row, and the rows that are no option."""
    return sorted({f.name for f in fields(TrainOptions)} ^ set(DOCS))


if __name__ == "__main__":
    write_atomic(PAGE, page(PAGE.read_text(encoding="utf-8")).encode())
    sys.stdout.write(f"{PAGE}\n")
