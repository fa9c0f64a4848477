"""Outputs follow their sources: an output takes the new name of its source, or leaves with it.

- A source that was renamed: its output takes the new name with its caption and mask, and nothing is
  tagged again. Sources that took each other's names swap their outputs.
- A source that is gone: its output goes to the trash, or it would still be trained on.
- A source that gets another format: the old output goes to the trash, and its caption stays for the
  new one. So it does where another verb made the old output, which is superseded.
- An output that a person edited stays, and so does one whose source holds another image now: it is
  rewritten, and its caption is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.files import MASKS, PROJECT
from datasetkit.images.scan import Scan
from datasetkit.outputs.facts import OutputFacts, absolute
from datasetkit.outputs.spec import MASK_RECIPE, OutputSpec
from datasetkit.project.plans import Move
from datasetkit.project.store import Output

# The verbs that make images from images, as the recipes of their outputs begin.
STAGES = ("faces", "resize", "cutout")
# The recipes of what goes along with an output: masks, copied sidecars and reworded captions.
_SIDECARS = (MASK_RECIPE, "carried", "caption")


@dataclass(frozen=True, slots=True)
class RenamedSource:
    """An output that followed its source. new: where it is now; None: in the trash."""

    old: Path
    new: Path | None


@dataclass(frozen=True, slots=True)
class OutputMove:
    """An output that takes another name, or goes to the trash (new: None).

    moves: the output's own and those of its caption and mask. outputs: what the store lists
    afterwards. superseded: another verb made it, and this verb makes a new one.
    """

    old: Path
    new: Path | None
    moves: tuple[Move, ...]
    outputs: tuple[Output, ...]
    superseded: bool = False


def plan_moves(scan: Scan, spec: OutputSpec, facts: OutputFacts) -> tuple[OutputMove, ...]:
    """Decide which outputs move with their sources, and which go to the trash."""
    images = [
        replace(output, path=absolute(output.path), origin=absolute(output.origin))
        for record in spec.wanted(scan.records)
        for output in spec.outputs(record)
        if output.path.parent.name != MASKS
    ]
    wanted = {output.path: output for output in images}
    scanned = {absolute(record.path) for record in scan.records}
    made = _made_before(absolute(scan.folder), absolute(spec.out), spec.verb, facts)
    displaced = _displaced(made, wanted, scanned, facts)
    # Of a source with several outputs the last one.
    by_origin = {output.origin: output.path for output in images}
    taken = {target for _, target in displaced}
    moves: list[OutputMove] = []
    for output, target in displaced:
        replacement = by_origin.get(output.origin)
        caption_target = target
        if target is None and _has_same_name(replacement, output.path) and replacement not in taken:
            caption_target = replacement  # another image in another format has the caption
        moves.append(_move(output, target, caption_target, wanted, facts))
    gone = {move.src for output_move in moves for move in output_move.moves}
    for output in _superseded(absolute(spec.out), set(wanted), spec.verb, facts):
        if output.path not in gone:
            trash = _in_trash(output.path, facts)
            stored = replace(output, path=trash)
            moves.append(
                OutputMove(output.path, None, (Move(output.path, trash),), (stored,), True)
            )
    return tuple(moves)


def _has_same_name(path: Path | None, other: Path) -> bool:
    return path is not None and path.with_suffix("") == other.with_suffix("")


def _made_before(folder: Path, out: Path, verb: str, facts: OutputFacts) -> list[Output]:
    """Return the outputs of this verb in `out` that were made of images of the folder."""
    inside, source, trash = (f"{parent}{os.sep}" for parent in (out, folder, facts.root / PROJECT))
    return [
        stored.output
        for stored in facts.stored.values()
        if stored.output.recipe.startswith(f"{verb}-")
        and str(stored.output.path).startswith(inside)
        and str(stored.output.origin).startswith(source)
        and not str(stored.output.path).startswith(trash)
    ]


def _displaced(
    outputs: Sequence[Output], wanted: Mapping[Path, Output], scanned: set[Path], facts: OutputFacts
) -> list[tuple[Output, Path | None]]:
    """Decide which outputs move away, and where to (None: the trash).

    wanted: the output that belongs at each path. scanned: the sources that can be read.
    """
    in_place = {
        output.path
        for output in outputs
        if output.path in wanted and wanted[output.path].source == output.source
    }
    displaced = [
        output
        for output in outputs
        if output.path not in in_place and facts.exists(output.path) and facts.is_ours(output.path)
    ]
    vacated = {output.path for output in displaced}
    free = _free_paths(wanted, in_place, vacated, facts)
    targets = {output.path: free.pop(output.source, None) for output in displaced}
    taken = set(targets.values())

    def may_stay(output: Output) -> bool:
        is_rewritten = output.path in wanted
        is_unreadable = facts.exists(output.origin) and output.origin not in scanned
        return output.path not in taken and (is_rewritten or is_unreadable)

    return [
        (output, targets[output.path])
        for output in displaced
        if targets[output.path] is not None or not may_stay(output)
    ]


def _free_paths(
    wanted: Mapping[Path, Output], in_place: set[Path], vacated: set[Path], facts: OutputFacts
) -> dict[str, Path]:
    """Return, by image, the first path where its output is missing."""
    free: dict[str, Path] = {}
    for path, output in wanted.items():
        if path not in in_place and (path in vacated or not facts.has(path)):
            free.setdefault(output.source, path)
    return free


def _move(
    output: Output,
    target: Path | None,
    caption_target: Path | None,
    wanted: Mapping[Path, Output],
    facts: OutputFacts,
) -> OutputMove:
    """Plan the move of one output. caption_target: the image that its caption and mask go to; None:
    to the trash with it.
    """
    old, trash = output.path, _in_trash(output.path, facts)
    new = target if target is not None and target.suffix == old.suffix else None
    path = new or trash
    origin = wanted[path].origin if path in wanted else output.origin
    sidecars = _sidecar_moves(old, caption_target or trash, facts)
    stored = [facts.stored.get(move.src) for move in sidecars]
    return OutputMove(
        old,
        new,
        (Move(old, path), *sidecars),
        (
            replace(output, path=path, origin=origin),
            *(
                replace(row.output, path=move.dst)
                for move, row in zip(sidecars, stored, strict=True)
                if row is not None
                and row.output.recipe.startswith(_SIDECARS)
                and facts.is_ours(move.src)
            ),
        ),
    )


def _sidecar_moves(old: Path, new: Path, facts: OutputFacts) -> list[Move]:
    """Return the moves of an output's caption and mask to where those of `new` belong."""
    moves = []
    for path in facts.companions(old):
        folder = new.parent / MASKS if path.parent.name == MASKS else new.parent
        moves.append(Move(path, folder / f"{new.stem}{path.suffix}"))
    return [move for move in moves if move.src != move.dst]


def _superseded(out: Path, wanted: set[Path], verb: str, facts: OutputFacts) -> list[Output]:
    """Return what another verb made in `out` under the names of images that are wanted now: images
    and masks.

    An image of another format would share its caption with the new one; a mask would mask what it
    does not fit.
    """
    inside, stems = f"{out}{os.sep}", {path.with_suffix("") for path in wanted}
    superseded = []
    for kind in STAGES:
        for prefix in (f"{kind}-", f"{MASK_RECIPE} {kind}") if kind != verb else ():
            rows = [s.output for s in facts.stored.values() if s.output.recipe.startswith(prefix)]
            for output in rows:
                path, is_mask = output.path, prefix.startswith(MASK_RECIPE)
                image = path.parent.parent / path.stem if is_mask else path.with_suffix("")
                is_replaced = (
                    image in stems
                    and str(image).startswith(inside)
                    and (is_mask or path not in wanted)
                )
                if is_replaced and facts.exists(path) and facts.is_ours(path):
                    superseded.append(output)
    return superseded


def _in_trash(path: Path, facts: OutputFacts) -> Path:
    return facts.trash / path.relative_to(facts.root)
