"""Attach a network to a model with peft, and convert it to and from the keys of kohya's and
diffusers' files.

Names come from the module paths and alpha is always written, so a converter has nothing to guess.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.options.networks import Algo, NetworkArgs
from trainer.families.base import DENOISERS, Family, Part, Parts
from trainer.networks import blocks, delta_layer, dora, file_check, layers, norm
from trainer.networks.base import ADAPTER as ADAPTER
from trainer.networks.base import TargetLayer, Tensors
from trainer.networks.dropout import Dropout
from trainer.networks.file_check import ModuleShape
from trainer.networks.network import Lora as Lora
from trainer.networks.network import LoraModule
from trainer.networks.ranks import RankSettings
from trainer.networks.registry import METHODS, OWN

_DIFFUSERS_METADATA: Final = "lora_adapter_metadata"
_ALPHA: Final = "alpha"


def attach(
    family: Family,
    parts: Parts,
    trained: Sequence[Part],
    *,
    dim: int,
    alpha: float,
    dropout: float,
    seed: int,
    args: NetworkArgs | None = None,
) -> Lora:
    """Attach a network to the modules of the parts; it changes nothing yet (its second factor is
    0).

    alpha: 0 means dim. dropout: probability of dropping each of the `dim` inner activations, as in
    sd-scripts (peft's own dropout acts on the layer's input). args: everything beyond a plain LoRA
    of one rank. Trained weights are always float32. Raises ConfigError for block lists of another
    model.
    """
    args = args or NetworkArgs()
    blocks.check(args, family.BLOCKS)
    ranks = RankSettings(args, dim, alpha, family.BLOCKS)
    modules: list[LoraModule] = []
    for part in trained:
        modules += _adapt(parts, part, _targets(family, parts, part, ranks), args)
    if not modules:
        raise ConfigError(
            "nothing would be trained", hint="give at least one block a rank and a weight above 0"
        )
    lora = Lora(
        tuple(sorted(modules, key=lambda m: m.name)),
        bool(dropout or args.rank_dropout or args.module_dropout),
    )
    for module in lora.modules:
        _init(module, seed)
        if lora.has_dropout and module.algo == "lora":  # peft applies it for the other methods
            hook = Dropout(dropout, args.rank_dropout, args.module_dropout)
            module.layer.lora_A[ADAPTER].register_forward_hook(hook)
    return lora


def _targets(family: Family, parts: Parts, part: Part, ranks: RankSettings) -> list[TargetLayer]:
    """Return the layers of a part to train, each with its rank."""
    paths = dict(family.targets(parts, part))
    is_denoiser = part == parts.denoiser_name
    if is_denoiser and ranks.args.convolutions:
        paths |= family.convolutions(parts)
    if is_denoiser and ranks.args.norms:
        paths |= family.norms(parts, convolutional=ranks.args.convolutions)
    model, targets = parts.part(part), []
    for name, path in paths.items():
        layer: Any = model.get_submodule(path)
        shape = tuple(layer.weight.shape)
        block = family.block(name) if is_denoiser else None
        rank = ranks.of(block, kernel=max(shape[2:], default=1) > 1)
        if rank is not None:
            target = TargetLayer(name, path, shape, rank, block)
            targets.append(
                METHODS[_algo(target, ranks.args)].with_effective_rank(target, ranks.args)
            )
    return targets


def _algo(target: TargetLayer, args: NetworkArgs) -> Algo:
    kernel = max(target.shape[2:], default=1) > 1
    return layers.algo_of(args, dimensions=len(target.shape), kernel=kernel)


def _adapt(
    parts: Parts, part: Part, targets: Sequence[TargetLayer], args: NetworkArgs
) -> list[LoraModule]:
    """Let peft adapt the layers of a part; those of methods that it does not have are our own."""
    from peft import inject_adapter_in_model

    model, modules = parts.part(part), []
    by_algo: dict[Algo, list[TargetLayer]] = {}
    for target in targets:
        by_algo.setdefault(_algo(target, args), []).append(target)
    for algo, of_algo in by_algo.items():
        if algo == "norm":
            norm.wrap(model, of_algo)
        elif algo in OWN:
            delta_layer.wrap(model, of_algo, OWN[algo])
        else:
            config = METHODS[algo].config(of_algo, args)
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    model.eval()  # peft's layers start in training mode
    for target in targets:
        layer: Any = model.get_submodule(target.path)
        algo = _algo(target, args)
        tensors = METHODS[algo].parameters(layer, ADAPTER)
        module = LoraModule(
            target.name, part, target.path, layer, algo, target.rank, tensors, target.block
        )
        if args.dora and algo != "norm":
            tensors[dora.SCALE] = dora.attach(layer, module.product)
        modules.append(module)
    return modules


@torch.no_grad()
def _init(module: LoraModule, seed: int) -> None:
    for tensor in module.tensors.values():
        tensor.data = tensor.data.float()
        tensor.requires_grad_(True)
    _draw(module, seed)


@torch.no_grad()
def _draw(module: LoraModule, seed: int) -> None:
    """Draw the initial values with a generator per module, so that they do not depend on the other
    modules.
    """
    digest = hashlib.sha256(json.dumps([seed, module.name]).encode("ascii")).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    module.method.init(module.factors, generator)
    module.tensors[module.zero_init].zero_()


def draw(lora: Lora, seed: int) -> None:
    """Give a network the initial factors of a seed again; DoRA's magnitudes are not touched."""
    for module in lora.modules:
        _draw(module, seed)


# ---- files


