"""Laid-out folders (`train/`, `reg/`): list them, and bring them up to date."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import CAPTION_SUFFIX, MASKS, PROJECT, display, find_root, reading
from datasetkit.core.path_list import PathSet
from datasetkit.core.progress import counted_off
from datasetkit.core.records import Failed, ImageRecord
from datasetkit.dataset import layout as grammar
from datasetkit.dataset.layout import REG, Concept, LayoutFolder
from datasetkit.images.listing import list_images
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config
from datasetkit.project.disk_space import CopiedBytes, require_space
from datasetkit.project.kept_edits import keep_edits, kept_edit
from datasetkit.project.plans import Copy, FileOp, Link, Move, Plan, WriteBytes, WriteText
from datasetkit.project.session import Project
from datasetkit.project.store import Store, has_store
from datasetkit.verbs.shared.concept_folders import ConceptSet
from datasetkit.verbs.shared.triggers import captions_of, triggers_of, words_of

# How many edited captions a line names.
_NAMED = 3


def existing_reg(out: Path) -> list[ConceptSet]:
    """Return the regularisation folders of a laid-out dataset."""
    return existing_sets(out / REG)


def existing_sets(root: Path) -> list[ConceptSet]:
    """Return the laid-out folders with images below a training or regularisation root."""
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [
        ConceptSet(f.concept.name, f.path, f.concept.repeats)
        for f in tree
        if list_images(f.path).images
    ]


def class_triggers(
    given: tuple[str, ...], config: Config, records: Iterable[ImageRecord]
) -> tuple[str, ...]:
    """Return the triggers that the class of a regularisation set replaces: given, of [tag], of the
    concepts, or those that a command set for the training images. Raises ConfigError without any.
    """
    triggers = given or config.build(TagOptions, "tag", only_read=True).trigger
    triggers = triggers or tuple(t for concept in config.concepts for t in concept.trigger)
    if not triggers:
        every = triggers_of(captions_of(records))
        triggers = words_of({f: t for f, t in every.items() if t.source == "stored"})
    if not triggers:
        raise ConfigError(
            "no trigger for the class to replace", hint="--trigger NAME, or trigger in dsk.toml"
        )
    return triggers


@dataclass(frozen=True, slots=True)
class EditedCaptions:
    """The captions that somebody edited in a layout since it was written.

    kept: their source is as it was. replaced: their source has changed, or is gone.
    """

    kept: tuple[Path, ...] = ()
    replaced: tuple[Path, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a line for each group."""
        lines = []
        if self.kept:
            lines.append(
                f"kept {_captions(self.kept)}: the source did not change; delete an edited caption "
                "to have that of its source again"
            )
        if self.replaced:
            lines.append(
                f"replaced {_captions(self.replaced)}: the source has changed; dsk undo brings the "
                "edits back"
            )
        return tuple(lines)


def _captions(paths: Sequence[Path]) -> str:
    names = ", ".join(display(Path(path.parent.name, path.name)) for path in paths[:_NAMED])
    more = ", ..." if len(paths) > _NAMED else ""
    number = "1 caption" if len(paths) == 1 else f"{len(paths):,} captions"
    return f"{number} edited in the layout ({names}{more})"


def lay_out(
    project: Project,
    root: Path,
    targets: Sequence[LayoutFolder],
    *,
    verb: str,
    triggers: Mapping[Path, Sequence[str]] | None = None,
) -> tuple[int | None, Plan, tuple[Failed, ...], EditedCaptions]:
    """Rename folders whose repeats changed, and update their content to the targets.

    triggers: of the folders, to be stored. Return the number in the history (None if nothing
    changed), the plan, the captions that somebody saved meanwhile, which are kept, and those that
    somebody edited before.
    """
    renames = _renamed_folders(root, targets)
    title = ", ".join(display(t.folder.name) for t in targets)
    # A folder and the files in it cannot move in one plan: renaming is an entry of its own.
    moves = Plan(tuple(Move(old, new) for old, new in renames.items()))
    if project.context.dry_run:
        fill, edited = _plan_fill(project, root, targets, renames, verb)
        project.apply(moves if renames else fill, verb, title)
        return None, moves + fill, (), edited
    if renames:
        _plan_fill(project, root, targets, renames, verb)  # nothing is renamed without room
    renamed = project.apply(moves, verb, f"folders renamed: {title}")

    def attempt(
        kept: Collection[Path], _: Collection[Path]
    ) -> tuple[int | None, Plan, EditedCaptions]:
        fill, edited = _plan_fill(project, root, targets, {}, verb, kept)
        return project.apply(fill, verb, title, triggers=triggers), fill, edited

    (filled, fill, edited), kept = keep_edits(project, attempt, again=False)
    entry = filled if filled is not None else renamed
    return entry, moves + fill, tuple(map(kept_edit, kept)), edited


