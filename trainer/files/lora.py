"""The LoRA: which modules are adapted by peft, how they start, and how they are written in kohya's
keys and diffusers'.

Nothing is left to a converter's guess: the names come from the module paths, and alpha is always
written out.
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
from datasetkit.core.files import display
from datasetkit.options.networks import Algo, NetworkArgs
from trainer.families.base import Family, Part, Parts
from trainer.networks import blocks, convolutions, dora
from trainer.networks.base import ADAPTER as ADAPTER
from trainer.networks.base import TargetLayer, Tensors
from trainer.networks.dropout import Dropout
from trainer.networks.network import Lora as Lora
from trainer.networks.network import LoraModule
from trainer.networks.ranks import RankSettings
from trainer.networks.registry import METHODS, SIGNS

_DIFFUSERS_METADATA: Final = "lora_adapter_metadata"
_ALPHA: Final = "alpha"


def attach(
    family: Family,
    parts: Parts,
    which: Sequence[Part],
    *,
    dim: int,
    alpha: float,
    dropout: float,
    seed: int,
    args: NetworkArgs | None = None,
) -> Lora:
    """Put a network on the modules of the parts; it adds nothing yet (its second factor is zero).

    alpha: 0 means dim. dropout: chance of each of the `dim` inner activations to be zero, as in
    sd-scripts (peft's own dropout acts on the layer's input, which is another thing). args: all
    that is no plain LoRA of one rank. The trained weights are float32 whatever the base is. Raises
    ConfigError where the lists of blocks are another model's.
    """
    args = args or NetworkArgs()
    sides = convolutions.sides(parts)
    blocks.check(args, sides)
    ranks = RankSettings(args, dim, alpha, sides)
    modules: list[LoraModule] = []
    for part in which:
        modules += _attached(parts, part, _targets(family, parts, part, ranks), args)
    if not modules:
        raise ConfigError(
            "nothing would be trained", hint="some block needs a rank and a weight above 0"
        )
    lora = Lora(
        tuple(sorted(modules, key=lambda m: m.name)),
        bool(dropout or args.rank_dropout or args.module_dropout),
    )
    for module in lora.modules:
        _start(module, seed)
        if lora.random and args.algo == "lora":  # peft does it for the others
            hook = Dropout(dropout, args.rank_dropout, args.module_dropout)
            module.layer.lora_A[ADAPTER].register_forward_hook(hook)
    return lora


def _targets(family: Family, parts: Parts, part: Part, ranks: RankSettings) -> list[TargetLayer]:
    """Return the layers of a part that are trained, each with its rank."""
    paths = dict(family.targets(parts, part))
    if part == "unet" and ranks.args.convolutions:
        paths |= convolutions.targets(parts)
    model, found = parts.part(part), []
    for name, path in paths.items():
        layer: Any = model.get_submodule(path)
        shape = tuple(layer.weight.shape)
        block = blocks.block(name, ranks.sides) if part == "unet" else None
        rank = ranks.of(block, kernel=max(shape[2:], default=1) > 1)
        if rank is not None:
            found.append(
                METHODS[ranks.args.algo].settled(
                    TargetLayer(name, path, shape, rank, block), ranks.args
                )
            )
    return found


def _attached(
    parts: Parts, part: Part, targets: Sequence[TargetLayer], args: NetworkArgs
) -> list[LoraModule]:
    """Let peft adapt the layers of a part."""
    from peft import inject_adapter_in_model

    if not targets:
        return []
    method, model = METHODS[args.algo], parts.part(part)
    inject_adapter_in_model(method.config(targets, args), model, adapter_name=ADAPTER)
    model.eval()  # what peft put in is in training mode
    made = []
    for target in targets:
        layer: Any = model.get_submodule(target.path)
        tensors = method.parameters(layer, ADAPTER)
        module = LoraModule(
            target.name, part, target.path, layer, args.algo, target.rank, tensors, target.block
        )
        if args.dora:
            tensors[dora.SCALE] = dora.attach(layer, module.product)
        made.append(module)
    return made


@torch.no_grad()
def _start(module: LoraModule, seed: int) -> None:
    """Draw the first values by the module's own generator, so that they do not depend on which
    others there are.
    """
    digest = hashlib.sha256(json.dumps([seed, module.name]).encode("ascii")).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    for tensor in module.tensors.values():
        tensor.data = tensor.data.float()
        tensor.requires_grad_(True)
    module.method.start(module.factors, generator)
    module.tensors[module.grows].zero_()


# ---- files
# --------------------------------------------------------------------------------------------------


def kohya_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the network as sd-scripts and LyCORIS write it: `<name>.lora_down.weight`, ..., and
    `<name>.alpha`.

    alpha and DoRA's magnitudes are always float32: what the file's precision would round of them is
    another strength, of the whole layer.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        tensors[f"{module.name}.{_ALPHA}"] = torch.tensor(module.rank.alpha, dtype=torch.float32)
        for name, tensor in module.tensors.items():
            own = torch.float32 if name == dora.SCALE else dtype
            tensors[f"{module.name}.{name}"] = _plain(tensor, own)
    return tensors


def diffusers_tensors(lora: Lora, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a LoRA as diffusers and peft write it: `<part>.<path>.lora_A.weight` and
    `lora_B.weight`.

    The format has no place for alpha: `diffusers_metadata` belongs to it.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        path = _published_path(module)
        tensors[f"{module.part}.{path}.lora_A.weight"] = _plain(module.down, dtype)
        tensors[f"{module.part}.{path}.lora_B.weight"] = _plain(module.up, dtype)
    return tensors


def diffusers_metadata(lora: Lora) -> dict[str, str]:
    """Return the header entry by which diffusers rebuilds the adapter's configuration, alpha
    included.
    """
    facts: dict[str, object] = {}
    for part in lora.parts:
        # peft takes a name for any path that ends in it: without `text_model` it fits every version
        # of transformers.
        ranks = {m.path.removeprefix("text_model."): m.rank for m in lora.modules if m.part == part}
        usual = Counter(ranks.values()).most_common(1)[0][0]
        facts |= {
            f"{part}.r": usual.dim,
            f"{part}.lora_alpha": usual.alpha,
            f"{part}.target_modules": sorted(ranks),
            f"{part}.init_lora_weights": True,
            # Empty for one rank, and yet older versions of diffusers stop without it.
            f"{part}.rank_pattern": {
                path: rank.dim for path, rank in ranks.items() if rank.dim != usual.dim
            },
        }
        if alphas := {
            path: rank.alpha for path, rank in ranks.items() if rank.alpha != usual.alpha
        }:
            facts[f"{part}.alpha_pattern"] = alphas
    return {"format": "pt", _DIFFUSERS_METADATA: json.dumps(facts, indent=2, sort_keys=True)}


def _published_path(module: LoraModule) -> str:
    """Return a module's path as files have it: with `text_model`, which transformers 5.6 took out
    of the tree.
    """
    if module.part == "unet" or module.path.startswith("text_model."):
        return module.path
    return f"text_model.{module.path}"


def _plain(parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
    return parameter.detach().to("cpu", dtype).clone().contiguous()


def read_kohya(path: str) -> dict[str, Tensor]:
    """Read a LoRA file in kohya's keys. Raises ModelFileError."""
    from trainer.families.checkpoint import read_tensors

    tensors = read_tensors(Path(path))
    if not any(name.partition(".")[2] in SIGNS for name in tensors):
        raise ModelFileError(
            f"{display(path)} is no LoRA in kohya's keys",
            hint="name a file with lora_down, hada or lokr tensors",
        )
    return tensors


