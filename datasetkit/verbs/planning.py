"""`dsk plan-repeats`, `dsk layout`, `dsk reg`: exact steps, and the folders that trainers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core import layout as grammar
from datasetkit.core import repeats as arithmetic
from datasetkit.core.advice import advice
from datasetkit.core.captions import Caption, file_text, normal_form
from datasetkit.core.config import Config, LayoutOptions, PlanRepeatsOptions, RegOptions, TagOptions, TrainOptions, find
from datasetkit.core.errors import ConfigError, DatasetError, InputError
from datasetkit.core.files import MASKS, PROJECT, companions, display, find_root, list_images, refuse_link
from datasetkit.core.layout import Concept, Source, Target
from datasetkit.core.plans import Copy, Link, Move, Plan, WriteBytes, WriteText
from datasetkit.core.records import Failed
from datasetkit.core.repeats import ConceptImages, RepeatsPlan, Schedule
from datasetkit.core.store import Store
from datasetkit.scan import require_folder, scan, sizes
from datasetkit.verbs.project import JUST_DO_IT, How, Project, finish_interrupted, open_project
from datasetkit.verbs.sets import REG, TRAIN, ConceptSet, Sets, find_sets, of_config, require_pictures


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan of repeats. now: the repeats that the laid-out folders have; entry: the renaming, where applied."""

    plan: RepeatsPlan
    advice: tuple[str, ...]
    now: Mapping[str, int | None]
    origin: str
    failed: tuple[Failed, ...] = ()
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class LaidOutResult:
    """What layout did, or would do: where each concept is, and the plan of repeats that it follows."""

    out: Path
    concepts: tuple[tuple[str, int], ...]
    plan: RepeatsPlan
    advice: tuple[str, ...]
    changes: Plan
    failed: tuple[Failed, ...]
    without_caption: tuple[Path, ...]
    entry: int | None


@dataclass(frozen=True, slots=True)
class RegResult:
    """What reg did, or would do. used: pictures that an epoch takes; train_visits: what they are matched to."""

    folder: Path
    images: int
    repeats: int
    train_visits: int
    used: int
    advice: tuple[str, ...]
    changes: Plan
    failed: tuple[Failed, ...]
    entry: int | None


def schedule_of(options: PlanRepeatsOptions, train: TrainOptions) -> Schedule:
    """Return the schedule: what the command says, else what `[train]` says."""
    return Schedule(
        epochs=options.epochs or train.max_train_epochs,
        batch_size=options.batch_size or train.train_batch_size,
        gradient_accumulation=train.gradient_accumulation_steps,
    )


def train_options(options: PlanRepeatsOptions, config: Config) -> TrainOptions:
    """Return `[train]`, at the resolution that the command asks for."""
    given = {"resolution": options.resolution} if options.resolution else {}
    return config.build(TrainOptions, "train", given)


def plan_repeats(folder: Path, options: PlanRepeatsOptions, *, apply: bool = False, how: How = JUST_DO_IT) -> Planned:
    """Plan the repeats of a data set, and count the exact optimizer steps.

    apply: rename the laid-out folders to the planned repeats (journalled). Raises DatasetError where no data set is.
    """
    train = train_options(options, find(folder))
    if options.images is not None:
        if apply:
            raise ConfigError("--images counts pictures that are nowhere yet", hint="leave --images or --apply out")
        concepts = [ConceptImages("pictures", count=options.images)]
        plan = arithmetic.plan(
            concepts, rules=train.bucket_rules(), schedule=schedule_of(options, train), steps=options.steps
        )
        return Planned(plan, advice(plan, options.kind), {}, "--images")
    sets = find_sets(folder)
    with Store.open_copy(find_root(folder)) as store:
        measured, failed = measure(sets.train, store)
        reg, reg_failed = measure(sets.reg, store)
    if not measured:
        raise none_usable(folder, failed)
    fixed = sets.origin == "dsk.toml"
    concepts = [c if fixed else replace(c, repeats=None) for c in measured]
    plan = arithmetic.plan(
        concepts, rules=train.bucket_rules(), schedule=schedule_of(options, train), steps=options.steps, reg=reg
    )
    now = {c.name: c.repeats for c in sets.train}
    entry = _rename_folders(folder, sets, plan, how) if apply else None
    problems = tuple(m.text for m in sets.misread)
    return Planned(plan, (*problems, *advice(plan, options.kind)), now, sets.origin, (*failed, *reg_failed), entry)


def _rename_folders(folder: Path, sets: Sets, plan: RepeatsPlan, how: How) -> int | None:
    if sets.origin != "laid out":
        raise InputError(
            f"{display(folder)} holds no <repeats>_<concept> folders to rename", hint="dsk layout makes them"
        )
    tree = grammar.read_tree(sets.train[0].folder.parent)
    change = grammar.plan_repeats_change(tree, {c.name: c.repeats for c in plan.concepts})
    with open_project(folder, how) as project:
        return project.apply(change, "plan-repeats", ", ".join(f"{c.repeats}_{c.name}" for c in plan.concepts))


