"""Random bases of the families of diffusion transformers: their full structure with few channels.

A base has the parts of a published model (transformer, VAE, text encoders, tokenizers) with random
weights and a home-made vocabulary of single bytes; nothing is downloaded. For tests, and to see the
path of a training in a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import transformers
from torch import nn

WIDTH: Final = 16  # of the text encoders' hidden states
# Of the home-made tokenizers: the bytes, and the special tokens behind them.
_BYTES: Final = 256
_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_VOCABULARY: Final = _BYTES + len(_SPECIAL)
_T5_VOCABULARY: Final = 128
_CLIP_BOS, _CLIP_EOS = "<|startoftext|>", "<|endoftext|>"
_CLIP_VOCABULARY: Final = 2 * _BYTES + 2
# Qwen's: a thinking block, left empty, where thinking is switched off.
_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
_SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True, slots=True)
class RandomParts:
    """The parts of a base. index: further entries of its index file; index_name: of that file."""

    pipeline: str
    models: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    index_name: str = "model_index.json"


def build(family: str, seed: int = 0) -> RandomParts:
    """Build the parts of a family; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = BUILDERS[family]()
        for model in parts.models.values():
            if isinstance(model, nn.Module):
                model.eval()  # T5 is built with dropout on
                _fill(model)
    return parts


def save(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a base as a diffusers folder, the index last: it marks a complete model."""
    parts = build(family, seed)
    for name, part in parts.models.items():
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    config = {"_class_name": _SCHEDULER, "num_train_timesteps": 1000, **parts.scheduler}
    _write_json(folder / "scheduler" / "scheduler_config.json", config)
    index = {
        "_class_name": parts.pipeline,
        "scheduler": ["diffusers", _SCHEDULER],
        **{name: _class_of(part) for name, part in parts.models.items()},
        **parts.index,
    }
    _write_json(folder / parts.index_name, index)
    return folder


def _class_of(part: Any) -> list[str]:
    library = "diffusers" if hasattr(diffusers, type(part).__name__) else "transformers"
    return [library, type(part).__name__]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Give values to parameters that diffusers creates empty, and small ones to those that it
    creates as 0, so that every layer has an effect.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("pad_token") or (parameter.ndim > 1 and not parameter.any()):
            parameter.normal_(std=0.02)


# ---- tokenizers


def byte_tokenizer() -> Any:
    """Build Qwen's tokenizer with its special tokens and no merges: each byte is a token."""
    letters = sorted(_byte_letters())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL[1:])})
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _byte_letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return list(ByteLevel.alphabet())


def t5_tokenizer() -> Any:
    """Build T5's tokenizer with letters as its pieces; it ends each text with </s>."""
    letters = ["▁", *(chr(n) for n in range(33, 127))]
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((letter, -2.0) for letter in letters),
    ]
    return transformers.T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)


def clip_tokenizer() -> Any:
    """Build CLIP's tokenizer with no merges: each byte is a token, at a word's end another."""
    letters = sorted(_byte_letters())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), _CLIP_BOS, _CLIP_EOS]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[], pad_token=_CLIP_EOS, model_max_length=77
    )


# ---- text encoders


def _t5(width: int) -> Any:
    config = transformers.T5Config(
        vocab_size=_T5_VOCABULARY, d_model=width, d_kv=8, d_ff=width, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.T5EncoderModel(config)


def _clip(width: int, projection: int) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=_CLIP_VOCABULARY, hidden_size=width, intermediate_size=width,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77,
        projection_dim=projection, bos_token_id=_CLIP_VOCABULARY - 2,
        eos_token_id=_CLIP_VOCABULARY - 1, pad_token_id=_CLIP_VOCABULARY - 1,
    )  # fmt: skip


def _qwen_layers(layers: int, width: int = WIDTH) -> dict[str, Any]:
    return {
        "vocab_size": _VOCABULARY,
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": _VOCABULARY - 3,
    }


def _qwen_vision(width: int = WIDTH) -> dict[str, Any]:
    return {
        "depth": 1,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_heads": 1,
        "out_hidden_size": width,
    }


def _qwen2_vl() -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **_qwen_layers(2),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config=_qwen_vision(),
        bos_token_id=None,
        eos_token_id=_VOCABULARY - 3,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl() -> Any:
    config = transformers.Qwen3VLConfig(
        text_config={
            **_qwen_layers(4),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        },
        vision_config={**_qwen_vision(), "deepstack_visual_indexes": [0]},
    )
    return transformers.Qwen3VLModel(config)


# ---- autoencoders


def _vae(scale: float, shift: float) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=16,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _flux_vae() -> Any:
    return _vae(0.3611, 0.1159)


def _flux2_vae() -> Any:
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


# ---- families


