"""`dsk init`: write a commented dsk.toml to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.images.scan import require_folder
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_unrecovered
from datasetkit.verbs.shared import schema_file

_TEMPLATE = """\
# Run it with: dsk run dsk.toml. Each [table] has the options of the command of that name
# (dsk COMMAND --help). A second run only redoes what changed; dsk undo reverts a change.

[run]
# All steps, in order:
# "rename", "faces", "resize", "cutout", "tag", "layout", "reg", "report", "export".
# Only rename changes your own folder: the names of the images.
steps = ["resize", "tag", "layout", "report", "export"]
work = "work"                # resized images and their captions: work/<concept>

[[concept]]                  # one table per subject or style
name = "{name}"              # the folder becomes train/<repeats>_{name}
folder = "{images}"        # your images
trigger = ["{trigger}"]      # first in every caption
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


@dataclass(frozen=True, slots=True)
class InitResult:
    """The dsk.toml that init wrote."""

    path: Path
    entry: int | None


def init(
    folder: Path, images: str, trigger: str, context: RunContext = DEFAULT_CONTEXT
) -> InitResult:
    """Write a commented dsk.toml. Raises InputError if there is one already."""
    path = require_folder(folder, hint="create the folder first") / CONFIG_NAME
    if path.exists():
        raise InputError(
            f"{display(path)} already exists", hint="edit it, or choose another folder"
        )
    name = trigger or Path(images).name or "concept"
    quoted = {
        k: v.replace("\\", "\\\\").replace('"', '\\"')
        for k, v in {"name": name, "images": images, "trigger": trigger or name}.items()
    }
    text = schema_file.LINE + "\n" + _TEMPLATE.format(**quoted)
    with open_unrecovered(folder, context) as project:
        if project.journal.open_entries():
            context.reporter.warn(
                "a command was interrupted in this project: the next one completes it"
            )
        entry = project.apply(Plan((WriteText(path, text, None),)), "init", CONFIG_NAME)
        if not context.dry_run:
            schema_file.place(folder)
    return InitResult(path, entry)
