"""The LoRA: which modules are adapted by peft, how they start, and how they are written in kohya's keys and diffusers'.

Nothing is left to a converter's guess: the names come from the module paths, and alpha is always written out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from trainer.families.base import Family, Part, Parts
from trainer.norms import Factors

# The name under which peft keeps the adapter that is trained.
ADAPTER: Final = "trained"
_DIFFUSERS_METADATA: Final = "lora_adapter_metadata"


@dataclass(frozen=True, slots=True)
class Module:
    """One adapted layer. name: kohya's; path: within its part; layer: peft's, that wraps the frozen one."""

    name: str
    part: Part
    path: str
    layer: Any

    @property
    def down(self) -> nn.Parameter:
        """Return the factor (r, in) or (r, in, k, k)."""
        weight: nn.Parameter = self.layer.lora_A[ADAPTER].weight
        return weight

    @property
    def up(self) -> nn.Parameter:
        """Return the factor (out, r) or (out, r, 1, 1)."""
        weight: nn.Parameter = self.layer.lora_B[ADAPTER].weight
        return weight


@dataclass(frozen=True, slots=True)
class Lora:
    """All adapted layers of a model, in the order of their names. alpha / dim scales what they add."""

    modules: tuple[Module, ...]
    dim: int
    alpha: float

    @property
    def scale(self) -> float:
        """Return alpha / dim."""
        return self.alpha / self.dim

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the parts that are trained."""
        return tuple(dict.fromkeys(module.part for module in self.modules))

    def parameters(self, part: Part | None = None) -> list[nn.Parameter]:
        """Return the trained parameters, of one part or of all, in the order of the modules."""
        chosen = [m for m in self.modules if part in (None, m.part)]
        return [parameter for m in chosen for parameter in (m.down, m.up)]

    def factors(self) -> list[Factors]:
        """Return the factors of each module."""
        return [Factors(m.down, m.up, self.scale) for m in self.modules]


def attach(
    family: Family, parts: Parts, which: Sequence[Part], *, dim: int, alpha: float, dropout: float, seed: int
) -> Lora:
    """Put a LoRA on the modules of the parts; it adds nothing yet (up is zero).

    alpha: 0 means dim. dropout: chance of each of the `dim` inner activations to be zero, as in sd-scripts (peft's own
    dropout acts on the layer's input, which is another thing). The trained weights are float32 whatever the base is.
    """
    from peft import LoraConfig, inject_adapter_in_model

    modules: list[Module] = []
    for part in which:
        targets = family.targets(parts, part)
        scale: Any = alpha or dim  # peft says int, and takes any number
        config = LoraConfig(r=dim, lora_alpha=scale, target_modules=list(targets.values()), lora_dropout=0.0)
        model = parts.part(part)
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        model.eval()  # what peft put in is in training mode
        for name, path in targets.items():
            modules.append(Module(name, part, path, model.get_submodule(path)))
    lora = Lora(tuple(sorted(modules, key=lambda m: m.name)), dim, alpha or dim)
    for module in lora.modules:
        _start(module, seed)
        if dropout > 0:
            module.layer.lora_A[ADAPTER].register_forward_hook(_Dropout(dropout))
    return lora


@torch.no_grad()
def _start(module: Module, seed: int) -> None:
    """Draw the down factor by its own generator, so that it does not depend on which other modules there are.

    kaiming_uniform(a = sqrt 5) is U(-1, 1) / sqrt(fan in), as torch starts a linear layer.
    """
    digest = hashlib.sha256(json.dumps([seed, module.name]).encode("ascii")).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    for factor in (module.down, module.up):
        factor.data = factor.data.float()
        factor.requires_grad_(True)
    bound = 1 / math.sqrt(module.down[0].numel())
    module.down.copy_((torch.rand(module.down.shape, generator=generator) * 2 - 1) * bound)
    module.up.zero_()


