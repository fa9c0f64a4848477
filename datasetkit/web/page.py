"""The page: everything that one run of `dsk review` holds together, opened and closed as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.core.files import PROJECT
from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.editing import Editor
from datasetkit.verbs.review.near_duplicates import NearDuplicates
from datasetkit.verbs.review.operations import OperationContext
from datasetkit.verbs.review.tables import TagTables
from datasetkit.verbs.review.thumbnails import Thumbnails
from datasetkit.verbs.review.watch import DiskWatcher

THUMBS = "thumbs"


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """One dataset under review, and those who work on it."""

    dataset: ReviewDataset
    bench: OperationContext
    editor: Editor
    tables: TagTables
    thumbnails: Thumbnails
    twins: NearDuplicates
    watch: DiskWatcher


def load(
    folder: Path, options: ReviewOptions, context: RunContext
) -> tuple[Editor, dict[str, bytes]]:
    """Load a dataset for editing, and what is remembered of how its images look; nothing works
    on behind it.

    Raises DatasetError without images, Locked where another run works in the project.
    """
    dataset = ReviewDataset(folder, recursive=options.recursive, max_pixels=options.max_pixels)
    with open_project(
        dataset.folder,
        RunContext(dry_run=options.read_only, wait=context.wait, reporter=context.reporter),
    ) as project:
        dataset.load(project.store)
        triggers = [one.trigger for one in dataset.sets]
        bench = OperationContext(
            vocabulary.load(), dataset.scores, dataset.options, triggers, dataset.generated
        )
        editor = Editor(dataset, bench, read_only=options.read_only)
        editor.look_back(project)
        return editor, project.store.fingerprints()


@contextmanager
def opened(folder: Path, options: ReviewOptions, context: RunContext) -> Iterator[ReviewPage]:
    """Load a dataset and watch its folders; end what works in the background in the end. Raises as
    `load`.
    """
    editor, known = load(folder, options, context)
    dataset, bench = editor.dataset, editor.bench

    def open_store() -> AbstractContextManager[Store]:
        return Store.open_copy(dataset.root) if options.read_only else Store.open(dataset.root)

    thumbs = None if options.read_only else dataset.root / PROJECT / THUMBS
    thumbnails = Thumbnails(thumbs, max_pixels=options.max_pixels)
    twins = NearDuplicates(dataset, thumbnails, None if options.read_only else open_store)
    page = ReviewPage(
        dataset,
        bench,
        editor,
        TagTables(dataset, bench.vocabulary),
        thumbnails,
        twins,
        DiskWatcher(dataset, editor, open_store),
    )
    page.twins.start(known)
    page.watch.start()
    try:
        yield page
    finally:
        page.watch.stop()
        page.thumbnails.stop()
        page.twins.keep()
