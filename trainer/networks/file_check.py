"""Compare the modules of a LoRA file with those to train. Needs shapes only, and no torch: a plan
reads them from the headers of the file and of the base model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from datasetkit.options.networks import Algo, NetworkArgs
from datasetkit.options.train import TrainOptions
from trainer.families import registry
from trainer.families.base import rates as part_rates
from trainer.networks import layers
from trainer.networks.layers import Layer, Shape
from trainer.networks.ranks import RankSettings
from trainer.plan import safetensors_header
from trainer.plan.model_shapes import ModelShapes

ALPHA: Final = "alpha"
# Tensors that tell a method's files.
MARKER_TENSORS: Final[Mapping[str, Algo]] = {
    "lora_mid.weight": "cp",
    "lora_down.weight": "lora",
    "hada_w1_a": "loha",
    "lokr_w1": "lokr",
    "lokr_w1_a": "lokr",
    "diff": "full",
    "w_norm": "norm",
}
_DORA: Final = "dora_scale"
_OF_TRANSFORMERS: Final = ".lora_A.weight"  # the ends of names in their files
_SAME_NETWORK: Final = "use the network_module and network_args that it was trained with"
# The tensors whose first side is a module's rank.
_OF_RANK: Final = ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """A module to train. sizes: number of values of each tensor, by kohya's names."""

    algo: Algo
    dim: int
    sizes: Mapping[str, int]


def check_file(options: TrainOptions, base: ModelShapes | None) -> None:
    """Raise what loading network_weights onto a network of these options would raise.

    base: shapes of the base model; without them only the file is checked. Raises ModelFileError,
    ConfigError.
    """
    path = Path(options.network_weights).expanduser()
    try:
        shapes = safetensors_header.read(path).shapes
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a .safetensors file"
        raise ModelFileError(
            f"cannot read network_weights = {display(path)}: {reason}",
            hint="name a LoRA file with kohya's keys",
        ) from error
    if base is None:
        if not any(name.endswith(_OF_TRANSFORMERS) for name in shapes):
            require_lora(shapes, options.network_weights)
        return
    restored = registry.family(base.family).restored_shapes(shapes)
    require_lora(restored, options.network_weights)
    compare(by_module(restored), expected(options, base), source=options.network_weights)


def require_lora(names: Mapping[str, object], source: str) -> None:
    """Raise ModelFileError for a file that has no tensor of a LoRA with kohya's keys."""
    if not any(name.partition(".")[2] in MARKER_TENSORS for name in names):
        raise ModelFileError(
            f"{display(source)} is not a LoRA with kohya's keys",
            hint="name a file with lora_down, hada or lokr tensors",
        )


