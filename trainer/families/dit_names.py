"""The paths of a diffusion transformer's layers in diffusers and in the original code, and back.

The layers are the attention and MLP of the main blocks: what trainers adapt. The original code
fuses some of diffusers' layers: q, k and v are rows of one matrix. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_NUMBER = re.compile(r"(?<=blocks[._])\d+|(?<=layers[._])\d+")


@dataclass(frozen=True, slots=True)
class OriginalLayer:
    """A layer in the original code. row: which of its parts diffusers' layer is; rows: how many it
    has, 1 where the layer is the same in both.
    """

    path: str
    row: int = 0
    rows: int = 1


class DitNames:
    """The names of one architecture, from pairs of templates with N for the block's number.

    pairs: original template -> diffusers' templates that it fuses, in the order of its rows.
    """

    def __init__(self, pairs: Mapping[str, Sequence[str]]) -> None:
        self._original = {
            template: OriginalLayer(original, row, len(templates))
            for original, templates in pairs.items()
            for row, template in enumerate(templates)
        }
        self._diffusers = {original: tuple(templates) for original, templates in pairs.items()}
        self._underscored = {
            name.replace(".", "_"): name for name in (*self._original, *self._diffusers)
        }

    def is_target(self, path: str, *, attention_only: bool = False) -> bool:
        """Tell whether diffusers' path is of a layer that LoRA adapts."""
        template, _ = _template(path)
        return template in self._original and (not attention_only or _is_attention(template))

    def targets(self, paths: Iterable[str], *, attention_only: bool = False) -> list[str]:
        """Return the paths that LoRA adapts, in their order."""
        return [path for path in paths if self.is_target(path, attention_only=attention_only)]

    def to_original(self, path: str) -> OriginalLayer:
        """Return where the original code has a layer with diffusers' path. Raises KeyError."""
        template, number = _template(path)
        layer = self._original[template]
        return OriginalLayer(_numbered(layer.path, number), layer.row, layer.rows)

    def from_original(self, path: str) -> tuple[str, ...]:
        """Return diffusers' paths of the rows of an original layer; () for an unknown one."""
        template, number = _template(path)
        return tuple(_numbered(name, number) for name in self._diffusers.get(template, ()))

    def dotted(self, underscored: str) -> str:
        """Return the path, of either code, that a name with `_` for `.` stands for; "" for an
        unknown one.
        """
        template, number = _template(underscored)
        return _numbered(self._underscored.get(template, ""), number)


def block_number(path: str) -> int | None:
    """Return the number of a path's block among those of its kind; None outside of blocks."""
    match = _NUMBER.search(path)
    return int(match[0]) if match else None


