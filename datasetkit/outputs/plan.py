"""The plan of outputs: what is kept, made, moved, put into the trash, copied and reworded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasetkit.core.files import mask_path
from datasetkit.core.records import Failed, ImageRecord, LeftOut
from datasetkit.images.scan import Scan
from datasetkit.outputs import sidecars
from datasetkit.outputs.facts import OutputFacts, absolute
from datasetkit.outputs.renamed_sources import OutputMove, plan_moves
from datasetkit.outputs.sidecars import SidecarCopy
from datasetkit.outputs.spec import CaptionRewrite, OutputSpec
from datasetkit.project.store import Output


@dataclass(frozen=True, slots=True)
class Adoption:
    """An image with output files that the store does not list. existing: where each of its output
    files is before the moves, None if there is none.
    """

    record: ImageRecord
    existing: tuple[Path | None, ...]


@dataclass(frozen=True, slots=True)
class PlannedRewrite:
    """A caption that follows its image. image: the original. is_pending: it is reworded even if the
    image is not made now, since an earlier run was killed before it got to this caption.
    """

    image: Path
    rewrite: CaptionRewrite
    is_pending: bool


@dataclass(frozen=True, slots=True)
class Fallback:
    """The copy of an image for which the stage fails. is_kept: an earlier run made it. copies: its
    caption and mask. settled: what the store lists of masks that are kept.
    """

    output: Output
    is_kept: bool
    copies: tuple[SidecarCopy, ...]
    settled: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What `produce` does. title: of the journal entries. facts: as they are after the moves.

    keep, make: the images whose outputs are up to date, and those whose outputs are made. adopt:
    those with unknown output files, which must match the stage's output byte for byte. moves:
    outputs that take another name or go to the trash. pending: captions that the store lists before
    the work, see `sidecars.pending_caption`. copies: captions and masks that go along with images
    that do not fail. rewrites, edited: captions that change. fallbacks: by image.
    """

    spec: OutputSpec
    title: str
    facts: OutputFacts
    keep: tuple[ImageRecord, ...] = ()
    make: tuple[ImageRecord, ...] = ()
    adopt: tuple[Adoption, ...] = ()
    moves: tuple[OutputMove, ...] = ()
    pending: tuple[Output, ...] = ()
    copies: tuple[SidecarCopy, ...] = ()
    rewrites: tuple[PlannedRewrite, ...] = ()
    edited: tuple[CaptionRewrite, ...] = ()
    fallbacks: Mapping[Path, Fallback] = field(default_factory=dict)
    failed: tuple[Failed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    wanted: tuple[ImageRecord, ...] = ()

    @property
    def move(self) -> tuple[OutputMove, ...]:
        return tuple(move for move in self.moves if move.new is not None)

    @property
    def trash(self) -> tuple[OutputMove, ...]:
        return tuple(move for move in self.moves if move.new is None)


# The order in which things are decided, and done:
# 1. Moves come first: all else is decided as if they were done (`OutputFacts.after`), so that a
#    renamed source keeps its output, its caption and its mask.
# 2. An output is current if source, recipe, size and time are those of the store. A file that the
#    store does not list is a person's, until `produce` has shown that the stage makes just that.
# 3. Captions edited at the original are found before the images are made, while the hashes in the
#    store still tell whose edit it was; which captions are reworded depends on which images fail.
# 4. The store lists files as pending before they are written: what a kill leaves is dsk's own.
def plan_outputs(scan: Scan, spec: OutputSpec, facts: OutputFacts) -> OutputPlan:
    """Decide what happens to the outputs of a scanned folder; nothing is read or written."""
    moves = plan_moves(scan, spec, facts) if not spec.staged else ()
    file_moves = [move for output_move in moves for move in output_move.moves]
    renamed = {move.dst: move.src for move in file_moves}
    facts = facts.after(
        file_moves, (output for output_move in moves for output in output_move.outputs)
    )
    records = spec.wanted(scan.records)
    current = _current(records, spec, spec.recipe, facts)
    kept = _current(records, spec, spec.fallback, facts) if spec.fallback else set()
    outdated = [record for record in records if record.path not in current]
    adopt = _adoptions(outdated, renamed, spec, facts)
    adopted = {a.record.path for a in adopt if facts.has(spec.targets[a.record.path][0])}
    pending, rewrites = _rewrites(records, current | kept, spec, facts)
    make = [record for record in outdated if record.path not in adopted]
    made = {record.path for record in make}
    return OutputPlan(
        spec,
        scan.folder.name,
        facts,
        keep=tuple(record for record in records if record.path not in made),
        make=tuple(make),
        adopt=adopt,
        moves=moves,
        pending=pending,
        copies=tuple(sidecars.copies(spec, records, facts)),
        rewrites=rewrites,
        edited=() if spec.staged else _edited(records, spec, facts),
        fallbacks=_fallbacks(make, kept, spec, facts.with_pending(pending)),
        failed=scan.failed,
        left_out=scan.left_out,
        wanted=tuple(records),
    )


def _current(
    records: Iterable[ImageRecord], spec: OutputSpec, recipe: str, facts: OutputFacts
) -> set[Path]:
    """Return the images whose first file was made by a recipe and is up to date."""
    return {
        record.path
        for record in records
        if facts.is_current(spec.targets[record.path][0], record.id, recipe)
    }


def _rewrites(
    records: Sequence[ImageRecord], done: set[Path], spec: OutputSpec, facts: OutputFacts
) -> tuple[tuple[Output, ...], tuple[PlannedRewrite, ...]]:
    """Return the captions that are pending, and all that follow their images. done: the images
    whose outputs are there.
    """
    rewrites = list(spec.rewrites(records))
    pending = {
        path: output
        for path, rewrite in rewrites
        if path not in done
        and (output := sidecars.pending_caption(rewrite, spec.verb, facts)) is not None
    }
    planned = [
        PlannedRewrite(path, rewrite, path in pending or facts.is_pending(rewrite.caption))
        for path, rewrite in rewrites
    ]
    return tuple(pending.values()), tuple(planned)


def _edited(
    records: Sequence[ImageRecord], spec: OutputSpec, facts: OutputFacts
) -> tuple[CaptionRewrite, ...]:
    rewrites = [rewrite for _, rewrite in spec.rewrites(records)]
    rewrites += spec.unchanged_captions(records)
    return tuple(sidecars.edited_at_origin(rewrites, facts))


def _adoptions(
    records: Iterable[ImageRecord],
    renamed: Mapping[Path, Path],
    spec: OutputSpec,
    facts: OutputFacts,
) -> tuple[Adoption, ...]:
    """Return the images with output files that dsk does not know as its own. renamed: where each
    file that moves comes from.
    """
    adoptions = []
    for record in records:
        files = spec.targets[record.path]
        if any(facts.has(path) and not facts.is_ours(path) for path in files):
            existing = (
                renamed.get(absolute(path), path) if facts.has(path) else None for path in files
            )
            adoptions.append(Adoption(record, tuple(existing)))
    return tuple(adoptions)


def _fallbacks(
    records: Iterable[ImageRecord], kept: set[Path], spec: OutputSpec, facts: OutputFacts
) -> dict[Path, Fallback]:
    if not spec.fallback:
        return {}
    return {r.path: _fallback(r, r.path in kept, spec, facts) for r in records}


def _fallback(record: ImageRecord, is_kept: bool, spec: OutputSpec, facts: OutputFacts) -> Fallback:
    target = spec.targets[record.path][0]
    mask = mask_path(target)
    # A mask made from the image is discarded together with the cut-out that the copy replaces; one
    # that was copied along with a copy that is kept, is kept too.
    listed = facts.stored.get(absolute(mask))
    settled = (
        (replace(listed.output, path=mask),)
        if is_kept and listed is not None and not listed.is_pending and facts.is_ours(mask)
        else ()
    )
    copies = tuple(
        copy
        for copy in sidecars.sidecar_pairs(record, target, facts)
        if sidecars.is_due(copy, facts) or (copy.target == mask and not is_kept)
    )
    output = Output(target, record.id, spec.fallback, record.path)
    return Fallback(output, is_kept, copies, settled)