def by_module(shapes: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    """Return module -> the shapes of its tensors, by tensor name."""
    modules: dict[str, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        name, _, rest = key.partition(".")
        modules.setdefault(name, {})[rest] = tuple(shape)
    return modules


def expected(options: TrainOptions, base: ModelShapes) -> dict[str, ModuleShape]:
    """Return the modules that a network of these options has on a base model.

    Raises ConfigError if there are none.
    """
    args = options.network()
    ranks = RankSettings(args, options.network_dim, options.network_alpha, base.blocks)
    modules = {
        layer.name: ModuleShape(
            layers.algo_of(args, dimensions=layer.dimensions, kernel=layer.kernel > 1),
            rank.dim,
            _sizes(layer, rank.dim, args),
        )
        for layer in _trained_layers(options, base)
        if (rank := layers.rank(layer, ranks)) is not None
    }
    if not modules:
        raise ConfigError(
            "nothing would be trained", hint="give at least one block a rank and a weight above 0"
        )
    return modules


def dimensions(options: TrainOptions, base: ModelShapes) -> set[int]:
    """Return how many dimensions the tensors of a network of these options have."""
    ranks = RankSettings(options.network(), options.network_dim, options.network_alpha, base.blocks)
    return layers.dimensions(_trained_layers(options, base), ranks)


def _trained_layers(options: TrainOptions, base: ModelShapes) -> Iterator[Layer]:
    rates = part_rates(registry.family(base.family), options)
    for part, of_part in base.layers.items():
        if rates.get(part, 0) > 0:
            yield from of_part


def _sizes(layer: Layer, dim: int, args: NetworkArgs) -> dict[str, int]:
    if layer.is_norm:
        return {"w_norm": layer.out, "b_norm": layer.out}
    ins = layer.ins * layer.kernel
    magnitudes = {_DORA: layer.ins} if args.dora else {}
    if args.algo == "full":
        return {"diff": layer.out * ins}
    if args.tucker and layer.kernel > 1:
        return _with_kernel(layer, dim, args)
    if args.algo == "lora":
        return {"lora_down.weight": dim * ins, "lora_up.weight": layer.out * dim, **magnitudes}
    if args.algo == "loha":
        low, high = layer.out * dim, dim * ins
        sizes = {"hada_w1_a": low, "hada_w1_b": high, "hada_w2_a": low, "hada_w2_b": high}
        return {**sizes, **magnitudes}
    small, large = layers.kronecker(layer, dim, args)
    return {**_factors("lokr_w1", small), **_factors("lokr_w2", large), **magnitudes}


def _with_kernel(layer: Layer, dim: int, args: NetworkArgs) -> dict[str, int]:
    """Return the tensors of a convolution with a factor for its kernel."""
    out, ins, kernel = layer.out * dim, dim * layer.ins, dim * dim * layer.kernel
    if args.algo == "lora":
        return {"lora_down.weight": ins, "lora_mid.weight": kernel, "lora_up.weight": out}
    sizes = {f"hada_w{n}_{side}": size for n in (1, 2) for side, size in (("a", out), ("b", ins))}
    return {**sizes, "hada_t1": kernel, "hada_t2": kernel}


def _factors(name: str, sizes: tuple[int, ...]) -> dict[str, int]:
    """Return the tensors of a matrix, full or as two factors."""
    if len(sizes) == 1:
        return {name: sizes[0]}
    return {f"{name}_a": sizes[0], f"{name}_b": sizes[1]}


def compare(
    saved: Mapping[str, Mapping[str, Shape]], modules: Mapping[str, ModuleShape], *, source: str
) -> None:
    """Raise ModelFileError for missing or unexpected modules, ConfigError for another method, rank
    or size.
    """
    if odd := sorted(set(saved) ^ set(modules)):
        raise ModelFileError(
            f"{source} has other modules than those to train: {odd[0]} and {len(odd) - 1} more "
            "differ",
            hint="train the parts and blocks that the file has, with the same network_module "
            "and network_args",
        )
    for name in sorted(modules):
        _compare_method(saved[name], modules[name], source)
    _compare_ranks(saved, modules, source)
    for name in sorted(modules):
        _compare_sizes(name, saved[name], modules[name], source)


def _compare_ranks(
    saved: Mapping[str, Mapping[str, Shape]], modules: Mapping[str, ModuleShape], source: str
) -> None:
    """Raise ConfigError for other ranks than those to train, with options that give the file's."""
    ranks = {name: _rank(saved[name]) for name in sorted(modules)}
    odd = next((name for name, rank in ranks.items() if rank not in (0, modules[name].dim)), None)
    if odd is None:
        return
    groups = {
        "conv_dim": {rank for name, rank in ranks.items() if rank and _has_kernel(saved[name])},
        "network_dim": {rank for n, rank in ranks.items() if rank and not _has_kernel(saved[n])},
    }
    if any(len(group) > 1 for group in groups.values()):
        raise ConfigError(
            f"{source} has several ranks ({odd} has {ranks[odd]}), not {modules[odd].dim}",
            hint="take a file with one rank: dsk lora resize --rank "
            f"{max(ranks.values())} of the one that it was made from",
        )
    rank = ranks[odd]
    fitting = (
        f"conv_dim={rank} in network_args" if _has_kernel(saved[odd]) else f"network_dim = {rank}"
    )
    raise ConfigError(
        f"{source} has rank {ranks[odd]}, not {modules[odd].dim}",
        hint=f"set {fitting} (of {odd})",
    )


def _rank(shapes: Mapping[str, Shape]) -> int:
    return next((shapes[key][0] for key in _OF_RANK if shapes.get(key)), 0)


def _has_kernel(shapes: Mapping[str, Shape]) -> bool:
    """Tell whether a module is of a convolution larger than 1x1, as far as its shapes show it."""
    return any(math.prod(shape[2:]) > 1 for shape in shapes.values())


def _compare_method(shapes: Mapping[str, Shape], module: ModuleShape, source: str) -> None:
    method = algo(shapes)
    if method != module.algo:
        raise ConfigError(
            f"{source} is {method or 'of an unknown method'}, not {module.algo}",
            hint=_SAME_NETWORK,
        )


def _compare_sizes(
    name: str, shapes: Mapping[str, Shape], module: ModuleShape, source: str
) -> None:
    odd = sorted((set(shapes) - {ALPHA}) ^ set(module.sizes))
    odd = odd or [key for key, size in module.sizes.items() if math.prod(shapes[key]) != size]
    if odd:
        raise ConfigError(
            f"{source}: {odd[0]} of {name} has another name or size than the trained one",
            hint=_SAME_NETWORK,
        )


def algo(tensors: Mapping[str, object]) -> Algo | None:
    """Return the method of a module, by the names of its tensors."""
    return next((method for name, method in MARKER_TENSORS.items() if name in tensors), None)
