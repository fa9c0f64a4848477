"""`dsk doctor`: check the installation, with a fix for each problem."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit import __version__
from datasetkit.core.errors import DskError
from datasetkit.core.files import find_root, require_writable
from datasetkit.core.install import install_command, package_command, replace_command
from datasetkit.images.scan import require_folder
from datasetkit.project.store import Store, has_store

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One line of the result. fix: the command or step that solves the problem."""

    what: str
    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """All findings; not `healthy` if a problem stops the main commands."""

    findings: tuple[DoctorFinding, ...]

    @property
    def healthy(self) -> bool:
        return all(f.state != "problem" for f in self.findings)


def doctor(folder: Path) -> DoctorResult:
    """Check Python, the packages, the inference provider, the shipped models and the folder.

    Raises DatasetError if the folder is not one.
    """
    require_folder(folder, hint="name a folder that exists, or none for the current one")
    return DoctorResult(
        (
            DoctorFinding("datasetkit", "ok", __version__),
            DoctorFinding(
                "python",
                "ok",
                f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            ),
            DoctorFinding("cores", "ok", str(os.cpu_count())),
            *_runtime(),
            *_extras(),
            *_codecs(),
            *_shipped(),
            _folder(folder),
            *_interrupted(folder),
        )
    )


def _runtime() -> list[DoctorFinding]:
    """Check onnxruntime, and for two packages that overwrite each other."""
    installed = [d for d in ("onnxruntime", "onnxruntime-gpu") if _version(d)]
    if not installed:
        fix = f"{install_command('cpu')}, or the extra gpu with an NVIDIA card"
        return [DoctorFinding("onnxruntime", "problem", "not installed: dsk tag cannot run", fix)]
    if len(installed) > 1:
        fix = f"{replace_command(installed, 'cpu')}, or the extra gpu"
        return [
            DoctorFinding(
                "onnxruntime", "problem", "the cpu and gpu packages overwrite each other", fix
            )
        ]
    import onnxruntime

    providers = [p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()]
    findings = [
        DoctorFinding(
            "onnxruntime", "ok", f"{installed[0]} {_version(installed[0])}: {', '.join(providers)}"
        )
    ]
    if shutil.which("nvidia-smi") and installed == ["onnxruntime"]:
        findings.append(
            DoctorFinding(
                "gpu",
                "note",
                "there is an NVIDIA card, but tagging uses the CPU",
                replace_command(installed, "gpu"),
            )
        )
    return findings


def _extras() -> list[DoctorFinding]:
    findings = []
    for extra, module in (
        ("cutout", "rembg"),
        ("formats", "pi_heif"),
        ("train", "peft"),
        ("web", "starlette"),
    ):
        if importlib.util.find_spec(module):
            findings.append(DoctorFinding(f"extra {extra}", "ok", f"{module} {_version(module)}"))
        else:
            findings.append(
                DoctorFinding(f"extra {extra}", "note", "not installed", install_command(extra))
            )
    return findings


def _codecs() -> list[DoctorFinding]:
    from PIL import features

    missing = [name for name in ("jpg", "webp", "avif", "littlecms2") if not features.check(name)]
    pillow = f"pillow {_version('pillow')}"
    if missing:
        return [
            DoctorFinding(
                "images",
                "note",
                f"{pillow} without {', '.join(missing)}",
                package_command("--upgrade", "pillow"),
            )
        ]
    return [
        DoctorFinding("images", "ok", f"{pillow}: JPEG, PNG, WebP, AVIF, colour profiles"),
        DoctorFinding("sqlite", "ok", sqlite3.sqlite_version),
    ]


def _shipped() -> list[DoctorFinding]:
    """Check the hash of every shipped model."""
    from datasetkit.vision import models

    findings = []
    for name in models.MODELS:
        try:
            models.read_model(name)
            findings.append(DoctorFinding(f"model {name}", "ok", "shipped, hash correct"))
        except DskError as error:
            findings.append(DoctorFinding(f"model {name}", "problem", error.message, error.hint))
    return findings


def _folder(folder: Path) -> DoctorFinding:
    free = shutil.disk_usage(folder).free / 1e9
    try:
        require_writable(folder)
    except DskError as error:
        return DoctorFinding("folder", "problem", error.message, error.hint)
    detail = f"writable, {free:.1f} GB free"
    return DoctorFinding(
        "folder", "note" if free < 1 else "ok", detail, "free some disk space" if free < 1 else ""
    )


def _interrupted(folder: Path) -> list[DoctorFinding]:
    """Find a command that was interrupted in the folder's project; nothing is completed."""
    root = find_root(folder)
    try:
        is_open = has_store(root) and Store.has_open_entry(root)
    except DskError as error:
        return [DoctorFinding("project", "problem", error.message, error.hint)]
    if not is_open:
        return []
    fix = "dsk history --recover"
    return [DoctorFinding("project", "note", "a command is running, or was interrupted", fix)]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