def by_module(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """Return module -> its tensors, by their names behind it."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        found.setdefault(name, {})[rest] = tensor
    return found


@torch.no_grad()
def load_kohya(lora: Lora, tensors: Tensors, *, source: str) -> None:
    """Take over the weights of a kohya file, so that each module adds what it adds there.

    Another method, a rank that is not the configured one, a missing or a foreign module is refused
    (ConfigError, ModelFileError).
    """
    read = by_module(tensors)
    if odd := sorted(set(read) ^ {module.name for module in lora.modules}):
        raise ModelFileError(
            f"{source} has not the modules that are trained: {odd[0]} and {len(odd) - 1} more "
            "differ",
            hint="train the parts and blocks that the file has, with the same network_module "
            "and network_args",
        )
    for module in lora.modules:
        _load(module, read[module.name], source)


def _load(module: LoraModule, own: Mapping[str, Tensor], source: str) -> None:
    if algo(own) != module.algo:
        raise ConfigError(
            f"{source} is {algo(own) or 'of an unknown method'}, not {module.algo}",
            hint=_SAME_NETWORK,
        )
    dim = module.method.dim(own)
    if dim and dim != module.rank.dim:
        raise ConfigError(
            f"{source} has rank {dim}, not {module.rank.dim}",
            hint=f"set network_dim = {dim} (of {module.name})",
        )
    odd = sorted((set(own) - {_ALPHA}) ^ set(module.tensors))
    odd = odd or [
        name for name, tensor in module.tensors.items() if own[name].numel() != tensor.numel()
    ]
    if odd:
        raise ConfigError(
            f"{source}: {odd[0]} of {module.name} is not as it is trained", hint=_SAME_NETWORK
        )
    for name, tensor in module.tensors.items():
        tensor.copy_(own[name].float().reshape(tensor.shape))
    module.tensors[module.grows].mul_(file_scale(own) / module.scale)


_SAME_NETWORK: Final = (
    "train it further with the network_module and network_args that it was trained with"
)


def algo(own: Tensors) -> Algo | None:
    """Tell the method of a module by the names of its tensors."""
    return next((method for name, method in SIGNS.items() if name in own), None)


def file_scale(own: Tensors) -> float:
    """Return by what a program multiplies the product of a module's tensors: alpha / dim, 1 without
    either.
    """
    method = algo(own)
    dim = METHODS[method].dim(own) if method else 0
    return float(own[_ALPHA]) / dim if dim and _ALPHA in own else 1.0


def file_delta(own: Tensors) -> Tensor:
    """Return what a module of a kohya file adds to its layer, (out, in * k * k), by plain
    arithmetic in float64.
    """
    method = algo(own)
    if method is None:
        raise ModelFileError(
            "a module has no tensors of a known method", hint="name a file of LoRA, LoHa or LoKr"
        )
    return METHODS[method].delta(
        {name: tensor.double() for name, tensor in own.items()}
    ) * file_scale(own)


def deltas(tensors: Tensors) -> dict[str, Tensor]:
    """Return what each module of a kohya file adds to its layer, as `file_delta` does."""
    return {name: file_delta(own) for name, own in by_module(tensors).items()}


def diffusers_deltas(tensors: Tensors, metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """Return what each module of a diffusers file adds, by path, as `deltas` does."""
    facts = json.loads(metadata[_DIFFUSERS_METADATA])
    found: dict[str, Tensor] = {}
    for key in tensors:
        path, ending, _ = key.partition(".lora_A.weight")
        if ending:
            part, _, inner = path.partition(".")
            inner = inner.removeprefix("text_model.")
            up = tensors[f"{path}.lora_B.weight"].double().flatten(1)
            dim = facts[f"{part}.rank_pattern"].get(inner, facts[f"{part}.r"])
            alpha = facts.get(f"{part}.alpha_pattern", {}).get(inner, facts[f"{part}.lora_alpha"])
            found[path] = up @ tensors[key].double().flatten(1) * (alpha / dim)
    return found
