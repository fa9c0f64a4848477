"""`dsk layout`: the folders that trainers read, brought to what the concepts say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.core.files import (
    MASKS,
    PROJECT,
    Listing,
    companions,
    display,
    find_root,
    list_images,
    refuse_link,
)
from datasetkit.core.records import Failed
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.advice import advice
from datasetkit.dataset.layout import Concept, LayoutFolder, LayoutImage
from datasetkit.dataset.repeats import ConceptImages, RepeatsPlan
from datasetkit.images.scan import require_folder, require_images, scan, sizes
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.toml import find
from datasetkit.project.plans import Copy, Link, Move, Plan, WriteBytes, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.project.store import Store
from datasetkit.verbs.plan_repeats import batch_settings, measure, none_usable, train_options
from datasetkit.verbs.shared.concept_folders import REG, TRAIN, ConceptSet, of_config


@dataclass(frozen=True, slots=True)
class LayoutResult:
    """What layout did, or would do: where each concept is, and the plan of repeats that it
    follows.
    """

    out: Path
    concepts: tuple[tuple[str, int], ...]
    plan: RepeatsPlan
    advice: tuple[str, ...]
    changes: Plan
    failed: tuple[Failed, ...]
    without_caption: tuple[Path, ...]
    entry: int | None


def parse_concept(text: str) -> ConceptSet:
    """Read `DIR`, `NAME=DIR` or `REPEATS_NAME=DIR`. An existing folder wins over the form
    with `=`.
    """
    if "=" not in text or Path(text).is_dir():
        folder = require_folder(Path(text))
        read = grammar.parse(folder.resolve().name)
        if isinstance(read, Concept):
            return ConceptSet(read.name, folder, read.repeats)
        return ConceptSet(folder.resolve().name, folder)
    name, _, folder_text = text.partition("=")
    folder = require_folder(Path(folder_text))
    read = grammar.parse(name)
    if isinstance(read, Concept):
        return ConceptSet(read.name, folder, read.repeats)
    if name[:1].isdecimal():
        raise ConfigError(
            f"{display(name)!r}: {read.reason}",
            hint="write 10_name=DIR, or name=DIR to have it planned",
        )
    return ConceptSet(name, folder)


def layout(
    concepts: Sequence[str], options: LayoutOptions, context: RunContext = DEFAULT_CONTEXT
) -> LayoutResult:
    """Bring `out/train/<repeats>_<concept>` to what the concepts say: links to images, copies of
    captions.

    Raises DatasetError without images, PlanConflict for images of one name, with nothing
    changed.
    """
    config = find(Path())
    sets = [parse_concept(text) for text in concepts] or [
        of_config(config, c) for c in config.concepts
    ]
    if not sets:
        raise DatasetError(
            "no concept to lay out", hint="dsk layout NAME=DIR, or [[concept]] tables in dsk.toml"
        )
    for concept in sets:
        finish_interrupted(concept.folder, context)
    _check_concepts(sets)
    out = Path(options.out)
    refuse_link(out)
    if not (find_root(out) / PROJECT).is_dir():
        _require_usable(sets)
    train = train_options(options, config)
    with open_project(out, context) as project:
        found = {c.name: scan(c.folder, project.store, recursive=c.recursive) for c in sets}
        usable = [c for c in sets if found[c.name].records]
        if not usable:
            raise none_usable(
                sets[0].folder, [problem for f in found.values() for problem in f.failed]
            )
        images = [
            ConceptImages(
                c.name, sizes(found[c.name].records), repeats=c.repeats or options.repeats
            )
            for c in usable
        ]
        reg, _ = measure(existing_reg(out), project.store)
        plan = arithmetic.plan(
            images,
            rules=train.bucket_rules(),
            batch_settings=batch_settings(options, train),
            steps=options.steps,
            reg=reg,
        )
        targets = [
            LayoutFolder(
                out / TRAIN / grammar.folder_name(Concept(p.repeats, p.name)),
                _sources(c, found[c.name].records),
            )
            for c, p in zip(usable, plan.concepts, strict=True)
        ]
        entry, changes = lay(project, out / TRAIN, targets, verb="layout")
    without = tuple(
        r.path for f in found.values() for r in f.records if r.caption is None or not r.caption.tags
    )
    failed = tuple(problem for f in found.values() for problem in f.failed)
    repeats = tuple((p.name, p.repeats) for p in plan.concepts)
    words = (*advice(plan, options.kind), *_others(out / TRAIN, sets))
    return LayoutResult(out, repeats, plan, words, changes, failed, without, entry)


def _check_concepts(sets: Sequence[ConceptSet]) -> None:
    """Refuse what cannot be laid out before anything is made."""
    names = [concept.name for concept in sets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two concepts are called {display(twice)}", hint="NAME=DIR gives each its own name"
        )
    for concept in sets:
        require_images(concept.folder, recursive=concept.recursive)


def _require_usable(sets: Sequence[ConceptSet]) -> None:
    """Find one usable image before a project is begun in a folder that would stay empty."""
    failed: list[Failed] = []
    for concept in sets:
        listing = list_images(concept.folder, recursive=concept.recursive)
        failed.extend(listing.failed)
        with Store.open_copy(find_root(concept.folder)) as store:
            for path in listing.images:
                one = scan(concept.folder, store, listing=Listing((path,), ()))
                if one.records:
                    return
                failed.extend(one.failed)
    raise none_usable(sets[0].folder, failed)


def _others(root: Path, sets: Sequence[ConceptSet]) -> tuple[str, ...]:
    """Name the folders of other concepts: they are trained too, and the plan does not count
    them.
    """
    names = {concept.name for concept in sets}
    return tuple(
        f"{display(other.folder.name)} stands beside and is trained too; move it away if it is "
        "not wanted any more"
        for other in existing_sets(root)
        if other.name not in names
    )


def existing_reg(out: Path) -> list[ConceptSet]:
    """Return the regularisation folders that stand beside a laid-out dataset."""
    return existing_sets(out / REG)


def existing_sets(root: Path) -> list[ConceptSet]:
    """Return the laid-out folders of a training or regularisation root that hold images; none
    where it is not.
    """
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [
        ConceptSet(f.concept.name, f.path, f.concept.repeats)
        for f in tree
        if list_images(f.path).images
    ]


def _sources(concept: ConceptSet, records: Sequence[object]) -> tuple[LayoutImage, ...]:
    from datasetkit.core.records import ImageRecord

    images = [r for r in records if isinstance(r, ImageRecord)]
    belongings: dict[Path, tuple[Path, ...]] = {}
    for place in {r.path.parent for r in images}:
        belongings |= companions(place, [r.path for r in images if r.path.parent == place])
    return tuple(
        LayoutImage(
            r.path,
            file_text(r.caption) if r.caption is not None and r.caption.tags else None,
            next((p for p in belongings[r.path] if _is_mask(p)), None),
        )
        for r in images
    )


def _is_mask(path: Path) -> bool:
    return path.parent.name == MASKS and path.suffix.lower() == ".png" and not path.is_symlink()


def lay(
    project: Project, root: Path, targets: Sequence[LayoutFolder], *, verb: str
) -> tuple[int | None, Plan]:
    """Rename folders whose repeats changed, then bring every folder to what it shall hold; one
    plan.
    """
    renames = _renamed_folders(root, targets)
    before = {new: old for old, new in renames.items()}
    wanted = grammar.wanted(targets)
    expected = {op.path if isinstance(op, WriteText | WriteBytes) else op.dst: op for op in wanted}
    existing: dict[Path, bool] = {}
    for target in targets:
        old = before.get(target.folder, target.folder)
        for path in _files(old):
            place = target.folder / path.relative_to(old)
            existing[place] = place in expected and _same(expected[place], path)
    for stale in _stale_folders(root, targets, renames):
        existing |= dict.fromkeys(_files(stale), False)
    trash = project.root / PROJECT / "trash" / f"{verb}-{project.journal.next_id()}"
    fill = grammar.plan_layout(targets, root=root, existing=existing, trash=trash)
    title = ", ".join(display(t.folder.name) for t in targets)
    # A folder and the files in it cannot move in one plan; the renaming is a step of its own in the
    # history.
    moves = Plan(tuple(Move(old, new) for old, new in renames.items()))
    renamed = project.apply(moves, verb, f"folders renamed: {title}")
    if project.context.dry_run and renames:
        return None, moves + fill
    filled = project.apply(fill, verb, title)
    return filled if filled is not None else renamed, moves + fill


def _renamed_folders(root: Path, targets: Sequence[LayoutFolder]) -> dict[Path, Path]:
    """Return old -> new of the laid-out folders whose concept stays and whose repeats change."""
    if not root.is_dir():
        return {}
    new = {grammar.parse(t.folder.name): t.folder for t in targets}
    by_name = {c.name: folder for c, folder in new.items() if isinstance(c, Concept)}
    taken: set[Path] = set()
    renames: dict[Path, Path] = {}
    for folder in grammar.read_tree(root).concepts:
        goal = by_name.get(folder.concept.name)
        if goal is not None and goal != folder.path and not goal.exists() and goal not in taken:
            taken.add(goal)
            renames[folder.path] = goal
    return renames


def _stale_folders(
    root: Path, targets: Sequence[LayoutFolder], renames: Mapping[Path, Path]
) -> list[Path]:
    """Return other folders of the same concepts, which would be trained as well."""
    names = {c.name for t in targets if isinstance(c := grammar.parse(t.folder.name), Concept)}
    keep = {t.folder for t in targets} | set(renames)
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [f.path for f in tree if f.concept.name in names and f.path not in keep]


def _files(folder: Path) -> list[Path]:
    """Return the images, captions and masks of a laid-out folder."""
    if not folder.is_dir():
        return []
    images = list_images(folder, any_name=True).images
    captions = [p for p in sorted(folder.glob("*.txt")) if p.is_file() and not p.is_symlink()]
    masks = sorted((folder / MASKS).glob("*.png")) if (folder / MASKS).is_dir() else []
    return [*images, *captions, *masks]


def _same(op: object, path: Path) -> bool:
    """Tell whether a file already holds what the operation would put there."""
    if isinstance(op, WriteText):
        return path.read_bytes() == op.text.encode("utf-8")
    if isinstance(op, Link | Copy):
        mine, theirs = path.stat(), op.src.stat()
        if (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino):
            return True
        return mine.st_size == theirs.st_size and path.read_bytes() == op.src.read_bytes()
    return False
