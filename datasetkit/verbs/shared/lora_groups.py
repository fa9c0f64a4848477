"""Layers of a LoRA in a few rows: their ranks, and the share of the norm that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TypeVar

from trainer.lora_files.new_lora import NewLayer, NewNorm
from trainer.lora_files.resize import ResizedLayer

Report = TypeVar("Report")
Written = TypeVar("Written", bound=NewLayer | NewNorm)


def reported(results: Iterable[tuple[Written, Report]], report: list[Report]) -> Iterator[Written]:
    """Yield the new layers, and add what is reported of each to a list."""
    for layer, row in results:
        report.append(row)
        yield layer


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers of one kind: their ranks before and after (least, mean, greatest), and the share of
    the norm that is kept.
    """

    name: str
    layers: int
    before: tuple[int, float, int]
    after: tuple[int, float, int]
    kept: float


def groups_of(report: Sequence[ResizedLayer]) -> tuple[LayerGroup, ...]:
    """Return a row for each group of layers."""
    names = dict.fromkeys(layer.group for layer in report)
    members = {name: [layer for layer in report if layer.group == name] for name in names}
    return tuple(
        LayerGroup(
            name,
            len(layers),
            _spread([layer.rank_before for layer in layers]),
            _spread([layer.rank for layer in layers]),
            share_kept(layers),
        )
        for name, layers in members.items()
    )


def _spread(ranks: Sequence[int]) -> tuple[int, float, int]:
    return min(ranks), mean(ranks), max(ranks)


def share_kept(layers: Sequence[ResizedLayer]) -> float:
    """Return the share of the norm of all changes together that is kept."""
    whole = sum(layer.norm**2 for layer in layers)
    kept = sum((layer.norm * layer.kept) ** 2 for layer in layers)
    return float((kept / whole) ** 0.5) if whole else 1.0
