"""The names of layers in LoRA files (kohya's, diffusers', peft's) and in checkpoints, and where in
the model a layer is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trainer.families.base import FamilyName
from trainer.families.dit_names import block_number
from trainer.families.unet_paths import from_original, to_original

LayerPart = Literal["unet", "transformer", "text_encoder", "text_encoder_2", ""]

_TRANSFORMER: Final = (
    r"transformer_blocks_(\d+)_(?:(attn[12])_(to_[qkv]|to_out_0)|ff_net_(0_proj|2)|(norm[123]))"
)
_ATTENTION = re.compile(rf"(proj_in|proj_out|norm)|{_TRANSFORMER}")
_RESNET = re.compile(r"conv[12]|time_emb_proj|conv_shortcut|norm[12]")
_UNET_BLOCK = re.compile(
    r"(down_blocks_\d+|up_blocks_\d+|mid_block)_"
    r"(attentions|resnets|downsamplers|upsamplers)_(\d+)_(.+)"
)
_UNET_OUTER: Final[Mapping[str, str]] = {
    path.replace(".", "_"): path
    for path in (
        *("conv_in", "conv_out", "conv_norm_out", "time_embedding.linear_1"),
        *("time_embedding.linear_2", "add_embedding.linear_1", "add_embedding.linear_2"),
    )
}
_TEXT_LAYER = re.compile(
    r"(?:text_model_)?encoder_layers_(\d+)_"
    r"(?:self_attn_([qkv]_proj|out_proj)|mlp_(fc[12])|(layer_norm[12]))"
)
_KOHYA: Final[Mapping[str, LayerPart]] = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
_DIFFUSERS: Final[Mapping[str, LayerPart]] = {
    "unet.": "unet",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
}
# Of a model that peft saved alone: which one is not written.
_PEFT: Final = "base_model.model."
# The attention processors of older versions of diffusers.
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")
# Kinds of layers in the order of a block, for heat maps and tables.
KINDS: Final = (
    *("proj_in", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out", "attn2.to_q"),
    *("attn2.to_k", "attn2.to_v", "attn2.to_out", "ff.net.0", "ff.net.2", "proj_out"),
    *("conv1", "time_emb_proj", "conv2", "conv_shortcut", "downsampler", "upsampler"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
)
_KIND_NAMES: Final = {"attn1.to_out.0": "attn1.to_out", "attn2.to_out.0": "attn2.to_out"}


@dataclass(frozen=True, slots=True, order=True)
class LayerName:
    """A layer of a model. path: diffusers', dotted, with `text_model.`; a layer that no supported
    model has gives part "" and its name in the file.
    """

    part: LayerPart
    path: str

    @property
    def is_known(self) -> bool:
        return self.part != ""

    @property
    def block(self) -> str:
        """Return the block as users of block weights call it: IN04, MID, OUT11; BASE for what is
        in none; a text encoder's layer as `00`; a transformer's block as B07, a single one as S07.
        """
        if self.part == "transformer":
            side, number = ("S" if self.path.startswith("single") else "B"), block_number(self.path)
            return "BASE" if number is None else f"{side}{number:02d}"
        if self.part != "unet":
            number = text_layer(self)
            return "BASE" if number is None else f"{number:02d}"
        return _unet_block(self.path)

    @property
    def kind(self) -> str:
        """Return what kind of layer it is: `attn1.to_q`, `conv1`, `fc2`."""
        if not self.is_known:
            return re.sub(r"\d+", "N", self.path)
        if self.part == "transformer":
            return re.sub(r"^.*?(?:blocks|layers)\.\d+\.", "", self.path)
        if "samplers." in self.path:
            return "downsampler" if "downsamplers." in self.path else "upsampler"
        inner = re.sub(
            r"^.*?(?:transformer_blocks|resnets|attentions|layers)\.\d+\.", "", self.path
        )
        inner = re.sub(r"^transformer_blocks\.\d+\.", "", inner)
        inner = re.sub(r"^(?:self_attn|mlp)\.", "", inner).removesuffix(".proj")
        return _KIND_NAMES.get(inner, inner)


def _unet_block(path: str) -> str:
    if path == "conv_in":
        return "IN00"
    match = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", path)
    if match is None:
        return "MID" if path.startswith("mid_block.") else "BASE"
    number = 3 * int(match[2]) + (2 if match[3].endswith("samplers") else int(match[4]))
    return f"IN{number + 1:02d}" if match[1] == "down" else f"OUT{number:02d}"


def text_layer(name: LayerName) -> int | None:
    """Return the number of a text encoder's layer, None outside of them."""
    match = re.search(r"encoder\.layers\.(\d+)\.", name.path)
    return int(match[1]) if match and name.part in ("text_encoder", "text_encoder_2") else None


