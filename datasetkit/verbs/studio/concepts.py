"""The concepts of a project, and the images of each before and after they are prepared."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import tomli_w

from datasetkit.core.errors import ConfigError, DskError, InputError
from datasetkit.core.files import CONFIG_NAME, display, read_existing
from datasetkit.dataset.buckets import BucketRules, select
from datasetkit.dataset.naming import name_fault
from datasetkit.images.listing import Listing, list_images
from datasetkit.options.reg import RegOptions
from datasetkit.options.run import RunOptions
from datasetkit.options.toml import Config, find
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import open_project
from datasetkit.verbs.shared import concept_folders
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.studio.images import ShownImage
from datasetkit.verbs.studio.session import StudioSession

Kind = Literal["train", "reg"]
# The steps of a run that prepare images, in their order.
STEPS: Final = ("rename", "faces", "resize", "cutout")
_MOST_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class StudioConcept:
    """A concept. folder: of the raw images; work: of the finished ones, the same where no step
    makes any. is_declared: in dsk.toml.
    """

    name: str
    folder: Path
    work: Path
    kind: Kind = "train"
    trigger: tuple[str, ...] = ()
    repeats: int | None = None
    is_declared: bool = False


def find_concepts(studio: StudioSession) -> tuple[StudioConcept, ...]:
    """Return the concepts of dsk.toml and its folder of regularisation images; without concepts,
    the folders with images.
    """
    config = find(studio.folder)
    concepts = [_declared(config, concept) for concept in config.concepts]
    reg = _reg(studio, config)
    if not concepts:
        concepts = [c for c in _folders(studio) if reg is None or c.folder != reg.folder]
    return (*concepts, *([reg] if reg is not None else []))


def _declared(config: Config, concept: Any) -> StudioConcept:
    root = config.root or Path()
    return StudioConcept(
        concept_folders.concept_name(concept),
        root / concept.folder,
        concept_folders.work_folder(config, concept),
        "train",
        concept_folders.declared_trigger(config, concept),
        concept.repeats,
        is_declared=True,
    )


def _reg(studio: StudioSession, config: Config) -> StudioConcept | None:
    if not config.table("reg").get("folder"):
        return None
    options = config.build(RegOptions, "reg", only_read=True)
    folder = config.locate(options.folder, studio.folder)
    return StudioConcept(folder.name, folder, folder, "reg", options.trigger)


def _folders(studio: StudioSession) -> list[StudioConcept]:
    listing = _listing(studio.folder)
    folders = [studio.folder] if listing.images else []
    folders += [item.path for item in listing.left_out if item.group == "folder"]
    return [StudioConcept(folder.name, folder, folder) for folder in folders]


def _listing(folder: Path) -> Listing:
    try:
        return list_images(folder)
    except InputError:  # it does not exist yet
        return Listing(())


def require(studio: StudioSession, number: int) -> StudioConcept:
    concepts = find_concepts(studio)
    if not 0 <= number < len(concepts):
        raise InputError(f"there is no concept {number}", hint="load the page again")
    return concepts[number]


def upload_folder(studio: StudioSession, name: str) -> str:
    """Return the folder of a concept, relative to the one that is open. Raises InputError for a
    concept whose images lie elsewhere: nothing is copied there.
    """
    for concept in find_concepts(studio):
        if concept.name == name:
            folder = concept.folder.resolve()
            if folder == studio.folder:
                return ""
            if folder.is_relative_to(studio.folder):
                return folder.relative_to(studio.folder).as_posix()
            raise InputError(
                f"the images of {display(name)} lie in another folder, {display(folder)}",
                hint="copy them there yourself, or add a concept",
            )
    raise InputError(f"there is no concept {display(name)}", hint="add it first")


# ---- what the page shows


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return the concepts with their numbers of images, and the steps that dsk.toml has."""
    rows = []
    for number, concept in enumerate(find_concepts(studio)):
        listing = _allowed_listing(studio, concept)
        rows.append({
            "id": number,
            "name": concept.name,
            "folder": studio.shown(concept.folder),
            "kind": concept.kind,
            "images": len(listing.images),
            "left_out": len(_left_out(listing)),
            "trigger": concept.trigger,
            "repeats": concept.repeats,
            "prepared": _prepared(concept, listing.images),
        })  # fmt: skip
    return {"concepts": rows, "steps": declared_steps(studio)}


