"""The names under which people and tools save captions: `<stem>.txt`, and those that trainers miss.

`1.caption`, `1.TXT`, `1.jpg.txt`, `1.txt.txt` and `IMG_1.txt` beside `img_1.jpg` are captions under
another name. dsk reads and writes `<stem>.txt` only; `dsk check --fix` gives the others that name.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasetkit.core.files import CAPTION_SUFFIX, caption_path, display, fold, reading, stem_of
from datasetkit.core.path_list import PathList

CAPTION_SUFFIXES = frozenset({".txt", ".caption", ".captions", ".text"})
# How many names a message has.
_SHOWN = 8


def is_caption_name(path: Path) -> bool:
    """Tell whether a file may be a caption, by its suffix."""
    return path.suffix.lower() in CAPTION_SUFFIXES and not path.name.startswith(".")


def _caption_names(folder: Path) -> list[str]:
    """Return the names in a folder for which `is_caption_name` is true, without paths of them."""
    with os.scandir(folder) as entries:
        return [
            name
            for entry in entries
            if not (name := entry.name).startswith(".")
            and name[name.rfind(".") :].lower() in CAPTION_SUFFIXES
        ]


def caption_files(images: Sequence[Path], files: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Return the files that look like captions of each image, `<stem>.txt` first.

    images, files: of one folder. The exact stem or name of an image counts before one that differs
    in case or in composed letters.
    """
    proper = {caption_path(image) for image in images}
    names: defaultdict[str, list[Path]] = defaultdict(list)
    for image in images:
        for name in dict.fromkeys((image.stem, image.name)):
            names[name].append(image)
    folded: defaultdict[str, list[Path]] = defaultdict(list)
    for name, owners in names.items():
        folded[fold(name)] += owners
    captions: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in filter(is_caption_name, files):
        base = _without_suffixes(path)
        # `a.txt` beside a.jpg and a.jpg.txt: the proper caption of one image is no other's.
        exact = [i for i in names.get(base, ()) if path == caption_path(i)]
        if path not in proper:
            exact = names.get(path.stem) or names.get(base) or folded.get(fold(base), [])
        for image in dict.fromkeys(exact):
            captions[image].append(path)
    return {
        image: tuple(sorted(captions[image], key=lambda path: path != caption_path(image)))
        for image in images
    }


def misnamed_captions(images: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Return the images without a `<stem>.txt` that have a caption under another name."""
    by_folder: defaultdict[str, list[str]] = defaultdict(list)
    if isinstance(images, PathList):  # it has the names already
        for folder, several in images.by_folder():
            by_folder[str(folder)] += several
    else:
        for image in images:  # names: there may be a million
            above, separator, name = str(image).rpartition(os.sep)
            by_folder[above or separator or os.curdir].append(name)
    misnamed: dict[Path, tuple[Path, ...]] = {}
    for folder_name, image_names in by_folder.items():
        folder = Path(folder_name)
        with reading(folder):
            names = _caption_names(folder)
        proper = {f"{stem_of(name)}{CAPTION_SUFFIX}" for name in image_names}
        if proper.issuperset(names):  # nearly always
            continue
        inside = [folder / name for name in image_names]
        files = sorted(folder / name for name in names)
        captions = caption_files(inside, (path for path in files if path.is_file()))
        misnamed |= {
            image: paths
            for image, paths in captions.items()
            if paths and not caption_path(image).exists()
        }
    return misnamed


def misnamed_warnings(misnamed: Mapping[Path, Sequence[Path]]) -> tuple[str, ...]:
    """Return a warning for each folder with captions under another name."""
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for image, paths in misnamed.items():
        by_folder[image.parent] += paths
    return tuple(_warning(folder, paths) for folder, paths in by_folder.items())


def _warning(folder: Path, captions: Sequence[Path]) -> str:
    number = "1 caption has" if len(captions) == 1 else f"{len(captions):,} captions have"
    names = ", ".join(display(path.name) for path in captions[:_SHOWN])
    more = " ..." if len(captions) > _SHOWN else ""
    return (
        f"{number} a name that is not read ({names}{more}): "
        f"dsk check {shlex.quote(display(folder))} --fix renames what it can"
    )


def _without_suffixes(path: Path) -> str:
    """Return a name without its suffix, also without a second one: `1.txt.txt` -> `1`."""
    base = path.stem
    while Path(base).suffix.lower() in CAPTION_SUFFIXES:
        base = Path(base).stem
    return base
