"""The layers that a network adapts and its number of parameters, from a model's tensor names and
shapes.

Needs no torch, so that a plan can use it before anything is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from datasetkit.options.networks import NetworkArgs
from trainer.families import unet_paths
from trainer.networks.blocks import block
from trainer.networks.ranks import ModuleRank, RankSettings

Shape = tuple[int, ...]
_ATTENTION: Final = re.compile(r"\.attentions\.|\.transformer_blocks\.|\.proj_(?:in|out)\.")
# In diffusers' layout, and in the original layout.
_CONVOLUTIONAL: Final = re.compile(
    r"\.(?:resnets|downsamplers|upsamplers)\.\d+\.(?:conv\w*|time_emb_proj)\."
    r"|\.(?:in_layers\.2|out_layers\.3|emb_layers\.1|skip_connection|0\.op)\.|^output_blocks\.\d+\.[12]\.conv\."
)

_ORIGINAL: Final = re.compile(r"(?:input_blocks|middle_block|output_blocks)\.")
# In transformers' names, and in OpenCLIP's with its query, key and value split.
_TEXT_LAYER: Final = re.compile(
    r"(?:layers|resblocks)\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])\.weight$"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. out, ins: channels; kernel: kernel elements, 1 for a linear layer; dimensions: of
    its weight.

    block: its index in the block lists, None in a text encoder. convolutional: it is outside the
    attention blocks, and trained only with conv_dim. name: kohya's.
    """

    out: int
    ins: int
    kernel: int = 1
    block: int | None = None
    convolutional: bool = False
    name: str = field(default="", compare=False)
    dimensions: int = 2


def of_unet(shapes: Mapping[str, Shape]) -> tuple[tuple[Layer, ...], int]:
    """Return the layers of a UNet and its number of down blocks: 9 in SDXL (which has size
    conditioning), else 12.
    """
    sides = 9 if any(name.startswith(("label_emb.", "add_embedding.")) for name in shapes) else 12
    return tuple(_layers(shapes, sides)), sides


def _layers(shapes: Mapping[str, Shape], sides: int) -> Iterator[Layer]:
    for name, shape in shapes.items():
        convolutional = _CONVOLUTIONAL.search(name) is not None
        if (
            name.endswith(".weight")
            and len(shape) >= 2
            and (convolutional or _ATTENTION.search(name))
        ):
            yield Layer(
                shape[0], shape[1], math.prod(shape[2:]), block(name, sides), convolutional,
                _unet_name(name.removesuffix(".weight"), sides), len(shape),
            )  # fmt: skip


def _unet_name(path: str, sides: int) -> str:
    """Return kohya's name of a layer: its path in Stability's code in SDXL, else in diffusers."""
    original = _ORIGINAL.match(path) is not None
    if sides == 9:
        path = path if original else unet_paths.to_original(path)
    elif original:
        path = unet_paths.from_original(path) or path
    return "lora_unet_" + path.replace(".", "_")


def of_text(shapes: Mapping[str, Sequence[int]], prefix: str = "lora_te") -> tuple[Layer, ...]:
    """Return the layers of a text encoder from its linear layers: name -> shape. prefix: of kohya's
    names.
    """
    return tuple(
        Layer(out, ins, name=_text_name(name, prefix)) for name, (out, ins) in shapes.items()
    )


def _text_name(name: str, prefix: str) -> str:
    match = _TEXT_LAYER.search(name)
    if match is None:
        return ""
    return f"{prefix}_text_model_encoder_layers_{match[1]}_{match[2].replace('.', '_')}"


def rank(layer: Layer, ranks: RankSettings) -> ModuleRank | None:
    """Return the rank of a layer; None: it is not trained."""
    if layer.convolutional and not ranks.args.convolutions:
        return None
    return ranks.of(layer.block, kernel=layer.kernel > 1)


def parameter_count(layers: Iterable[Layer], ranks: RankSettings) -> int:
    """Return how many parameters a network on the layers has."""
    args = ranks.args
    ranked = ((layer, r) for layer in layers if (r := rank(layer, ranks)) is not None)
    return sum(
        METHODS[args.algo](layer, module_rank, args) + (layer.ins if args.dora else 0)
        for layer, module_rank in ranked
    )


def _lora(layer: Layer, rank: ModuleRank, _args: NetworkArgs) -> int:
    return rank.dim * (layer.out + layer.ins * layer.kernel)


