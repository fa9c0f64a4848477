"""What the commands of `dsk lora` print for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from datasetkit.cli.console import counted, say, table, warn
from datasetkit.cli.show import first, from_here, history_hint, size_of
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.lora_check import LoraFilesCheckResult
    from datasetkit.verbs.lora_convert import LoraConvertResult
    from datasetkit.verbs.lora_extract import LoraExtractResult
    from datasetkit.verbs.lora_info import LoraInfoResult
    from datasetkit.verbs.lora_merge import LoraMergeResult
    from datasetkit.verbs.lora_resize import LoraResizeResult
    from datasetkit.verbs.shared.result_types import LayerGroup, LoraDescription

_LONGEST = 200  # characters of a value of the header
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def info(result: LoraInfoResult) -> None:
    for n, file in enumerate(result.files):
        if n:
            say()
        say(from_here(file.path), "bold")
        rows = _facts(file)
        width = max(len(title) for title, _ in rows)
        for title, value in rows:
            say(f"  {title:<{width}}  {value}")


def _facts(file: LoraDescription) -> list[tuple[str, str]]:
    rows = [
        ("family", file.family),
        ("keys", file.format),
        ("size", f"{size_of(file.size)}, {file.parameters:,} parameters"),
        ("layers", f"{file.layers}: {_list(file.parts)}"),
        ("method", _list(file.methods) + (f"; DoRA on {file.dora}" if file.dora else "")),
        ("rank", _ranks(file.ranks)),
        ("alpha / rank", _list(file.alphas)),
        ("precision", _precisions(file.precisions)),
    ]
    if file.other_keys:
        rows.append(("other keys", str(file.other_keys)))
    rows += [(title, _shortened(value)) for title, value in file.training.items() if value.strip()]
    hash_text = {
        "true": f"{file.model_hash[:12]} (as in the header)",
        "stale": f"{file.model_hash[:12]}; the header has another one: the tensors were changed",
        "absent": f"{file.model_hash[:12]} (not in the header)",
    }[file.hash_state]
    rows.append(("hash", f"{hash_text}; legacy {file.legacy_hash}"))
    if file.tags:
        rows.append(("tags", ", ".join(f"{tag} {n:,}" for tag, n in file.tags.items())))
    return rows


def _list(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _ranks(ranks: Mapping[int, int]) -> str:
    if len(ranks) == 1:
        return str(next(iter(ranks)) or "none")
    return ", ".join(f"{rank or 'none'} ({counted(n, 'layer')})" for rank, n in ranks.items())


def _precisions(precisions: Mapping[str, int]) -> str:
    total = sum(precisions.values())
    if len(precisions) == 1:
        return next(iter(precisions))
    return ", ".join(f"{name} {n / total:.1%}" for name, n in precisions.items())


def _shortened(value: str) -> str:
    try:  # a list of the header, without its quotes
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value
    if isinstance(parsed, dict):
        value = ", ".join(f"{k}={v}" for k, v in parsed.items())
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def check(result: LoraFilesCheckResult, dry_run: bool) -> None:
    for n, file in enumerate(result.files):
        if n:
            say()
        ranks = ", ".join(map(str, _ends(file.ranks)))
        rank = f", rank {ranks}" if ranks else ""
        say(
            f"{from_here(file.path)}: {file.family}, {counted(file.layers, 'layer')}{rank}, "
            f"{file.precision}",
            "bold",
        )
        rows = [
            (Text(f.level, _STYLES[f.level]), f.check, display(f.message)) for f in file.findings
        ]
        table("", ["level", "check", "finding"], rows)
    errors = sum(f.level == "error" for file in result.files for f in file.findings)
    warnings = sum(f.level == "warning" for file in result.files for f in file.findings)
    say(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")
    if result.plot is not None:
        state = _wrote(result.plot, dry_run)
        if not result.changed:
            state = f"{from_here(result.plot)} unchanged"
        say(f"{state}{history_hint(result.entry, result.plot)}")


def _wrote(path: Path, dry_run: bool) -> str:
    return f"{'would write' if dry_run else 'wrote'} {from_here(path)}"


def _ends(ranks: Sequence[int]) -> Sequence[str | int]:
    return ranks if len(ranks) < 4 else [f"{ranks[0]} to {ranks[-1]}"]


def resize(result: LoraResizeResult, dry_run: bool) -> None:
    _groups(result.groups)
    if result.zero:
        names = first([display(key) for key in result.zero])
        say(f"{counted(len(result.zero), 'layer')} without effect: {names}")
    for text in result.warnings:
        warn(text)
    say(
        f"{_wrote(result.out, dry_run)}: {size_of(result.size_before)} -> {size_of(result.size)}, "
        f"{result.kept:.2%} of the norm kept{history_hint(result.entry, result.out)}"
    )


def _groups(groups: Sequence[LayerGroup]) -> None:
    rows = [
        (g.name, g.layers, _spread(g.before), _spread(g.after), f"{g.kept:.2%}") for g in groups
    ]
    columns = ["part", "layers", "rank", "new rank", "norm kept"]
    table("", columns, rows, right=columns[1:])


def _spread(ranks: tuple[int, float, int]) -> str:
    least, mean, most = ranks
    return str(least) if least == most else f"{least} to {most}, mean {mean:.1f}"


def convert(result: LoraConvertResult, dry_run: bool) -> None:
    layers = counted(result.layers, "layer")
    say(
        f"{_wrote(result.out, dry_run)}: {result.family}, {layers}, {result.source_format} -> "
        f"{result.format}{history_hint(result.entry, result.out)}"
    )
    if result.alphas_added:
        number = counted(result.alphas_added, "layer")
        say(f"- {number} without alpha: it is the rank, and now in the file")


def merge(result: LoraMergeResult, dry_run: bool) -> None:
    names = " + ".join(f"{display(path.stem)} x {weight:g}" for path, weight in result.sources)
    hint = history_hint(result.entry, result.out)
    what = f"{counted(result.layers, 'layer')}, {size_of(result.size)}"
    say(f"{_wrote(result.out, dry_run)}: {names}, {result.how}, {what}{hint}")
    if result.how == "concat":
        ranks = " + ".join(map(str, result.ranks))
        line = f"- rank {ranks} = {result.rank}" if len(result.ranks) > 1 else f"- rank {ranks}"
        if result.at_rank < result.rank:
            line += (
                f"; --rank {result.at_rank} keeps {result.kept_at:.1%} of the norm, about "
                f"{size_of(result.size_at)}"
            )
        say(line)
    elif result.rank:
        say(f"- rank {result.rank} keeps {result.kept:.1%} of the norm of the {result.how} merge")
    else:
        say(f"- {counted(result.changed, 'tensor')} changed, all others are copied")
    if result.lost is not None:
        say(f"- rounding: {result.lost:.2%} of the change")
    for text in result.warnings:
        warn(text)


def extract(result: LoraExtractResult, dry_run: bool) -> None:
    _groups(result.groups)
    if result.same:
        say(f"{counted(result.same, 'layer')} without a difference left out")
    for text in result.warnings:
        warn(text)
    say(
        f"{_wrote(result.out, dry_run)}: {result.family}, {counted(result.layers, 'layer')}, "
        f"{size_of(result.size)}, {result.kept:.2%} of the norm kept"
        f"{history_hint(result.entry, result.out)}"
    )