def heights(parts: int, out: int, width: int) -> list[int]:
    """Return the out features of the parts of a fused layer, (out, width): q, k and v are equal,
    and in Flux.1's single blocks the MLP is behind them.
    """
    if parts == 1:
        return [out]
    return [out // 3] * 3 if parts == 3 else [width] * 3 + [out - 3 * width]


def module_name(path: str) -> str:
    """Return the name of a module that LoRA adapts, without dots, of diffusers' path."""
    return "lora_transformer_" + path.replace(".", "_")


def _template(path: str) -> tuple[str, str]:
    match = _NUMBER.search(path)
    return (_NUMBER.sub("N", path, count=1), match[0]) if match else (path, "")


def _numbered(template: str, number: str) -> str:
    return re.sub(r"(?<=blocks\.)N|(?<=layers\.)N", number, template, count=1)


def _is_attention(template: str) -> bool:
    return template.split(".N.", 1)[-1].startswith("attn") or ".attention." in template


# ---- the architectures

_DOUBLE, _SINGLE = "transformer_blocks.N.", "single_transformer_blocks.N."


def _same(templates: Sequence[str]) -> dict[str, Sequence[str]]:
    return {template: (template,) for template in templates}


def _joint_attention(block: str, original: str, context: str) -> dict[str, Sequence[str]]:
    """Return the two attentions of a double block: of the image, and of the text."""
    return {
        f"{original}.qkv": [f"{block}attn.to_{x}" for x in "qkv"],
        f"{context}.qkv": [f"{block}attn.add_{x}_proj" for x in "qkv"],
        f"{original}.proj": [f"{block}attn.to_out.0"],
        f"{context}.proj": [f"{block}attn.to_add_out"],
    }


_FLUX_ATTENTION: Final = _joint_attention(
    _DOUBLE, "double_blocks.N.img_attn", "double_blocks.N.txt_attn"
)

# Flux.1 and Chroma.
FLUX: Final = DitNames(
    {
        **_FLUX_ATTENTION,
        "double_blocks.N.img_mlp.0": [f"{_DOUBLE}ff.net.0.proj"],
        "double_blocks.N.img_mlp.2": [f"{_DOUBLE}ff.net.2"],
        "double_blocks.N.txt_mlp.0": [f"{_DOUBLE}ff_context.net.0.proj"],
        "double_blocks.N.txt_mlp.2": [f"{_DOUBLE}ff_context.net.2"],
        "single_blocks.N.linear1": [
            *(f"{_SINGLE}attn.to_{x}" for x in "qkv"),
            f"{_SINGLE}proj_mlp",
        ],
        "single_blocks.N.linear2": [f"{_SINGLE}proj_out"],
    }
)

FLUX2: Final = DitNames(
    {
        **_FLUX_ATTENTION,
        "double_blocks.N.img_mlp.0": [f"{_DOUBLE}ff.linear_in"],
        "double_blocks.N.img_mlp.2": [f"{_DOUBLE}ff.linear_out"],
        "double_blocks.N.txt_mlp.0": [f"{_DOUBLE}ff_context.linear_in"],
        "double_blocks.N.txt_mlp.2": [f"{_DOUBLE}ff_context.linear_out"],
        "single_blocks.N.linear1": [f"{_SINGLE}attn.to_qkv_mlp_proj"],
        "single_blocks.N.linear2": [f"{_SINGLE}attn.to_out"],
    }
)

QWEN: Final = DitNames(
    _same(
        [
            *(f"{_DOUBLE}attn.to_{x}" for x in ("q", "k", "v", "out.0", "add_out")),
            *(f"{_DOUBLE}attn.add_{x}_proj" for x in "qkv"),
            *(f"{_DOUBLE}{side}_mlp.net.{x}" for side in ("img", "txt") for x in ("0.proj", "2")),
        ]
    )
)

Z_IMAGE: Final = DitNames(
    {
        "layers.N.attention.qkv": [f"layers.N.attention.to_{x}" for x in "qkv"],
        "layers.N.attention.out": ["layers.N.attention.to_out.0"],
        **_same([f"layers.N.feed_forward.w{x}" for x in "123"]),
    }
)

KREA2: Final = DitNames(
    {
        **{f"blocks.N.attn.w{x}": [f"{_DOUBLE}attn.to_{x}"] for x in "qkv"},
        "blocks.N.attn.wo": [f"{_DOUBLE}attn.to_out.0"],
        "blocks.N.attn.gate": [f"{_DOUBLE}attn.to_gate"],
        **{f"blocks.N.mlp.{x}": [f"{_DOUBLE}ff.{x}"] for x in ("gate", "up", "down")},
    }
)

ANIMA: Final = DitNames(
    {
        **{
            f"blocks.N.{original}.{x}_proj": [f"{_DOUBLE}{name}.to_{x}"]
            for name, original in (("attn1", "self_attn"), ("attn2", "cross_attn"))
            for x in "qkv"
        },
        "blocks.N.self_attn.output_proj": [f"{_DOUBLE}attn1.to_out.0"],
        "blocks.N.cross_attn.output_proj": [f"{_DOUBLE}attn2.to_out.0"],
        "blocks.N.mlp.layer1": [f"{_DOUBLE}ff.net.0.proj"],
        "blocks.N.mlp.layer2": [f"{_DOUBLE}ff.net.2"],
    }
)

SD3: Final = DitNames(
    {
        **_joint_attention(
            _DOUBLE, "joint_blocks.N.x_block.attn", "joint_blocks.N.context_block.attn"
        ),
        "joint_blocks.N.x_block.attn2.qkv": [f"{_DOUBLE}attn2.to_{x}" for x in "qkv"],
        "joint_blocks.N.x_block.attn2.proj": [f"{_DOUBLE}attn2.to_out.0"],
        "joint_blocks.N.x_block.mlp.fc1": [f"{_DOUBLE}ff.net.0.proj"],
        "joint_blocks.N.x_block.mlp.fc2": [f"{_DOUBLE}ff.net.2"],
        "joint_blocks.N.context_block.mlp.fc1": [f"{_DOUBLE}ff_context.net.0.proj"],
        "joint_blocks.N.context_block.mlp.fc2": [f"{_DOUBLE}ff_context.net.2"],
    }
)