def _plan_fill(
    project: Project,
    root: Path,
    targets: Sequence[LayoutFolder],
    renames: Mapping[Path, Path],
    verb: str,
    kept: Collection[Path] = (),
) -> tuple[Plan, EditedCaptions]:
    """Plan the content of the folders. renames: the folders that will have other names by then.
    kept: files that are not touched. Raises StorageError if the disk has no room.
    """
    old_folders = {new: old for old, new in renames.items()}
    existing = _ExistingFiles()
    for target in targets:
        old = old_folders.get(target.folder, target.folder)
        existing.add(_files(old), old, target.folder)
    for op in counted_off(
        grammar.fill_ops(targets), "comparing", project.context.reporter, number=len(existing)
    ):
        existing.compare(op)
    for stale in _stale_folders(root, targets, renames):
        existing.add(_files(stale), stale, stale)
    captions = existing.changed_captions()
    trash = project.root / PROJECT / "trash" / f"{verb}-{project.journal.next_id()}"
    plan = grammar.plan_layout(
        targets, root=root, existing=existing, captions=captions, trash=trash
    )
    written = project.journal.written_below(root, ("layout", "reg")) if captions else {}
    before = {
        new: written.get(project.store.key(old_folders.get(new.parent, new.parent) / new.name))
        for new in captions
    }
    edited = _edited(plan, captions, before, _expected(targets, captions))
    if kept := {*kept, *edited.kept}:
        plan = Plan.of(op for op in plan.ops if _changed_file(op) not in kept)
    require_space(plan, hint="free some disk space, or name another disk with --out")
    return plan, edited


# Whoever edits a caption in the layout means it: it stays while its source is as it was. A source
# that changed since is the newer of the two; the edit is then named, and in the history.
def _edited(
    plan: Plan,
    captions: Mapping[Path, bytes],
    written: Mapping[Path, bytes | None],
    expected: Mapping[Path, bytes | None],
) -> EditedCaptions:
    """Return the captions that a plan would change and that hold something else than a layout
    wrote.

    captions: what they hold now. written: what a layout wrote last. expected: what it would write
    now, of each image; None for no file.
    """
    if not captions:
        return EditedCaptions()
    changed = {file for op in plan.ops if (file := _changed_file(op)) in captions}
    edits = sorted(path for path in changed if captions[path] != written[path])
    kept = tuple(p for p in edits if p in expected and expected[p] == written[p])
    return EditedCaptions(kept, tuple(path for path in edits if path not in kept))


def _changed_file(op: FileOp) -> Path:
    """Return the file whose content an operation replaces or moves away."""
    return op.path if isinstance(op, WriteText | WriteBytes) else op.src


def _renamed_folders(root: Path, targets: Sequence[LayoutFolder]) -> dict[Path, Path]:
    """Return old -> new of the folders whose repeats change."""
    if not root.is_dir():
        return {}
    new = {grammar.parse(t.folder.name): t.folder for t in targets}
    by_name = {c.name: folder for c, folder in new.items() if isinstance(c, Concept)}
    renames: dict[Path, Path] = {}
    for folder in grammar.read_tree(root).concepts:
        target = by_name.get(folder.concept.name)
        if target is None or target == folder.path or target.exists():
            continue
        if target not in renames.values():
            renames[folder.path] = target
    return renames


