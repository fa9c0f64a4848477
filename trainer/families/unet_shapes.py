"""The layers and widths of Stable Diffusion's UNets and text encoders, from their tensors' shapes.

Loads no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from trainer.families import unet_blocks, unet_paths
from trainer.families.base import Anatomy, BlockList, Part, Shapes
from trainer.families.model_files import hidden_widths
from trainer.networks.layers import Layer, Shape

UNET: Final = "unet"
# UNet layers that process the timestep or the caption instead of pixels.
_NO_PIXELS = re.compile(r"time_emb|emb_layers|label_emb|add_embedding|attn2\.to_[kv]\.")
_TEXT_LINEAR = re.compile(r"(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])\.weight$")
_OPEN_CLIP = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_INNER: Final = {
    "attn.out_proj.weight": "self_attn.out_proj.weight",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_proj.weight": "mlp.fc2.weight",
}
_BUFFERS: Final = ("position_ids", "attn_mask", "logit_scale")
_ATTENTION: Final = re.compile(r"\.attentions\.|\.transformer_blocks\.|\.proj_(?:in|out)\.")
# In diffusers' layout, and in the original layout.
_CONVOLUTIONAL: Final = re.compile(
    r"\.(?:resnets|downsamplers|upsamplers)\.\d+\.(?:conv\w*|time_emb_proj)\."
    r"|\.(?:in_layers\.2|out_layers\.3|emb_layers\.1|skip_connection|0\.op)\."
    r"|^output_blocks\.\d+\.[12]\.conv\."
)
# A norm is the only layer in a block whose weight is a vector.
_IN_BLOCK: Final = re.compile(
    r"(?:down_blocks|mid_block|up_blocks|(?:in|out)put_blocks|middle_block)\."
)
_CONVOLUTIONAL_NORM: Final = re.compile(r"\.resnets\.\d+\.norm\d\.|\.(?:in|out)_layers\.0\.")

_ORIGINAL: Final = re.compile(r"(?:input_blocks|middle_block|output_blocks)\.")
# In transformers' names, and in OpenCLIP's with its query, key and value split.
_TEXT_LAYER: Final = re.compile(
    r"(?:layers|resblocks)\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])\.weight$"
)


def anatomy(
    shapes: Mapping[Part, Shapes], blocks: BlockList, prefixes: Mapping[Part, str], *, drops: bool
) -> Anatomy:
    """Return the facts about a model, in diffusers' or the original layout.

    prefixes: of kohya's names, by text encoder. drops: the last layer and the projection of an
    OpenCLIP encoder in the original layout are not loaded, as in Stable Diffusion 2.
    """
    unet = shapes[UNET]
    encoders = {
        part: _as_transformers(shapes[part], drops=drops) for part in prefixes if part in shapes
    }
    linear = {
        part: {n: s for n, s in text.items() if _TEXT_LINEAR.search(n)}
        for part, text in encoders.items()
    }
    return Anatomy(
        parameters={
            UNET: sum(map(math.prod, unet.values())),
            **{part: sum(map(math.prod, text.values())) for part, text in encoders.items()},
        },
        layers={
            UNET: tuple(_layers(unet, blocks)),
            **{part: of_text(each, prefixes[part]) for part, each in linear.items()},
        },
        width=_unet_width(unet),
        text_widths={part: sum(s[0] for s in each.values()) for part, each in linear.items()},
        hidden_widths=hidden_widths({part: shapes[part] for part in encoders}),
    )


def _layers(shapes: Mapping[str, Shape], blocks: BlockList) -> Iterator[Layer]:
    for name, shape in shapes.items():
        convolutional = _CONVOLUTIONAL.search(name) is not None
        if (
            name.endswith(".weight")
            and len(shape) >= 2
            and (convolutional or _ATTENTION.search(name))
        ):
            yield Layer(
                shape[0], shape[1], math.prod(shape[2:]),
                unet_blocks.block(name, blocks), convolutional,
                _unet_name(name.removesuffix(".weight"), blocks), len(shape),
            )  # fmt: skip
        elif name.endswith(".weight") and len(shape) == 1 and _IN_BLOCK.match(name):
            yield Layer(
                shape[0], 1, 1,
                unet_blocks.block(name, blocks), _CONVOLUTIONAL_NORM.search(name) is not None,
                _unet_name(name.removesuffix(".weight"), blocks), 1,
            )  # fmt: skip


def _unet_name(path: str, blocks: BlockList) -> str:
    """Return kohya's name of a layer: its path in Stability's code in SDXL, else in diffusers."""
    original = _ORIGINAL.match(path) is not None
    if blocks.ends:
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


def _unet_width(unet: Shapes) -> float:
    """Return the output values of the UNet's layers per latent pixel."""
    level = _levels(unet)
    width = 0.0
    for name, shape in unet.items():
        if len(shape) >= 2 and not _NO_PIXELS.search(name):
            width += shape[0] / 4 ** level(name)
    return width


