"""A course of training steps that survives a kill: what a step draws comes from its number, and a
state is kept.
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
    """One stage. lr: the highest rate.

    warmup: steps in which the rate rises; fall: the last part of the steps, in which it falls to
    nothing in a straight line, so that until then a longer and a shorter course are one and the
    same. ema: of the averaged weights, which are what comes out.
    """

    name: str
    steps: int
    lr: float
    seed: int = 0
    warmup: int = 100
    fall: float = 0.3
    ema: float = 0.999

    def rate(self, step: int) -> float:
        """Return the rate of a step (the first is 0), as a part of lr."""
        left = (self.steps - step) / max(1.0, self.fall * self.steps)
        return min(1.0, (step + 1) / self.warmup, left)

    def draws(self, step: int) -> torch.Generator:
        """Return the random numbers of one step."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 31 + len(self.name))


Loss = Callable[[int], Tensor]
Look = Callable[[int, nn.Module], None]


def follow(
    course: TrainingStage,
    model: nn.ModuleDict,
    loss: Loss,
    work: Path,
    *,
    look: Look | None = None,
    look_every: int = 0,
    together: bool = False,
) -> nn.ModuleDict:
    """Train `model` by the loss of each step, from its state in `work` where there is one; return
    the average.

    look: called with the averaged model now and then. together: each process of the crew takes a
    batch of each step. The log is `work/log.jsonl`.
    """
    rank, size = crew() if together else (0, 1)
    average = AveragedModel(model, multi_avg_fn=_ema(course.ema))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=course.lr, betas=(0.9, 0.99), weight_decay=0.0
    )
    path = work / f"{course.name}.state"
    first = _restored(path, model, average, optimizer)
    begun = kept = time.monotonic()
    seen: list[float] = []
    model.train()
    for step in range(first, course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.lr * course.rate(step)
        value = loss(step * size + rank)
        value.backward()  # type: ignore[no-untyped-call]
        if size > 1:
            _mean_gradients(model, size)
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        seen.append(float(value.detach()))
        done = step + 1
        if rank:
            continue
        if done % _LOG_EVERY == 0 or done == course.steps:
            pace = (time.monotonic() - begun) / (done - first)
            _log(
                work,
                {
                    "stage": course.name,
                    "step": done,
                    "of": course.steps,
                    "loss": sum(seen) / len(seen),
                    "rate": optimizer.param_groups[0]["lr"],
                    "pace": round(pace, 3),
                },
            )
            seen.clear()
        if done == course.steps or time.monotonic() - kept > _STATE_EVERY:
            _keep(path, done, model, average, optimizer)
            kept = time.monotonic()
        if look is not None and (done == course.steps or (look_every and done % look_every == 0)):
            look(done, average.module)
    return cast(nn.ModuleDict, average.module.eval())


def crew() -> tuple[int, int]:
    """Return this process's number among those that train together, and how many they are (torchrun
    starts them).

    On few cores that others use too, processes of one thread each are quicker than threads: they
    wait for each other once a step, and threads in each layer.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(hours=12))
    return int(os.environ.get("RANK", "0")), size


def _mean_gradients(model: nn.Module, size: int) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, mean in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(mean.view(gradient.shape) / size)


def _ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return how the average takes up weights; at first quickly, so that it forgets how
    they began.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(weights), 1 - now)

    return update


def _keep(
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


def _restored(
    path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load a state; return the step to go on with."""
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
