"""Training states: everything a run needs to resume bit by bit, written completely or not at all.

A state is a folder: safetensors for tensors, JSON for the rest, and a manifest with the hash of
each file. It is filled under a temporary name and renamed once, so a killed run leaves the earlier
states as they were.
"""

from __future__ import annotations

import hashlib
import json
import os
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

from datasetkit.core.disk_sync import sync_folder
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, file_sha256, write_new, writing
from datasetkit.core.progress import SILENT, Reporter
from trainer import finite
from trainer.files import run_files, run_manifest
from trainer.files.run_files import RunFiles
from trainer.files.run_lock import STAGE
from trainer.files.run_manifest import RunFile
from trainer.loop import TrainingSetup
from trainer.optimizers import build_scheduler

VERSION: Final = 2
KEPT: Final = 2
_MANIFEST: Final = "manifest.json"
_LORA, _OPTIMIZER, _STATE = "lora.safetensors", "optimizer.safetensors", "state.json"
_AVERAGE: Final = "average.safetensors"  # only with ema_decay


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A complete state. step: optimizer steps taken; facts: see `save`."""

    folder: Path
    step: int
    facts: Mapping[str, Any]


def save(setup: TrainingSetup, files: RunFiles, step: int, facts: Mapping[str, object]) -> Path:
    """Write the state after `step` as `<name>-state-<step>`; keep it and the one before. Raises
    StorageError.

    files: of the run. facts: what must be equal when the run is resumed. States of later steps are
    deleted: they are damaged, and this run will reach those steps again.
    """
    optimizer, numbers = flatten_state(setup.optimizer.state_dict())
    weights = _named(setup, setup.lora.parameters())
    finite.require_finite({**weights, **optimizer}, setup, step)
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
        average = _named(setup, setup.average.values)
        finite.require_finite(average, setup, step)
        contents[_AVERAGE] = save_tensors(average)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
    manifest = json.dumps(hashes).encode("utf-8")
    contents[_MANIFEST] = manifest
    target = files.folder / f"{files.name}-state-{step:08d}"
    size, sha256 = sum(map(len, contents.values())), hashlib.sha256(manifest).hexdigest()
    files.add(RunFile(target.name, "state", step, size=size, sha256=sha256))
    _write(files.folder, target, contents)
    later = [file for file in files.listed("state") if _step(Path(file.name)) > step]
    files.delete(later, _discard)
    prune(files)
    return target


def prune(files: RunFiles) -> None:
    """Delete all states of a run but the newest ones; a kill may have prevented that before. Raises
    StorageError.
    """
    states = sorted(files.listed("state"), key=lambda file: _step(Path(file.name)), reverse=True)
    files.delete(states[KEPT:], _discard)


def _write(folder: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    stage = _stage(folder)
    with writing(target):
        stage.mkdir()
        try:
            for file, data in contents.items():
                write_new(stage / file, data, sync=True)
            if target.exists():  # from a run that resumed an older state
                _discard(target)
            sync_folder(stage)
            os.rename(stage, target)  # noqa: PTH104 - the state appears with this rename
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def _discard(state: Path) -> None:
    """Delete a state. It is renamed first, so that a kill leaves no incomplete state behind. Raises
    StorageError.
    """
    stage = _stage(state.parent)
    with writing(state):
        os.rename(state, stage)  # noqa: PTH104 - as above
        shutil.rmtree(stage)


def _stage(folder: Path) -> Path:
    return folder / f"{STAGE}{uuid.uuid4().hex[:12]}"


def newest(folder: Path, name: str, reporter: Reporter = SILENT) -> TrainingState | None:
    """Return the newest complete state of a run in a folder, None without any; warn of damaged
    ones.
    """
    for path in _state_folders(folder, name):
        try:
            return read(path)
        except InputError as error:
            reporter.warn(f"{error.message}; the one before it is used")
    return None


def newest_of_previous(
    folder: Path, name: str, reporter: Reporter = SILENT
) -> TrainingState | None:
    """Return the newest complete state of the runs of this name below `previous/`, None without
    any.
    """
    for previous in run_files.previous_folders(folder, name):
        try:
            state = newest(previous, name, reporter)
        except InputError as error:  # a damaged manifest
            reporter.warn(error.message)
            continue
        if state is not None:
            return state
    return None


def read(folder: Path) -> TrainingState:
    """Check a state's files against its manifest. Raises InputError."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        broken = [file for file, sha in manifest.items() if file_sha256(folder / file) != sha]
        if broken or set(manifest) - {_AVERAGE} != {_LORA, _OPTIMIZER, _STATE}:
            raise ValueError(", ".join(broken) or "files are missing")
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"the training state {display(folder.name)} is damaged ({error})",
            hint="resume an older one",
        ) from error
    if state["version"] != VERSION:
        raise InputError(
            f"the training state {display(folder.name)} has another version",
            hint="train without --resume",
        )
    return TrainingState(folder, int(state["step"]), state["facts"])


