"""`dsk init`: write a commented dsk.toml to start from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from datasetkit.captions.rulesets import writable
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.dataset import layout
from datasetkit.dataset.naming import name_fault
from datasetkit.images.listing import holds_images, subfolders
from datasetkit.images.scan import require_folder
from datasetkit.project.plans import FileOp, Plan, WriteBytes, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    RunContext,
    open_project,
    open_unrecovered,
)
from datasetkit.verbs.shared import schema_file

_TEMPLATE = """\
# Run it with: dsk run dsk.toml. Each [table] has the options of the command of that name
# (dsk COMMAND --help). A second run only redoes what changed; dsk undo reverts a change.

[run]
# All steps, in order:
# "rename", "faces", "resize", "cutout", "tag", "caption", "layout", "reg", "report", "export".
# Only rename changes your own folder: the names of the images.
steps = ["resize", "tag", "layout", "report", "export"]
work = "work"                # resized images and their captions: work/<concept>

[[concept]]                  # one table per subject or style
name = "{name}"              # the folder becomes train/<repeats>_{name}
folder = "{images}"        # your images
{trigger}
# Tags that the trigger should absorb, e.g. ["@face", "*_hair"]; see: dsk rules groups
exclude = []

[rename]
prefix = "{name}"

[resize]
max = 1024                   # long edge in pixels

# [cutout]                   # with "cutout" in steps: a plain background colour
# bg = "white"

[tag]
tagger = "auto"              # WD14, or the fallback "basic" if it cannot be downloaded
threshold = 0.35
# implies = "common"         # drop `hat` beside `baseball cap`

[layout]
out = "dataset"
steps = 1000                 # optimizer steps per concept

# A regularisation set: images of the class of the subject
# [reg]
# folder = "reg-images"
# class_name = "1girl"

[report]
plot = true

[train]
resolution = 512
train_batch_size = 1
max_train_epochs = 10
"""


# The folder of images that is written where none is found.
_IMAGES = "images"
_TRIGGER = "trigger = [{words}]      # first in every caption"
_NO_TRIGGER = """\
# Fill in a word without a meaning, which will be first in every caption; leave it out for a style.
# trigger = ["NAME"]"""
# Words of folder names that say nothing about the subject.
_GENERIC = re.compile(
    "(?:img|image|pic(?:ture)?|photo|foto|screenshot|download|dataset|set|input|source|output|in|out"
    "|folder|file|crop|frame|document|train|reg)s?|data|training|raw|src|new|old|my|the|work|tmp"
    "|temp|test|cropped|resized|desktop|bilder|图片|照片|图像|素材|数据集|训练集|画像|写真|фото|картинки"
)


@dataclass(frozen=True, slots=True)
class InitResult:
    """The dsk.toml that init wrote. images: the folder of images that it names. trigger: in it, ()
    where a person has to fill it in.
    """

    path: Path
    entry: int | None
    images: Path
    trigger: tuple[str, ...] = ()


def images_folder(folder: Path) -> str:
    """Return where the images of a project are, as seen from its folder: its `images/`, the folder
    itself if it holds some, else its only subfolder that does. Without any, `images`.
    """
    if not folder.is_dir() or (folder / _IMAGES).is_dir():
        return _IMAGES
    if holds_images(folder):
        return "."
    below = [path.name for path in subfolders(folder) if holds_images(path)]
    return below[0] if len(below) == 1 else _IMAGES


def suggested_trigger(images: Path) -> str:
    """Return the subject's name in the name of a folder, "" for one such as `images`."""
    name = _concept(images)
    words = re.findall(r"[^\W\d_]+", name.casefold())
    if not words or any(map(_GENERIC.fullmatch, words)) or name in load():
        return ""
    try:
        return writable(name, "trigger")
    except ConfigError:
        return ""


def _concept(images: Path) -> str:
    """Return the name of a folder, without its repeats."""
    name = images.name if images.name not in ("", "..") else images.resolve().name
    parsed = layout.parse(name)
    return parsed.name if isinstance(parsed, layout.Concept) else name


def init(
    folder: Path, images: str, trigger: str, context: RunContext = DEFAULT_CONTEXT
) -> InitResult:
    """Write a commented dsk.toml. Raises InputError if there is one already.

    images: the folder of images, as seen from the project; "" for `images_folder`. trigger: one or
    several words, comma-separated; "" to take it from the folder's name, or else to leave it to be
    filled in.
    """
    path = require_folder(folder, hint="create the folder first") / CONFIG_NAME
    if path.exists():
        raise InputError(
            f"{display(path)} already exists", hint="edit it, or choose another folder"
        )
    words = tuple(word for text in trigger.split(",") if (word := text.strip()))
    images = images or images_folder(folder)
    words = words or tuple(filter(None, (suggested_trigger(folder / images),)))
    name = words[0] if words else _concept(folder / images)
    if name_fault(name) or not isinstance(layout.parse(f"1_{name}"), layout.Concept):
        name = "concept"
    text = (
        schema_file.LINE
        + "\n"
        + _TEMPLATE.format(
            name=_quoted(name),
            images=_quoted(images),
            trigger=_TRIGGER.format(words=", ".join(f'"{_quoted(word)}"' for word in words))
            if words
            else _NO_TRIGGER,
        )
    )
    with open_unrecovered(folder, context) as project:
        if project.journal.open_entries():
            context.reporter.warn(
                "a command was interrupted in this project: the next one completes it"
            )
        entry = project.apply(Plan((WriteText(path, text, None),)), "init", CONFIG_NAME)
        if not context.dry_run:
            schema_file.place(folder)
    return InitResult(path, entry, folder / images, words)


def init_example(folder: Path, context: RunContext = DEFAULT_CONTEXT) -> InitResult:
    """Copy the example into a folder: images of a fox girl and of other girls with captions, and a
    dsk.toml that trains a LoRA of her on the tiny base.

    Raises InputError if the folder has a dsk.toml, PlanConflict for other files in the way.
    """
    path = folder / CONFIG_NAME
    if os.path.lexists(path):
        raise InputError(f"{display(path)} already exists", hint="name a new folder")
    example = resources.files("datasetkit").joinpath("example")
    ops: list[FileOp] = []
    for name in ("", "faces", "girls"):
        entries = sorted(example.joinpath(name).iterdir(), key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_file():
                ops.append(WriteBytes(folder / name / entry.name, entry.read_bytes(), None))
    with open_project(folder, context, create_folder=True) as project:
        entry_number = project.apply(Plan(tuple(ops)), "init", f"example in {folder.name}")
    return InitResult(path, entry_number, folder / "faces", ("kitsu",))


def _quoted(text: str) -> str:
    """Return a text as it stands within the quotes of TOML."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
