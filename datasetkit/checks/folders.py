"""Checks of folders: names that trainers ignore or misread, unused images, stale caches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from datasetkit.captions.caption import name_in, normal_form
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import Check, CheckInput, Finding
from datasetkit.core.files import display
from datasetkit.core.words import counted
from datasetkit.dataset.layout import Concept, parse
from datasetkit.dataset.repeats import balance_reg, reg_samples


def misread(data: CheckInput) -> Iterator[Finding]:
    for parent, folder in data.misread:
        name, _, rest = folder.text.partition(": ")
        better = proper_name(folder.folder)
        suggestion = f"; did you mean {display(better)}?" if better else ""
        yield Finding(parent / folder.folder, f"{rest if name else folder.text}{suggestion}")


def proper_name(folder: str) -> str | None:
    """Return `10_foo` for `10-foo`, `10 foo`, `010_foo`, full-width digits; None if unclear."""
    digits = len(folder) - len(folder.lstrip("".join(c for c in folder if c.isdecimal())))
    number, rest = folder[:digits], folder[digits:].lstrip("_- .").rstrip()
    if not number or int(number) < 1 or not rest:
        return None
    name = f"{int(number)}_{rest}"
    return name if name != folder and isinstance(parse(name), Concept) else None


def unseen(data: CheckInput) -> Iterator[Finding]:
    for astray in data.astray:
        yield Finding(
            astray.folder, f"{counted(astray.count, 'image')} {astray.reason}", astray.count
        )


def empty(data: CheckInput) -> Iterator[Finding]:
    for folder in data.empty:
        yield Finding(folder, "has no images")


def same_stem(data: CheckInput) -> Iterator[Finding]:
    for image, owner in data.same_names.items():
        yield Finding(
            image, f"shares its caption and its cached latents with {display(owner.name)}"
        )


def ordinary_name(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for folder in data.folders:
        if folder.is_reg or not folder.laid_out:
            continue
        for name in dict.fromkeys((folder.name, *(() if folder.guessed else folder.triggers))):
            if name in vocabulary:
                yield Finding(
                    folder.folder,
                    f"`{display(name)}` is a known tag: it mixes with what the model knows by it",
                )


def name_only(data: CheckInput) -> Iterator[Finding]:
    for folder in data.folders:
        captions = [caption for item, caption in data.trained if item.folder == folder]
        if folder.is_reg or not folder.laid_out or folder.triggers or not captions:
            continue
        form = normal_form(folder.name)
        if not any(
            form in caption.forms or name_in(folder.name, (), sentences=caption.sentences)
            for caption in captions
        ):
            yield Finding(
                folder.folder,
                f"no caption has `{display(folder.name)}`: the folder's name is not trained",
            )


def reg_surplus(data: CheckInput) -> Iterator[Finding]:
    train = sum(item.folder.repeats for item in data.items if not item.folder.is_reg)
    reg = [(item, item.folder.repeats) for item in data.items if item.folder.is_reg]
    unused = reg_samples(train, reg).unused
    if not reg or not unused:
        return
    samples = sum(n for _, n in reg)
    repeats = balance_reg(train, len(reg))
    step = (
        f"{counted(repeats, 'repeat')} would use them all"
        if len(reg) <= train
        else "use fewer images, or more training repeats"
    )
    reason = (
        f"{len(unused)} of {len(reg)} images are never used: they make {samples} samples, "
        f"training has {train}; {step}"
    )
    yield Finding(unused[0].folder.folder, reason, len(unused))


def latents(data: CheckInput) -> Iterator[Finding]:
    for path, why in data.latents:
        yield Finding(path, why)


CHECKS: Final = (
    Check(
        "folder-name",
        "folder",
        "name that trainers ignore or misread",
        "names below train/ and reg/, by the grammar `<repeats>_<concept>` and as sd-scripts "
        "reads them",
        "any other form: `10-foo`, `1_000_x`, `0_x`, full-width digits, no number, a linked folder",
        "rename the folder",
        misread,
    ),
    Check(
        "unseen",
        "folder",
        "images that trainers do not find",
        "images below a concept's folder, beside the concept folders, and in folders that "
        "trainers ignore",
        "any; `masks/` is ignored, and in a plain folder --recursive searches subfolders",
        "move them up",
        unseen,
    ),
    Check(
        "folder-empty",
        "folder",
        "no images",
        "concept folders",
        "there is no image in it",
        "fill or remove it",
        empty,
    ),
    Check(
        "same-stem",
        "folder",
        "two images of one name",
        "the names of the images of a folder without their suffixes, as dsk layout compares them",
        "`a.jpg` beside `a.png`, `B.jpg` beside `b.jpg`, `é` as one character or as two",
        "dsk rename {folder} PREFIX",
        same_stem,
    ),
    Check(
        "concept-is-tag",
        "folder",
        "name is a known tag",
        "names of training folders, and triggers unless guessed",
        "it is a tag of the vocabulary",
        "choose a word without a meaning",
        ordinary_name,
    ),
    Check(
        "name-only",
        "folder",
        "trigger only in the folder's name",
        "training folders without a known trigger",
        "they have captions, and none has the concept of the folder as a tag",
        "dsk rules {folder} --trigger {trigger}",
        name_only,
    ),
    Check(
        "reg-surplus",
        "folder",
        "regularisation images unused",
        "regularisation images x repeats against training images x repeats, matched as in "
        "sd-scripts",
        "some images are never used",
        "dsk reg chooses matching repeats",
        reg_surplus,
    ),
    Check(
        "latents",
        "folder",
        "stale latents",
        "`.npz` caches beside the images",
        "older than their image, or their image is gone",
        "delete them: trainers create new ones",
        latents,
    ),
)
