"""Where a run writes: the name of its files, and whether its folders can be written. Needs no
torch.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.core.errors import ConfigError, InputError, StorageError
from datasetkit.core.files import display, nearest_folder, require_writable, writing
from datasetkit.dataset.layout import dataset_roots, is_concept, laid_out_root
from datasetkit.dataset.naming import MAX_NAME_BYTES, name_fault, require_names
from datasetkit.options.train import TrainOptions

if TYPE_CHECKING:
    from trainer.plan.plan import TrainingPlan

# The longest text that the trainer puts behind the name of a run.
_LONGEST_ENDING: Final = "-step00000000.diffusers.safetensors"


def output_name(options: TrainOptions, plan: TrainingPlan) -> str:
    """Return the name of the LoRA's files: output_name, else the name of the first concept.

    Raises InputError for a name that is not valid on every system, with all endings of the files.
    """
    first = plan.subsets[0]
    given = options.output_name or first.name or first.folder.name or "lora"
    # A letter with an accent may be typed as one character or as two; to people it is one name.
    name = unicodedata.normalize("NFC", given)
    fault = name_fault(name)
    limit = MAX_NAME_BYTES - len(_LONGEST_ENDING)
    if fault is None and len(name.encode("utf-8")) > limit:
        fault = f"is longer than {limit} bytes"
    if fault is not None:
        shown = display(name if len(name) <= 40 else f"{name[:39]}…")
        which = "output_name =" if options.output_name else "the first concept"
        raise InputError(
            f"{which} {shown} is not a file name: it {fault}",
            hint="set another output_name, such as my-lora",
        )
    return name


def check_folders(options: TrainOptions) -> None:
    """Raise what creating and writing output_dir and logging_dir would raise, and create neither.

    Raises ConfigError or InputError for a name that is not valid on every system, StorageError for
    a folder that cannot be written.
    """
    _require_prefix(options.log_prefix)
    if not options.output_dir.strip():
        raise ConfigError(
            "output_dir is empty", hint='name a folder for the LoRA files: output_dir = "output"'
        )
    for folder in filter(None, (options.output_dir, options.logging_dir)):
        require_names(Path(folder))
        _require_writable(Path(folder))


def _require_prefix(prefix: str) -> None:
    """Raise InputError for a log_prefix with which a folder cannot be named."""
    folder = f"{prefix}20260101T000000Z"  # a time follows
    fault = name_fault(folder)
    if fault is None and len(folder.encode("utf-8")) > MAX_NAME_BYTES:
        fault = "is too long"
    if fault is not None:
        raise InputError(
            f"log_prefix = {display(prefix[:40])} is not the start of a folder's name: it {fault}",
            hint="set another log_prefix, such as sks-",
        )


def require_apart(options: TrainOptions, plan: TrainingPlan) -> None:
    """Raise ConfigError for an output_dir among the training images: the next run, or another
    trainer, would read the plots and preview images of this one as images of the dataset.
    """
    output = Path(options.output_dir).resolve()
    folders = {subset.folder.resolve() for subset in plan.subsets}
    concepts = [folder for folder in folders if is_concept(folder)]
    reg_roots = [dataset_roots(folder.parent)[1] for folder in concepts]  # perhaps not there yet
    inside = (output, *output.parents)
    root = laid_out_root(output / "file") or next((reg for reg in reg_roots if reg in inside), None)
    if output in folders:
        where = "is a folder of training images"
    elif root is not None:
        where = f"lies in {display(root)}, a folder of training images"
    elif any(folder in output.parents for folder in concepts):
        where = "lies in a folder of training images"
    elif is_concept(output) and any(folder.parent == output.parent for folder in folders):
        where = "has the name of a folder of training images"
    else:
        return
    raise ConfigError(
        f"output_dir = {display(options.output_dir)} {where}: the next run would train the images "
        "that this one writes",
        hint='set output_dir = "output"',
    )


def _require_writable(folder: Path) -> None:
    """Raise StorageError if a folder cannot be written, or could not be created."""
    with writing(folder):
        if folder.is_dir():
            require_writable(folder)
            return
        above = nearest_folder(folder)
        below = above / folder.absolute().relative_to(above).parts[0]
        if os.path.lexists(below):  # a file, or a link to nothing
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            require_writable(above)
        except StorageError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # of the folder that was asked for
            raise
