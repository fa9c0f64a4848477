"""A model's parameter counts and layer widths, read from the headers of its files.

Needs no torch and reads no weights, so that a plan can estimate memory before anything is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainer.networks import layers
from trainer.networks.layers import Layer
from trainer.plan import safetensors_header
from trainer.tinybase import shipped

Shapes = Mapping[str, tuple[int, ...]]
_UNET, _TEXT, _VAE = "unet", "text_encoder", "vae"
# Key prefixes of the parts in a checkpoint file with the original layout.
_PREFIXES: Final = {
    "model.diffusion_model.": _UNET,
    "first_stage_model.": _VAE,
    "cond_stage_model.": _TEXT,
    "conditioner.embedders.": _TEXT,
}
_FOLDERS: Final = {"unet": _UNET, "vae": _VAE, "text_encoder": _TEXT, "text_encoder_2": _TEXT}
# UNet layers that process the timestep or the caption instead of pixels.
_NO_PIXELS = re.compile(r"time_emb|emb_layers|label_emb|add_embedding|attn2\.to_[kv]\.")
_ATTENTION = re.compile(r"\.attentions\.|\.transformer_blocks\.|\.proj_(?:in|out)\.")
_TEXT_LINEAR = re.compile(r"(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])\.weight$")
_OPEN_CLIP = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_INNER: Final = {
    "attn.out_proj.weight": "self_attn.out_proj.weight",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_proj.weight": "mlp.fc2.weight",
}
_BUFFERS: Final = ("position_ids", "attn_mask", "logit_scale")
_HALVES = re.compile(
    r"encoder\.(?:down_blocks\.\d+\.downsamplers\.0|down\.\d+\.downsample)\.conv\.weight"
)


@dataclass(frozen=True, slots=True)
class ModelShapes:
    """The facts about a model that memory depends on.

    unet, text_encoder, vae: parameters. unet_width: output values of the UNet's layers per latent
    pixel (coarser levels count a quarter each). text_width: output values of the text encoder's
    layers per token. vae_width: channels of the VAE at full image size. lora_unet, lora_text: LoRA
    parameters per rank. vae_factor: by which the VAE divides an image's sides. text_width_2,
    lora_text_2: of Stable Diffusion XL's second text encoder; text_encoder counts both. layers: of
    each part, that a network can adapt; sides: number of down blocks in block lists.
    """

    unet: int
    text_encoder: int
    vae: int
    unet_width: float
    text_width: int
    vae_width: int
    lora_unet: int
    lora_text: int
    vae_factor: int = 8
    text_width_2: int = 0
    lora_text_2: int = 0
    layers: Mapping[str, tuple[Layer, ...]] = field(default_factory=dict, compare=False)
    sides: int = 12


# Stable Diffusion 1, as `count` computes it from its files; a test compares them.
SD1: Final = ModelShapes(
    859_520_964, 123_060_480, 83_653_863, 57304.0, 82_944, 128, 423_936, 165_888,
    layers=layers.stable_diffusion_1(),
)  # fmt: skip


def read(base: str, vae: str = "") -> ModelShapes | None:
    """Return the shapes of a model on disk; None if it is missing or not a model. vae: as in
    `[train]`.
    """
    path = Path(shipped.located(base)).expanduser()
    try:
        parts = _of_folder(path) if path.is_dir() else _of_file(path)
        if vae and (vae_path := Path(vae).expanduser()).exists():
            parts[_VAE] = dict(
                _of_folder(vae_path).get(_VAE) or safetensors_header.read(_largest(vae_path)).shapes
            )
    except (OSError, ValueError):
        return None
    if not parts.get(_UNET) or not parts.get(_TEXT):
        return None
    return count(parts[_UNET], parts[_TEXT], parts.get(_VAE, {}))


def count(unet: Shapes, text: Shapes, vae: Shapes) -> ModelShapes:
    """Count a model by its tensor shapes, in diffusers' or the original layout."""
    text = _as_transformers(text)
    linear = _text_linear(text, second=False)
    linear_2 = _text_linear(text, second=True)
    vae_conv_in = next((s for n, s in vae.items() if n.endswith("encoder.conv_in.weight")), (0,))
    unet_layers, sides = layers.of_unet(unet)
    return ModelShapes(
        unet=sum(map(math.prod, unet.values())),
        text_encoder=sum(map(math.prod, text.values())),
        vae=sum(map(math.prod, vae.values())),
        unet_width=_unet_width(unet),
        text_width=sum(s[0] for s in linear.values()),
        vae_width=vae_conv_in[0],
        lora_unet=_lora_unet(unet),
        lora_text=sum(map(_rank_one, linear.values())),
        vae_factor=_vae_factor(vae),
        text_width_2=sum(s[0] for s in linear_2.values()),
        lora_text_2=sum(map(_rank_one, linear_2.values())),
        layers={
            _UNET: unet_layers,
            _TEXT: layers.of_text(linear, "lora_te1" if linear_2 else "lora_te"),
            f"{_TEXT}_2": layers.of_text(linear_2, "lora_te2"),
        },
        sides=sides,
    )


