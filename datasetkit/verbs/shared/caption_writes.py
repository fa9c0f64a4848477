"""Read the images whose captions a verb writes, and write what it decided over those texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from datasetkit.captions.caption import file_text, read_caption_data
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.errors import DskError
from datasetkit.core.files import caption_path, require_writable, sweep
from datasetkit.core.packed import PackedList
from datasetkit.core.records import Caption, Done, Failed, ImageRecord, Outcome
from datasetkit.images.listing import Listing, list_images
from datasetkit.images.scan import Scan, scan, with_caption
from datasetkit.options.scan import ScanOptions
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.kept_edits import keep_edits, kept_edit
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import Project, RunContext
from datasetkit.project.store import caption_hash

# From images with their present captions to what these become: an outcome for each.
Decide = Callable[[Sequence[ImageRecord]], Sequence[Outcome[Caption]]]


@dataclass(frozen=True, slots=True)
class WrittenCaptions:
    """The final outcomes, the captions that changed, and the number in the history."""

    outcomes: Sequence[Outcome[Caption]]
    changes: Sequence[CaptionChange]
    entry: int | None

    @property
    def failed(self) -> tuple[Failed, ...]:
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Failed))


def current_listing(
    folder: Path, listing: Listing, options: ScanOptions, context: RunContext
) -> Listing:
    """Return the listing of a folder; after waiting for another run, which may have renamed images,
    a new one.
    """
    if not context.wait:
        return listing
    return list_images(folder, recursive=options.recursive, follow_links=options.follow_links)


def scan_to_write(folder: Path, listing: Listing, project: Project, options: ScanOptions) -> Scan:
    """Scan the images that a model gives captions, with those that they have. Raises StorageError,
    before the model runs, for a folder that cannot be written.
    """
    context = project.context
    listing = current_listing(folder, listing, options, context)
    if not context.dry_run:
        for image_folder in {folder, *(path.parent for path in listing.images)}:
            require_writable(image_folder)
            sweep(image_folder)
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        any_text=True,
        listing=listing,
        reporter=context.reporter,
    )


def write_captions(
    project: Project,
    outcomes: Sequence[Outcome[Caption]],
    verb: str,
    title: str,
    *,
    decide: Decide | None,
    is_generated: Callable[[Done[Caption]], bool] = lambda _: False,
    also_generated: Callable[[Done[Caption]], Iterable[Caption]] = lambda _: (),
    triggers: Callable[[Iterable[tuple[Path, Caption]]], Mapping[Path, Sequence[str]]] = (
        lambda _: {}
    ),
) -> WrittenCaptions:
    """Write the decided captions that differ from the present ones, as one plan.

    A caption that was saved since it was read is decided again from its new text; if it changes
    once more, or without `decide`, it is kept and fails. is_generated: whether dsk wrote all of a
    caption. also_generated: parts of it that dsk wrote, as captions. triggers: the triggers to
    store once these captions are written, from (image, caption) each in the order of the outcomes.
    """
    # The outcomes that a saved caption replaced, by image; there may be a million others.
    replaced: dict[Path, Outcome[Caption]] = {}

    def current() -> Iterator[Outcome[Caption]]:
        return (replaced.get(_path(o), o) for o in outcomes) if replaced else iter(outcomes)

    def done() -> Iterator[Done[Caption]]:
        return (outcome for outcome in current() if isinstance(outcome, Done))

    def generated() -> Iterator[str]:
        for outcome in done():
            if is_generated(outcome):
                yield caption_hash(outcome.value)
            yield from map(caption_hash, also_generated(outcome))

    def attempt(kept: Collection[Path], changed: Collection[Path]) -> int | None:
        images = _images_of({*kept, *changed}, map(_path, outcomes))
        for path in kept:
            replaced[images[path]] = kept_edit(images[path])
        if decide is not None and changed:
            saved = {images[path] for path in changed}
            again = [o.record for o in done() if o.record.path in saved]
            replaced.update((_path(o), o) for o in decide_current(again, decide))
        plan = Plan.of(
            WriteText(caption_path(o.record.path), file_text(o.value), o.record.caption_data)
            for o in done()
            if o.record.caption != o.value
        )
        stored = triggers((o.record.path, o.value) for o in done())
        return project.apply(plan, verb, title, generated=generated(), triggers=stored)

    entry, kept = keep_edits(project, attempt, again=decide is not None)
    for image in _images_of(kept, map(_path, outcomes)).values():
        replaced[image] = kept_edit(image)
    changes = PackedList(
        CaptionChange(o.record.path, o.record.caption, o.value)
        for o in done()
        if o.record.caption != o.value
    )
    return WrittenCaptions(PackedList(current()) if replaced else outcomes, changes, entry)


def with_failed(
    outcomes: Sequence[Outcome[Caption]], failed: Sequence[Failed]
) -> Sequence[Outcome[Caption]]:
    """Return outcomes with those of images that could not be read."""
    return PackedList(chain(outcomes, failed)) if failed else outcomes


def _images_of(captions: Collection[Path], images: Iterable[Path]) -> dict[Path, Path]:
    """Return the image of each of some captions, of those that are of one of the images."""
    if not captions:  # nearly always
        return {}
    return {path: image for image in images if (path := caption_path(image)) in captions}


def _path(outcome: Outcome[Caption]) -> Path:
    return outcome.path if isinstance(outcome, Failed) else outcome.record.path


def decide_current(
    records: Iterable[ImageRecord], decide: Decide, *, any_text: bool = False
) -> Sequence[Outcome[Caption]]:
    """Decide captions from what their files hold now: an outcome for each record, in order.
    any_text: also from one that is not UTF-8.
    """
    current = PackedList(with_current_caption(record, any_text=any_text) for record in records)
    decided = iter(decide(PackedList(r for r in current if not isinstance(r, Failed))))
    return PackedList(r if isinstance(r, Failed) else next(decided) for r in current)


def with_current_caption(record: ImageRecord, *, any_text: bool = False) -> ImageRecord | Failed:
    """Read the caption of an image again. any_text: also one that is not UTF-8."""
    try:
        syntax = syntax_of(record.path.parent)
        return with_caption(record, read_caption_data(record.path), syntax, any_text=any_text)
    except DskError as error:
        return Failed(record.path, error.message, error.hint)