class _Dropout:
    """A forward hook that drops inner activations while training."""

    def __init__(self, chance: float) -> None:
        self._chance = chance

    def __call__(self, layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return functional.dropout(output, self._chance, layer.training)


# ---- files ----------------------------------------------------------------------------------------------------------


def kohya_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the LoRA as sd-scripts writes it: `<name>.lora_down.weight`, `.lora_up.weight` and `.alpha`."""
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        # Always float32: an alpha that the file's precision would round is another strength.
        tensors[f"{module.name}.alpha"] = torch.tensor(lora.alpha, dtype=torch.float32)
        tensors[f"{module.name}.lora_down.weight"] = _plain(module.down, dtype)
        tensors[f"{module.name}.lora_up.weight"] = _plain(module.up, dtype)
    return tensors


def diffusers_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the LoRA as diffusers and peft write it: `<part>.<path>.lora_A.weight` and `lora_B.weight`.

    The format has no place for alpha: `diffusers_metadata` belongs to it.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        path = _published_path(module)
        tensors[f"{module.part}.{path}.lora_A.weight"] = _plain(module.down, dtype)
        tensors[f"{module.part}.{path}.lora_B.weight"] = _plain(module.up, dtype)
    return tensors


def diffusers_metadata(lora: Lora) -> dict[str, str]:
    """Return the header entry by which diffusers rebuilds the adapter's configuration, alpha included."""
    facts: dict[str, object] = {}
    for part in lora.parts:
        # peft takes a name for any path that ends in it: without `text_model` it fits every version of transformers.
        paths = sorted(m.path.removeprefix("text_model.") for m in lora.modules if m.part == part)
        facts |= {
            f"{part}.r": lora.dim,
            f"{part}.lora_alpha": lora.alpha,
            f"{part}.target_modules": paths,
            f"{part}.init_lora_weights": True,
            # Empty, and yet older versions of diffusers stop without it.
            f"{part}.rank_pattern": {},
        }
    return {"format": "pt", _DIFFUSERS_METADATA: json.dumps(facts, indent=2, sort_keys=True)}


def _published_path(module: Module) -> str:
    """Return a module's path as files have it: with `text_model`, which transformers 5.6 took out of the tree."""
    if module.part == "unet" or module.path.startswith("text_model."):
        return module.path
    return f"text_model.{module.path}"


def _plain(parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
    return parameter.detach().to("cpu", dtype).clone().contiguous()


def read_kohya(path: str) -> dict[str, Tensor]:
    """Read a LoRA file in kohya's keys. Raises ModelFileError."""
    from trainer.families.sd import read_tensors

    tensors = read_tensors(Path(path))
    if not any(name.endswith(".lora_down.weight") for name in tensors):
        raise ModelFileError(f"{display(path)} is no LoRA in kohya's keys", hint="name a file with lora_down tensors")
    return tensors


@torch.no_grad()
def load_kohya(lora: Lora, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Take over the weights of a kohya file, so that each module adds what it adds there.

    A rank that is not the configured one, a missing or a foreign module is refused (ConfigError, ModelFileError).
    """
    names = {key.partition(".")[0] for key in tensors}
    own = {module.name for module in lora.modules}
    if names != own:
        odd = sorted(names ^ own)
        raise ModelFileError(
            f"{source} has not the modules that are trained: {odd[0]} and {len(odd) - 1} more differ",
            hint="train the parts that the file has, with the same network_module",
        )
    for module in lora.modules:
        down = tensors[f"{module.name}.lora_down.weight"].float()
        up = tensors[f"{module.name}.lora_up.weight"].float()
        rank = down.shape[0]
        if rank != lora.dim:
            raise ConfigError(f"{source} has rank {rank}, not {lora.dim}", hint=f"set network_dim = {rank}")
        alpha = float(tensors.get(f"{module.name}.alpha", torch.tensor(rank)))
        module.down.copy_(down.reshape(module.down.shape))
        module.up.copy_(up.reshape(module.up.shape) * (alpha / rank / lora.scale))


def deltas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what each module of a kohya file adds to its layer, (out, in * k * k), by plain arithmetic in float64."""
    found: dict[str, Tensor] = {}
    for key in tensors:
        name, _, rest = key.partition(".")
        if rest == "lora_down.weight":
            down = tensors[key].double().flatten(1)
            up = tensors[f"{name}.lora_up.weight"].double().flatten(1)
            found[name] = up @ down * (float(tensors[f"{name}.alpha"]) / down.shape[0])
    return found


def diffusers_deltas(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """Return what each module of a diffusers file adds, by path, as `deltas` does."""
    facts = json.loads(metadata[_DIFFUSERS_METADATA])
    found: dict[str, Tensor] = {}
    for key in tensors:
        path, ending, _ = key.partition(".lora_A.weight")
        if ending:
            part = path.partition(".")[0]
            up = tensors[f"{path}.lora_B.weight"].double().flatten(1)
            scale = facts[f"{part}.lora_alpha"] / facts[f"{part}.r"]
            found[path] = up @ tensors[key].double().flatten(1) * scale
    return found