def kohya_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the network as sd-scripts and LyCORIS write it: `<name>.lora_down.weight`, ..., and
    `<name>.alpha`.

    alpha and DoRA's magnitudes are always float32, because rounding them would change the strength
    of the whole layer.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        if module.has_alpha:
            alpha = torch.tensor(module.rank.alpha, dtype=torch.float32)
            tensors[f"{module.name}.{_ALPHA}"] = alpha
        for name, tensor in module.tensors.items():
            precision = torch.float32 if name == dora.SCALE else dtype
            tensors[f"{module.name}.{name}"] = _to_cpu(tensor, precision)
    return tensors


def diffusers_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a LoRA as diffusers and peft write it: `<part>.<path>.lora_A.weight` and
    `lora_B.weight`.

    The tensors do not contain alpha; it is in `diffusers_metadata`.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        path = _file_path(module)
        tensors[f"{module.part}.{path}.lora_A.weight"] = _to_cpu(module.down, dtype)
        tensors[f"{module.part}.{path}.lora_B.weight"] = _to_cpu(module.up, dtype)
    return tensors


def diffusers_metadata(lora: Lora) -> dict[str, str]:
    """Return the header entry from which diffusers restores the adapter's configuration and
    alpha.
    """
    facts: dict[str, object] = {}
    for part in lora.parts:
        # peft matches a name with every path that ends in it; without `text_model` it matches in
        # every version of transformers.
        ranks = {m.path.removeprefix("text_model."): m.rank for m in lora.modules if m.part == part}
        default = Counter(ranks.values()).most_common(1)[0][0]
        facts |= {
            f"{part}.r": default.dim,
            f"{part}.lora_alpha": default.alpha,
            f"{part}.target_modules": sorted(ranks),
            f"{part}.init_lora_weights": True,
            # Empty for a single rank, but older versions of diffusers require it.
            f"{part}.rank_pattern": {
                path: rank.dim for path, rank in ranks.items() if rank.dim != default.dim
            },
        }
        if alphas := {
            path: rank.alpha for path, rank in ranks.items() if rank.alpha != default.alpha
        }:
            facts[f"{part}.alpha_pattern"] = alphas
    return {"format": "pt", _DIFFUSERS_METADATA: json.dumps(facts, indent=2, sort_keys=True)}


def _file_path(module: LoraModule) -> str:
    """Return a module's path in files: with `text_model`, which transformers 5.6 removed from the
    module tree.
    """
    if module.part in DENOISERS or module.path.startswith("text_model."):
        return module.path
    return f"text_model.{module.path}"


def _to_cpu(parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
    return parameter.detach().to("cpu", dtype).clone().contiguous()


def read(path: str, family: Family) -> dict[str, Tensor]:
    """Read a LoRA file in the family's first format, with kohya's keys or with those of the
    family's `targets`. Raises ModelFileError.
    """
    from trainer.families.checkpoint import read_tensors

    tensors = family.restore(read_tensors(Path(path)))
    file_check.require_lora(tensors, path)
    return tensors


def by_module(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """Return module -> its tensors, by tensor name."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        modules.setdefault(name, {})[rest] = tensor
    return modules


@torch.no_grad()
def load_kohya(lora: Lora, tensors: Tensors, *, source: str) -> None:
    """Load the weights of a kohya file, so that each module has the same weight change.

    Another method or rank, and missing or unexpected modules are errors (ConfigError,
    ModelFileError).
    """
    saved = by_module(tensors)
    file_check.compare(
        {
            name: {key: tuple(tensor.shape) for key, tensor in module.items()}
            for name, module in saved.items()
        },
        {
            m.name: ModuleShape(
                m.algo, m.rank.dim, {key: tensor.numel() for key, tensor in m.tensors.items()}
            )
            for m in lora.modules
        },
        source=source,
    )
    for module in lora.modules:
        _load(module, saved[module.name])


def _load(module: LoraModule, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in module.tensors.items():
        tensor.copy_(tensors[name].float().reshape(tensor.shape))
    module.tensors[module.zero_init].mul_(file_scale(tensors) / module.scale)


def file_scale(tensors: Tensors) -> float:
    """Return the factor of the product of a module's tensors: alpha / dim, 1 without either."""
    method = file_check.algo(tensors)
    dim = METHODS[method].dim(tensors) if method else 0
    return float(tensors[_ALPHA]) / dim if dim and _ALPHA in tensors else 1.0


def file_delta(tensors: Tensors) -> Tensor:
    """Return the weight change of a module in a kohya file, (out, in * k * k), by plain arithmetic
    in float64.
    """
    method = file_check.algo(tensors)
    if method is None:
        raise ModelFileError(
            "a module has no tensors of a known method", hint="name a LoRA, LoHa or LoKr file"
        )
    return METHODS[method].delta(
        {name: tensor.double() for name, tensor in tensors.items()}
    ) * file_scale(tensors)


def deltas(tensors: Tensors) -> dict[str, Tensor]:
    """Return the weight change of each module in a kohya file, see `file_delta`."""
    return {name: file_delta(own) for name, own in by_module(tensors).items()}


def diffusers_deltas(tensors: Tensors, metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the weight change of each module in a diffusers file, by path."""
    facts = json.loads(metadata[_DIFFUSERS_METADATA])
    changes: dict[str, Tensor] = {}
    for key in tensors:
        path, ending, _ = key.partition(".lora_A.weight")
        if ending:
            part, _, inner = path.partition(".")
            inner = inner.removeprefix("text_model.")
            up = tensors[f"{path}.lora_B.weight"].double().flatten(1)
            dim = facts[f"{part}.rank_pattern"].get(inner, facts[f"{part}.r"])
            alpha = facts.get(f"{part}.alpha_pattern", {}).get(inner, facts[f"{part}.lora_alpha"])
            changes[path] = up @ tensors[key].double().flatten(1) * (alpha / dim)
    return changes
