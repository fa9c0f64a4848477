"""`dsk layout`: the folders that trainers read, brought to what the concepts say."""

from __future__ import annotations

from collections.abc import Sequence
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
from datasetkit.dataset.layout import TRAIN, Concept, LayoutFolder, LayoutImage
from datasetkit.dataset.repeats import ConceptImages, RepeatsPlan
from datasetkit.images.scan import require_folder, require_images, scan, sizes
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.toml import find
from datasetkit.project.plans import Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet, of_config
from datasetkit.verbs.shared.concept_images import (
    batch_settings,
    measure,
    no_usable_image,
    train_options,
)
from datasetkit.verbs.shared.laid_out import existing_reg, existing_sets, lay_out


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
    train = train_options(config, options.resolution)
    with open_project(out, context) as project:
        found = {c.name: scan(c.folder, project.store, recursive=c.recursive) for c in sets}
        usable = [c for c in sets if found[c.name].records]
        if not usable:
            raise no_usable_image(
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
        entry, changes = lay_out(project, out / TRAIN, targets, verb="layout")
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
    raise no_usable_image(sets[0].folder, failed)


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
