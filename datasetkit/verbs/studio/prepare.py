"""Preparing the images of concepts: which commands the chosen steps are, and starting them.

The steps and their options are written into dsk.toml, so that `dsk run` does the same; each step of
each concept is a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import InputError
from datasetkit.core.files import CONFIG_NAME, display, read_existing
from datasetkit.dataset.naming import name_fault
from datasetkit.options import toml, toml_edit
from datasetkit.options.images import RenameOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.run import STEPS as RUN_STEPS
from datasetkit.options.run import RunOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import open_project
from datasetkit.verbs.shared.concept_folders import IMAGE_STEPS, step_folders
from datasetkit.verbs.studio import concepts, jobs, prepare_preview
from datasetkit.verbs.studio.commands import StudioCommand, command, shown
from datasetkit.verbs.studio.concepts import STEPS, StudioConcept
from datasetkit.verbs.studio.images import ShownImage
from datasetkit.verbs.studio.prepare_preview import PreviewWork
from datasetkit.verbs.studio.session import StudioSession

Steps = Mapping[str, Mapping[str, Any]]
_FACES: Final = ("crop", "erase")
_SHOWN: Final = 100  # changes that are listed


def read_steps(value: Any) -> Steps:
    """Read the steps of a request: step -> options. Raises InputError."""
    if not isinstance(value, dict) or not value.keys() <= set(STEPS):
        raise InputError(f"steps must be some of {', '.join(STEPS)}, each with its options")
    if not all(isinstance(options, dict) for options in value.values()):
        raise InputError("each step needs an object with its options")
    return {step: value[step] for step in STEPS if step in value}


def plan(studio: StudioSession, number: int | None, steps: Steps) -> dict[str, Any]:
    """Return what preparing a concept, or all, would do. total: images that are not current."""
    chosen = _chosen(studio, number)
    commands = _commands(studio, chosen, steps)
    images = sum(concepts.image_count(studio, concept) for concept in chosen)
    is_same = steps == concepts.declared_steps(studio)
    prepared = sum(concepts.prepared_count(studio, concept) for concept in chosen)
    is_made = any(step in IMAGE_STEPS for step in steps)
    return {
        "images": images,
        "changes": [each.shown for each in commands][:_SHOWN],
        "total": images - min(images, prepared) if is_same and is_made else images,
        "command": shown(commands),
    }


def preview(studio: StudioSession, number: int, steps: Steps) -> dict[str, Any]:
    """Try the steps that change images on three images of a concept, outside of the project.

    Raises InputError without such a step and for one that fails, DryRunReplaced.
    """
    concept = concepts.require(studio, number)
    image_steps = tuple(step for step in IMAGE_STEPS if step in steps)
    if not image_steps:
        raise InputError(
            "no chosen step changes the content of an image",
            hint="choose faces, resize or cutout",
        )
    config = toml.find(studio.folder)
    work = PreviewWork()
    for step, between in step_folders(
        image_steps, Path("work"), Path("images"), concept.name
    ).items():
        verb, options = _verb(step, {**config.table(step), **steps[step]})
        words = command(studio, verb, [], options).words
        work.add(verb, between.source, between.out, words[len(verb.split()) :])
    chosen = prepare_preview.chosen(concepts.listed_images(studio, concept))
    images = studio.images.read(chosen, max_pixels=studio.options.max_pixels)
    before = _rows(image for image in images if not image.problem)
    if not before:
        raise InputError(
            f"none of the {len(chosen)} images that are tried can be read",
            hint="Images lists what is left out, and why",
        )
    folder = studio.preview.make(studio.root, list(before), work)
    made = concepts.made_by_stem(folder / work.out)
    after = _rows(studio.images.read(list(made.values()), max_pixels=studio.options.max_pixels))
    pairs = [
        {
            "name": display(path.name),
            "before": image,
            "after": after.get(made.get(path.stem, Path())),
        }
        for path, image in before.items()
    ]
    return {"images": pairs, "command": work.shown([studio.shown(path) for path in before])}


def _rows(images: Iterable[ShownImage]) -> dict[Path, dict[str, Any]]:
    """Return what the page gets of images, by path."""
    return {
        image.path: {"id": image.id, "v": image.v, "w": image.width, "h": image.height}
        for image in images
    }


def start(studio: StudioSession, number: int | None, steps: Steps) -> dict[str, Any]:
    """Write the steps into dsk.toml, and add a job for each. Raises InputError, ConfigError."""
    chosen = _chosen(studio, number)
    commands = _commands(studio, chosen, steps)  # raises before anything is written
    if not commands:
        raise InputError("no step was chosen", hint="choose what to do with the images")
    planned = plan(studio, number, steps)
    declared = {c.name for c in concepts.find_concepts(studio) if c.is_declared}
    for concept in chosen:
        if concept.name not in declared and concept.kind == "train":
            concepts.add_existing(studio, concept)
    entry = _write_steps(studio, steps)
    return {**planned, "entry": entry, "jobs": jobs.start(studio, commands, "queue")}


def _chosen(studio: StudioSession, number: int | None) -> list[StudioConcept]:
    if number is None:
        return list(concepts.find_concepts(studio))
    return [concepts.require(studio, number)]


def _commands(
    studio: StudioSession, chosen: Sequence[StudioConcept], steps: Steps
) -> list[StudioCommand]:
    """Return the commands in the order in which they run: step by step, concept by concept."""
    config = toml.find(studio.folder)
    work = studio.root / config.build(RunOptions, "run", only_read=True).work
    commands: list[StudioCommand] = []
    for concept in chosen:
        name = concept.name
        if concept.kind == "reg":
            name = f"reg-{config.build(RegOptions, 'reg', only_read=True).class_name}"
        folders = step_folders(tuple(steps), work, concept.folder, name)
        if "rename" in steps:
            commands.append(_rename(studio, concept, steps["rename"]))
        for step, between in folders.items():
            verb, options = _verb(step, steps[step])
            arguments = [str(between.source), str(between.out)]
            commands.append(command(studio, verb, arguments, options))
    return commands


def _rename(
    studio: StudioSession, concept: StudioConcept, given: Mapping[str, Any]
) -> StudioCommand:
    prefix = given.get("prefix") or concept.name
    fault = name_fault(prefix) if isinstance(prefix, str) else "is not a text"
    if fault is None and prefix.startswith("-"):  # as an argument it would be an option
        fault = "begins with a dash"
    if fault is not None:
        raise InputError(f"the prefix `{display(str(prefix))}` {fault}", hint="use letters")
    toml.build(RenameOptions, {**given, "prefix": prefix}, {}, where="[rename]")
    plain = command(studio, "rename", [str(concept.folder)], {})
    return replace(plain, words=(*plain.words, str(prefix)))


def _verb(step: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if step != "faces":
        return step, dict(given)
    action = given.get("do", "crop")
    if action not in _FACES:
        raise InputError(f"do must be one of {', '.join(_FACES)}")
    return f"faces {action}", {key: value for key, value in given.items() if key != "do"}


def _write_steps(studio: StudioSession, steps: Steps) -> int | None:
    """Write the steps and their options into dsk.toml, and leave all else as it is."""
    path = studio.root / CONFIG_NAME
    config = toml.find(studio.folder)
    others = set(config.build(RunOptions, "run", only_read=True).steps) - set(STEPS)
    wanted = [step for step in RUN_STEPS if step in others or step in steps]
    with open_project(studio.root, studio.context) as project:
        before = read_existing(path)
        text = (before or b"").decode("utf-8")
        changes = {"run": {"steps": wanted}, **steps}
        for table, values in changes.items():
            now = config.table(table)
            new = {key: value for key, value in values.items() if now.get(key) != value}
            if table == "run" and list(now.get("steps", ())) == wanted:
                new = {}
            if new:
                text = toml_edit.with_values(text, table, new, source=display(path))
        plan_ = Plan((WriteText(path, text, before),))
        return project.apply(plan_, "init", "steps of preparation", edited=(Path(path),))
