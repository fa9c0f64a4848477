"""Editing from the review page: the one way from an operation to the disk, and back; nothing unseen
is overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from datasetkit.captions.caption import decode_caption, file_text
from datasetkit.core.errors import DskError, FileChanged, InputError, PlanConflict
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    MAX_CAPTION_BYTES,
    PROJECT,
    caption_path,
    companions,
    display,
    read_regular,
)
from datasetkit.core.records import Caption
from datasetkit.project.file_ops import JournalOperation
from datasetkit.project.journal import JournalEntry
from datasetkit.project.plans import FileOp, Move, Plan, Rewrite
from datasetkit.project.session import Project, RunContext, open_project
from datasetkit.verbs.review import operations
from datasetkit.verbs.review.dataset import ReviewDataset, Scope
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.operations import OPERATIONS, EditPlan, OperationContext

# What the page does stands in the history under this name; only that is taken back from the page.
VERB = "review"
EXCLUDED = "excluded"
# So many differences are shown of a refused change.
_MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class CaptionDifference:
    """A caption that is not what the page has: known to it, and now on disk (None: none)."""

    id: int
    name: str
    known: Caption | None
    now: Caption | None


class EditConflict(PlanConflict):
    """Captions are no longer what the page has seen; nothing was written."""

    def __init__(
        self,
        differences: Sequence[CaptionDifference],
        hint: str = "look at the difference, then try again",
    ) -> None:
        many = "a caption was" if len(differences) == 1 else f"{len(differences):,} captions were"
        super().__init__(f"{many} changed meanwhile; nothing was written", hint=hint)
        self.differences = tuple(differences[:_MOST_SHOWN])
        self.count = len(differences)


class ReadOnly(InputError):
    """The page was opened to look only."""


@dataclass(frozen=True, slots=True)
class EditResult:
    """What an operation did. ids: images whose captions changed; gone, back: images that went
    and came.
    """

    title: str
    decided: EditPlan
    entry: int | None = None
    ids: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    back: tuple[int, ...] = ()


class Editor:
    """Changes a dataset, one operation at a time. `turn` is held during each, and by whoever looks
    at the disk.
    """

    def __init__(
        self, dataset: ReviewDataset, bench: OperationContext, *, read_only: bool = False
    ) -> None:
        self.dataset, self.bench, self.read_only = dataset, bench, read_only
        self.turn = RLock()
        self.undoable: JournalEntry | None = None
        self._redo: list[int] = []
        self._titles: dict[int, str] = {}
        self._away: dict[Path, ReviewImage] = {}

    # ---- what can be taken back
    # -----------------------------------------------------------------------------

    @property
    def undo_title(self) -> str | None:
        return (
            self.undoable.title
            if self.undoable is not None and self.undoable.verb == VERB
            else None
        )

    @property
    def redo_title(self) -> str | None:
        return self._titles.get(self._redo[-1]) if self._redo else None

    def look_back(self, project: Project) -> None:
        """See what an undo would take back; what others did since ends what could be done again."""
        newest = project.journal.newest()
        known = self.undoable
        if (
            known is not None
            and newest is not None
            and newest.id > known.id
            and newest.verb != VERB
        ):
            self._redo.clear()
        self.undoable = newest

    # ---- operations
    # -----------------------------------------------------------------------------------------

    def apply(
        self, version: int, scope: Scope, wanted: Mapping[str, Any], *, dry_run: bool = False
    ) -> EditResult:
        """Do an operation on a scope, or only say what it would do.

        Raises InputError for what is no operation, Conflict where images that it would change
        were changed after `version` or on disk, PlanConflict, Locked and StorageError as every verb
        does.
        """
        with self.turn:
            images = self.dataset.select(scope)
            if wanted.get("drop") is True and len(wanted) == 1:
                return self._drop(version, images, dry_run)
            decided = self._decide(wanted, images)
            return self._write(version, decided, dry_run=dry_run)

    def edit(self, version: int, number: int, known: object, text: object) -> EditResult:
        """Write one caption as it was typed. known: the hash of the caption that was edited. Raises
        as `apply`.
        """
        with self.turn:
            image = self.dataset.get(number)
            if image is None:
                raise InputError(
                    f"there is no image {number}", hint="it may have been excluded or moved"
                )
            if known != image.hash:
                raise EditConflict(
                    [CaptionDifference(image.id, image.name, image.was, image.caption)]
                )
            return self._write(self.dataset.version, operations.edit(image, text))

    def _decide(self, wanted: Mapping[str, Any], images: Sequence[ReviewImage]) -> EditPlan:
        if "threshold" in wanted or "character_threshold" in wanted:
            return operations.threshold(self.bench, images, wanted)
        if len(wanted) != 1 or (name := next(iter(wanted))) not in OPERATIONS:
            raise InputError(
                "no such operation", hint=f"one of {', '.join(OPERATIONS)}, threshold, drop"
            )
        return OPERATIONS[name](self.bench, images, wanted[name])

    def _write(self, version: int, decided: EditPlan, *, dry_run: bool = False) -> EditResult:
        """Write the captions of an operation as one plan."""
        number = len(decided.changes)
        title = decided.title + (f" in {number:,} captions" if number > 1 else "")
        if dry_run:
            return EditResult(title, decided)
        self._require_writable()
        self._require_known([image for image, _ in decided.changes], version)
        if not number:
            return EditResult(title, decided)
        with self._project() as project:
            plan = Plan(tuple(self._rewrites(decided.changes)))
            entry = project.apply(plan, VERB, title, generated=decided.generated)
            self.dataset.learn(project.store, (after for _, after in decided.changes))
            ids = self.dataset.recaption(decided.changes, outside=False)
            self._done(project)
        return EditResult(title, decided, entry, ids)

    def _drop(self, version: int, images: Sequence[ReviewImage], dry_run: bool) -> EditResult:
        """Move images with what belongs to them out of sight, into the project folder."""
        one = len(images) == 1
        title = f"exclude {images[0].name}" if one else f"exclude {len(images):,} images"
        decided = EditPlan(title, ())
        if dry_run or not images:
            return EditResult(title, decided, gone=tuple(image.id for image in images))
        self._require_writable()
        self._require_known(images, version)
        with self._project() as project:
            away = self.dataset.root / PROJECT / EXCLUDED / str(project.journal.next_id())
            entry = project.apply(Plan(tuple(self._moves(images, away))), VERB, title)
            self._away |= {image.path: image for image in images}
            gone = self.dataset.remove(images)
            self._done(project)
        return EditResult(title, decided, entry, gone=gone)

    def _moves(self, images: Sequence[ReviewImage], away: Path) -> Iterator[FileOp]:
        """Return the moves of images and of what belongs to them alone."""
        going = {image.path for image in images}
        for folder in sorted({path.parent for path in going}):
            there = [p.path for p in self.dataset.all() if p.path.parent == folder]
            found = companions(folder, there)
            shared = {file for path in there if path not in going for file in found[path]}
            files = [file for path in there if path in going for file in (path, *found[path])]
            for file in dict.fromkeys(files):
                if file not in shared:
                    yield Move(file, away / _inside(file, self.dataset.root))

    # ---- undo and redo
    # --------------------------------------------------------------------------------------

    def undo(self) -> EditResult:
        """Take back the newest command, if the page made it. Raises PlanConflict where files were
        changed since.
        """
        with self.turn:
            self._require_writable()
            with self._project() as project:
                newest = project.journal.newest()
                if newest is None:
                    raise PlanConflict("there is nothing to undo")
                if newest.verb != VERB:
                    raise PlanConflict(
                        f"the last command was `dsk {newest.verb}`, made outside the page",
                        hint="dsk undo takes it back",
                    )
                steps = project.journal.operations(newest.id)
                self._require_as_written(project, steps)
                project.journal.undo()
                edited = self._follow(project, newest.title, steps, forward=False)
                self._redo.append(newest.id)
                self._titles[newest.id] = newest.title
                self.look_back(project)
                return edited

    def redo(self) -> EditResult:
        """Do again what was undone last. Raises PlanConflict where files were changed since."""
        with self.turn:
            self._require_writable()
            with self._project() as project:
                self.look_back(project)
                if not self._redo:
                    raise PlanConflict("there is nothing to do again")
                number = self._redo[-1]
                steps = project.journal.operations(number)
                entry = project.apply(_again(steps), VERB, self._titles[number])
                self._redo.pop()
                edited = self._follow(
                    project, self._titles[number], steps, forward=True, entry=entry
                )
                self.look_back(project)
                return edited

    def _follow(
        self,
        project: Project,
        title: str,
        steps: Sequence[JournalOperation],
        *,
        forward: bool,
        entry: int | None = None,
    ) -> EditResult:
        """Take into memory what steps did to the disk, forward or backward."""
        at = {caption_path(image.path): image for image in self.dataset.all()}
        captions: list[tuple[ReviewImage, Caption | None]] = []
        gone: list[ReviewImage] = []
        back: list[ReviewImage] = []
        for step in steps:
            if step.kind == "write" and step.dst in at:
                data = step.after if forward else step.before
                captions.append((at[step.dst], decode_caption(step.dst, data)))
            elif step.kind == "move" and step.src is not None:
                known = self.dataset.at(step.src)
                if forward and known is not None:
                    gone.append(known)
                    self._away[step.src] = known
                elif not forward and step.src in self._away:
                    back.append(self._away.pop(step.src))
                elif not forward and step.src.suffix != CAPTION_SUFFIX:
                    self.dataset.stale = True
        self.dataset.learn(project.store, (caption for _, caption in captions))
        return EditResult(
            title,
            EditPlan(title, tuple((p, c) for p, c in captions if c is not None)),
            entry,
            self.dataset.recaption(captions, outside=False),
            self.dataset.remove(gone) if gone else (),
            self.dataset.bring_back(back) if back else (),
        )

    # ---- before and after
    # -----------------------------------------------------------------------------------

    def _require_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(
                "the page was opened to look only", hint="start dsk review without --read-only"
            )

    @contextmanager
    def _project(self) -> Iterator[Project]:
        """Open the project; where the disk may be other than memory, it is looked at again."""
        if self.dataset.folder.resolve() != self.dataset.folder:
            raise InputError(
                f"{display(self.dataset.folder)} became a symbolic link, through which nothing "
                "is written",
                hint="start dsk review on the folder itself",
            )
        try:
            with open_project(self.dataset.folder, RunContext()) as project:
                if project.recovered:
                    self.dataset.stale = True
                yield project
        except FileChanged:
            raise
        except DskError:
            self.dataset.stale = True
            raise

    def _done(self, project: Project) -> None:
        """Note that a new operation was done: what was undone before cannot be done again."""
        self._redo.clear()
        self.look_back(project)

    def _require_known(self, images: Iterable[ReviewImage], version: int) -> None:
        """Raise Conflict for images that were changed after the version that the page has
        seen.
        """
        newer = [
            CaptionDifference(p.id, p.name, p.was, p.caption) for p in images if p.changed > version
        ]
        if newer:
            raise EditConflict(newer)

    def _require_as_written(self, project: Project, steps: Sequence[JournalOperation]) -> None:
        """Raise Conflict where captions are no longer what a command wrote."""
        at = {caption_path(image.path): image for image in self.dataset.all()}
        differences = []
        for step in steps:
            if step.kind == "write" and step.dst in at:
                data = read_regular(step.dst, limit=MAX_CAPTION_BYTES)
                if data != step.after:
                    differences.append((at[step.dst], decode_caption(step.dst, data)))
        if differences:
            shown = [CaptionDifference(p.id, p.name, p.caption, now) for p, now in differences]
            self.dataset.recaption(
                [(p, now) for p, now in differences if now != p.caption], outside=True
            )
            raise EditConflict(
                shown, "dsk undo --partial takes back the rest, and leaves these as they are"
            )

    def _rewrites(self, changes: Iterable[tuple[ReviewImage, Caption]]) -> list[Rewrite]:
        """Return what is to be written over what stands. Raises Conflict where that is not what
        memory has.
        """
        rewrites: list[Rewrite] = []
        differences: list[tuple[ReviewImage, Caption | None]] = []
        for image, after in changes:
            path = caption_path(image.path)
            data = read_regular(path, limit=MAX_CAPTION_BYTES)
            now = image.read(data)
            if now != image.caption:
                differences.append((image, now))
            rewrites.append(Rewrite(path, file_text(after), data))
        if differences:
            self.dataset.recaption(differences, outside=True)
            raise EditConflict(
                [CaptionDifference(p.id, p.name, p.caption, now) for p, now in differences]
            )
        return rewrites


def _again(steps: Sequence[JournalOperation]) -> Plan:
    """Return the plan that does finished and undone steps once more, over just what stood there
    before them.
    """
    operations: list[FileOp] = []
    for step in steps:
        if step.kind == "write":
            operations.append(
                Rewrite(step.dst, (step.after or b"").decode("utf-8", "surrogatepass"), step.before)
            )
        elif step.kind == "move" and step.src is not None:
            operations.append(Move(step.src, step.dst))
    return Plan(tuple(operations))


def _inside(file: Path, root: Path) -> Path:
    """Return where a file of the project stands in a copy of its folders; one from elsewhere by its
    folder's name.
    """
    return (
        file.relative_to(root) if file.is_relative_to(root) else Path(file.parent.name, file.name)
    )
