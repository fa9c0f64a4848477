"""Checks of folders: what trainers ignore or misread, and numbers that do not fit together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import Check, CheckImage, CheckInput, Finding
from datasetkit.core.files import caption_path, display
from datasetkit.dataset.layout import Concept, parse
from datasetkit.dataset.repeats import balance_reg, reg_samples


def misread(of: CheckInput) -> Iterator[Finding]:
    for parent, folder in of.misread:
        name, _, rest = folder.text.partition(": ")
        better = proper_name(folder.folder)
        meant = f"; did you mean {display(better)}?" if better else ""
        yield Finding(parent / folder.folder, f"{rest if name else folder.text}{meant}")


def proper_name(folder: str) -> str | None:
    """Return `10_foo` for `10-foo`, `10 foo`, `010_foo` and full-width digits; None where nothing
    is plainly meant.
    """
    digits = len(folder) - len(folder.lstrip("".join(c for c in folder if c.isdecimal())))
    number, rest = folder[:digits], folder[digits:].lstrip("_- .").rstrip()
    if not number or int(number) < 1 or not rest:
        return None
    name = f"{int(number)}_{rest}"
    return name if name != folder and isinstance(parse(name), Concept) else None


def unseen(of: CheckInput) -> Iterator[Finding]:
    for astray in of.astray:
        yield Finding(astray.folder, f"{_images(astray.count)} {astray.reason}", astray.count)


def empty(of: CheckInput) -> Iterator[Finding]:
    for folder in of.empty:
        yield Finding(folder, "holds no images")


def same_stem(of: CheckInput) -> Iterator[Finding]:
    owners: defaultdict[Path, list[CheckImage]] = defaultdict(list)
    for item in of.items:
        owners[caption_path(item.path)].append(item)
    for first, *others in owners.values():
        for item in others:
            yield Finding(
                item.path,
                f"shares its caption and its cached latents with {display(first.path.name)}",
            )


def ordinary_name(of: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for place in of.places:
        if place.is_reg or not place.laid_out:
            continue
        for name in dict.fromkeys((place.name, *(() if place.guessed else place.triggers))):
            if name in vocabulary:
                yield Finding(
                    place.folder,
                    f"`{display(name)}` is an ordinary tag: what the model knows of it is in "
                    "the way",
                )


def name_only(of: CheckInput) -> Iterator[Finding]:
    for place in of.places:
        captions = [caption for item, caption in of.trained if item.place == place]
        if place.is_reg or not place.laid_out or place.triggers or not captions:
            continue
        form = normal_form(place.name)
        if not any(form in caption.forms for caption in captions):
            yield Finding(
                place.folder,
                f"no caption has `{display(place.name)}`: the folder's name is not trained",
            )


def reg_surplus(of: CheckInput) -> Iterator[Finding]:
    train = sum(item.place.repeats for item in of.items if not item.place.is_reg)
    reg = [(item, item.place.repeats) for item in of.items if item.place.is_reg]
    unused = reg_samples(train, reg).unused
    if not reg or not unused:
        return
    wanted = sum(n for _, n in reg)
    repeats = balance_reg(train, len(reg))
    step = (
        f"{repeats} repeat{'' if repeats == 1 else 's'} would use them all"
        if len(reg) <= train
        else "use fewer, or more training repeats"
    )
    reason = (
        f"{len(unused)} of {len(reg)} are never used: {wanted} samples wanted, training "
        f"has {train}; {step}"
    )
    yield Finding(unused[0].place.folder, reason, len(unused))


def latents(of: CheckInput) -> Iterator[Finding]:
    for path, why in of.latents:
        yield Finding(path, why)


def _images(n: int) -> str:
    return f"{n} image" + ("" if n == 1 else "s")


CHECKS: Final = (
    Check(
        "folder-name",
        "folder",
        "trainers ignore or misread it",
        "names below train/ and reg/, by the grammar `<repeats>_<concept>` and by sd-scripts' "
        "own reading",
        "any other form: `10-foo`, `1_000_x`, `0_x`, full-width digits, no number, a linked folder",
        "rename the folder",
        misread,
    ),
    Check(
        "unseen",
        "folder",
        "images that are not reached",
        "images below a concept's folder, beside the concept folders, and in folders that "
        "trainers ignore",
        "any; `masks/` is left out, and in a plain folder --recursive looks below",
        "move them up",
        unseen,
    ),
    Check(
        "folder-empty",
        "folder",
        "no images",
        "concept folders",
        "without an image",
        "fill or remove it",
        empty,
    ),
    Check(
        "same-stem",
        "folder",
        "two images of one name",
        "the stems of the images of a folder",
        "`a.jpg` beside `a.png`",
        "dsk rename {folder} PREFIX",
        same_stem,
    ),
    Check(
        "concept-is-tag",
        "folder",
        "name is an ordinary tag",
        "names of training folders and triggers that were given, beside the vocabulary",
        "it is one of its tags",
        "choose a word that means nothing yet",
        ordinary_name,
    ),
    Check(
        "name-only",
        "folder",
        "trigger in the folder's name only",
        "training folders without a known trigger",
        "they have captions, and none of these has the folder's concept",
        "dsk rules {folder} --trigger {trigger}",
        name_only,
    ),
    Check(
        "reg-surplus",
        "folder",
        "regularisation images unused",
        "regularisation images x repeats beside training images x repeats, matched as "
        "sd-scripts does",
        "some are never reached",
        "dsk reg chooses repeats that fit",
        reg_surplus,
    ),
    Check(
        "latents",
        "folder",
        "stale latents",
        "`.npz` caches beside the images",
        "older than their image, or of an image that is gone",
        "delete them: trainers make new ones",
        latents,
    ),
)
