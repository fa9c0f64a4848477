"""`dsk layout`: update the folders that trainers read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from datasetkit.captions.caption import has_joined_lines, laid_out_text, on_one_line
from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.core.files import (
    MASKS,
    PROJECT,
    CompanionIndex,
    companion_index,
    companions_in,
    display,
    find_root,
    fold,
    reading,
    refuse_link,
)
from datasetkit.core.packed import PackedList
from datasetkit.core.path_list import EVERY_PATH
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Caption, Failed, ImageRecord, LeftOut
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.advice import DEFAULT_STEPS, advice
from datasetkit.dataset.keep_tokens import ConceptCaptions, keep_tokens
from datasetkit.dataset.layout import REG, TRAIN, Concept, LayoutFolder, LayoutImage
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.repeats import ConceptImages, RepeatsPlan
from datasetkit.dataset.trigger import earlier
from datasetkit.images.listing import Listing, list_images
from datasetkit.images.scan import Scan, require_folder, require_images, scan, sizes
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import TrainOptions
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.plans import Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.project.store import Store
from datasetkit.project.stored_triggers import stored_key
from datasetkit.verbs.shared.concept_folders import ConceptSet, of_config
from datasetkit.verbs.shared.concept_images import (
    batch_settings,
    measure,
    no_usable_image,
    train_options,
)
from datasetkit.verbs.shared.kept_results import NOT_KEPT, RunInputs, inputs_of, is_idle
from datasetkit.verbs.shared.laid_out import (
    ImageStorage,
    existing_reg,
    existing_sets,
    image_storage,
    lay_out,
    linkable,
)
from datasetkit.verbs.shared.triggers import concept_captions


@dataclass(frozen=True, slots=True)
class LayoutResult:
    """What layout did, or would do. concepts: (name, repeats); plan: of the repeats.

    keep_tokens: how many leading tags of all captions are fixed; keep_tokens_lowered_by: the images
    whose captions lower it. joined_lines: those whose caption has several lines that became one.
    """

    out: Path
    concepts: tuple[tuple[str, int], ...]
    plan: RepeatsPlan
    advice: tuple[str, ...]
    changes: Plan
    storage: ImageStorage
    failed: tuple[Failed, ...]
    without_caption: tuple[Path, ...]
    entry: int | None
    warnings: tuple[str, ...] = ()
    keep_tokens: int = 0
    keep_tokens_lowered_by: tuple[Path, ...] = ()
    joined_lines: tuple[Path, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()


def parse_concept(text: str) -> ConceptSet:
    """Parse `DIR`, `NAME=DIR` or `REPEATS_NAME=DIR`; an existing folder with a `=` is a DIR."""
    if "=" not in text or Path(text).is_dir():
        folder = require_folder(Path(text))
        parsed = grammar.parse(folder.resolve().name)
        if isinstance(parsed, Concept):
            return ConceptSet(parsed.name, folder, parsed.repeats)
        return ConceptSet(folder.resolve().name, folder)
    name, _, folder_text = text.partition("=")
    folder = require_folder(Path(folder_text))
    parsed = grammar.parse(name)
    if isinstance(parsed, Concept):
        return ConceptSet(parsed.name, folder, parsed.repeats)
    if name[:1].isdecimal():
        raise ConfigError(
            f"{display(name)!r}: {parsed.reason}",
            hint="write 10_name=DIR, or name=DIR to plan the repeats",
        )
    return ConceptSet(name, folder)


# Repeats, and so the names of the folders, depend on all images: the plan comes first, the folders
# after it. `lay_out` compares them with what is there, so a second run changes nothing, and other
# repeats only rename a folder. Images that dsk made are hard links, which cost no space; others are
# copies: a program that edits an image of the dataset in place must not change the original.
# Captions are copies: an edit in the layout must not change the original, nor be undone silently;
# `dsk check` reports captions that differ from their source.
def layout(
    concepts: Sequence[str], options: LayoutOptions, context: RunContext = DEFAULT_CONTEXT
) -> LayoutResult:
    """Update `out/train/<repeats>_<concept>` to the concepts: images and their captions.

    Images that dsk made are hard links, and with `link` all of them; the others are copies.

    concepts: `DIR`, `NAME=DIR` or `REPEATS_NAME=DIR`; by default those of dsk.toml. Raises
    DatasetError without images, PlanConflict for images with one name, with nothing changed.
    """
    config = find(Path())
    sets = _concepts(concepts, config)
    for concept in sets:
        recover_projects([concept.folder], context, recursive=concept.recursive)
    _check_names(sets)
    out = Path(options.out)
    refuse_link(out)
    require_names(out)
    inputs = _inputs(sets, out, options, context.reporter) if (out / TRAIN).is_dir() else NOT_KEPT
    if (kept := inputs.kept(_KeptLayout)) is not None:
        for note in kept.notes:
            context.reporter.warn(note)
        return kept.result
    for concept in sets:
        require_images(concept.folder, recursive=concept.recursive)
    return _layout(sets, config, options, context, inputs)


def _inputs(
    sets: Sequence[ConceptSet], out: Path, options: LayoutOptions, reporter: Reporter
) -> RunInputs:
    folders = [(concept.folder, concept.recursive) for concept in sets]
    folders += [(folder, True) for folder in (out / TRAIN, out / REG) if folder.is_dir()]
    return inputs_of("layout", find_root(out), folders, (sets, options), reporter=reporter)


@dataclass(frozen=True, slots=True)
class _KeptLayout:
    """The result of a run that changed nothing, and what it warned of."""

    result: LayoutResult
    notes: tuple[str, ...]


def _layout(
    sets: Sequence[ConceptSet],
    config: Config,
    options: LayoutOptions,
    context: RunContext,
    inputs: RunInputs,
) -> LayoutResult:
    """Read the images, and update the folders."""
    out = Path(options.out)
    if not (find_root(out) / PROJECT).is_dir():
        _require_usable(sets)
    with open_project(out, context, create_folder=True) as project:
        scans = {
            c.name: scan(
                c.folder,
                project.store,
                recursive=c.recursive,
                unique_on="any disk",
                reporter=context.reporter,
            )
            for c in sets
        }
        usable = [c for c in sets if scans[c.name].records]
        failed = tuple(f for scanned in scans.values() for f in scanned.failed)
        if not usable:
            raise no_usable_image(sets[0].folder, failed)
        plan = _plan_repeats(
            usable, scans, options, train_options(config, options.resolution), project
        )
        records = {c.name: scans[c.name].records for c in usable}
        made = linkable((r.path for several in records.values() for r in several), project)
        links = EVERY_PATH if options.link else made
        targets = _targets(
            plan, records, out, links, on_one_line if options.one_line else laid_out_text
        )
        captions = [concept_captions(c, records[c.name], config) for c in usable]
        triggers = _known_triggers(targets, captions)
        _keep_earlier_triggers(project, targets, usable)
        entry, changes, kept, edited = lay_out(
            project, out / TRAIN, targets, verb="layout", triggers=triggers
        )
        leading = keep_tokens(captions)
        for note in leading.notes:
            context.reporter.warn(note)
        result = LayoutResult(
            out=out,
            concepts=tuple((p.name, p.repeats) for p in plan.concepts),
            plan=plan,
            advice=(*advice(plan, options.kind), *_other_folders(out / TRAIN, sets)),
            changes=changes,
            storage=image_storage(changes, made),
            failed=(*failed, *kept),
            without_caption=_without_caption(scans.values()),
            entry=entry,
            warnings=(
                *edited.warnings,
                *_other_kinds(usable, targets),
                *misnamed_warnings(misnamed_captions(p for s in scans.values() for p in s.paths)),
            ),
            keep_tokens=leading.value,
            keep_tokens_lowered_by=leading.lowered_by,
            joined_lines=_joined_lines(scans.values()),
            unused_files=_left_out(scans.values()),
        )
        if is_idle(project, entry, changed=bool(changes.ops)):
            inputs.keep(project.store, _KeptLayout(result, tuple(leading.notes)))
    return result


def _targets(
    plan: RepeatsPlan,
    records: Mapping[str, Sequence[ImageRecord]],
    out: Path,
    links: Container[Path],
    text: Callable[[Caption], str],
) -> list[LayoutFolder]:
    """Return the folder of each concept with its images. links: those to hard-link. text: returns
    what is written of a caption.
    """
    return [
        LayoutFolder(
            out / TRAIN / grammar.folder_name(Concept(concept.repeats, concept.name)),
            _sources(records[concept.name], links, text),
        )
        for concept in plan.concepts
    ]


def _other_kinds(sets: Sequence[ConceptSet], targets: Sequence[LayoutFolder]) -> list[str]:
    """Return a line for each concept with sentences whose laid-out folder no dsk.toml says that of:
    a training from there would take them apart.
    """
    lines: list[str] = []
    for concept, target in zip(sets, targets, strict=True):
        kind = syntax_of(concept.folder).kind
        if kind != syntax_of(target.folder).kind:
            folder = display(target.folder.parent.parent)
            lines.append(
                f"{display(concept.name)}: its captions are of the kind {kind}, and no dsk.toml "
                f'says so for {folder}: write [dataset] captions = "{kind}" into {folder}/dsk.toml'
            )
    return lines


def _known_triggers(
    targets: Sequence[LayoutFolder], captions: Sequence[ConceptCaptions]
) -> dict[Path, tuple[str, ...]]:
    """Return the triggers that are declared or stored, by the key of the laid-out folder."""
    return {
        stored_key(target.folder): concept.trigger.words
        for target, concept in zip(targets, captions, strict=True)
        if concept.trigger.source in ("dsk.toml", "stored")
    }


def _keep_earlier_triggers(
    project: Project, targets: Sequence[LayoutFolder], sets: Sequence[ConceptSet]
) -> None:
    """Store for the laid-out folders what their captions may have of earlier triggers."""
    if not project.context.dry_run:
        folders = zip(targets, sets, strict=True)
        project.store.put_earlier_triggers(earlier({t.folder: [c.folder] for t, c in folders}))


def _joined_lines(scans: Iterable[Scan]) -> tuple[Path, ...]:
    records = (record for scanned in scans for record in scanned.records)
    return tuple(r.path for r in records if r.caption is not None and has_joined_lines(r.caption))


def _left_out(scans: Iterable[Scan]) -> tuple[LeftOut, ...]:
    return tuple(item for scanned in scans for item in scanned.left_out)


def _without_caption(scans: Iterable[Scan]) -> tuple[Path, ...]:
    records = (record for scanned in scans for record in scanned.records)
    return tuple(r.path for r in records if r.caption is None or r.caption.is_empty)


def _plan_repeats(
    sets: Sequence[ConceptSet],
    scans: Mapping[str, Scan],
    options: LayoutOptions,
    train: TrainOptions,
    project: Project,
) -> RepeatsPlan:
    images = [
        ConceptImages(c.name, sizes(scans[c.name].records), repeats=c.repeats or options.repeats)
        for c in sets
    ]
    reg_sets = existing_reg(Path(options.out))
    reg = measure(reg_sets, project.store, project.context.reporter).concepts
    return arithmetic.plan(
        images,
        rules=train.all_bucket_rules(),
        batch_settings=batch_settings(options, train),
        steps=options.steps or DEFAULT_STEPS,
        reg=reg,
    )


def _concepts(texts: Sequence[str], config: Config) -> list[ConceptSet]:
    """Return the concepts of the command, else those of dsk.toml."""
    sets = [parse_concept(text) for text in texts]
    sets = sets or [of_config(config, concept) for concept in config.concepts]
    if not sets:
        raise DatasetError(
            "no concept to lay out", hint="dsk layout NAME=DIR, or [[concept]] tables in dsk.toml"
        )
    return sets


def _check_names(sets: Sequence[ConceptSet]) -> None:
    """Refuse invalid names, and concepts with one name."""
    for concept in sets:
        grammar.folder_name(Concept(concept.repeats or 1, concept.name))
    names = [fold(concept.name) for concept in sets]
    repeated = next(
        (c.name for c, name in zip(sets, names, strict=True) if names.count(name) > 1), None
    )
    if repeated is not None:
        raise ConfigError(
            f"two concepts are named {display(repeated)}", hint="name each with NAME=DIR"
        )


def _require_usable(sets: Sequence[ConceptSet]) -> None:
    """Find one usable image before a project is created in a folder that would remain empty."""
    failed: list[Failed] = []
    for concept in sets:
        listing = list_images(concept.folder, recursive=concept.recursive)
        failed.extend(listing.failed)
        with Store.open_copy(find_root(concept.folder)) as store:
            for path in listing.images:
                scanned = scan(concept.folder, store, listing=Listing((path,), ()))
                if scanned.records:
                    return
                failed.extend(scanned.failed)
    raise no_usable_image(sets[0].folder, failed)


def _other_folders(root: Path, sets: Sequence[ConceptSet]) -> tuple[str, ...]:
    """Warn of folders of other concepts: they are trained, but the plan does not count them."""
    names = {concept.name for concept in sets}
    return tuple(
        f"{display(other.folder.name)} is in the same folder and is trained too; move it away if "
        "you do not want it"
        for other in existing_sets(root)
        if other.name not in names
    )


def _sources(
    records: Sequence[ImageRecord], links: Container[Path], text: Callable[[Caption], str]
) -> PackedList[LayoutImage]:
    """Return the images of a concept with their captions and masks. links, text: see `_targets`."""
    masks = cache(_masks)
    return PackedList(
        LayoutImage(
            r.path,
            text(r.caption) if r.caption and not r.caption.is_empty else None,
            _mask_of(r.path, masks(r.path.parent)),
            link=r.path in links,
        )
        for r in records
    )


def _masks(folder: Path) -> CompanionIndex:
    """Return the masks of the images in a folder: no captions, of which there may be a million."""
    inside = folder / MASKS
    if inside.is_symlink() or not inside.is_dir():
        return {}
    with reading(inside):
        files = [path for path in inside.iterdir() if path.is_file() and _is_mask(path)]
    return companion_index((folder, path) for path in files)


def _mask_of(image: Path, masks: CompanionIndex) -> Path | None:
    return next(iter(companions_in(masks, image)), None) if masks else None


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() == ".png" and not path.is_symlink()