def unet_path(underscored: str) -> str | None:
    """Return diffusers' path of a UNet's layer from it with `_` for `.`; None for others."""
    if underscored in _UNET_OUTER:
        return _UNET_OUTER[underscored]
    block = _UNET_BLOCK.fullmatch(underscored)
    if block is None:
        return None
    head = block[1] if block[1] == "mid_block" else ".".join(block[1].rsplit("_", 1))
    head, kind, inner = f"{head}.{block[2]}.{block[3]}", block[2], block[4]
    if kind == "resnets":
        return f"{head}.{inner}" if _RESNET.fullmatch(inner) else None
    if kind != "attentions":
        return f"{head}.conv" if inner == "conv" else None
    match = _ATTENTION.fullmatch(inner)
    if match is None:
        return None
    outer, number, attention, projection, feed, norm = match.groups()
    if outer:
        return f"{head}.{outer}"
    if attention:
        leaf = f"{attention}.{projection.replace('to_out_0', 'to_out.0')}"
    else:
        leaf = norm or f"ff.net.{feed.replace('_', '.')}"
    return f"{head}.transformer_blocks.{number}.{leaf}"


def text_path(underscored: str) -> str | None:
    """Return the path of a text encoder's layer from it with `_` for `.`; None for others."""
    match = _TEXT_LAYER.fullmatch(underscored)
    if match is None:
        return None
    number, attention, feed, norm = match.groups()
    leaf = f"self_attn.{attention}" if attention else f"mlp.{feed}" if feed else norm
    return f"text_model.encoder.layers.{number}.{leaf}"


def parse(name: str) -> LayerName:
    """Return the layer that a LoRA file calls `name`, in any of the forms that are known."""
    for prefix, part in _KOHYA.items():
        if name.startswith(prefix):
            return _layer(part, name.removeprefix(prefix), name)
    dotted = _PROCESSOR.sub(lambda m: f".{m[1]}" + (".0" if m[1] == "to_out" else ""), name)
    for prefix, part in _DIFFUSERS.items():
        if dotted.startswith(prefix):
            inner = dotted.removeprefix(prefix).removeprefix(_PEFT)
            return _layer(part, inner.replace(".", "_"), name)
    if dotted.startswith(_PEFT):
        inner = dotted.removeprefix(_PEFT).replace(".", "_")
        part = "text_encoder" if text_path(inner) else "unet"
        return _layer(part, inner, name)
    return LayerName("", name)


def _layer(part: LayerPart, underscored: str, name: str) -> LayerName:
    if part == "unet":
        path = unet_path(underscored) or unet_path(from_original(underscored) or "")
    else:
        path = text_path(underscored)
    return LayerName("", name) if path is None else LayerName(part, path)


def kohya(name: LayerName, family: FamilyName) -> str:
    """Return a layer's name in kohya's files."""
    if name.part == "unet":
        path = to_original(name.path) if family == "sdxl" else name.path
        return "lora_unet_" + path.replace(".", "_")
    numbered = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    prefix = numbered[name.part] if family == "sdxl" else "lora_te_"
    return prefix + name.path.replace(".", "_")


def diffusers(name: LayerName) -> str:
    """Return a layer's name in diffusers' files."""
    return f"{name.part}.{name.path}"