def fits(state: TrainingState, facts: Mapping[str, object]) -> bool:
    """Tell whether a run with these facts could resume a state."""
    now = json.loads(json.dumps(dict(facts)))
    return all(now.get(key) == state.facts.get(key) for key in {*now, *state.facts})


@torch.no_grad()
def restore(setup: TrainingSetup, state: TrainingState, facts: Mapping[str, object]) -> None:
    """Restore weights, optimizer and LR schedule. Raises ConfigError if the run has other facts."""
    now = json.loads(json.dumps(dict(facts)))
    for key in sorted({*now, *state.facts}):
        if now.get(key) != state.facts.get(key):
            raise ConfigError(
                f"{display(state.folder.name)} cannot be resumed: {key} was "
                f"{_short(state.facts.get(key))} and is {_short(now.get(key))}",
                hint="set it back, or start over without --resume",
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
    """Return `<module>.<name>` -> tensor. tensors: in the order of the parameters; copied: to the
    CPU.
    """
    names = [f"{module.name}.{name}" for module in setup.lora.modules for name in module.tensors]
    return {
        n: t.detach().cpu().contiguous() if copied else t
        for n, t in zip(names, tensors, strict=True)
    }


def _state_folders(folder: Path, name: str) -> list[Path]:
    """Return the state folders of a run, the newest first."""
    files = run_manifest.own_files(folder, name)
    states = [folder / file.name for file in files if file.kind == "state"]
    return sorted(states, key=_step, reverse=True)


def _step(state: Path) -> int:
    return int(state.name.rpartition("-")[2])


def flatten_state(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors, under keys such as `state.0.exp_avg`, and values
    for JSON.
    """
    tensors: dict[str, Tensor] = {}
    numbers = {
        "state": {
            str(index): _split(values, f"state.{index}.", tensors)
            for index, values in state["state"].items()
        },
        "param_groups": [
            _split(group, f"group.{n}.", tensors) for n, group in enumerate(state["param_groups"])
        ],
    }
    return tensors, numbers


def _split(values: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Move the tensors of values into `tensors`, also nested ones (bitsandbytes), and return the
    rest.
    """
    rest: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value.detach().cpu().contiguous().clone()
        else:
            rest[name] = (
                _split(value, f"{prefix}{name}.", tensors) if isinstance(value, Mapping) else value
            )
    return rest


def restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Load a state that `flatten_state` split."""
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in numbers["param_groups"]
    ]
    state = {int(index): dict(values) for index, values in numbers["state"].items()}
    for key, tensor in tensors.items():
        kind, index, *nested, name = key.split(".")
        values: dict[str, Any] = state[int(index)] if kind == "state" else groups[int(index)]
        for level in nested:
            values = values[level]
        values[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # load_state_dict casts the state of a weight to the weight's dtype, but some optimizers keep
    # part of it in another one.
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, saved in state.items():
        loaded = optimizer.state[weights[number]]
        for name, value in saved.items():
            if isinstance(value, Tensor) and loaded[name].dtype != value.dtype:
                loaded[name] = value.to(loaded[name].device)
