"""Training states: everything a run needs to resume bit by bit, written completely or not at all.

A state is a folder: safetensors for tensors, JSON for the rest, and a manifest with the hash of
each file. It is filled under a temporary name and renamed once, so a killed run leaves the earlier
states as they were. Which states there are is in `saved_states`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.optim import Optimizer

from trainer import finite
from trainer.files import saved_states
from trainer.files.run_files import RunFiles
from trainer.files.saved_states import AVERAGE, LORA, OPTIMIZER, STATE, TrainingState
from trainer.loop import TrainingSetup
from trainer.optimizers import build_scheduler


def save(
    setup: TrainingSetup,
    files: RunFiles,
    step: int,
    facts: Mapping[str, object],
    *,
    pause: bool = False,
) -> Path:
    """Write the state after `step`, and delete those that it replaces. Raises StorageError.

    files: of the run. facts: what must be equal when the run is resumed. pause: it is saved by the
    clock, or because the run stops.
    """
    optimizer, numbers = flatten_state(setup.optimizer.state_dict())
    weights = _named(setup, setup.lora.parameters())
    finite.require_finite({**weights, **optimizer}, setup, step)
    state = {
        "version": saved_states.VERSION,
        "step": step,
        "facts": dict(facts),
        "threads": torch.get_num_threads(),
        "optimizer": numbers,
        "scaler": setup.scaler.state_dict(),
    }
    contents = {
        LORA: save_tensors(weights),
        OPTIMIZER: save_tensors(optimizer),
        STATE: json.dumps(state).encode("utf-8"),
    }
    if setup.average is not None:
        average = _named(setup, setup.average.values)
        finite.require_finite(average, setup, step)
        contents[AVERAGE] = save_tensors(average)
    return saved_states.write(files, step, contents, pause=pause)


@torch.no_grad()
def restore(setup: TrainingSetup, state: TrainingState) -> None:
    """Restore weights, optimizer and LR schedule."""
    weights = load_tensors((state.folder / LORA).read_bytes())
    for name, parameter in _named(setup, setup.lora.parameters(), copied=False).items():
        parameter.copy_(weights[name])
    if setup.average is not None:
        average = load_tensors((state.folder / AVERAGE).read_bytes())
        setup.average.restore(
            [average[name] for name in _named(setup, setup.average.values, copied=False)],
            state.step,
        )
    saved = json.loads((state.folder / STATE).read_text(encoding="utf-8"))
    tensors = load_tensors((state.folder / OPTIMIZER).read_bytes())
    build_scheduler.replay(setup.scheduler, state.step)
    restore_optimizer(setup.optimizer, tensors, saved["optimizer"])
    setup.scaler.load_state_dict(saved["scaler"])


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
