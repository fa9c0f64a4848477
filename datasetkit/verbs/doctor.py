"""`dsk doctor`: check the installation, with a fix for each problem."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit import __version__
from datasetkit.core.cluster import ClusterNode
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import display, find_root, require_writable
from datasetkit.core.install import (
    install_command,
    package_command,
    published,
    quoted,
    replace_command,
)
from datasetkit.images.scan import require_folder
from datasetkit.options import toml
from datasetkit.options.caption import CaptionOptions
from datasetkit.options.executor import ExecutorOptions
from datasetkit.project.store import Store, has_store
from datasetkit.verbs.shared import describing, foreign_modules
from datasetkit.verbs.shared.cards import Card, nvidia_cards, torch_card, torch_cuda
from taggers.captioners import SERVER
from trainer import precision
from trainer.plan import card_needs

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


def doctor(folder: Path, executor: ExecutorOptions | None = None) -> DoctorResult:
    """Check Python, the packages, the inference provider, the graphics cards, the shipped models,
    the folder and the cluster, where one is used.

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
            *_modules(),
            *_runtime(),
            *_cards(),
            *_extras(),
            *_codecs(),
            *_shipped(),
            _folder(folder),
            *_interrupted(folder),
            *_cluster(executor),
            *_caption_server(folder),
        )
    )


def _cluster(options: ExecutorOptions | None) -> list[DoctorFinding]:
    """Name the nodes of the cluster that work goes to, and what is different on them."""
    if options is None or options.is_local:
        return []
    from datasetkit.executors import ray_cluster, ray_worker

    try:
        with ray_cluster.connected(options.address, same_versions=False) as cluster:
            nodes, sends_token = cluster.nodes(), cluster.sends_token
    except DskError as error:
        return [DoctorFinding("cluster", "problem", error.message, error.hint)]
    here = ray_worker.versions()
    findings = [_node(node, here) for node in nodes]
    if not sends_token:
        findings.append(
            DoctorFinding(
                "cluster",
                "note",
                "it asks for no token: who reaches its ports can run programs on it",
                "start its nodes with RAY_AUTH_MODE=token",
            )
        )
    return findings


def _node(node: ClusterNode, here: Mapping[str, str]) -> DoctorFinding:
    room = f"{node.cpus:g} CPUs, {node.gpus:g} GPUs"
    if "datasetkit" not in node.versions:
        fix = "install the same version of datasetkit on it"
        return DoctorFinding(f"node {node.address}", "problem", f"{room}; without dsk", fix)
    other = [
        f"{name} {node.versions.get(name, 'not at all')}"
        for name in sorted({*here, *node.versions})
        if here.get(name) != node.versions.get(name)
    ]
    if other:
        fix = "install the same versions as here"
        return DoctorFinding(
            f"node {node.address}", "problem", f"{room}; it has {', '.join(other)}", fix
        )
    return DoctorFinding(f"node {node.address}", "ok", f"{room}, the same versions as here")


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
                "tagging",
                "note",
                "there is an NVIDIA card, but tagging uses the CPU",
                replace_command(installed, "gpu"),
            )
        )
    return findings


def _modules() -> list[DoctorFinding]:
    """Find modules of other packages that have our names."""
    fix = f"install dsk into an environment of its own: uv tool install {quoted(published())}"
    findings = [
        DoctorFinding(f"module {name}", "problem", f"{display(path)} is in the way of dsk's", fix)
        for name, path in foreign_modules.in_the_way().items()
    ]
    findings += [
        DoctorFinding(
            f"module {name}",
            "note",
            f"{', '.join(others)} installs a module of this name, too",
            fix,
        )
        for name, others in foreign_modules.also_installed().items()
        if f"module {name}" not in {f.what for f in findings}
    ]
    return findings


def _cards() -> list[DoctorFinding]:
    """Name the graphics cards, whether PyTorch can use them, and what the largest can train."""
    cards, cuda = nvidia_cards(), torch_cuda()
    findings = [
        DoctorFinding(f"gpu {n}" if len(cards) > 1 else "gpu", "ok", _described(card))
        for n, card in enumerate(cards)
    ]
    usable: Card | None = None
    if cuda is not None and precision.may_have_gpu():
        usable = torch_card()
        if usable is not None and not cards:
            findings.append(DoctorFinding("gpu", "ok", _described(usable)))
    if not findings:
        detail = "none was found: training and tagging use the CPU"
        return [DoctorFinding("gpu", "note", detail, "see docs/platforms.md for other cards")]
    if cuda is not None:
        findings.append(_torch(cuda, cards, usable))
    largest = max([card.memory for card in cards] or [usable.memory if usable else 0])
    return [*findings, *_trainable(largest)] if largest else findings


def _described(card: Card) -> str:
    memory = f"{card.memory / 2**30:.0f} GiB" if card.memory else ""
    driver = f"driver {card.driver}" if card.driver else ""
    kinds = {True: "computes bf16", False: "computes fp16, not bf16", None: ""}
    return ", ".join(filter(None, (card.name, memory, driver, kinds[card.bf16])))


def _torch(cuda: str, cards: Sequence[Card], usable: Card | None) -> DoctorFinding:
    version = f"{_version('torch')}{f' for CUDA {cuda}' if cuda else ''}"
    if usable is not None:
        return DoctorFinding("torch", "ok", f"{version}, uses the card")
    if cards and not cuda:
        fix = "install PyTorch for your CUDA, as https://pytorch.org/get-started/locally shows"
        return DoctorFinding("torch", "note", f"{version} is built for the CPU", fix)
    driver = cards[0].driver if cards else ""
    fix = "update the driver, or install PyTorch for an older CUDA"
    return DoctorFinding("torch", "note", f"{version} cannot use the card (driver {driver})", fix)


def _trainable(memory: int) -> list[DoctorFinding]:
    """Say what a card can train, by the formula of the plan: LoRAs of rank 16, a batch of 1."""
    fitting = card_needs.trainable(memory)
    findings = []
    for title in card_needs.titles():
        options = fitting.get(title)
        if options is None:
            detail = f"not {title}, by the estimate; blocks_to_swap may help: see its plan"
            findings.append(DoctorFinding("trains", "note", detail))
        else:
            how = f" with {options}" if options else ""
            findings.append(DoctorFinding("trains", "ok", f"{title}{how}"))
    return findings


def _extras() -> list[DoctorFinding]:
    findings = []
    for extra, module in (
        ("cutout", "rembg"),
        ("formats", "pi_heif"),
        ("train", "peft"),
        ("ray", "ray"),
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


def _caption_server(folder: Path) -> list[DoctorFinding]:
    """Ask the server of `[caption]` whether it answers, if the folder's dsk.toml names one."""
    try:
        options = toml.find(folder).build(CaptionOptions, "caption", {}, only_read=True)
        if options.engine != SERVER:
            return []
        resolved = describing.resolve(options, describing.question(folder, options))
        resolved.fetch()
    except ConfigError as error:
        return [DoctorFinding("[caption]", "problem", error.message, error.hint)]
    except DskError as error:
        return [DoctorFinding("caption server", "note", error.message, error.hint)]
    model = resolved.identity.name.removeprefix(f"{SERVER}:")
    return [DoctorFinding("caption server", "ok", f"answers, model {display(model)}")]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