def none_usable(folder: Path, failed: Sequence[Failed]) -> DatasetError:
    """Word that a folder has pictures of which none can be used, with the first reason."""
    first = failed[0] if failed else None
    why = f": {display(first.path.name)}: {first.error}" if first else ""
    return DatasetError(f"{display(folder)} has no usable picture{why}", hint=first.hint if first else "")


def measure(sets: Sequence[ConceptSet], store: Store) -> tuple[list[ConceptImages], list[Failed]]:
    """Look at every picture of the sets; return their sizes per concept, and the pictures that cannot be read."""
    measured: list[ConceptImages] = []
    failed: list[Failed] = []
    for concept in sets:
        found = scan(concept.folder, store, recursive=concept.recursive, captions=False)
        failed.extend(found.failed)
        if found.records:
            measured.append(ConceptImages(concept.name, sizes(found.records), repeats=concept.repeats))
    return measured, failed


# ---- layout -----------------------------------------------------------------------------------------------------


def parse_concept(text: str) -> ConceptSet:
    """Read `DIR`, `NAME=DIR` or `REPEATS_NAME=DIR`. An existing folder wins over the form with `=`."""
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
        raise ConfigError(f"{display(name)!r}: {read.reason}", hint="write 10_name=DIR, or name=DIR to have it planned")
    return ConceptSet(name, folder)


def layout(concepts: Sequence[str], options: LayoutOptions, how: How = JUST_DO_IT) -> LaidOutResult:
    """Bring `out/train/<repeats>_<concept>` to what the concepts say: links to pictures, copies of captions.

    Raises DatasetError without pictures, PlanConflict for pictures of one name, with nothing changed.
    """
    config = find(Path())
    sets = [parse_concept(text) for text in concepts] or [of_config(config, c) for c in config.concepts]
    if not sets:
        raise DatasetError("no concept to lay out", hint="dsk layout NAME=DIR, or [[concept]] tables in dsk.toml")
    for concept in sets:
        finish_interrupted(concept.folder, how)
    _check_concepts(sets)
    out = Path(options.out)
    refuse_link(out)
    train = train_options(options, config)
    with open_project(out, how) as project:
        found = {c.name: scan(c.folder, project.store, recursive=c.recursive) for c in sets}
        usable = [c for c in sets if found[c.name].records]
        if not usable:
            raise none_usable(sets[0].folder, [problem for f in found.values() for problem in f.failed])
        images = [
            ConceptImages(c.name, sizes(found[c.name].records), repeats=c.repeats or options.repeats) for c in usable
        ]
        reg, _ = measure(existing_reg(out), project.store)
        plan = arithmetic.plan(
            images, rules=train.bucket_rules(), schedule=schedule_of(options, train), steps=options.steps, reg=reg
        )
        targets = [
            Target(out / TRAIN / grammar.folder_name(Concept(p.repeats, p.name)), _sources(c, found[c.name].records))
            for c, p in zip(usable, plan.concepts, strict=True)
        ]
        entry, changes = _lay(project, out / TRAIN, targets, verb="layout")
    without = tuple(r.path for f in found.values() for r in f.records if r.caption is None or not r.caption.tags)
    failed = tuple(problem for f in found.values() for problem in f.failed)
    repeats = tuple((p.name, p.repeats) for p in plan.concepts)
    words = (*advice(plan, options.kind), *_others(out / TRAIN, sets))
    return LaidOutResult(out, repeats, plan, words, changes, failed, without, entry)


