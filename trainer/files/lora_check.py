"""The LoRA check: a saved file is read again; it must be complete, finite, trained in every module,
and equal to the LoRA in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from trainer.errors import LoraCheckFailed
from trainer.families.checkpoint import read_tensors
from trainer.files import lora as files
from trainer.networks import dora, file_check
from trainer.networks import lora as low_rank
from trainer.networks.base import Tensors
from trainer.networks.network import Lora, LoraModule
from trainer.networks.weight_norms import Change, Factors, change_distance, change_norm

RAISE_RATE: Final = "raise the learning rate"
# A module whose change is this many times the median probably diverged.
_OUTLIER: Final = 10
# Relative differences below this count as equal; peft multiplies full-rank changes in float32.
_TOLERANCE: Final = 1e-6
_TOLERANCE_FULL: Final = 1e-5


@dataclass(frozen=True, slots=True)
class LoraCheckResult:
    """Facts about a LoRA file. norms: module -> norm of its change; remarks: for the user."""

    modules: int
    norms: Mapping[str, float]
    remarks: tuple[str, ...]


def check(
    path: Path,
    lora: Lora,
    *,
    unreachable: Collection[str] = (),
    dtype: torch.dtype,
    restore: Callable[[Tensors], Tensors] = dict,
) -> LoraCheckResult:
    """Read a file in the family's first format and compare it with the trained LoRA. Raises
    LoraCheckFailed with every problem.

    restore: of the family, gives the tensors kohya's names. unreachable: modules that no gradient
    reaches (behind the layer that clip_skip uses). dtype: of the file.
    """
    return check_tensors(
        restore(read_tensors(path)), lora, name=path.name, unreachable=unreachable, dtype=dtype
    )


def check_tensors(
    tensors: Tensors, lora: Lora, *, name: str, unreachable: Collection[str], dtype: torch.dtype
) -> LoraCheckResult:
    """Check tensors with kohya's keys like `check`. name: for the error message."""
    hint = ""
    problems = _incomplete(tensors, lora)
    if not problems and (untrained := _untrained(tensors, lora, unreachable)):
        problems, hint = [untrained], RAISE_RATE
        if _rounds_to_zero(tensors, lora):
            problems.append(f"what they learned rounds to 0 in {_precision(dtype)}")
            hint += ', or set save_precision = "float", which keeps smaller changes'
    problems = problems or _mismatched(tensors, lora, dtype)
    if problems:
        raise LoraCheckFailed(f"{name} failed the LoRA check: {'; '.join(problems)}", hint=hint)
    by_module = files.by_module(tensors)
    norms = {name: change_norm(_change(module)) for name, module in by_module.items()}
    return LoraCheckResult(len(norms), norms, tuple(_outliers(norms)))


def _incomplete(tensors: Tensors, lora: Lora) -> list[str]:
    expected = {f"{m.name}.{key}" for m in lora.modules for key in m.tensors}
    expected |= {f"{m.name}.alpha" for m in lora.modules if m.has_alpha}
    odd = expected ^ set(tensors)
    if odd:
        return [f"{len(odd)} tensors are missing or unexpected, such as {min(odd)}"]
    infinite = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    return [f"{len(infinite)} tensors are not finite, such as {infinite[0]}"] if infinite else []


def _untrained(tensors: Tensors, lora: Lora, unreachable: Collection[str]) -> str:
    """Name the modules without effect: the tensor that starts at zero is still zero, or rounds to
    zero in the file's precision. "" without any.
    """
    untrained = [
        module.name
        for module in lora.modules
        if module.name not in unreachable and not bool(_zero_init(tensors, module).any())
    ]
    if not untrained:
        return ""
    return (
        f"{len(untrained)} of {len(lora.modules)} modules learned nothing, such as {untrained[0]}"
    )


def _rounds_to_zero(tensors: Tensors, lora: Lora) -> bool:
    """Tell whether modules learned something that the file does not hold."""
    return any(
        bool(module.tensors[module.zero_init].any()) and not bool(_zero_init(tensors, module).any())
        for module in lora.modules
    )


def _zero_init(tensors: Tensors, module: LoraModule) -> torch.Tensor:
    return tensors[f"{module.name}.{module.zero_init}"]


def _precision(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "float")


def _change(tensors: Tensors) -> Change:
    """Return a module's change as the file has it, by plain arithmetic: alpha / dim times the
    product of its tensors.
    """
    if file_check.algo(tensors) == "lora":
        return Factors(tensors[low_rank.DOWN], tensors[low_rank.UP], files.file_scale(tensors))
    return files.file_delta(tensors)


def _mismatched(tensors: Tensors, lora: Lora, dtype: torch.dtype) -> list[str]:
    """Compare the file's changes, by plain arithmetic, with what peft adds in training."""
    mismatched = []
    saved = files.by_module(tensors)
    with lora.rounded(dtype), torch.no_grad():
        for module in lora.modules:
            stored, trained = _change(saved[module.name]), _on_cpu(module.change())
            tolerance = _TOLERANCE if isinstance(trained, Factors) else _TOLERANCE_FULL
            # `not <=`, so that a NaN counts as different.
            differs = not change_distance(stored, trained) <= tolerance * change_norm(trained)
            if differs or _other_magnitude(saved, module):
                mismatched.append(module.name)
    if not mismatched:
        return []
    return [f"{len(mismatched)} modules differ from the trained ones, such as {mismatched[0]}"]


def _on_cpu(change: Change) -> Change:
    if isinstance(change, Factors):
        return Factors(change.down.detach().cpu(), change.up.detach().cpu(), change.scale)
    return change.detach().cpu()


def _other_magnitude(saved: Mapping[str, Tensors], module: LoraModule) -> bool:
    """Tell whether a DoRA module's magnitudes differ from the trained ones, in value or shape."""
    if dora.SCALE not in module.tensors:
        return False
    return not torch.equal(
        saved[module.name][dora.SCALE], module.tensors[dora.SCALE].detach().cpu()
    )


def _outliers(norms: Mapping[str, float]) -> list[str]:
    median = float(torch.tensor(list(norms.values())).median())
    outliers = {n: norm for n, norm in norms.items() if median > 0 and norm > _OUTLIER * median}
    if not outliers:
        return []
    name, norm = max(outliers.items(), key=lambda item: item[1])
    changes = f"{norm / median:,.0f} times as much as the median module"
    if len(outliers) == 1:
        return [f"{name} changes {changes}"]
    return [f"{len(outliers)} modules change up to {changes}, most of all {name}"]