# ---- the layers that LoRAs of each family have


def full_set(family: FamilyName) -> frozenset[LayerName]:
    """Return the layers that LoRAs of a family adapt, those of the convolutional blocks too."""
    layers = {"sd1": (12, 0), "sd2": (23, 0), "sdxl": (12, 32)}[family]
    unet = _sdxl_unet() if family == "sdxl" else _sd_unet()
    return frozenset(unet | _text("text_encoder", layers[0]) | _text("text_encoder_2", layers[1]))


def norms(family: FamilyName) -> frozenset[LayerName]:
    """Return the norms in the blocks of a family's UNet, and in its text encoders' layers."""
    layers: set[LayerName] = set()
    for name in full_set(family):
        head, _, leaf = name.path.rpartition(".")
        if name.part != "unet":
            block = name.path.partition(".self_attn")[0].partition(".mlp")[0]
            paths = [f"{block}.layer_norm{n}" for n in (1, 2)]
        elif ".resnets." in name.path:
            paths = [f"{head}.norm{n}" for n in (1, 2)]
        elif ".transformer_blocks." in name.path:
            block = re.sub(r"(\.transformer_blocks\.\d+)\..+", r"\1", name.path)
            paths = [f"{block}.norm{n}" for n in (1, 2, 3)]
        else:
            paths = [f"{head}.norm"] if leaf == "proj_in" else []
        layers |= {LayerName(name.part, path) for path in paths}
    return frozenset(layers)


def is_convolutional(name: LayerName) -> bool:
    """Tell whether a layer of the UNet is outside of its attention blocks."""
    return name.part == "unet" and ".attentions." not in name.path


def _text(part: LayerPart, layers: int) -> set[LayerName]:
    leaves = [*(f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2"]
    return {
        LayerName(part, f"text_model.encoder.layers.{n}.{leaf}")
        for n in range(layers)
        for leaf in leaves
    }


def _sd_unet() -> set[LayerName]:
    return _unet((1, 1, 1, 0), middle=1)


def _sdxl_unet() -> set[LayerName]:
    return _unet((0, 2, 10), middle=10)


def _unet(depths: tuple[int, ...], middle: int) -> set[LayerName]:
    """Return the layers of a UNet. depths: transformer layers of an attention block on each level,
    0 where a level has none.
    """
    last = len(depths) - 1
    paths: list[str] = []
    for b, depth in enumerate(depths):
        for side, level, layers in (("down", b, 2), ("up", last - b, 3)):
            block = f"{side}_blocks.{level}"
            for j in range(layers):
                # The channels change in a level's first layer, and always where a skip comes in.
                widens = side == "up" or (j == 0 and b > 0 and not (len(depths) == 4 and b == last))
                paths += _resnet(f"{block}.resnets.{j}", shortcut=widens)
                paths += _attention(f"{block}.attentions.{j}", depth) if depth else []
            if level < last:
                paths.append(f"{block}.{side}samplers.0.conv")
    paths += _resnet("mid_block.resnets.0") + _resnet("mid_block.resnets.1")
    paths += _attention("mid_block.attentions.0", middle)
    return {LayerName("unet", path) for path in paths}


def _resnet(path: str, *, shortcut: bool = False) -> list[str]:
    leaves = ["conv1", "time_emb_proj", "conv2", *(["conv_shortcut"] if shortcut else [])]
    return [f"{path}.{leaf}" for leaf in leaves]


def _attention(path: str, depth: int) -> list[str]:
    inner = [f"{path}.proj_in", f"{path}.proj_out"]
    for n in range(depth):
        block = f"{path}.transformer_blocks.{n}"
        for attention in ("attn1", "attn2"):
            inner += [
                f"{block}.{attention}.{leaf}" for leaf in ("to_q", "to_k", "to_v", "to_out.0")
            ]
        inner += [f"{block}.ff.net.0.proj", f"{block}.ff.net.2"]
    return inner