def _flux() -> RandomParts:
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, num_attention_heads=2,
        attention_head_dim=16, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _flux_vae(),
        "text_encoder": transformers.CLIPTextModel(_clip(32, 32)),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": _t5(32),
        "tokenizer_2": t5_tokenizer(),
    }
    return RandomParts("FluxPipeline", models, {"use_dynamic_shifting": True, "shift": 3.0})


def _chroma() -> RandomParts:
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, num_attention_heads=2,
        attention_head_dim=16, joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8, approximator_hidden_dim=32, approximator_layers=1,
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _flux_vae(),
        "text_encoder": _t5(32),
        "tokenizer": t5_tokenizer(),
    }
    return RandomParts("ChromaPipeline", models, {"use_dynamic_shifting": True, "shift": 3.0})


def _flux2() -> RandomParts:
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=128, num_layers=1, num_single_layers=1, num_attention_heads=2,
        attention_head_dim=16, joint_attention_dim=3 * WIDTH, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _flux2_vae(),
        "text_encoder": transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_qwen_layers(28))),
        "tokenizer": byte_tokenizer(),
    }
    index = {"is_distilled": False}
    return RandomParts("Flux2KleinPipeline", models, {"use_dynamic_shifting": True}, index)


def _qwen() -> RandomParts:
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=64, out_channels=16, num_layers=2, num_attention_heads=3,
        attention_head_dim=16, joint_attention_dim=WIDTH, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _qwen_vae(),
        "text_encoder": _qwen2_vl(),
        "tokenizer": byte_tokenizer(),
    }
    scheduler = {
        "use_dynamic_shifting": True,
        "max_image_seq_len": 8192,
        "max_shift": 0.9,
        "shift_terminal": 0.02,
    }
    return RandomParts("QwenImagePipeline", models, scheduler)


def _z_image() -> RandomParts:
    transformer = diffusers.ZImageTransformer2DModel(
        dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4], axes_lens=[1536, 128, 128],
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _flux_vae(),
        "text_encoder": transformers.Qwen3Model(transformers.Qwen3Config(**_qwen_layers(3))),
        "tokenizer": byte_tokenizer(),
    }
    return RandomParts("ZImagePipeline", models, {"shift": 6.0})


def _krea2() -> RandomParts:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=64, num_layers=2, num_attention_heads=4, num_key_value_heads=2,
        attention_head_dim=8, intermediate_size=32, axes_dims_rope=(4, 2, 2), num_text_layers=3,
        text_hidden_dim=WIDTH, text_num_attention_heads=2, text_num_key_value_heads=1,
        text_intermediate_size=16, timestep_embed_dim=8, num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _qwen_vae(),
        "text_encoder": _qwen3_vl(),
        "tokenizer": byte_tokenizer(),
    }
    scheduler = {"use_dynamic_shifting": True, "max_image_seq_len": 6400}
    index = {"is_distilled": False, "patch_size": 2, "text_encoder_select_layers": [1, 2, 3]}
    return RandomParts("Krea2Pipeline", models, scheduler, index)


def _anima() -> RandomParts:
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16,
        num_layers=2, mlp_ratio=2.0, text_embed_dim=32, adaln_lora_dim=4,
        rope_scale=(1.0, 4.0, 4.0), concat_padding_mask=True, extra_pos_embed_type=None,
    )  # fmt: skip
    conditioner = diffusers.AnimaTextConditioner(
        source_dim=WIDTH, target_dim=32, model_dim=32, num_layers=1, num_attention_heads=2,
        target_vocab_size=_T5_VOCABULARY, min_sequence_length=512,
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _qwen_vae(),
        "text_encoder": transformers.Qwen3Model(transformers.Qwen3Config(**_qwen_layers(2))),
        "tokenizer": byte_tokenizer(),
        "t5_tokenizer": t5_tokenizer(),
        "text_conditioner": conditioner,
    }
    name = "modular_model_index.json"  # Anima's pipeline is a modular one
    return RandomParts("AnimaModularPipeline", models, {"shift": 3.0}, index_name=name)


def _sd3() -> RandomParts:
    transformer = diffusers.SD3Transformer2DModel(
        in_channels=16, num_layers=2, num_attention_heads=4, attention_head_dim=8,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64,
        qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    models = {
        "transformer": transformer,
        "vae": _vae(1.5305, 0.0609),
        "text_encoder": transformers.CLIPTextModelWithProjection(_clip(WIDTH, 32)),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip(WIDTH, 32)),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": _t5(32),
        "tokenizer_3": t5_tokenizer(),
    }
    return RandomParts("StableDiffusion3Pipeline", models, {"shift": 3.0})


BUILDERS: Final[Mapping[str, Callable[[], RandomParts]]] = {
    "z-image": _z_image,
    "anima": _anima,
    "flux2": _flux2,
    "flux": _flux,
    "chroma": _chroma,
    "krea2": _krea2,
    "qwen": _qwen,
    "sd3": _sd3,
}
