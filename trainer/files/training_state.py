"""Checkpoints: what a run needs to go on bit by bit, whole on the disk or not there at all.

A state is a folder: safetensors for tensors, JSON for the rest, and a manifest with the hash of
each file, written last. It is filled under another name and renamed once, so a killed run leaves
the states before it as they were.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.optim import Optimizer

from datasetkit.core import files
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, file_sha256, write_new, writing
from datasetkit.core.progress import SILENT, Reporter
from trainer.loop import TrainingSetup
from trainer.optimizers import build_scheduler

VERSION: Final = 2
KEPT: Final = 2
_STAGE: Final = ".dsk-stage-"
_MANIFEST: Final = "manifest.json"
_LORA, _OPTIMIZER, _STATE = "lora.safetensors", "optimizer.safetensors", "state.json"
_AVERAGE: Final = "average.safetensors"  # of runs that keep one


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A complete state. step: optimizer steps that were taken; facts: what the run was, see
    `save`.
    """

    folder: Path
    step: int
    facts: Mapping[str, Any]


def save(
    setup: TrainingSetup, folder: Path, name: str, step: int, facts: Mapping[str, object]
) -> Path:
    """Write the state after `step` as `<name>-state-<step>`, and keep it and the one before. Raises
    StorageError.

    facts: what must be the same when the run goes on. States of later steps are another run's, or
    damaged: this run comes to those steps again.
    """
    optimizer, numbers = flat(setup.optimizer.state_dict())
    weights = _named(setup, setup.lora.parameters())
    state = {
        "version": VERSION,
        "step": step,
        "facts": dict(facts),
        "optimizer": numbers,
        "scaler": setup.scaler.state_dict(),
    }
    contents = {
        _LORA: save_tensors(weights),
        _OPTIMIZER: save_tensors(optimizer),
        _STATE: json.dumps(state).encode("utf-8"),
    }
    if setup.average is not None:
        contents[_AVERAGE] = save_tensors(_named(setup, setup.average.values))
    target = folder / f"{name}-state-{step:08d}"
    _write(folder, target, contents)
    for later in [found for found in _found(folder, name) if _step(found) > step]:
        _discard(later)
    prune(folder, name)
    return target


def prune(folder: Path, name: str) -> None:
    """Keep the newest states of a run only: a kill may have come before the oldest went. Raises
    StorageError.
    """
    for old in _found(folder, name)[KEPT:]:
        _discard(old)