def images_in(folder: Path) -> Sequence[Path]:
    """Return the images of a folder, none of one that does not exist."""
    return _listing(folder).images


def finished_images(concept: StudioConcept) -> Sequence[Path]:
    """Return the finished images of a concept; before it is prepared, the raw ones."""
    finished = () if concept.work.is_symlink() else _listing(concept.work).images
    return finished or _listing(concept.folder).images


def allowed_finished(studio: StudioSession, concept: StudioConcept) -> Sequence[Path]:
    """Return the same; none where dsk.toml names a folder outside of the roots."""
    with suppress(InputError):
        for folder in (concept.folder, concept.work):
            studio.roots.path(str(folder))
        return finished_images(concept)
    return ()


def listed_images(studio: StudioSession, concept: StudioConcept) -> Sequence[Path]:
    """Return the raw images of a concept; none where its folder is outside of the roots."""
    return _allowed_listing(studio, concept).images


def image_count(studio: StudioSession, concept: StudioConcept) -> int:
    return len(listed_images(studio, concept))


def prepared_count(studio: StudioSession, concept: StudioConcept) -> int:
    """Return how many raw images of a concept have a finished one."""
    return _prepared(concept, listed_images(studio, concept))


def _prepared(concept: StudioConcept, images: Sequence[Path]) -> int:
    made = _made_of_concept(concept)
    return sum(path.stem in made for path in images) if made else 0


def declared_steps(studio: StudioSession) -> dict[str, Mapping[str, Any]]:
    config = find(studio.folder)
    run = config.build(RunOptions, "run", only_read=True)
    return {step: dict(config.table(step)) for step in STEPS if step in run.steps}


def _allowed_listing(studio: StudioSession, concept: StudioConcept) -> Listing:
    with suppress(InputError):  # a dsk.toml from elsewhere names any folder
        studio.roots.path(str(concept.folder))
        return _listing(concept.folder)
    return Listing(())


def _left_out(listing: Listing) -> list[dict[str, str]]:
    rows = [
        {"name": item.path.name, "reason": "; ".join(filter(None, (item.kind, item.advice)))}
        for item in listing.left_out
    ]
    rows += [
        {"name": item.path.name, "reason": "; ".join(filter(None, (item.error, item.hint)))}
        for item in listing.failed
    ]
    return rows


def left_out(studio: StudioSession, number: int) -> dict[str, Any]:
    """Return the files of a concept that are no images, and those that cannot be read."""
    concept = require(studio, number)
    listing = _allowed_listing(studio, concept)
    broken = [image for image in _read(studio, listing.images) if image.problem]
    rows = [{"name": image.path.name, "reason": image.problem} for image in broken]
    return {"files": _left_out(listing) + rows}


def _read(studio: StudioSession, paths: Sequence[Path]) -> list[ShownImage]:
    return studio.images.read(paths, max_pixels=studio.options.max_pixels)


def sources(studio: StudioSession, number: int, offset: int, limit: int) -> dict[str, Any]:
    """Return the raw images of a concept as columns, with the problem of each."""
    listing = _allowed_listing(studio, require(studio, number))
    window = _read(studio, listing.images[offset : offset + min(limit, _MOST_ROWS)])
    rules = _rules(studio)
    doubles = duplicates(studio)
    return {
        "total": len(listing.images),
        "id": [image.id for image in window],
        "name": [image.path.name for image in window],
        "w": [image.width for image in window],
        "h": [image.height for image in window],
        "v": [image.v for image in window],
        "bytes": [image.stamp.size for image in window],
        "problem": [next(iter(_problems(image, rules, doubles)), "") for image in window],
    }


def _rules(studio: StudioSession) -> BucketRules | None:
    """Return the buckets of [train], None where its options contradict each other."""
    with suppress(DskError):
        return train_options(find(studio.folder), None).bucket_rules()
    return None


def duplicates(studio: StudioSession) -> frozenset[Path]:
    """Return the images that the caption page offers as near-duplicates."""
    captions = studio.captions.loaded
    if captions is None:
        return frozenset()
    groups = captions.near_duplicates.offered().groups
    images = (captions.dataset.get(number) for group in groups for number in group)
    return frozenset(image.path for image in images if image is not None)


