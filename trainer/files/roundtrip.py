"""The round-trip check: a saved LoRA is loaded as a user would, and must act like the trained one.

diffusers' own loader is used where it can read the file; LoHa, LoKr and DoRA over the input axis
are applied with the arithmetic of ComfyUI and the web interfaces.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainer import finite
from trainer.errors import LoraCheckFailed
from trainer.families.base import Part, Parts
from trainer.families.checkpoint import read_tensors
from trainer.files.lora import ADAPTER, Lora
from trainer.loop import TrainingSetup
from trainer.networks import dora, merged
from trainer.networks.base import Tensors
from trainer.networks.weight_norms import Factors, change_norm, delta_distance
from trainer.plan import size_conditioning

_LOADED: Final = "loaded"
CAPTION: Final = "a photo"
_SIZE: Final = (64, 64)  # pixels; the result does not depend on the size
_ATTENTION: Final = re.compile(r"\.(?:to_[qkv]|to_out\.0|[qkv]_proj|out_proj)$")
# A LoRA that works changes a layer by less than its weights; beyond this, rounding is amplified.
_TOO_STRONG: Final = 10
_GRACE: Final = 4  # rounding errors that add up in a product or a forward pass


@torch.no_grad()
def check(path: Path, run: TrainingSetup, dtype: torch.dtype) -> None:
    """Load a LoRA file onto the base model, and compare. Raises LoraCheckFailed.

    dtype: of the file. Every module must add what the trained one adds, with factors rounded to
    the file's precision, and a forward pass of text encoder and denoiser must match. The base
    shares its weights with the trained model, so the check only takes the memory of the LoRA.
    """
    plain = _plain(run)
    base = _output(run, plain)
    tensors = read_tensors(path)
    if by_arithmetic(run.lora, tensors):
        merged.put(run.family.restore(tensors), run.lora.modules, plain)
        with _rounded(run, dtype):
            problem = _different_output(run, plain, base, "by plain arithmetic")
    elif not (problem := _load(path, run, plain)):
        with _rounded(run, dtype):
            problem = _different_modules(run, plain) or _different_output(
                run, plain, base, "in diffusers"
            )
    if problem and bool(torch.isfinite(base).all()) and not _is_finite(run, dtype):
        raise LoraCheckFailed(
            f"{path.name} failed the LoRA check: with it the model predicts values that are not "
            "finite",
            hint=f"{finite.lower_rate(run.options)}; what was saved before may be good",
        )
    if problem and "modules differ" not in problem and (times := _strength(run)) > _TOO_STRONG:
        raise LoraCheckFailed(
            f"{path.name} failed the LoRA check: a layer changes by {times:.3g} times its own "
            "weights, so that what the model predicts is rounding alone",
            hint=f"{finite.lower_rate(run.options)}; what was saved before may be good",
        )
    if problem:
        raise LoraCheckFailed(
            f"{path.name} failed the LoRA check: {problem}",
            hint="keep the file and the training state, and report this",
        )


def _strength(run: TrainingSetup) -> float:
    """Return the largest change of a layer as a multiple of its own weights."""
    ratios = [0.0]
    for module in run.lora.modules:
        weight = getattr(module.layer.base_layer, "weight", None)  # int8 layers have none
        if isinstance(weight, Tensor) and (norm := float(weight.detach().float().norm())) > 0.0:
            ratios.append(change_norm(module.change()) / norm)
    return max(ratios)


def by_arithmetic(network: Lora, tensors: Tensors) -> bool:
    """Tell whether diffusers cannot load a file, or loads it wrongly."""
    if any(".lora_A." in key for key in tensors):
        return False
    if "transformer" in network.parts:  # diffusers knows kohya's keys of some full-size models only
        return True
    other = any(module.algo != "lora" or dora.SCALE in module.tensors for module in network.modules)
    return other or alphas_are_lost(network)


def alphas_are_lost(network: Lora) -> bool:
    """Tell whether diffusers would load kohya's keys at another strength than every other program.

    For attention layers it keeps a single alpha, the most common one of the part. It reads the
    alphas of other layers, and those of files with its own keys.
    """
    for part in network.parts:
        modules = [module for module in network.modules if module.part == part]
        common = Counter(module.rank.alpha for module in modules).most_common(1)[0][0]
        if any(
            module.rank.alpha != common and _ATTENTION.search(module.path) for module in modules
        ):
            return True
    return False


def _plain(run: TrainingSetup) -> Parts:
    """Return the model without its LoRA: new modules that share the weights."""
    parts = run.parts
    return parts.with_models({name: _without_lora(run, name) for name in parts.names})


def _without_lora(run: TrainingSetup, part: Part) -> nn.Module:
    model = run.parts.part(part)
    modules = [module for module in run.lora.modules if module.part == part]
    # deepcopy shares what is in `memo` instead of copying it.
    memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    plain: nn.Module = copy.deepcopy(model, memo).eval()
    for module in modules:
        parent, _, name = module.path.rpartition(".")
        setattr(plain.get_submodule(parent), name, plain.get_submodule(module.path).base_layer)
    for trace in ("peft_config", "_hf_peft_config_loaded"):
        if trace in plain.__dict__:
            delattr(plain, trace)
    return plain


def _load(path: Path, run: TrainingSetup, plain: Parts) -> str:
    """Load the file with diffusers' own loader; return its problem, "" for none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the loaded weights are compared anyway
            run.family.reload(path, plain, run.lora.parts, _LOADED)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        return (
            "diffusers cannot load it "
            f"({' '.join(str(error).split())[:200] or type(error).__name__})"
        )
    return ""


