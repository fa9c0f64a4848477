"""Captions and masks of outputs: which are copied, which are reworded, and what they then say.

Everything here is pure. The store lists a caption with two hashes, `<taken> <left>`: the text at
the original when it was last taken over, and the text that dsk left next to the output. They tell
who edited a caption since: a person at the original, a person at the output, or nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.files import MASKS, caption_path, mask_path
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.outputs.facts import CaptionState, OutputFacts, absolute
from datasetkit.outputs.spec import CaptionRewrite, OutputSpec
from datasetkit.project.plans import WriteText
from datasetkit.project.store import Output, caption_hash


@dataclass(frozen=True, slots=True)
class SidecarCopy:
    """A caption or mask that goes along as it is. image: the original that it belongs to."""

    image: Path
    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class CaptionRewriteResult:
    """What was done to captions. changes: the captions whose tags are different now."""

    changes: tuple[CaptionChange, ...] = ()
    failed: tuple[Failed, ...] = ()
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """What captions will say. generated: hashes of the texts that count as written by dsk. outputs:
    of all captions that were read, as the store lists them afterwards.
    """

    writes: tuple[WriteText, ...] = ()
    changes: tuple[CaptionChange, ...] = ()
    generated: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    failed: tuple[Failed, ...] = ()


# ---- copied as they are
# ----------------------------------------------------------------------------------------------


def copies(
    spec: OutputSpec, records: Sequence[ImageRecord], facts: OutputFacts
) -> Iterator[SidecarCopy]:
    """Yield the captions and masks that are to be copied to the outputs: all but the captions that
    are reworded and the masks that are made.
    """
    if spec.staged:
        return
    made = {path for files in spec.targets.values() for path in files}
    reworded = {rewrite.caption for _, rewrite in spec.rewrites(records)}
    for n in range(max((len(files) for files in spec.targets.values()), default=0)):
        for record in _by_folder(spec.wanted(records)):
            images = spec.images(record)
            for copy in sidecar_pairs(record, images[n], facts) if n < len(images) else ():
                is_taken = copy.target in made or copy.target in reworded
                if not is_taken and is_due(copy, facts):
                    yield copy


def _by_folder(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    folders: dict[Path, list[ImageRecord]] = {}
    for record in records:
        folders.setdefault(record.path.parent, []).append(record)
    for inside in folders.values():
        yield from inside


def sidecar_pairs(record: ImageRecord, target: Path, facts: OutputFacts) -> Iterator[SidecarCopy]:
    """Yield an image's caption and mask, and where they belong next to an output."""
    for path in facts.companions(record.path):
        if facts.files[path].is_link:
            continue
        if path.parent.name == MASKS:
            if path.suffix.lower() == ".png":
                source = record.path.parent / MASKS / path.name
                yield SidecarCopy(record.path, source, mask_path(target))
        elif path.name == caption_path(record.path).name:
            yield SidecarCopy(record.path, caption_path(record.path), caption_path(target))


def is_due(copy: SidecarCopy, facts: OutputFacts) -> bool:
    """Tell whether a sidecar is to be copied: its target does not exist yet, or is the copy that a
    killed run made and could not record. One that was edited since is kept.
    """
    return not facts.has(copy.target) or is_unrecorded(copy, facts)


def is_unrecorded(copy: SidecarCopy, facts: OutputFacts) -> bool:
    """Tell whether a killed run made this copy, and nobody touched it since."""
    target, source = absolute(copy.target), absolute(copy.source)
    return (
        facts.is_pending(target)
        and target in facts.digests
        and facts.digests[target] == facts.digests.get(source)
    )


# ---- reworded
# ----------------------------------------------------------------------------------------------


def pending_caption(rewrite: CaptionRewrite, verb: str, facts: OutputFacts) -> Output | None:
    """Return a caption as the store lists it before it is reworded; None where there is none.

    With it in the store, the next run rewords what a kill cut short.
    """
    if not (facts.has(rewrite.caption) or facts.has(caption_path(rewrite.origin))):
        return None
    return _output(rewrite, verb, facts.source(rewrite.caption))


