"""The gate: a saved LoRA is read again, and must be whole, finite, changed in every part, and what
was trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from trainer.errors import GateFailed
from trainer.families.checkpoint import read_tensors
from trainer.files import lora as files
from trainer.networks import dora
from trainer.networks import lora as low_rank
from trainer.networks.base import Tensors
from trainer.networks.network import Lora, LoraModule
from trainer.networks.weight_norms import Change, Factors, change_distance, change_norm

# Changes of this many times the usual size look like a module that ran away.
_OUTLIER: Final = 10
# Changes that differ by less of their norm are the same: peft multiplies the whole ones in float32.
_SAME: Final = 1e-6
_SAME_WHOLE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a LoRA file holds. norms: module -> how large a change it makes; remarks: what a person
    should look at.
    """

    modules: int
    norms: Mapping[str, float]
    remarks: tuple[str, ...]


def check(path: Path, lora: Lora, *, idle: Collection[str] = (), dtype: torch.dtype) -> GateResult:
    """Read a kohya file and compare it with what was trained. Raises GateFailed with all that is
    wrong.

    idle: modules that no gradient can reach (behind the layer that clip_skip takes). dtype: the
    file's.
    """
    return check_tensors(read_tensors(path), lora, name=path.name, idle=idle, dtype=dtype)


def check_tensors(
    tensors: Tensors, lora: Lora, *, name: str, idle: Collection[str], dtype: torch.dtype
) -> GateResult:
    """Check tensors in kohya's keys as `check` does. name: of what is checked, for people."""
    problems = _whole(tensors, lora) or _alive(tensors, lora, idle) or _proof(tensors, lora, dtype)
    if problems:
        raise GateFailed(
            f"{name} failed the gate: {'; '.join(problems)}", hint="see metrics.jsonl and loss.png"
        )
    norms = {module: change_norm(_change(own)) for module, own in files.by_module(tensors).items()}
    return GateResult(len(norms), norms, tuple(_outliers(norms)))


def _whole(tensors: Tensors, lora: Lora) -> list[str]:
    expected = {f"{m.name}.{key}" for m in lora.modules for key in ("alpha", *m.tensors)}
    odd = expected ^ set(tensors)
    if odd:
        return [f"{len(odd)} tensors are missing or foreign, such as {min(odd)}"]
    infinite = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    return [f"{len(infinite)} tensors are not finite, such as {infinite[0]}"] if infinite else []


def _alive(tensors: Tensors, lora: Lora, idle: Collection[str]) -> list[str]:
    """Find modules that add nothing: what starts at zero still is, or became so in the file's
    precision.
    """
    growing = {module.name: tensors[f"{module.name}.{module.grows}"] for module in lora.modules}
    dead = [name for name, tensor in growing.items() if name not in idle and not bool(tensor.any())]
    return (
        [f"{len(dead)} of {len(growing)} modules learned nothing, such as {dead[0]}"]
        if dead
        else []
    )


def _change(own: Tensors) -> Change:
    """Return what a file says of a module, by plain arithmetic: alpha / dim times the product of
    its tensors.
    """
    if files.algo(own) == "lora":
        return Factors(own[low_rank.DOWN], own[low_rank.UP], files.file_scale(own))
    return files.file_delta(own)


def _proof(tensors: Tensors, lora: Lora, dtype: torch.dtype) -> list[str]:
    """Compare what the file adds, by plain arithmetic, with what peft adds in training."""
    wrong = []
    read = files.by_module(tensors)
    with lora.rounded(dtype), torch.no_grad():
        for module in lora.modules:
            said, trained = _change(read[module.name]), _on_cpu(module.change())
            same = _SAME if isinstance(trained, Factors) else _SAME_WHOLE
            # Worded so that a NaN is different.
            if not change_distance(said, trained) <= same * change_norm(trained) or _other_size(
                read, module
            ):
                wrong.append(module.name)
    return (
        [f"{len(wrong)} modules add something else than was trained, such as {wrong[0]}"]
        if wrong
        else []
    )


def _on_cpu(change: Change) -> Change:
    if isinstance(change, Factors):
        return Factors(change.down.detach().cpu(), change.up.detach().cpu(), change.scale)
    return change.detach().cpu()


def _other_size(read: Mapping[str, Tensors], module: LoraModule) -> bool:
    """Tell whether a module's magnitudes are not the trained ones, or not on the axis that programs
    look for.
    """
    if dora.SCALE not in module.tensors:
        return False
    return not torch.equal(read[module.name][dora.SCALE], module.tensors[dora.SCALE].detach().cpu())


def _outliers(norms: Mapping[str, float]) -> list[str]:
    usual = float(torch.tensor(list(norms.values())).median())
    return [
        f"{name} changes {norm / usual:.0f} times as much as the median module"
        for name, norm in norms.items()
        if usual > 0 and norm > _OUTLIER * usual
    ]