def _problems(
    image: ShownImage, rules: BucketRules | None, doubles: frozenset[Path]
) -> dict[str, str]:
    """Return the kinds of problems of an image, each with its text; the worst first."""
    if image.problem:
        return {"unreadable": image.problem}
    problems: dict[str, str] = {}
    if rules is not None:
        bucket = select(rules, image.width, image.height)
        if bucket.scale > 1:
            problems["small"] = f"enlarged {bucket.scale:.2g} times for training"
        if bucket.cropped > 0.25:
            problems["cropped"] = f"{bucket.cropped:.0%} of it are cut off"
    if image.path in doubles:
        problems["duplicate"] = "looks like another image"
    return problems


def source(studio: StudioSession, number: int) -> dict[str, Any] | None:
    """Return the facts of one raw image, None if no listing gave it."""
    image = studio.images.get(number)
    if image is None:
        return None
    rules = _rules(studio)
    is_read = bool(rules and not image.problem)
    bucket = select(rules, image.width, image.height).bucket if rules and is_read else None
    made = made_of(studio, image)
    problems = _problems(image, rules, duplicates(studio))
    return {
        "id": image.id,
        "name": image.path.name,
        "folder": studio.shown(image.path.parent),
        "w": image.width,
        "h": image.height,
        "v": image.v,
        "format": image.format,
        "bytes": image.stamp.size,
        "upright": not image.turned,
        "bucket": bucket,
        "made": made
        and {"id": made.id, "v": made.v, "w": made.width, "h": made.height,
             "bytes": made.stamp.size},
        "problems": [{"kind": kind, "text": text} for kind, text in problems.items()],
    }  # fmt: skip


def made_of(studio: StudioSession, image: ShownImage) -> ShownImage | None:
    """Return the finished image that was made of a raw one: of several faces the first."""
    for concept in find_concepts(studio):
        if concept.folder.resolve() == image.path.parent.resolve():
            made = _made_of_concept(concept).get(image.path.stem)
            found = _read(studio, [made] if made is not None else [])
            return found[0] if found else None
    return None


def _made_of_concept(concept: StudioConcept) -> dict[str, Path]:
    if concept.work == concept.folder or concept.work.is_symlink():
        return {}
    return made_by_stem(concept.work)


def made_by_stem(folder: Path) -> dict[str, Path]:
    """Return the finished images in a folder by the stem of the raw one: of several faces the
    first.
    """
    made: dict[str, Path] = {}
    for path in _listing(folder).images:
        made.setdefault(path.stem, path)
        stem, _, number = path.stem.rpartition("_")  # a_1.png: the first face of a.png
        if number.isdecimal():
            made.setdefault(stem, path)
    return made


# ---- adding a concept


def add(studio: StudioSession, name: str, folder: str) -> dict[str, Any]:
    """Add a concept to dsk.toml. folder: of its images where they lie, "" for a new one.

    Raises ConfigError for a name that no folder can have or that is there, NotAllowed for a folder
    outside of the roots.
    """
    if fault := name_fault(name):
        raise ConfigError(f"the name `{display(name)}` {fault}", hint="choose another name")
    if any(concept.name == name for concept in find_concepts(studio)):
        raise ConfigError(f"there is a concept {display(name)}", hint="choose another name")
    images = studio.roots.path(folder) if folder else studio.root / name
    entry = _append(studio, name, images)
    number = next(n for n, c in enumerate(find_concepts(studio)) if c.name == name)
    return {"id": number, "entry": entry}


def add_existing(studio: StudioSession, concept: StudioConcept) -> None:
    """Write a folder of images into dsk.toml as a concept."""
    _append(studio, concept.name, concept.folder)


def _append(studio: StudioSession, name: str, images: Path) -> int | None:
    values = {"name": name, "folder": studio.shown(images)}
    path = studio.root / CONFIG_NAME
    with open_project(studio.root, studio.context) as project:
        before = read_existing(path)
        edited = _with_concept((before or b"").decode("utf-8"), values)
        plan = Plan((WriteText(path, edited, before),))
        return project.apply(plan, "init", f"concept {display(name)}", edited=(path,))


def _with_concept(text: str, values: Mapping[str, Any]) -> str:
    table = "[[concept]]\n" + tomli_w.dumps(values)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    edited = text + gap + table
    try:
        tomllib.loads(edited.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{CONFIG_NAME} is written in a way in which no concept can be added: {error}",
            hint=f"add it yourself: {'; '.join(table.splitlines())}",
        ) from error
    return edited
