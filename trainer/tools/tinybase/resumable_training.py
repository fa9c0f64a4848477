"""A training stage that can be killed and resumed: a step's random numbers depend on its index, and
the state is saved.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any, Final, cast

import torch
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel

from datasetkit.core.files import write_atomic

_LOG_EVERY: Final = 25  # steps
_STATE_EVERY: Final = 180.0  # seconds
_CLIP: Final = 1.0


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """A stage. lr: the peak learning rate.

    warmup: steps of the rise; fall: the last fraction of the steps, in which the rate decays
    linearly to 0; until then a longer and a shorter stage are identical. ema: decay of the averaged
    weights, which are the result.
    """

    name: str
    steps: int
    lr: float
    seed: int = 0
    warmup: int = 100
    fall: float = 0.3
    ema: float = 0.999

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0) as a fraction of lr."""
        decay = (self.steps - step) / max(1.0, self.fall * self.steps)
        return min(1.0, (step + 1) / self.warmup, decay)

    def draws(self, step: int) -> torch.Generator:
        """Return the random generator of a step."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 31 + len(self.name))


Loss = Callable[[int], Tensor]
Preview = Callable[[int, nn.Module], None]


def train_stage(
    stage: TrainingStage,
    model: nn.ModuleDict,
    loss: Loss,
    work: Path,
    *,
    preview: Preview | None = None,
    preview_every: int = 0,
    together: bool = False,
) -> nn.ModuleDict:
    """Train `model`, from its state in `work` if there is one; return the averaged model.

    preview: called with the averaged model every `preview_every` steps. together: each launched
    process computes a batch of each step. The log is `work/log.jsonl`.
    """
    rank, size = launched_processes() if together else (0, 1)
    average = AveragedModel(model, multi_avg_fn=_ema(stage.ema))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.0
    )
    path = work / f"{stage.name}.state"
    first = _restore(path, model, average, optimizer)
    started = saved = time.monotonic()
    losses: list[float] = []
    model.train()
    for step in range(first, stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * stage.rate(step)
        value = loss(step * size + rank)
        value.backward()  # type: ignore[no-untyped-call]
        if size > 1:
            _mean_gradients(model, size)
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        losses.append(float(value.detach()))
        done = step + 1
        if rank:
            continue
        if done % _LOG_EVERY == 0 or done == stage.steps:
            pace = (time.monotonic() - started) / (done - first)
            row = {"stage": stage.name, "step": done, "of": stage.steps}
            rate = optimizer.param_groups[0]["lr"]
            _log(work, row | {"loss": mean(losses), "rate": rate, "pace": round(pace, 3)})
            losses.clear()
        if done == stage.steps or time.monotonic() - saved > _STATE_EVERY:
            _save(path, done, model, average, optimizer)
            saved = time.monotonic()
        if preview is not None and (
            done == stage.steps or (preview_every and done % preview_every == 0)
        ):
            preview(done, average.module)
    return cast(nn.ModuleDict, average.module.eval())


def launched_processes() -> tuple[int, int]:
    """Return this process's rank and the number of processes (torchrun starts them).

    On a few shared cores, processes with one thread each are faster than threads: they synchronise
    once per step, threads in every layer.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(hours=12))
    return int(os.environ.get("RANK", "0")), size


def _mean_gradients(model: nn.Module, size: int) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, total in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(total.view(gradient.shape) / size)


def _ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update of the average; its decay is low at first, to forget the initial
    weights.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(weights), 1 - now)

    return update


def _save(
    path: Path, step: int, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    data = io.BytesIO()
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save({"step": step, **state}, data)
    write_atomic(path, data.getvalue())


def _restore(
    path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load a state; return the step to continue with."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _log(work: Path, row: Mapping[str, object]) -> None:
    with (work / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
