"""Modules of other packages that have the names of ours: for `dsk doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Final

import datasetkit
from datasetkit.core.install import NAME

NAMES: Final = ("taggers", "trainer")


def in_the_way() -> dict[str, str]:
    """Return name -> the file that Python imports instead of ours."""
    root = Path(datasetkit.__file__).resolve().parents[1]
    files: dict[str, str] = {}
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is not None and Path(origin).resolve().parent != root / name:
            files[name] = origin
    return files


def also_installed() -> dict[str, tuple[str, ...]]:
    """Return name -> the other distributions that install a module of it."""
    packages = importlib.metadata.packages_distributions()
    owners = {name: tuple(sorted(set(packages.get(name, ())) - {NAME})) for name in NAMES}
    return {name: others for name, others in owners.items() if others}
