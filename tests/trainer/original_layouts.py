"""Tiny transformers as their original code stores them: the inverse of diffusers' converters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

import torch
from torch import Tensor

from trainer.families.dit_names import DitNames

Rules = Iterable[tuple[str, str]]  # pattern in diffusers' name -> original
_N: Final = r"\.(\d+)\."


def _norms(block: str, original: str, names: Mapping[str, str]) -> Rules:
    return [(rf"^{block}{_N}{name}", rf"{original}.\1.{to}") for name, to in names.items()]


def _mlp(name: str, first: str, second: str) -> Rules:
    return [(rf"^{name}\.linear_1", first), (rf"^{name}\.linear_2", second)]


_QK = {
    r"attn\.norm_q\.weight": "img_attn.norm.query_norm.scale",
    r"attn\.norm_k\.weight": "img_attn.norm.key_norm.scale",
    r"attn\.norm_added_q\.weight": "txt_attn.norm.query_norm.scale",
    r"attn\.norm_added_k\.weight": "txt_attn.norm.key_norm.scale",
}
_SINGLE_QK = {
    r"attn\.norm_q\.weight": "norm.query_norm.scale",
    r"attn\.norm_k\.weight": "norm.key_norm.scale",
}
_FLUX_ALL: Rules = [
    ("^context_embedder", "txt_in"),
    ("^x_embedder", "img_in"),
    (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    ("^proj_out", "final_layer.linear"),
    *_norms("single_transformer_blocks", "single_blocks", _SINGLE_QK),
    *_norms("transformer_blocks", "double_blocks", _QK),
]
_KREA_BLOCK = {
    r"attn\.norm_q\.weight": "attn.qknorm.qnorm.scale",
    r"attn\.norm_k\.weight": "attn.qknorm.knorm.scale",
    r"norm1\.weight": "prenorm.scale",
    r"norm2\.weight": "postnorm.scale",
}
RULES: Final[Mapping[str, Rules]] = {
    "flux": [
        *_mlp(r"time_text_embed\.timestep_embedder", "time_in.in_layer", "time_in.out_layer"),
        *_mlp(r"time_text_embed\.text_embedder", "vector_in.in_layer", "vector_in.out_layer"),
        *_mlp(
            r"time_text_embed\.guidance_embedder", "guidance_in.in_layer", "guidance_in.out_layer"
        ),
        *_norms(
            "transformer_blocks",
            "double_blocks",
            {r"norm1\.linear": "img_mod.lin", r"norm1_context\.linear": "txt_mod.lin"},
        ),
        *_norms("single_transformer_blocks", "single_blocks", {r"norm\.linear": "modulation.lin"}),
        *_FLUX_ALL,
    ],
    "chroma": [
        (r"(layers\.\d+)\.linear_1", r"\1.in_layer"),
        (r"(layers\.\d+)\.linear_2", r"\1.out_layer"),
        (r"(norms\.\d+)\.weight", r"\1.scale"),
        *_FLUX_ALL,
    ],
    "flux2": [
        *_mlp(r"time_guidance_embed\.timestep_embedder", "time_in.in_layer", "time_in.out_layer"),
        (r"(_modulation(?:_img|_txt)?)\.linear", r"\1.lin"),
        *_FLUX_ALL,
    ],
    "qwen": [],
    "z-image": [
        (r"attention\.to_out\.0", "attention.out"),
        (r"attention\.norm_([qk])", r"attention.\1_norm"),
        (r"^all_x_embedder\.2-1", "x_embedder"),
        (r"^all_final_layer\.2-1", "final_layer"),
    ],
    "krea2": [
        ("^img_in", "first"),
        *_mlp("time_embed", "tmlp.0", "tmlp.2"),
        ("^time_mod_proj", "tproj.1"),
        (r"^txt_in\.norm\.weight", "txtmlp.0.scale"),
        *_mlp("txt_in", "txtmlp.1", "txtmlp.3"),
        (r"^final_layer\.linear", "last.linear"),
        (r"^final_layer\.norm\.weight", "last.norm.scale"),
        (r"^final_layer\.scale_shift_table", "last.modulation.lin"),
        (rf"^transformer_blocks{_N}scale_shift_table", r"blocks.\1.mod.lin"),
        *_norms("transformer_blocks", "blocks", _KREA_BLOCK),
        *[(rf"^(text_fusion\..*){name}", rf"\1{to}") for name, to in _KREA_BLOCK.items()],
        (r"^(text_fusion\..*)attn\.to_out\.0", r"\1attn.wo"),
        (r"^(text_fusion\..*)attn\.to_gate", r"\1attn.gate"),
        (r"^(text_fusion\..*)attn\.to_([qkv])", r"\1attn.w\2"),
        (r"^(text_fusion\..*)\.ff\.", r"\1.mlp."),
        ("^text_fusion", "txtfusion"),
    ],
    "anima": [
        (r"^patch_embed\.proj", "x_embedder.proj.1"),
        (r"^time_embed\.t_embedder", "t_embedder.1"),
        (r"^time_embed\.norm", "t_embedding_norm"),
        (r"^norm_out\.linear_(\d)", r"final_layer.adaln_modulation.\1"),
        ("^proj_out", "final_layer.linear"),
        *[
            (rf"^transformer_blocks{_N}{old}_(\d)", rf"blocks.\1.adaln_modulation_{new}.\2")
            for old, new in (
                (r"norm1\.linear", "self_attn"),
                (r"norm2\.linear", "cross_attn"),
                (r"norm3\.linear", "mlp"),
            )
        ],
        (rf"^transformer_blocks{_N}attn1\.norm_([qk])", r"blocks.\1.self_attn.\2_norm"),
        (rf"^transformer_blocks{_N}attn2\.norm_([qk])", r"blocks.\1.cross_attn.\2_norm"),
    ],
    "sd3": [
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj", "x_embedder.proj"),
        *_mlp(r"time_text_embed\.timestep_embedder", "t_embedder.mlp.0", "t_embedder.mlp.2"),
        *_mlp(r"time_text_embed\.text_embedder", "y_embedder.mlp.0", "y_embedder.mlp.2"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        ("^proj_out", "final_layer.linear"),
        *_norms(
            "transformer_blocks",
            "joint_blocks",
            {
                r"norm1\.linear": "x_block.adaLN_modulation.1",
                r"norm1_context\.linear": "context_block.adaLN_modulation.1",
                r"attn\.norm_([qk])": r"x_block.attn.ln_\2",
                r"attn\.norm_added_([qk])": r"context_block.attn.ln_\2",
                r"attn2\.norm_([qk])": r"x_block.attn2.ln_\2",
            },
        ),
    ],
}


def tensors(family: str, names: DitNames, transformer: Any) -> dict[str, Tensor]:
    """Return the weights of a transformer under the names, and with the fused layers, of the
    original code.
    """
    rows: dict[str, dict[int, Tensor]] = {}
    for key, value in transformer.state_dict().items():
        path, _, leaf = key.rpartition(".")
        if names.is_target(path):
            layer = names.to_original(path)
            rows.setdefault(f"{layer.path}.{leaf}", {})[layer.row] = value
        else:
            rows[_renamed(family, key)] = {0: _rearranged(family, key, value, transformer)}
    return {
        name: torch.cat([parts[row] for row in sorted(parts)]).contiguous()
        for name, parts in rows.items()
    }


def _renamed(family: str, key: str) -> str:
    for pattern, to in RULES[family]:
        key = re.sub(pattern, to, key)
    return key


def _rearranged(family: str, key: str, value: Tensor, transformer: Any) -> Tensor:
    """Return a weight as the original code has it: shift before scale, modulations in one row."""
    last = "norm_out.linear."
    if family == "sd3" and "norm1_context" in key:  # the last block's is like the final layer
        last = f"transformer_blocks.{len(transformer.transformer_blocks) - 1}."
    if family in ("flux", "flux2", "sd3") and key.startswith(last):
        return torch.cat(value.chunk(2)[::-1])
    if family == "krea2" and re.search(r"blocks\.\d+\.scale_shift_table", key):
        return value.reshape(-1)
    return value


def sized(converter: Callable[..., Any], width: int) -> Callable[..., Any]:
    """Return a converter of diffusers, in which the width of the full-size Flux.1 is written, for
    another width.
    """
    code: CodeType = converter.__code__
    constants = tuple(width if value == 3072 else value for value in code.co_consts)
    assert constants != code.co_consts
    return FunctionType(code.replace(co_consts=constants), converter.__globals__)
