"""Where the web interfaces look for LoRA files, and what they read beside one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from datasetkit.core.errors import InputError
from datasetkit.core.files import fold, read_regular

Program = Literal["A1111", "ComfyUI", "Stability Matrix", "SwarmUI", ""]
_EXTRA_PATHS: Final = "extra_model_paths.yaml"
_LARGEST: Final = 2**20  # bytes of that file
# From the folder of LoRAs up to that of its program: ComfyUI/models/loras/mine.
_MOST_ABOVE: Final = 4


@dataclass(frozen=True, slots=True)
class LoraFolder:
    """A folder of LoRA files. program: whose folder it is, "" where that is not known; A1111 is
    also Forge and SD.Next.
    """

    path: Path
    program: Program


def lora_folder(chosen: Path) -> LoraFolder:
    """Return the folder of LoRAs of a web interface whose folder was chosen; else the chosen one.

    The portable versions have the program in a subfolder. Nothing else is searched.
    """
    for root in (chosen, chosen / "webui", chosen / "ComfyUI"):
        if program := _program(root):
            return LoraFolder(_loras_of(root, program), program)
    above = (_program(folder) for folder in chosen.absolute().parents[:_MOST_ABOVE])
    return LoraFolder(chosen, next(filter(None, above), ""))


def _program(root: Path) -> Program:
    """Return the program whose own folder this is."""
    if _has(root, "launch.py") and (root / "modules").is_dir():
        return "A1111"
    if _has(root, "main.py") and (root / "comfy").is_dir():
        return "ComfyUI"
    if (root / "Data" / "Models").is_dir() and (root / "Data" / "Packages").is_dir():
        return "Stability Matrix"
    if (root / "Models").is_dir() and _has(root, "SwarmUI.sln"):
        return "SwarmUI"
    return ""


def _has(root: Path, name: str) -> bool:
    return (root / name).is_file()


def _loras_of(root: Path, program: Program) -> Path:
    if program == "ComfyUI":
        return _loras_of_comfy(root)
    parts = {
        "A1111": ("models", "Lora"),
        "Stability Matrix": ("Data", "Models", "Lora"),
        "SwarmUI": ("Models", "Lora"),
    }[program]
    return _below(root, parts)


def _loras_of_comfy(root: Path) -> Path:
    """Return the folder that ComfyUI reads first, of those that exist."""
    usual = _below(root, ("models", "loras"))
    extra = list(_extra_folders(root))
    ordered = [
        *(path for path, first in extra if first),
        usual,
        *(p for p, first in extra if not first),
    ]
    return next((path for path in ordered if path.is_dir()), usual)


def _extra_folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of LoRAs in ComfyUI's extra_model_paths.yaml, and whether each comes before
    the usual one. A file that cannot be read names none, as for ComfyUI.
    """
    document: object = None
    with suppress(InputError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        document = yaml.safe_load(
            (read_regular(root / _EXTRA_PATHS, limit=_LARGEST) or b"").decode()
        )
    for section in document.values() if isinstance(document, Mapping) else ():
        if isinstance(section, Mapping) and isinstance(section.get("loras"), str):
            base = _expanded(section.get("base_path"))
            for line in str(section["loras"]).splitlines():
                if folder := line.strip():
                    yield root / base / folder, section.get("is_default") is True


def _expanded(base: Any) -> str:
    if not isinstance(base, str):
        return ""
    with suppress(RuntimeError):  # no home folder
        return str(Path(os.path.expandvars(base)).expanduser())
    return base


def _below(root: Path, parts: tuple[str, ...]) -> Path:
    """Return a folder below another, in the spelling that it has there."""
    path = root
    for part in parts:
        names: list[str] = []
        with suppress(OSError):
            names = sorted(entry.name for entry in path.iterdir())
        path /= part if part in names else next((n for n in names if fold(n) == fold(part)), part)
    return path