def _as_transformers(text: Shapes, *, drops: bool) -> dict[str, tuple[int, ...]]:
    """Return a text encoder as it is loaded: without buffers, and with OpenCLIP's query, key and
    value split.
    """
    last = max((int(m[1]) for n in text if drops and (m := _OPEN_CLIP.search(n))), default=None)
    loaded: dict[str, tuple[int, ...]] = {}
    for name, shape in text.items():
        layer = _OPEN_CLIP.search(name)
        if name.endswith(_BUFFERS) or (drops and name == "text_projection"):
            continue
        if layer is None:
            loaded[name] = shape
        elif last is None or int(layer[1]) < last:
            head, inner = name[: layer.start(2)], layer[2]
            if inner == "attn.in_proj_weight":
                loaded |= {
                    f"{head}self_attn.{letter}_proj.weight": (shape[0] // 3, shape[1])
                    for letter in "qkv"
                }
            else:
                loaded[head + _INNER.get(inner, inner)] = shape
    return loaded


def _levels(unet: Shapes) -> Callable[[str], int]:
    """Return a function from a layer to its number of downsamplings, for either layout."""
    if any(name.startswith("input_blocks.") for name in unet):
        return _original_levels(unet)
    last = max((int(m[1]) for n in unet if (m := re.match(r"down_blocks\.(\d+)\.", n))), default=0)

    def level(name: str) -> int:
        block = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)", name)
        if block is None:
            return last if name.startswith("mid_block.") else 0
        depth = int(block[2]) if block[1] == "down" else last - int(block[2])
        return depth + {"downsamplers": 1, "upsamplers": -1}.get(block[3], 0)

    return level


def _original_levels(unet: Shapes) -> Callable[[str], int]:
    downsamplers = sorted(
        {int(m[1]) for n in unet if (m := re.match(r"input_blocks\.(\d+)\.0\.op\.", n))}
    )
    upsamplers = sorted(
        {int(m[1]) for n in unet if (m := re.match(r"output_blocks\.(\d+)\.\d\.conv\.", n))}
    )

    def level(name: str) -> int:
        block = re.match(r"(input|output)_blocks\.(\d+)\.", name)
        if block is None:
            return len(downsamplers) if name.startswith("middle_block.") else 0
        number = int(block[2])
        if block[1] == "input":
            return sum(n <= number for n in downsamplers)
        is_upsampler = re.match(r"output_blocks\.\d+\.\d\.conv\.", name) is not None
        return len(downsamplers) - sum(n < number for n in upsamplers) - is_upsampler

    return level


def stable_diffusion_1() -> dict[Part, tuple[Layer, ...]]:
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
    unet = dict(_unet((320, 640, 1280, 1280), width, 1280))
    return {
        UNET: tuple(_layers(unet, unet_blocks.PLAIN)),
        "text_encoder": of_text(text, "lora_te"),
    }


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
    yield f"{path}.norm1.weight", (ins,)
    yield f"{path}.norm2.weight", (out,)
    yield f"{path}.conv1.weight", (out, ins, 3, 3)
    yield f"{path}.time_emb_proj.weight", (out, time)
    yield f"{path}.conv2.weight", (out, out, 3, 3)
    if ins != out:
        yield f"{path}.conv_shortcut.weight", (out, ins, 1, 1)


def _attention(path: str, width: int, text: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.norm.weight", (width,)
    for n in (1, 2, 3):
        yield f"{path}.transformer_blocks.0.norm{n}.weight", (width,)
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
