"""The gate: a saved LoRA is read again, and must be whole, finite, changed in every part, and what was trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from trainer.errors import GateFailed
from trainer.families.sd import read_tensors
from trainer.lora import ADAPTER, Lora
from trainer.norms import Factors, delta_distance, delta_norms

# Changes of this many times the usual size look like a module that ran away.
_OUTLIER: Final = 10
# Changes that differ by less of their norm are the same.
_SAME: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a LoRA file holds. norms: module -> how large a change it makes; remarks: what a person should look at."""

    modules: int
    norms: Mapping[str, float]
    remarks: tuple[str, ...]


def check(path: Path, lora: Lora, *, idle: Collection[str] = (), dtype: torch.dtype) -> Verdict:
    """Read a kohya file and compare it with what was trained. Raises GateFailed with all that is wrong.

    idle: modules that no gradient can reach (behind the layer that clip_skip takes). dtype: the file's.
    """
    return check_tensors(read_tensors(path), lora, name=path.name, idle=idle, dtype=dtype)


def check_tensors(
    tensors: Mapping[str, Tensor], lora: Lora, *, name: str, idle: Collection[str], dtype: torch.dtype
) -> Verdict:
    """Check tensors in kohya's keys as `check` does. name: of what is checked, for people."""
    problems = _whole(tensors, lora) or _alive(tensors, idle) or _proof(tensors, lora, dtype)
    if problems:
        raise GateFailed(f"{name} failed the gate: {'; '.join(problems)}", hint="see metrics.jsonl and loss.png")
    read = {module.name: _factors(tensors, module.name) for module in lora.modules}
    norms = dict(zip(read, delta_norms(list(read.values())).tolist(), strict=True))
    return Verdict(len(norms), norms, tuple(_outliers(norms)))


def _whole(tensors: Mapping[str, Tensor], lora: Lora) -> list[str]:
    expected = {f"{m.name}.{key}" for m in lora.modules for key in ("alpha", "lora_down.weight", "lora_up.weight")}
    odd = expected ^ set(tensors)
    if odd:
        return [f"{len(odd)} tensors are missing or foreign, such as {min(odd)}"]
    infinite = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    return [f"{len(infinite)} tensors are not finite, such as {infinite[0]}"] if infinite else []


def _alive(tensors: Mapping[str, Tensor], idle: Collection[str]) -> list[str]:
    """Find modules that add nothing: their up factor is still zero, or became so in the file's precision."""
    ups = {name.removesuffix(".lora_up.weight"): t for name, t in tensors.items() if name.endswith(".lora_up.weight")}
    dead = [name for name, up in ups.items() if name not in idle and not bool(up.any())]
    return [f"{len(dead)} of {len(ups)} modules learned nothing, such as {dead[0]}"] if dead else []


def _factors(tensors: Mapping[str, Tensor], name: str) -> Factors:
    """Return what a file says of a module: it adds alpha / rank * up @ down."""
    down = tensors[f"{name}.lora_down.weight"]
    return Factors(down, tensors[f"{name}.lora_up.weight"], float(tensors[f"{name}.alpha"]) / down.shape[0])


def _proof(tensors: Mapping[str, Tensor], lora: Lora, dtype: torch.dtype) -> list[str]:
    """Compare what the file adds, by plain arithmetic, with what peft added in training."""
    wrong = []
    for module in lora.modules:
        down, up = (factor.detach().cpu().to(dtype) for factor in (module.down, module.up))
        trained = Factors(down, up, module.layer.scaling[ADAPTER])
        if not delta_distance(_factors(tensors, module.name), trained) <= _SAME * float(delta_norms([trained])):
            wrong.append(module.name)
    return [f"{len(wrong)} modules add something else than was trained, such as {wrong[0]}"] if wrong else []


def _outliers(norms: Mapping[str, float]) -> list[str]:
    usual = float(torch.tensor(list(norms.values())).median())
    return [
        f"{name} changes {norm / usual:.0f} times as much as the median module"
        for name, norm in norms.items()
        if usual > 0 and norm > _OUTLIER * usual
    ]