@contextmanager
def _rounded(run: TrainingSetup, dtype: torch.dtype) -> Iterator[None]:
    """Round the trained LoRA to the file's `dtype` for a while, with the model in eval mode."""
    modes = [(part, run.parts.part(part).training) for part in run.parts.names]
    try:
        for part, _ in modes:
            run.parts.part(part).eval()
        with run.lora.rounded(dtype):
            yield
    finally:
        for part, mode in modes:
            run.parts.part(part).train(mode)


def _different_modules(run: TrainingSetup, plain: Parts) -> str:
    """Compare what each module adds to its layer."""
    mismatched = []
    for module in run.lora.modules:
        layer: Any = plain.part(module.part).get_submodule(module.path)
        if _LOADED not in getattr(layer, "lora_A", {}):
            mismatched.append(module.name)
            continue
        precision = torch.finfo(layer.lora_A[_LOADED].weight.dtype).eps
        loaded, trained = _factors(layer, _LOADED), _factors(module.layer, ADAPTER)
        # `not <=`, so that a NaN counts as different.
        allowed = _GRACE * precision * change_norm(trained)
        if not delta_distance(loaded, trained) <= allowed:
            mismatched.append(module.name)
    count = len(run.lora.modules)
    return (
        f"in diffusers {len(mismatched)} of {count} modules differ, such as {mismatched[0]}"
        if mismatched
        else ""
    )


def _factors(layer: Any, adapter: str) -> Factors:
    return Factors(
        layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]
    )


def _different_output(run: TrainingSetup, plain: Parts, base: Tensor, how: str) -> str:
    """Compare a forward pass with the loaded LoRA to one with the trained LoRA."""
    loaded, trained = _output(run, plain), _output(run, run.parts)
    precision = max(torch.finfo(run.device_context.dtype).eps, torch.finfo(torch.float32).eps)
    change = float((trained - base).norm())
    # Both passes round alike, except where the loaded factors have another precision.
    allowed = 0.02 * change + _GRACE * precision * float(trained.norm())
    error = float((loaded - trained).norm())
    if error <= allowed:
        return ""
    return f"{how} a forward pass differs by {error:.3g}, and the LoRA's effect is {change:.3g}"


def _is_finite(run: TrainingSetup, dtype: torch.dtype) -> bool:
    with _rounded(run, dtype):
        return bool(torch.isfinite(_output(run, run.parts)).all())


def _output(run: TrainingSetup, parts: Parts) -> Tensor:
    """Return a forward pass on fixed noise and a fixed caption, float32."""
    options, context = run.options, run.device_context
    shape = (1, *run.family.latent_shape(parts.vae, *_SIZE))
    noisy = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(
        context.device, context.dtype
    )
    with context.autocast():
        conditioning = (
            run.texts.states([CAPTION])
            if run.texts.is_complete
            else run.family.encode_text(
                parts, [CAPTION], clip_skip=options.clip_skip, max_tokens=options.max_token_length
            )
        ).to(context.dtype)
        conditioning = conditioning.sized(
            torch.tensor(
                [size_conditioning.of_image(1024, 1024)], dtype=torch.float32, device=context.device
            )
        )
        predicted: Tensor = run.family.predict(
            parts, noisy, run.process.grid(1).to(context.device), conditioning
        )
    return predicted.float()
