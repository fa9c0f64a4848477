"""Editing from the review page: an operation becomes a plan, the plan is written and journaled, and
undo and redo use the same journal.

No caption is overwritten that differs from what the page has loaded. Every edit is checked twice
before it is written: `_require_seen` compares versions (another tab may have edited meanwhile), and
`_rewrites` compares the file on disk with memory (another program may have).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from datasetkit.captions import translations
from datasetkit.captions.caption import file_text, normal_form
from datasetkit.captions.encodings import decode_utf8
from datasetkit.captions.invisible import without_invisible
from datasetkit.core.errors import DskError, FileChanged, InputError, PlanConflict
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    MAX_CAPTION_BYTES,
    PROJECT,
    caption_path,
    companions,
    read_regular,
)
from datasetkit.core.records import Caption
from datasetkit.project.file_ops import JournalOperation
from datasetkit.project.journal import JournalEntry
from datasetkit.project.plans import FileOp, Move, Plan, WriteText
from datasetkit.project.session import Project, RunContext, open_project
from datasetkit.verbs.review import operations
from datasetkit.verbs.review.dataset import ReviewDataset, Scope, require_present
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.operations import OPERATIONS, EditPlan, OperationContext
from datasetkit.verbs.review.progress import EditProgress
from datasetkit.verbs.shared.triggers import triggers_to_store

# The page's edits have this verb in the history, and the page undoes no other verb.
VERB = "review"
EXCLUDED = "excluded"
# How many differences an EditConflict carries.
_MAX_DIFFERENCES = 50


@dataclass(frozen=True, slots=True)
class CaptionDifference:
    """A caption that is not what the page expected. expected, current: None without a caption."""

    id: int
    name: str
    expected: Caption | None
    current: Caption | None


class EditConflict(PlanConflict):
    """Captions have changed since the page loaded them; nothing was written."""

    def __init__(
        self,
        differences: Sequence[CaptionDifference],
        hint: str = "look at the differences, then try again",
    ) -> None:
        what = (
            "a caption has changed since the page loaded it"
            if len(differences) == 1
            else f"{len(differences):,} captions have changed since the page loaded them"
        )
        super().__init__(f"{what}; nothing was written", hint=hint)
        self.differences = tuple(differences[:_MAX_DIFFERENCES])
        self.count = len(differences)


class ReadOnly(InputError):
    """The page was opened with --read-only."""


@dataclass(frozen=True, slots=True)
class EditResult:
    """What an operation did, or would do in a dry run. entry: its number in the history.

    ids: images whose captions changed; removed, restored: images that were taken out of the
    dataset and put back. meanings: how many meanings of tags changed.
    """

    title: str
    plan: EditPlan
    entry: int | None = None
    ids: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    restored: tuple[int, ...] = ()
    meanings: int = 0


class Editor:
    """Edits a dataset, one operation at a time. `lock` is held during an operation, and while the
    disk is compared with memory.
    """

    def __init__(
        self, dataset: ReviewDataset, context: OperationContext, *, read_only: bool = False
    ) -> None:
        self.dataset, self.context, self.read_only = dataset, context, read_only
        self.lock = RLock()
        self.progress = EditProgress()
        self._newest: JournalEntry | None = None
        self._redo: list[int] = []
        self._titles: dict[int, str] = {}
        # Images that the page excluded, by their original path: an undo needs no new scan.
        self._excluded: dict[Path, ReviewImage] = {}

    # ---- operations

    def apply(
        self, version: int, scope: Scope, wanted: Mapping[str, Any], *, dry_run: bool = False
    ) -> EditResult:
        """Apply an operation to a scope, or return what it would do.

        version: the newest one the page has seen. wanted: one operation and its argument, e.g.
        {"remove": ["lips"]}. Raises InputError for anything else, EditConflict if an image that it
        would change has changed after `version` or on disk, and PlanConflict, Locked and
        StorageError as every verb does.
        """
        with self.lock:
            images = self.dataset.select(scope)
            if wanted.get("drop") is True and len(wanted) == 1:
                return self._exclude(version, images, dry_run)
            return self._write(version, self._plan(wanted, images), dry_run=dry_run)

    def edit(self, version: int, image_id: int, expected_hash: object, text: object) -> EditResult:
        """Write one caption as it was typed. expected_hash: of the caption that was edited. Raises
        as `apply`.
        """
        with self.lock:
            image = self.dataset.get(image_id)
            if image is None:
                raise InputError(
                    f"no image has the id {image_id}", hint="it may have been excluded or moved"
                )
            if expected_hash != image.hash:
                raise EditConflict([_difference(image, image.previous_caption, image.caption)])
            return self._write(self.dataset.version, operations.edit(image, text))

    def translate(self, tag: str, meaning: str) -> EditResult:
        """Write what a tag means to the project's own table; "" removes it. Raises InputError for a
        table that is not UTF-8 text, and as `apply`.
        """
        with self.lock:
            self.require_writable()
            path = self.dataset.root / translations.OWN_NAME
            data = read_regular(path, limit=translations.LARGEST)
            text = decode_utf8(data or b"")
            if text is None:
                raise InputError(f"{path.name} is not UTF-8 text", hint="save it as UTF-8")
            form, plain = normal_form(tag), " ".join(without_invisible(meaning).split())
            if not form:
                raise InputError("the request names no tag")
            title = f"what {form} means"
            after = translations.own_table((data or b"").decode("utf-8"), form, plain)
            if after.encode() == (data or b""):
                return EditResult(title, EditPlan(title, ()))
            with self._project() as project:
                plan = Plan((WriteText(path, after, data),))
                entry = project.apply(plan, VERB, title)
                self._after_new_operation(project)
            return EditResult(title, EditPlan(title, ()), entry, meanings=1)

    def _plan(self, wanted: Mapping[str, Any], images: Sequence[ReviewImage]) -> EditPlan:
        if "threshold" in wanted or "character_threshold" in wanted:
            return operations.threshold(self.context, images, wanted)
        if len(wanted) != 1 or (name := next(iter(wanted))) not in OPERATIONS:
            raise InputError(
                "unknown operation", hint=f"use one of {', '.join(OPERATIONS)}, threshold, drop"
            )
        return OPERATIONS[name](self.context, images, wanted[name])

    def _write(self, version: int, edits: EditPlan, *, dry_run: bool = False) -> EditResult:
        """Write all captions of an operation as one plan."""
        count = len(edits.changes)
        title = edits.title + (f" ({count:,} captions)" if count > 1 else "")
        if dry_run:
            return EditResult(title, edits)
        self.require_writable()
        self._require_folders(image.path for image, _ in edits.changes)
        self._require_seen([image for image, _ in edits.changes], version)
        triggers = self._triggers(edits)
        if not count and not triggers:
            return EditResult(title, edits)
        with self._project() as project:
            plan = Plan(tuple(self._rewrites(edits.changes)))
            entry = project.apply(plan, VERB, title, generated=edits.generated, triggers=triggers)
            if entry is None:
                self.dataset.follow_triggers()
                return EditResult(title, edits)
            self.dataset.read_generated(project.store, (after for _, after in edits.changes))
            ids = self.dataset.set_captions(edits.changes, external=False)
            self.dataset.follow_triggers()
            self._after_new_operation(project)
        return EditResult(title, edits, entry, ids)

    def _triggers(self, edits: EditPlan) -> dict[Path, tuple[str, ...]]:
        """Return what is stored of the triggers that an edit sets or removes."""
        triggers = {folder: t for (_, folder), t in self.dataset.triggers().items()}
        changes = {image.path: caption for image, caption in edits.changes}
        before = [(image.path, image.caption) for image in self.dataset.all()]
        after = [(path, changes[path]) for path, _ in before if path in changes]
        return triggers_to_store(
            edits.trigger, before, after, triggers, partial=True, replaced=edits.replaced
        )

    def _exclude(self, version: int, images: Sequence[ReviewImage], dry_run: bool) -> EditResult:
        """Move images and their companion files into the project folder."""
        what = images[0].name if len(images) == 1 else f"{len(images):,} images"
        title = f"exclude {what}"
        edits = EditPlan(title, ())
        if dry_run or not images:
            return EditResult(title, edits, removed=tuple(image.id for image in images))
        self.require_writable()
        self._require_folders(image.path for image in images)
        self._require_seen(images, version)
        with self._project() as project:
            target = self.dataset.root / PROJECT / EXCLUDED / str(project.journal.next_id())
            entry = project.apply(Plan(tuple(self._moves(images, target))), VERB, title)
            self._excluded |= {image.path: image for image in images}
            removed = self.dataset.remove(images)
            self._after_new_operation(project)
        return EditResult(title, edits, entry, removed=removed)

    def _moves(self, images: Sequence[ReviewImage], target: Path) -> Iterator[FileOp]:
        """Return the moves of images and of the files that belong to no other image."""
        excluded = {image.path for image in images}
        for folder in sorted({path.parent for path in excluded}):
            siblings = [p.path for p in self.dataset.all() if p.path.parent == folder]
            files_of = companions(folder, siblings)
            needed = {f for path in siblings if path not in excluded for f in files_of[path]}
            files = [f for path in siblings if path in excluded for f in (path, *files_of[path])]
            for file in dict.fromkeys(files):
                if file not in needed:
                    yield Move(file, target / _relative(file, self.dataset.root))

    # ---- undo and redo

    @property
    def undo_title(self) -> str | None:
        newest = self._newest
        return newest.title if newest is not None and newest.verb == VERB else None

    @property
    def redo_title(self) -> str | None:
        return self._titles.get(self._redo[-1]) if self._redo else None

    def undo(self) -> EditResult:
        """Undo the newest command if the page made it. Raises PlanConflict if files have changed
        since.
        """
        with self.lock:
            self.require_writable()
            with self._project() as project:
                newest = project.journal.newest()
                if newest is None:
                    raise PlanConflict("nothing to undo")
                if newest.verb != VERB:
                    raise PlanConflict(
                        f"the last command was `dsk {newest.verb}`, not an edit on this page",
                        hint="`dsk undo` reverts it",
                    )
                steps = project.journal.operations(newest.id)
                self._require_folders(step.src or step.dst for step in steps)
                self._require_as_written(steps)
                project.journal.undo()
                self.dataset.follow_triggers()
                result = self._load_result(project, newest.title, steps, undo=True)
                self._redo.append(newest.id)
                self._titles[newest.id] = newest.title
                self.refresh_undo(project)
                return result

    def redo(self) -> EditResult:
        """Redo the operation that was undone last. Raises PlanConflict if files have changed
        since.
        """
        with self.lock:
            self.require_writable()
            with self._project() as project:
                self.refresh_undo(project)
                if not self._redo:
                    raise PlanConflict("nothing to redo")
                undone = self._redo[-1]
                title = self._titles[undone]
                steps = project.journal.operations(undone)
                self._require_folders(step.src or step.dst for step in steps)
                triggers = project.store.triggers_of(undone)
                entry = project.apply(_redo_plan(steps), VERB, title, triggers=triggers)
                self.dataset.follow_triggers()
                self._redo.pop()
                result = self._load_result(project, title, steps, entry=entry)
                self.refresh_undo(project)
                return result

    def refresh_undo(self, project: Project) -> None:
        """Read what undo would revert. A newer command of another verb ends the redo list."""
        newest = project.journal.newest()
        before = self._newest
        if (
            before is not None
            and newest is not None
            and newest.id > before.id
            and newest.verb != VERB
        ):
            self._redo.clear()
        self._newest = newest

    def _after_new_operation(self, project: Project) -> None:
        self._redo.clear()
        self.refresh_undo(project)

    def _load_result(
        self,
        project: Project,
        title: str,
        steps: Sequence[JournalOperation],
        *,
        undo: bool = False,
        entry: int | None = None,
    ) -> EditResult:
        """Take into memory what an undo or redo did to the disk."""
        captions = self._caption_changes(steps, undo=undo)
        removed, restored = self._image_moves(steps, undo=undo)
        self.dataset.read_generated(project.store, (caption for _, caption in captions))
        changes = tuple((image, caption) for image, caption in captions if caption is not None)
        return EditResult(
            title,
            EditPlan(title, changes),
            entry,
            self.dataset.set_captions(captions, external=False),
            self.dataset.remove(removed) if removed else (),
            self.dataset.restore(restored) if restored else (),
            meanings=sum(step.dst.name == translations.OWN_NAME for step in steps),
        )

    def _caption_changes(
        self, steps: Sequence[JournalOperation], *, undo: bool
    ) -> list[tuple[ReviewImage, Caption | None]]:
        images = {caption_path(image.path): image for image in self.dataset.all()}
        return [
            (images[step.dst], images[step.dst].decode(step.before if undo else step.after))
            for step in steps
            if step.kind == "write" and step.dst in images
        ]

    def _image_moves(
        self, steps: Sequence[JournalOperation], *, undo: bool
    ) -> tuple[list[ReviewImage], list[ReviewImage]]:
        """Return the images that a redo removed and those that an undo restored."""
        removed: list[ReviewImage] = []
        restored: list[ReviewImage] = []
        sources = [step.src for step in steps if step.kind == "move" and step.src is not None]
        for source in sources:
            image = self.dataset.at(source)
            if not undo and image is not None:
                removed.append(image)
                self._excluded[source] = image
            elif undo and source in self._excluded:
                restored.append(self._excluded.pop(source))
            elif undo and source.suffix != CAPTION_SUFFIX:
                # Excluded before this server started: only a scan can tell what the file is.
                self.dataset.stale = True
        return removed, restored

    # ---- checks

    def require_writable(self) -> None:
        """Raise ReadOnly on a page that was opened with --read-only."""
        if self.read_only:
            raise ReadOnly(
                "this page is read-only", hint="run `dsk review` without --read-only to edit"
            )

    @contextmanager
    def _project(self) -> Iterator[Project]:
        """Open the project. If the disk may then differ from memory, the dataset becomes stale."""
        self.dataset.require_folder()
        try:
            context = RunContext(reporter=self.progress)
            with open_project(self.dataset.folder, context) as project:
                if project.recovered:
                    self.dataset.stale = True
                yield project
        except FileChanged:
            raise
        except DskError:
            self.dataset.stale = True
            raise
        finally:
            self.progress.finish()

    def _require_folders(self, files: Iterable[Path]) -> None:
        """Raise InputError if the folder of a file was renamed: its caption did not change."""
        self.dataset.require_folder()
        require_present(sorted({file.parent for file in files}))

    def _require_seen(self, images: Iterable[ReviewImage], version: int) -> None:
        """Raise EditConflict for images that changed after the version that the page has seen."""
        newer = [
            _difference(image, image.previous_caption, image.caption)
            for image in images
            if image.changed_in > version
        ]
        if newer:
            raise EditConflict(newer)

    def _require_as_written(self, steps: Sequence[JournalOperation]) -> None:
        """Raise EditConflict if captions are no longer what a command wrote."""
        images = {caption_path(image.path): image for image in self.dataset.all()}
        changed = []
        for step in steps:
            if step.kind == "write" and step.dst in images:
                data = read_regular(step.dst, limit=MAX_CAPTION_BYTES)
                if data != step.after:
                    changed.append((images[step.dst], images[step.dst].decode(data)))
        if changed:
            differences = [_difference(image, image.caption, now) for image, now in changed]
            self.dataset.set_captions(
                [(image, now) for image, now in changed if now != image.caption], external=True
            )
            raise EditConflict(
                differences, "`dsk undo --partial` reverts the others and leaves these as they are"
            )

    def _rewrites(self, changes: Sequence[tuple[ReviewImage, Caption]]) -> list[WriteText]:
        """Return the writes of new captions over the current files. Raises EditConflict if a file
        is not what memory has.
        """
        rewrites: list[WriteText] = []
        changed: list[tuple[ReviewImage, Caption | None]] = []
        self.progress.start("reading", len(changes))
        for image, after in changes:
            self.progress.advance()
            path = caption_path(image.path)
            data = read_regular(path, limit=MAX_CAPTION_BYTES)
            now = image.read(data)
            if now != image.caption:
                changed.append((image, now))
            rewrites.append(WriteText(path, file_text(after), data))
        if changed:
            self.dataset.set_captions(changed, external=True)
            raise EditConflict([_difference(image, image.caption, now) for image, now in changed])
        return rewrites


def _difference(
    image: ReviewImage, expected: Caption | None, current: Caption | None
) -> CaptionDifference:
    return CaptionDifference(image.id, image.name, expected, current)


def _redo_plan(steps: Sequence[JournalOperation]) -> Plan:
    """Return the plan that repeats undone operations; each must find what it found the first
    time.
    """
    plan: list[FileOp] = []
    for step in steps:
        if step.kind == "write":
            text = (step.after or b"").decode("utf-8", "surrogatepass")
            plan.append(WriteText(step.dst, text, step.before))
        elif step.kind == "move" and step.src is not None:
            plan.append(Move(step.src, step.dst))
    return Plan(tuple(plan))


def _relative(file: Path, root: Path) -> Path:
    """Return a file's path below the project root; for a file elsewhere its folder and name."""
    return (
        file.relative_to(root) if file.is_relative_to(root) else Path(file.parent.name, file.name)
    )
