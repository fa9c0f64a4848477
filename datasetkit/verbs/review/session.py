"""The review session: everything that one run of `dsk review` holds, opened and closed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.core.files import PROJECT
from datasetkit.images.near_duplicates import KEPT
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
from datasetkit.verbs.shared.kept_duplicates import keeps_all
from datasetkit.verbs.shared.recovery import recover_dataset
from datasetkit.verbs.shared.tag_meanings import TagMeanings

THUMBNAILS = "thumbs"


@dataclass(frozen=True, slots=True)
class ReviewSession:
    """One dataset under review."""

    dataset: ReviewDataset
    context: OperationContext
    editor: Editor
    tables: TagTables
    thumbnails: Thumbnails
    near_duplicates: NearDuplicates
    watcher: DiskWatcher


def load_editor(
    folder: Path, options: ReviewOptions, context: RunContext
) -> tuple[Editor, dict[str, bytes]]:
    """Load a dataset without background threads; return its editor and the stored fingerprints.

    Raises DatasetError without images, Locked if another command works in the project.
    """
    context = replace(context, dry_run=options.read_only)
    recover_dataset(folder, context, recursive=options.recursive)
    dataset = ReviewDataset(folder, recursive=options.recursive, max_pixels=options.max_pixels)
    with open_project(dataset.folder, context) as project:
        dataset.load(project.store, to_write=not options.read_only)
        operation_context = OperationContext(
            vocabulary.load(),
            dataset.scores,
            dataset.options,
            dataset.trigger_of,
            dataset.generated,
        )
        editor = Editor(dataset, operation_context, read_only=options.read_only)
        editor.refresh_undo(project)
        return editor, project.store.fingerprints()


@contextmanager
def open_session(
    folder: Path, options: ReviewOptions, context: RunContext
) -> Iterator[ReviewSession]:
    """Load a dataset and start its background threads; stop them at the end. Raises as
    `load_editor`.
    """
    editor, fingerprints = load_editor(folder, options, context)
    dataset, root = editor.dataset, editor.dataset.root

    def open_store() -> AbstractContextManager[Store]:
        dataset.require_folder()
        return Store.open_copy(root) if options.read_only else Store.open(root)

    thumbnails = Thumbnails(
        None if options.read_only else root / PROJECT / THUMBNAILS, max_pixels=options.max_pixels
    )
    session = ReviewSession(
        dataset,
        editor.context,
        editor,
        TagTables(dataset, editor.context.vocabulary, TagMeanings(root, options)),
        thumbnails,
        NearDuplicates(dataset, thumbnails, None if options.read_only else open_store),
        DiskWatcher(dataset, editor, open_store),
    )
    with open_store() as store:
        kept = store.measurements(KEPT)
    session.near_duplicates.start(fingerprints, kept, keeps_all=keeps_all(folder))
    session.watcher.start()
    try:
        yield session
    finally:
        session.watcher.stop()
        session.thumbnails.stop()
        session.near_duplicates.save()