def edited_at_origin(
    rewrites: Iterable[CaptionRewrite], facts: OutputFacts
) -> list[CaptionRewrite]:
    """Return the captions that a person wrote or edited at the original since they were last
    taken from there; two images of one stem may share one.

    Only where the caption of the output is as dsk left it: what was edited there is kept.
    """
    edited: list[CaptionRewrite] = []
    for rewrite in rewrites:
        if not facts.has(rewrite.caption):
            continue
        origin, output = (
            facts.captions.get(absolute(path), CaptionState(None))
            for path in (caption_path(rewrite.origin), rewrite.caption)
        )
        if origin.caption is None or origin.caption.is_empty or origin.generated:
            continue
        if output.caption is None:
            continue
        taken, _, written = (facts.source(rewrite.caption) or "").partition(" ")
        is_as_left = caption_hash(output.caption) == written or output.generated
        is_news = caption_hash(origin.caption) != taken
        if is_as_left and is_news and _changed(rewrite, origin.caption) != output.caption:
            edited.append(rewrite)
    return edited


def plan_captions(
    rewrites: Sequence[CaptionRewrite],
    edited: Sequence[CaptionRewrite],
    verb: str,
    captions: Mapping[Path, CaptionState],
    facts: OutputFacts,
) -> CaptionPlan:
    """Decide what captions say: each follows the text at the output, else the one at the original.

    edited: those that are taken from the original once more, see `edited_at_origin`. A caption that
    dsk wrote counts as written by dsk afterwards too. One that would be left empty is kept.
    """
    writes: list[WriteText] = []
    changes: list[CaptionChange] = []
    generated: list[str] = []
    failed: list[Failed] = []
    again = {rewrite.caption for rewrite in edited}
    every = (*(rewrite for rewrite in rewrites if rewrite.caption not in again), *edited)
    sources = {rewrite.caption: facts.source(rewrite.caption) for rewrite in every}
    for rewrite in every:
        output = captions.get(absolute(rewrite.caption), CaptionState(None))
        from_origin = output.caption is None or rewrite.caption in again
        at_origin = captions.get(absolute(caption_path(rewrite.origin)), CaptionState(None))
        state = at_origin if from_origin else output
        if problem := output.problem or state.problem:
            failed.append(Failed(rewrite.image, problem.message, problem.hint))
            continue
        before = state.caption
        if before is None or before.is_empty:
            continue
        after, shown = _changed(rewrite, before), output.caption or before
        if after != shown:
            changes.append(CaptionChange(rewrite.image, shown, after))
        if after != output.caption:
            writes.append(WriteText(rewrite.caption, file_text(after), output.data))
            generated += [caption_hash(after)] if state.generated else []
            if from_origin:
                sources[rewrite.caption] = taken_over(before, after)
            else:
                sources[rewrite.caption] = _reworded(sources[rewrite.caption], before, after)
    outputs = tuple(_output(rewrite, verb, sources[rewrite.caption]) for rewrite in every)
    return CaptionPlan(tuple(writes), tuple(changes), tuple(generated), outputs, tuple(failed))


def taken_over(origin: Caption, left: Caption) -> str:
    """Return what the store keeps of a caption that is taken from the original: its text there,
    and what it became.
    """
    return f"{caption_hash(origin)} {caption_hash(left)}"


def _reworded(source: str | None, before: Caption, after: Caption) -> str:
    """Return what the store keeps of a caption that is reworded at the output: the new text
    counts as left by dsk if the one before it did.
    """
    taken, _, left = (source or "").partition(" ")
    return f"{taken} {caption_hash(after)}" if caption_hash(before) == left else source or ""


def _changed(rewrite: CaptionRewrite, caption: Caption) -> Caption:
    after = rewrite.change(caption)
    return caption if after.is_empty else after


def _output(rewrite: CaptionRewrite, verb: str, source: str | None) -> Output:
    return Output(rewrite.caption, source or "", f"caption {verb}", rewrite.origin)