def _stale_folders(
    root: Path, targets: Sequence[LayoutFolder], renames: Mapping[Path, Path]
) -> list[Path]:
    """Return other folders of the same concepts, which trainers would train too."""
    names = {c.name for t in targets if isinstance(c := grammar.parse(t.folder.name), Concept)}
    keep = {t.folder for t in targets} | set(renames)
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [f.path for f in tree if f.concept.name in names and f.path not in keep]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the images, captions and masks of a laid-out folder."""
    if not folder.is_dir():
        return
    yield from list_images(folder, any_name=True).images
    with reading(folder), os.scandir(folder) as entries:
        texts = [e.name for e in entries if e.name.endswith(CAPTION_SUFFIX)]
    for path in (folder / name for name in texts):
        if path.is_file() and not path.is_symlink():
            yield path
    yield from sorted((folder / MASKS).glob("*.png")) if (folder / MASKS).is_dir() else ()


class _ExistingFiles(Mapping[Path, bool]):
    """The files of laid-out folders, by the name that they will have, and whether each has the
    content already that a layout would write. Only their names are kept: there may be a million.
    """

    def __init__(self) -> None:
        self._is_current: dict[str, bool] = {}
        # Folders that will have another name -> the folders that they are now.
        self._now: dict[str, str] = {}

    def add(self, files: Iterable[Path], now: Path, then: Path) -> None:
        """Add the files of a folder, as ones that are to be changed or removed."""
        self._now[str(then)] = str(now)
        before = len(str(now))
        self._is_current.update((f"{then}{str(file)[before:]}", False) for file in files)

    def compare(self, op: FileOp) -> None:
        """Look whether the target of an operation has its content."""
        target = op.path if isinstance(op, WriteText | WriteBytes) else op.dst
        if target in self:
            self._is_current[str(target)] = _same(op, self._path_now(target))

    def changed_captions(self) -> dict[Path, bytes]:
        """Return the bytes of the captions that are not current."""
        changed = [path for path, is_current in self.items() if not is_current]
        return {
            path: self._path_now(path).read_bytes()
            for path in changed
            if path.suffix == CAPTION_SUFFIX
        }

    def _path_now(self, path: Path) -> Path:
        for then, now in self._now.items():
            if then != now and path.is_relative_to(then):
                return now / path.relative_to(then)
        return path

    def __contains__(self, path: object) -> bool:
        return str(path) in self._is_current

    def __getitem__(self, path: Path) -> bool:
        return self._is_current[str(path)]

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self._is_current)

    def __len__(self) -> int:
        return len(self._is_current)


def _expected(
    targets: Sequence[LayoutFolder], captions: Collection[Path]
) -> dict[Path, bytes | None]:
    """Return what a layout would write to those of some captions that are of an image; None where
    that image has none.
    """
    every = (
        ((target.folder / source.image.name).with_suffix(CAPTION_SUFFIX), source.caption_text)
        for target in (targets if captions else ())
        for source in target.sources
    )
    return {
        path: None if text is None else text.encode() for path, text in every if path in captions
    }


def _same(op: FileOp, path: Path) -> bool:
    """Tell whether a file already has the content that the operation would write."""
    if isinstance(op, WriteText):
        return path.read_bytes() == op.text.encode("utf-8")
    if isinstance(op, Link | Copy):
        existing, source = path.stat(), op.src.stat()
        if (existing.st_dev, existing.st_ino) == (source.st_dev, source.st_ino):
            return isinstance(op, Link)  # a copy must not be the original itself
        return existing.st_size == source.st_size and path.read_bytes() == op.src.read_bytes()
    return False


def linkable(images: Iterable[Path], project: Project) -> PathSet:
    """Return the images that a layout may hard-link: those that dsk made from other images and
    that nobody changed since. A program that edits the layout in place edits them as well, but no
    original.
    """
    made: dict[Path, dict[str, tuple[int, int]]] = {}
    folders: dict[Path, tuple[dict[str, tuple[int, int]], str]] = {}
    paths = PathSet()
    for image in images:
        folder = image.parent
        if folder not in folders:
            root = find_root(folder)
            if root not in made:
                made[root] = _outputs(root, project)
            folders[folder] = made[root], str(folder.resolve())
        outputs, resolved = folders[folder]
        if outputs and outputs.get(f"{resolved}{os.sep}{image.name}") == _size_time(image):
            paths.add(image)
    return paths


def _size_time(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_size, info.st_mtime_ns


def _outputs(root: Path, project: Project) -> dict[str, tuple[int, int]]:
    """Return the size and time of the images that were made from others, by path."""
    if root == project.root:
        return _made(project.store)
    if has_store(root):
        with Store.open_copy(root) as store:
            return _made(store)
    return {}


def _made(store: Store) -> dict[str, tuple[int, int]]:
    return {
        str(stored.output.path): (stored.size, stored.mtime_ns)
        for stored in store.each_output()
        if stored.output.origin.parent != stored.output.path.parent  # not in place
    }


@dataclass(frozen=True, slots=True)
class ImageStorage:
    """How a plan brings images into a layout. linked: hard links, which share their bytes with
    the source; originals: those of them whose source is not an output of dsk; copied,
    copied_bytes: copies, and the bytes that they take with those of masks.
    """

    linked: int
    originals: int
    copied: int
    copied_bytes: int


def image_storage(changes: Plan, made: Container[Path]) -> ImageStorage:
    """Return how a plan of `lay_out` brings the images in. made: those of `linkable`."""
    linked = originals = copied = 0
    size = CopiedBytes()
    for op in changes.ops:
        if isinstance(op, Link | Copy):
            is_linked = size.add(op)
            if op.dst.parent.name != MASKS:
                linked += is_linked
                copied += not is_linked
                originals += is_linked and op.src not in made
    return ImageStorage(linked, originals, copied, size.total)
