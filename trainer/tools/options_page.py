"""Writes the tables of docs/train.md and docs/from-sd-scripts.md from the code's own defaults,
ranges and lists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from datasetkit.core.files import write_atomic
from datasetkit.options.network_args import ARGS
from datasetkit.options.networks import Algo
from datasetkit.options.train import CHOICES, OURS, RANGES, TrainOptions
from trainer.config import DEFAULTS, FIXED, IGNORED, UNSUPPORTED
from trainer.tools.option_docs import DOCS, GROUPS

BEGIN, END = (
    "<!-- written by python -m trainer.tools.options_page -->",
    "<!-- end of what is written -->",
)
_DOCS = Path(__file__).parents[2] / "docs"
_MANY: Final = 10**9
_METHODS: Final[Mapping[Algo, str]] = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr"}
# sd-scripts has other names for these in its two files.
_RENAMED: Final[Mapping[str, str]] = {
    "batch_size": "`train_batch_size`; in a dataset.toml it stands above that of the config.toml",
    "image_dir": "the folder of a subset: `DIR/train/<repeats>_<concept>` or `DIR/reg/...`",
    "num_repeats": "the number at the front of that folder's name",
    "class_tokens": "the concept at its end: the caption of images without one",
    "is_reg": "the folder lies in `reg/`",
    "train_data_dir, reg_data_dir": "`DIR`",
}


def option_tables() -> str:
    """Return a table for each group of options: name, default, range, what it does, when to change
    it.
    """
    parts = []
    for title, rows in GROUPS.items():
        head = [
            f"### {title}",
            "",
            "| option | default | range | what it does | when to change it |",
        ]
        lines = [
            f"| `{name}` | {_default(name)} | {_range(name)} | {doc.what} | {doc.change} |"
            for name, doc in rows.items()
        ]
        parts.append("\n".join([*head, "|---|---|---|---|---|", *lines]))
        if "network_args" in rows:
            parts.append(network_table())
    return "\n\n".join(parts)


def network_table() -> str:
    """Return a table of the network's arguments."""
    said = {
        name: f"{arg.what} ({_METHODS[arg.only]} only)" if arg.only else arg.what
        for name, arg in ARGS.items()
    }
    lines = [f"| `{name}` | {text} |" for name, text in said.items()]
    return "\n".join(
        ["### Network arguments", "", "| argument | what it does |", "|---|---|", *lines]
    )


def key_tables() -> str:
    """Return what becomes of each key of sd-scripts' files."""
    same = sorted(set(_DEFAULTS) - OURS)
    parts = [
        f"**The same name and meaning**: {', '.join(f'`{name}`' for name in same)}.",
        _table("**Another name** in a `dsk.toml` or a laid-out dataset:", "here", _RENAMED),
        _table(
            "**With one value only**; any other is refused:",
            "value",
            {k: ", ".join(f"`{v}`" for v in values) for k, values in FIXED.items()},
        ),
        _table(
            "**Accepted, and not needed**: it is named with its reason when you train.",
            "why",
            IGNORED,
        ),
        _table(
            "**Not to be had**: refused, unless it is off (`false`, 0, empty).",
            "what to do instead",
            UNSUPPORTED,
        ),
        _table(
            "**What a file leaves open** is as in sd-scripts, and not as in a `dsk.toml`:",
            "default",
            {
                k: f"{_value(v)} (`dsk.toml`: {_default(k)})"
                for k, v in DEFAULTS.items()
                if v != _DEFAULTS[k]
            },
        ),
    ]
    return "\n\n".join(parts)


def _table(title: str, column: str, rows: Mapping[str, str]) -> str:
    lines = [
        f"| {', '.join(f'`{n}`' for n in key.split(', '))} | {text} |" for key, text in rows.items()
    ]
    return "\n".join([title, "", f"| key | {column} |", "|---|---|", *lines])


def _range(name: str) -> str:
    """Return what values an option takes, as far as a table can say it."""
    if name in CHOICES:
        return ", ".join(f"`{word}`" for word in CHOICES[name])
    if name not in RANGES:
        return ""
    low, high = RANGES[name]
    return f"{_number(low)} to {_number(high)}" if high < _MANY else f"{_number(low)} or more"


def _default(name: str) -> str:
    """Return an option's default, in words where it has some."""
    return DOCS[name].default or _value(_DEFAULTS[name])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "none"
    if value is None:
        # the range of the buckets; other options without a value have words of their own
        return "by resolution"
    # 5e-05 is how Python writes it, and not how people do.
    return (
        f"{value:.8f}".rstrip("0") if isinstance(value, float) and 0 < value < 0.001 else str(value)
    )


_DEFAULTS: Final[Mapping[str, object]] = {f.name: f.default for f in fields(TrainOptions)}
PAGES: Final[Mapping[Path, Callable[[], str]]] = {
    _DOCS / "train.md": option_tables,
    _DOCS / "from-sd-scripts.md": key_tables,
}


def page(text: str, tables: str) -> str:
    """Return a page with its tables as they should be. Raises ValueError for a page without the two
    marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def undocumented() -> list[str]:
    """Return the options that have no row, and the rows that are no option."""
    return sorted(set(_DEFAULTS) ^ set(DOCS))


if __name__ == "__main__":
    for path, tables in PAGES.items():
        write_atomic(path, page(path.read_text(encoding="utf-8"), tables()).encode())
        sys.stdout.write(f"{path}\n")
