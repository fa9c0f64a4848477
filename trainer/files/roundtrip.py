"""The export proof: a saved LoRA is loaded as a user will load it, and must do what was trained.

By diffusers' own loader; what it has none for (LoHa, LoKr, DoRA of the input axis) by the
arithmetic of ComfyUI and the web interfaces.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainer.errors import GateFailed
from trainer.families.base import Part, Parts
from trainer.families.checkpoint import read_tensors
from trainer.files.lora import ADAPTER, Lora
from trainer.loop import TrainingSetup
from trainer.networks import dora, merged
from trainer.networks.base import Tensors
from trainer.networks.weight_norms import Factors, delta_distance, delta_norms
from trainer.plan import size_conditioning

_LOADED: Final = "loaded"
_CAPTION: Final = "a photo"
_SIDES: Final = (8, 8)  # latent pixels: what is proven does not depend on the size
_TIMESTEP: Final = 500
_ATTENTION: Final = re.compile(r"\.(?:to_[qkv]|to_out\.0|[qkv]_proj|out_proj)$")
_GRACE: Final = 4  # roundings that add up in a product or a pass, beside the one of each factor


@torch.no_grad()
def check(path: Path, run: TrainingSetup, dtype: torch.dtype) -> None:
    """Load a LoRA file onto the plain base, and compare. Raises GateFailed, which names the file.

    dtype: the file's. Every module must add what the trained one adds, its factors rounded as the
    file's are, and a pass through the text encoder and the UNet must give the same. The plain base
    shares the weights of the trained model, so that the proof takes the memory of the LoRA alone.
    """
    plain = _plain(run)
    base = _output(run, plain)
    tensors = read_tensors(path)
    if by_arithmetic(run.lora, tensors):
        merged.put(tensors, run.lora.modules, plain)
        with _rounded(run, dtype):
            problem = _different_output(run, plain, base, "by plain arithmetic")
    elif not (problem := _load(path, run, plain)):
        with _rounded(run, dtype):
            problem = _different_modules(run, plain) or _different_output(
                run, plain, base, "in diffusers"
            )
    if problem:
        raise GateFailed(
            f"{path.name} failed the gate: {problem}",
            hint="keep the file and the training state, and report this",
        )


def by_arithmetic(network: Lora, tensors: Tensors) -> bool:
    """Tell whether diffusers has no loader for a file, or one that reads it wrongly."""
    if any(".lora_A." in key for key in tensors):
        return False
    other = any(module.algo != "lora" or dora.SCALE in module.tensors for module in network.modules)
    return other or alphas_are_lost(network)


def alphas_are_lost(network: Lora) -> bool:
    """Tell whether diffusers reads a network from kohya's keys at another strength than every other
    program.

    Of attention layers it keeps one alpha, the commonest of the part; those of other layers and of
    files in its own keys it reads.
    """
    for part in network.parts:
        own = [module for module in network.modules if module.part == part]
        usual = Counter(module.rank.alpha for module in own).most_common(1)[0][0]
        if any(module.rank.alpha != usual and _ATTENTION.search(module.path) for module in own):
            return True
    return False


def _plain(run: TrainingSetup) -> Parts:
    """Return the model without its LoRA: modules of its own, and the same weights."""
    parts = run.parts
    copies: dict[str, Any] = {name: _without_lora(run, name) for name in parts.names}
    return replace(parts, **copies)


def _without_lora(run: TrainingSetup, part: Part) -> nn.Module:
    model = run.parts.part(part)
    modules = [module for module in run.lora.modules if module.part == part]
    # What stands in `memo` is shared and not copied.
    memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    made: nn.Module = copy.deepcopy(model, memo).eval()
    for module in modules:
        parent, _, name = module.path.rpartition(".")
        setattr(made.get_submodule(parent), name, made.get_submodule(module.path).base_layer)
    for trace in ("peft_config", "_hf_peft_config_loaded"):
        if trace in made.__dict__:
            delattr(made, trace)
    return made


def _load(path: Path, run: TrainingSetup, plain: Parts) -> str:
    """Put the file onto the plain model by diffusers' own loader; return what it finds wrong, ""
    for nothing.
    """
    from diffusers import loaders

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is loaded is compared
            _load_parts(getattr(loaders, run.family.LOADER), path, run, plain)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        return (
            "diffusers cannot load it "
            f"({' '.join(str(error).split())[:200] or type(error).__name__})"
        )
    return ""


def _load_parts(loader: Any, path: Path, run: TrainingSetup, plain: Parts) -> None:
    # Older versions of diffusers take no path to a file where they may not ask the hub.
    tensors, alphas, facts = loader.lora_state_dict(
        str(path.parent),
        weight_name=path.name,
        local_files_only=True,
        use_safetensors=True,
        return_lora_metadata=True,
        **(
            {"unet_config": plain.unet.config} if run.family.NAME == "sdxl" else {}
        ),  # its names are mapped by it
    )
    if (
        run.family.NAME == "sd2"
    ):  # kohya's file has as convolutions what is linear here, and diffusers does not turn them
        tensors = {
            key: tensor.flatten(1) if ".proj_" in key else tensor for key, tensor in tensors.items()
        }
    if "unet" in run.lora.parts:
        loader.load_lora_into_unet(
            tensors, alphas, plain.unet, adapter_name=_LOADED, metadata=facts
        )
    for part in run.lora.parts:
        if part != "unet":
            loader.load_lora_into_text_encoder(
                tensors, alphas, plain.part(part), prefix=part, adapter_name=_LOADED, metadata=facts
            )


@contextmanager
def _rounded(run: TrainingSetup, dtype: torch.dtype) -> Iterator[None]:
    """Let the trained LoRA be for a while what a file of `dtype` can hold of it, and at rest."""
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
    wrong = []
    for module in run.lora.modules:
        layer: Any = plain.part(module.part).get_submodule(module.path)
        if _LOADED not in getattr(layer, "lora_A", {}):
            wrong.append(module.name)
            continue
        precision = torch.finfo(layer.lora_A[_LOADED].weight.dtype).eps
        loaded, trained = _factors(layer, _LOADED), _factors(module.layer, ADAPTER)
        # Worded so that a NaN is different.
        if not delta_distance(loaded, trained) <= _GRACE * precision * float(
            delta_norms([trained])
        ):
            wrong.append(module.name)
    count = len(run.lora.modules)
    return (
        f"in diffusers {len(wrong)} of {count} modules add something else, such as {wrong[0]}"
        if wrong
        else ""
    )


def _factors(layer: Any, adapter: str) -> Factors:
    return Factors(
        layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]
    )


def _different_output(run: TrainingSetup, plain: Parts, base: Tensor, how: str) -> str:
    """Compare a pass with the loaded and with the trained LoRA, measured by what the LoRA
    changes.
    """
    loaded, trained = _output(run, plain), _output(run, run.parts)
    precision = max(torch.finfo(run.place.dtype).eps, torch.finfo(torch.float32).eps)
    change = float((trained - base).norm())
    # The passes round alike but where the loaded factors have another precision than the trained
    # ones.
    allowed = 0.02 * change + _GRACE * precision * float(trained.norm())
    error = float((loaded - trained).norm())
    if error <= allowed:
        return ""
    return f"{how} a pass differs by {error:.3g} where the LoRA changes {change:.3g}"


def _output(run: TrainingSetup, parts: Parts) -> Tensor:
    """Return a pass on fixed noise and a fixed caption, float32."""
    options, place = run.options, run.place
    form = (1, parts.unet.config.in_channels, *_SIDES)
    noisy = torch.randn(form, generator=torch.Generator().manual_seed(0)).to(
        place.device, place.dtype
    )
    with place.autocast():
        told = run.family.encode_text(
            parts, [_CAPTION], clip_skip=options.clip_skip, max_tokens=options.max_token_length
        ).to(place.dtype)
        told = told.sized(
            torch.tensor(
                [size_conditioning.whole(1024, 1024)], dtype=torch.float32, device=place.device
            )
        )
        predicted: Tensor = run.family.predict(
            parts, noisy, torch.tensor([_TIMESTEP], device=place.device), told
        )
    return predicted.float()
