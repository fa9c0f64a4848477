"""Naming: numbered, unique names for images and their files, and the names that are valid."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from datasetkit.captions.invisible import invisible
from datasetkit.core.errors import ConfigError, PlanConflict
from datasetkit.core.files import display, fold, natural_key
from datasetkit.project.plans import Copy, FileOp, Move, Plan

# The longest name of the usual file systems, in bytes of UTF-8.
MAX_NAME_BYTES = 255
# Names that Windows reserves for devices, with any suffix.
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"]
)
# Characters that Windows refuses in names, besides slashes and control characters.
_REFUSED = '?*"<>|:'
# The least width of the number: `PREFIX_001`.
_WIDTH = 3
# A longer number (a date, the counter of a camera) was not given by dsk: renumber the image.
_MAX_DIGITS = 6
# A cache of latents fits one image only: never copy it for another.
_LATENTS = ".npz"


def name_fault(name: str) -> str | None:
    """Return why no file or folder should be given a name (or a name that starts so), else None: it
    is not valid on every system.
    """
    refused = next((char for char in name if char in _REFUSED), None)
    if refused is not None:
        return f"contains {refused}, which Windows refuses"
    if hidden := invisible(name):
        return f"contains {hidden[0]}, which nobody sees"
    return existing_name_fault(name)


def existing_name_fault(name: str) -> str | None:
    """Return why a name that exists is not read as one that dsk gave: it is none on other systems,
    or hard to tell from another one.
    """
    if not name:
        return "is empty"
    if "/" in name or "\\" in name:
        return "contains a slash"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return "contains a control character"
    if any(unicodedata.category(char) == "Cs" for char in name):
        return "is not valid UTF-8"
    if name.strip() != name or name.strip(".") != name:
        return "begins or ends with a space or a dot"
    if name.split(".")[0].strip().casefold() in _RESERVED:
        return "is a device name on Windows"
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def require_names(*paths: Path) -> None:
    """Raise ConfigError if files or folders would be made whose names are not valid on every
    system. The parts of a path that exist are left as they are.
    """
    for path in paths:
        for part in (path, *path.parents):
            if os.path.lexists(part):
                break
            fault = name_fault(part.name.removeprefix(".")) if part.name != ".." else None
            if fault is not None:
                raise ConfigError(
                    f"the name `{display(part.name)}` {fault}", hint="choose another name"
                )


def plan_rename(
    images: Sequence[Path],
    siblings: Mapping[Path, Sequence[Path]],
    prefix: str,
    *,
    start: int = 1,
    taken: Collection[Path] = (),
) -> Plan:
    """Plan names `PREFIX_001.jpg ...` for images in natural order, and the same stems for their
    siblings.

    siblings: the files of each image (same stem, `image.jpg.txt` sidecars, `masks/<stem>.png`); a
    file of two images moves with one, and the other gets a copy. taken: existing files, whose names
    are never used. Images that already have such a name keep their number (wider if the set grew),
    so a second run plans nothing. All sources are names before the plan: moves may swap. Raises
    ConfigError, PlanConflict.
    """
    _check_prefix(prefix, start)
    images = sorted(dict.fromkeys(images), key=lambda path: natural_key(str(path)))
    stems = _stems(images, prefix, start, _foreign_stems(images, siblings, taken))
    ops: list[FileOp] = [
        Move(image, image.with_name(stems[image] + image.suffix.lower())) for image in images
    ]
    for sibling, owners in _owners(images, siblings, stems).items():
        first, *rest = (sibling.with_name(stems[image] + _tail(sibling, image)) for image in owners)
        ops.append(Move(sibling, first))
        if sibling.suffix != _LATENTS:
            ops.extend(Copy(sibling, dst) for dst in rest)
    _check_targets(ops, taken)
    return Plan.of(op for op in ops if not (isinstance(op, Move) and op.src == op.dst))


def _check_prefix(prefix: str, start: int) -> None:
    fault = name_fault(prefix)
    if fault is None and prefix.startswith("-"):
        fault = "begins with a dash, which commands read as an option"
    if fault is not None:
        raise ConfigError(
            f"the prefix `{display(prefix)}` {fault}",
            hint="use letters, e.g. `MikamiYua`",
        )
    if start < 0:
        raise ConfigError(f"start = {start}", hint="give 0 or more")


def _foreign_stems(
    images: Sequence[Path], siblings: Mapping[Path, Sequence[Path]], taken: Collection[Path]
) -> frozenset[str]:
    """Return the stems of files without an image: an image with such a stem would get a foreign
    caption.
    """
    ours = {*images, *(path for image in images for path in siblings.get(image, ()))}
    names = {path.name for path in taken if path not in ours}
    return frozenset(fold(head) for name in names for head in (name, *_heads(name)))


def _heads(name: str) -> Iterator[str]:
    """Return the text before each dot: `a.jpg.txt` may belong to `a.jpg.png` or to `a.jpg`."""
    return (name[:at] for at, char in enumerate(name) if char == "." and at)


def _stems(
    images: Sequence[Path], prefix: str, start: int, foreign: Collection[str]
) -> dict[Path, str]:
    """Choose the new stem of each image: kept numbers, then the lowest free ones, in one width."""
    named = _named(images, prefix, start)
    width = max([_WIDTH, *(len(image.stem) - len(prefix) - 1 for image in named)])
    while True:
        stem = partial(_stem, prefix, width)
        numbers = _numbers(images, named, stem, start, foreign)
        needed = len(str(max(numbers.values(), default=0)))
        if needed <= width:
            return {image: stem(number) for image, number in numbers.items()}
        width = needed


def _stem(prefix: str, width: int, number: int) -> str:
    return f"{prefix}_{number:0{width}d}"


def _named(images: Sequence[Path], prefix: str, start: int) -> dict[Path, int]:
    """Return the numbers of the images that are already named `PREFIX_<number>`."""
    digits = max(_MAX_DIGITS, len(str(start + len(images))))
    pattern = re.compile(rf"{re.escape(prefix)}_([0-9]{{1,{digits}}})")
    matches = ((image, pattern.fullmatch(image.stem)) for image in images)
    return {image: int(match[1]) for image, match in matches if match}


def _numbers(
    images: Sequence[Path],
    named: Mapping[Path, int],
    stem: Callable[[int], str],
    start: int,
    foreign: Collection[str],
) -> dict[Path, int]:
    """Give each image a unique number; of two images with one number, the one with the final name
    keeps it.
    """
    kept: dict[int, Path] = {}
    for image in sorted(
        named, key=lambda path: path.name != stem(named[path]) + path.suffix.lower()
    ):
        number = named[image]
        if number not in kept and (image.stem == stem(number) or fold(stem(number)) not in foreign):
            kept[number] = image
    numbers = {image: number for number, image in kept.items()}
    free = (
        number
        for number in itertools.count(start)
        if number not in kept and fold(stem(number)) not in foreign
    )
    return {image: numbers[image] if image in numbers else next(free) for image in images}


def _owners(
    images: Sequence[Path], siblings: Mapping[Path, Sequence[Path]], stems: Mapping[Path, str]
) -> dict[Path, list[Path]]:
    """Return the images of each sibling; it moves with the first, the others get copies.

    The order: an image with its stem before one with its full name (`a.jpg.txt`), then an image
    that keeps its stem, then the order of the images.
    """
    owners: dict[Path, list[Path]] = {}
    for image in images:
        for sibling in dict.fromkeys(siblings.get(image, ())):
            owners.setdefault(sibling, []).append(image)
    for sibling, claimants in owners.items():
        claimants.sort(key=lambda image: (_is_side_car(sibling, image), stems[image] != image.stem))
    return owners


def _is_side_car(sibling: Path, image: Path) -> bool:
    """Tell whether a sibling is named after the full name of the image: `image.jpg.txt`."""
    return sibling.name.startswith(image.name + ".")


def _tail(sibling: Path, image: Path) -> str:
    """Return the end of a sibling's new name, after the stem; a sidecar keeps both suffixes."""
    if _is_side_car(sibling, image):
        return image.suffix.lower() + sibling.name.removeprefix(image.name)
    if not sibling.name.startswith(image.stem):
        raise ValueError(f"{sibling} does not belong to {image}")
    return sibling.name.removeprefix(image.stem)


def _check_targets(ops: Sequence[FileOp], taken: Collection[Path]) -> None:
    """Refuse a plan that would write a name twice, overwrite a file, or make too long names."""
    moves = [op for op in ops if isinstance(op, Move | Copy)]
    unmoved = set(taken) - {op.src for op in moves}
    targets: dict[Path, Path] = {}
    conflicts = []
    for op in moves:
        if len(op.dst.name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
            raise ConfigError(
                f"`{display(op.dst.name)}` is longer than {MAX_NAME_BYTES} bytes",
                hint="choose a shorter prefix",
            )
        other = targets.setdefault(op.dst, op.src)
        if other != op.src:
            conflicts.append(
                f"{display(other.name)} and {display(op.src.name)} both become "
                f"{display(op.dst.name)}"
            )
        elif op.dst in unmoved:
            conflicts.append(f"{display(op.src.name)} becomes {display(op.dst.name)}, which exists")
    if conflicts:
        more = f"; and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise PlanConflict(
            "; ".join(conflicts[:5]) + more,
            hint="rename or remove one of them; nothing was changed",
        )