def _write(folder: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    stage = _stage(folder)
    manifest = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
    with writing(target):
        stage.mkdir()
        try:
            for file, data in {**contents, _MANIFEST: json.dumps(manifest).encode("utf-8")}.items():
                write_new(stage / file, data, sync=True)
            if target.exists():  # of a run that went on from an older state
                _discard(target)
            os.rename(stage, target)  # noqa: PTH104 - the one step that makes the state be there
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def _discard(state: Path) -> None:
    """Remove a state: its name goes first, so that a kill leaves no half of it in sight. Raises
    StorageError.
    """
    stage = _stage(state.parent)
    with writing(state):
        os.rename(state, stage)  # noqa: PTH104 - as above
        shutil.rmtree(stage)


def _stage(folder: Path) -> Path:
    return folder / f"{_STAGE}{uuid.uuid4().hex[:12]}"


def sweep(folder: Path) -> None:
    """Remove what killed runs left half-written; only under the folder's lock."""
    files.sweep(folder)
    for stage in folder.glob(f"{_STAGE}*"):
        shutil.rmtree(stage, ignore_errors=True)


def newest(folder: Path, name: str, reporter: Reporter = SILENT) -> TrainingState | None:
    """Return the newest complete state of a run, None where there is none; a damaged one is named
    and passed over.
    """
    for path in _found(folder, name):
        try:
            return read(path)
        except InputError as error:
            reporter.warn(f"{error.message}; the state before it is used")
    return None


def read(folder: Path) -> TrainingState:
    """Check a state's files against its manifest. Raises InputError."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        broken = [file for file, said in manifest.items() if file_sha256(folder / file) != said]
        if broken or set(manifest) - {_AVERAGE} != {_LORA, _OPTIMIZER, _STATE}:
            raise ValueError(", ".join(broken) or "files are missing")
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"the state {display(folder.name)} is damaged ({error})", hint="resume an older one"
        ) from error
    if state["version"] != VERSION:
        raise InputError(
            f"the state {display(folder.name)} is of another version", hint="start the run anew"
        )
    return TrainingState(folder, int(state["step"]), state["facts"])


@torch.no_grad()
def restore(setup: TrainingSetup, state: TrainingState, facts: Mapping[str, object]) -> None:
    """Bring weights, optimizer and schedule to what they were. Raises ConfigError where the run is
    another one.
    """
    now = json.loads(json.dumps(dict(facts)))
    for key in sorted({*now, *state.facts}):
        if now.get(key) != state.facts.get(key):
            raise ConfigError(
                f"{display(state.folder.name)} cannot go on: {key} was "
                f"{_short(state.facts.get(key))} and is "
                f"{_short(now.get(key))}",
                hint="set it back, or start the run anew without --resume",
            )
    weights = load_tensors((state.folder / _LORA).read_bytes())
    for name, parameter in _named(setup, setup.lora.parameters(), copied=False).items():
        parameter.copy_(weights[name])
    if setup.average is not None:
        average = load_tensors((state.folder / _AVERAGE).read_bytes())
        setup.average.restore(
            [average[name] for name in _named(setup, setup.average.values, copied=False)],
            state.step,
        )
    saved = json.loads((state.folder / _STATE).read_text(encoding="utf-8"))
    tensors = load_tensors((state.folder / _OPTIMIZER).read_bytes())
    build_scheduler.replay(setup.scheduler, state.step)
    restore_optimizer(setup.optimizer, tensors, saved["optimizer"])
    setup.scaler.load_state_dict(saved["scaler"])


def _short(value: object) -> str:
    text = display(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(
    setup: TrainingSetup, tensors: Sequence[Tensor], *, copied: bool = True
) -> dict[str, Tensor]:
    """Return module and name -> tensor. tensors: in the order of the parameters; copied: to the
    main memory.
    """
    names = [f"{module.name}.{name}" for module in setup.lora.modules for name in module.tensors]
    return {
        n: t.detach().cpu().contiguous() if copied else t
        for n, t in zip(names, tensors, strict=True)
    }


def _found(folder: Path, name: str) -> list[Path]:
    """Return the state folders of a run, the newest first."""
    pattern = re.compile(re.escape(name) + r"-state-\d{8,}")
    found = (
        [p for p in folder.iterdir() if p.is_dir() and pattern.fullmatch(p.name)]
        if folder.is_dir()
        else []
    )
    return sorted(found, key=_step, reverse=True)


def _step(state: Path) -> int:
    return int(state.name.rpartition("-")[2])


def flat(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Part an optimizer's state into tensors, by their places such as `state.0.exp_avg`, and what
    JSON can hold.
    """
    tensors: dict[str, Tensor] = {}
    numbers = {
        "state": {
            str(place): _parted(own, f"state.{place}.", tensors)
            for place, own in state["state"].items()
        },
        "param_groups": [
            _parted(group, f"group.{n}.", tensors) for n, group in enumerate(state["param_groups"])
        ],
    }
    return tensors, numbers


def _parted(values: Mapping[str, Any], place: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Take the tensors out of values, in nested ones too (bitsandbytes has them), and return the
    rest.
    """
    rest: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[place + name] = value.detach().cpu().contiguous().clone()
        else:
            rest[name] = (
                _parted(value, f"{place}{name}.", tensors) if isinstance(value, Mapping) else value
            )
    return rest


def restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Bring an optimizer to the state that `flat` parted."""
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in numbers["param_groups"]
    ]
    state = {int(place): dict(own) for place, own in numbers["state"].items()}
    for key, tensor in tensors.items():
        kind, place, *between, name = key.split(".")
        owner: dict[str, Any] = state[int(place)] if kind == "state" else groups[int(place)]
        for step in between:
            owner = owner[step]
        owner[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # torch brings the whole state of a weight to the weight's type; some optimizers keep parts of
    # it in another.
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for n, values in state.items():
        own = optimizer.state[weights[n]]
        for name, value in values.items():
            if isinstance(value, Tensor) and own[name].dtype != value.dtype:
                own[name] = value.to(own[name].device)