def _unet_width(unet: Shapes) -> float:
    """Return the output values of the UNet's layers per latent pixel."""
    level = _levels(unet)
    width = 0.0
    for name, shape in unet.items():
        if len(shape) >= 2 and not _NO_PIXELS.search(name):
            width += shape[0] / 4 ** level(name)
    return width


def _lora_unet(unet: Shapes) -> int:
    """Return the parameters of a rank 1 LoRA on the UNet's attention blocks."""
    return sum(_rank_one(s) for n, s in unet.items() if len(s) >= 2 and _ATTENTION.search(n))


def _text_linear(text: Shapes, *, second: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the linear layers of the first or the second text encoder."""
    return {n: s for n, s in text.items() if _is_second(n) == second and _TEXT_LINEAR.search(n)}


def _is_second(name: str) -> bool:
    """Tell whether a tensor is of the second text encoder, in diffusers' folders or the original
    layout.
    """
    return name.startswith(("text_encoder_2.", "1."))


def _as_transformers(text: Shapes) -> dict[str, tuple[int, ...]]:
    """Return text encoders as they are loaded: without buffers, and with OpenCLIP's query, key and
    value split.

    The last layer and the projection in Stable Diffusion 2 files are not loaded.
    """
    last = max(
        (int(m[1]) for n in text if n.startswith("model.") and (m := _OPEN_CLIP.search(n))),
        default=None,
    )
    loaded: dict[str, tuple[int, ...]] = {}
    for name, shape in text.items():
        layer = _OPEN_CLIP.search(name)
        if name.endswith(_BUFFERS) or name == "model.text_projection":
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


def _vae_factor(vae: Shapes) -> int:
    """Return the factor by which the VAE divides a side: 2 per downsampler; without a VAE, Stable
    Diffusion's.
    """
    return 2 ** sum(map(bool, map(_HALVES.fullmatch, vae))) if vae else SD1.vae_factor


def _rank_one(shape: tuple[int, ...]) -> int:
    """Return the parameters of a rank 1 LoRA on a layer: one per input and one per output."""
    return shape[0] + math.prod(shape[1:])


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


def _of_file(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in safetensors_header.read(path).shapes.items():
        for prefix, part in _PREFIXES.items():
            if name.startswith(prefix):
                parts.setdefault(part, {})[name.removeprefix(prefix)] = shape
    return parts


def _of_folder(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for folder, part in _FOLDERS.items():
        if (path / folder).is_dir():
            shapes = safetensors_header.read(_largest(path / folder)).shapes
            parts.setdefault(part, {}).update(
                {f"{folder}.{n}" if part == _TEXT else n: s for n, s in shapes.items()}
            )
    return parts


def _largest(folder: Path) -> Path:
    """Return the largest weights file of a folder; there may be several precisions."""
    if folder.is_file():
        return folder
    files = sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    if not files:
        raise FileNotFoundError(folder)
    return files[-1]