def _loha(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    return 2 * _lora(layer, rank, args)


def _lokr(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    small, large = kronecker(layer, rank.dim, args)
    return sum(small) + sum(large)


def kronecker(layer: Layer, dim: int, args: NetworkArgs) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes of LoKr's small and large matrix: one number for a full one, two for one of
    two factors.
    """
    (small_out, large_out), (small_in, large_in) = (
        split(layer.out, args.factor),
        split(layer.ins, args.factor),
    )
    small: tuple[int, ...] = (small_out * small_in,)
    if args.decompose_both and dim < max(small_out, small_in) / 2:
        small = (small_out * dim, dim * small_in)
    large: tuple[int, ...] = (large_out * large_in * layer.kernel,)
    if dim < max(large_out, large_in) / 2:
        large = (large_out * dim, dim * large_in * layer.kernel)
    return small, large


def dimensions(layers: Iterable[Layer], ranks: RankSettings) -> set[int]:
    """Return how many dimensions the trained tensors of a network on the layers have: some
    optimizers take matrices alone.
    """
    args = ranks.args
    counts = {2}
    for layer in layers:
        module_rank = rank(layer, ranks)
        if module_rank is None:
            continue
        is_full = args.algo == "lokr" and len(kronecker(layer, module_rank.dim, args)[1]) == 1
        if args.algo == "lora" or args.dora or is_full:
            counts.add(layer.dimensions)
    return counts


METHODS: Final[Mapping[str, Callable[[Layer, ModuleRank, NetworkArgs], int]]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
}


def split(size: int, factor: int) -> tuple[int, int]:
    """Return two numbers whose product is `size`, the smaller one first unless `factor` is it.

    factor: the first number, if it divides the size; else its upper limit, -1 for none, and the
    pair with the least sum is chosen. LyCORIS splits the layers of LoKr in the same way.
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    pairs = [
        (n, size // n)
        for n in range(1, math.isqrt(size) + 1)
        if size % n == 0 and (n <= limit or n == 1)
    ]
    return min(pairs, key=sum)


def stable_diffusion_1() -> dict[str, tuple[Layer, ...]]:
    """Return the layers of each part of Stable Diffusion 1, assumed for a model that is not
    downloaded yet.
    """
    width = 768
    shapes = {
        **dict.fromkeys(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), (width, width)
        ),
        "self_attn.out_proj": (width, width),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    text = {f"layers.{n}.{name}.weight": shape for n in range(12) for name, shape in shapes.items()}
    unet = of_unet(dict(_unet((320, 640, 1280, 1280), width, 1280)))[0]
    return {"unet": unet, "text_encoder": of_text(text), "text_encoder_2": ()}


def _unet(widths: tuple[int, ...], text: int, time: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensor names and shapes of a UNet with two layers per level, and attention in all
    levels but the innermost.
    """
    skips = [widths[0]]
    channels = widths[0]
    last = len(widths) - 1
    for level, width in enumerate(widths):
        for n in range(2):
            yield from _resnet(f"down_blocks.{level}.resnets.{n}", channels, width, time)
            if level < last:
                yield from _attention(f"down_blocks.{level}.attentions.{n}", width, text)
            channels = width
            skips.append(channels)
        if level < last:
            yield f"down_blocks.{level}.downsamplers.0.conv.weight", (width, width, 3, 3)
            skips.append(channels)
    yield from _resnet("mid_block.resnets.0", channels, channels, time)
    yield from _attention("mid_block.attentions.0", channels, text)
    yield from _resnet("mid_block.resnets.1", channels, channels, time)
    for level, width in enumerate(reversed(widths)):
        for n in range(3):
            yield from _resnet(
                f"up_blocks.{level}.resnets.{n}", channels + skips.pop(), width, time
            )
            if level > 0:
                yield from _attention(f"up_blocks.{level}.attentions.{n}", width, text)
            channels = width
        if level < last:
            yield f"up_blocks.{level}.upsamplers.0.conv.weight", (width, width, 3, 3)


def _resnet(path: str, ins: int, out: int, time: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.conv1.weight", (out, ins, 3, 3)
    yield f"{path}.time_emb_proj.weight", (out, time)
    yield f"{path}.conv2.weight", (out, out, 3, 3)
    if ins != out:
        yield f"{path}.conv_shortcut.weight", (out, ins, 1, 1)


def _attention(path: str, width: int, text: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.proj_in.weight", (width, width, 1, 1)
    for attention, context in (("attn1", width), ("attn2", text)):
        inner = f"{path}.transformer_blocks.0.{attention}"
        yield f"{inner}.to_q.weight", (width, width)
        yield f"{inner}.to_k.weight", (width, context)
        yield f"{inner}.to_v.weight", (width, context)
        yield f"{inner}.to_out.0.weight", (width, width)
    yield f"{path}.transformer_blocks.0.ff.net.0.proj.weight", (8 * width, width)
    yield f"{path}.transformer_blocks.0.ff.net.2.weight", (width, 4 * width)
    yield f"{path}.proj_out.weight", (width, width, 1, 1)