def _check_concepts(sets: Sequence[ConceptSet]) -> None:
    """Refuse what cannot be laid out before anything is made."""
    names = [concept.name for concept in sets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two concepts are called {display(twice)}", hint="NAME=DIR gives each its own name")
    for concept in sets:
        require_pictures(concept.folder, recursive=concept.recursive)


def _others(root: Path, sets: Sequence[ConceptSet]) -> tuple[str, ...]:
    """Name the folders of other concepts: they are trained too, and the plan does not count them."""
    names = {concept.name for concept in sets}
    return tuple(
        f"{display(other.folder.name)} stands beside and is trained too; move it away if it is not wanted any more"
        for other in existing_sets(root)
        if other.name not in names
    )


def existing_reg(out: Path) -> list[ConceptSet]:
    """Return the regularisation folders that stand beside a laid-out data set."""
    return existing_sets(out / REG)


def existing_sets(root: Path) -> list[ConceptSet]:
    """Return the laid-out folders of a training or regularisation root that hold pictures; none where it is not."""
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [ConceptSet(f.concept.name, f.path, f.concept.repeats) for f in tree if list_images(f.path).images]


def _sources(concept: ConceptSet, records: Sequence[object]) -> tuple[Source, ...]:
    from datasetkit.core.records import ImageRecord

    images = [r for r in records if isinstance(r, ImageRecord)]
    belongings: dict[Path, tuple[Path, ...]] = {}
    for place in {r.path.parent for r in images}:
        belongings |= companions(place, [r.path for r in images if r.path.parent == place])
    return tuple(
        Source(
            r.path,
            file_text(r.caption) if r.caption is not None and r.caption.tags else None,
            next((p for p in belongings[r.path] if _is_mask(p)), None),
        )
        for r in images
    )


def _is_mask(path: Path) -> bool:
    return path.parent.name == MASKS and path.suffix.lower() == ".png" and not path.is_symlink()


def _lay(project: Project, root: Path, targets: Sequence[Target], *, verb: str) -> tuple[int | None, Plan]:
    """Rename folders whose repeats changed, then bring every folder to what it shall hold; one plan."""
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
    # A folder and the files in it cannot move in one plan; the renaming is a step of its own in the history.
    moves = Plan(tuple(Move(old, new) for old, new in renames.items()))
    renamed = project.apply(moves, verb, f"folders renamed: {title}")
    if project.how.dry_run and renames:
        return None, moves + fill
    filled = project.apply(fill, verb, title)
    return filled if filled is not None else renamed, moves + fill


def _renamed_folders(root: Path, targets: Sequence[Target]) -> dict[Path, Path]:
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


def _stale_folders(root: Path, targets: Sequence[Target], renames: Mapping[Path, Path]) -> list[Path]:
    """Return other folders of the same concepts, which would be trained as well."""
    names = {c.name for t in targets if isinstance(c := grammar.parse(t.folder.name), Concept)}
    keep = {t.folder for t in targets} | set(renames)
    tree = grammar.read_tree(root).concepts if root.is_dir() else ()
    return [f.path for f in tree if f.concept.name in names and f.path not in keep]


def _files(folder: Path) -> list[Path]:
    """Return the pictures, captions and masks of a laid-out folder."""
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


# ---- reg --------------------------------------------------------------------------------------------------------


def reg(options: RegOptions, how: How = JUST_DO_IT) -> RegResult:
    """Make `out/reg/<repeats>_<class>` from a folder of class pictures, balanced against `out/train`.

    Raises ConfigError without a class, DatasetError without pictures or without a training set to balance against.
    """
    config = find(Path())
    if not options.folder or not options.class_name:
        raise ConfigError("reg needs a folder and a class", hint="dsk reg DIR --class 1girl, or [reg] in dsk.toml")
    folder = require_folder(Path(options.folder))
    out = Path(options.out)
    for place in (folder, out):
        finish_interrupted(place, how)
    train_sets = existing_sets(out / TRAIN)
    if not train_sets:
        raise DatasetError(f"{display(out / TRAIN)} holds no training folders", hint="dsk layout first")
    with open_project(out, how) as project:
        train, train_failed = measure(train_sets, project.store)
        visits = sum(c.images * (c.repeats or 1) for c in train)
        found = scan(folder, project.store, captions=options.captions == "derive")
        if not train or not found.records:
            raise none_usable(folder if train else out / TRAIN, found.failed if train else train_failed)
        repeats = options.repeats or arithmetic.balance_reg(visits, len(found.records))
        target = out / REG / grammar.folder_name(Concept(repeats, options.class_name))
        texts = _derived(found.records, train_sets, project, options, config) if options.captions == "derive" else {}
        sources = tuple(Source(r.path, texts.get(r.path)) for r in found.records)
        entry, changes = _lay(project, out / REG, [Target(target, sources)], verb="reg")
    train_plan = arithmetic.plan(
        train,
        rules=config.build(TrainOptions, "train").bucket_rules(),
        schedule=schedule_of(PlanRepeatsOptions(), config.build(TrainOptions, "train")),
        reg=[ConceptImages(options.class_name, sizes(found.records), repeats=repeats)],
    )
    used = len(found.records) - (train_plan.reg.unused if train_plan.reg else 0)
    words = tuple(line for line in advice(train_plan) if "regularisation" in line)
    return RegResult(target, len(found.records), repeats, visits, used, words, changes, found.failed, entry)


def _derived(
    records: Sequence[object], train: Sequence[ConceptSet], project: Project, options: RegOptions, config: Config
) -> dict[Path, str]:
    """Return captions for the pictures: their own, else the training captions in turn, with trigger -> class."""
    from datasetkit.core.records import ImageRecord

    triggers = options.trigger or config.build(TagOptions, "tag").trigger
    triggers = triggers or tuple(t for c in config.concepts for t in c.trigger)
    if not triggers:
        raise ConfigError("no trigger to replace by the class", hint="--trigger NAME, or trigger in dsk.toml")
    forms = {normal_form(t) for t in triggers}
    captions = [r.caption for c in train for r in scan(c.folder, project.store).records if r.caption and r.caption.tags]
    texts: dict[Path, str] = {}
    for n, record in enumerate(r for r in records if isinstance(r, ImageRecord)):
        own = record.caption if record.caption is not None and record.caption.tags else None
        if own is None and not captions:
            raise DatasetError("the training folders have no captions to derive from", hint="dsk tag, then dsk layout")
        tags = (own or captions[n % len(captions)]).tags
        rest = tuple(
            t for t in tags if normal_form(t) not in forms and normal_form(t) != normal_form(options.class_name)
        )
        texts[record.path] = file_text(Caption((options.class_name, *rest)))
    return texts
