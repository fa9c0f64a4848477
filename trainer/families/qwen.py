"""Qwen-Image: Qwen2.5-VL reads the caption in a fixed template, whose beginning is dropped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, dit_family, dit_names, dit_packing, dit_shapes
from trainer.families.base import (
    Anatomy,
    BlockList,
    Conditioning,
    FamilyName,
    FamilyNames,
    FileMarks,
    FlowDefaults,
    LoraFormat,
    ModelFacts,
    Part,
    Parts,
    Predicts,
    ProcessName,
    Shapes,
)
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "qwen"
TITLE: Final = "Qwen-Image"
MARKS: Final = FileMarks("QwenImageTransformer2DModel", ("transformer_blocks.0.img_mlp.",))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("qwen_shift", preview="qwen_shift")
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = None
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 512
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("comfy", "diffusers", "kohya")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_KINDS: Final = {
    "transformer": "QwenImageTransformer2DModel",
    "text_encoder": "Qwen2_5_VLForConditionalGeneration",
    "vae": "AutoencoderKLQwenImage",
}
_TOKENIZERS: Final = {"text_encoder": "tokenizer"}
_TEMPLATE: Final = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
    "{}<|im_end|>\n<|im_start|>assistant\n"
)
_DROPPED: Final = 34  # tokens of the template before the caption
_READ: Final = 1024  # tokens of the caption and the end of the template
# What the text of the last block leads to is not read.
_IDLE: Final = ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")

block = dit_family.block
network_problem = dit_family.network_problem
convolutions = dit_family.convolutions
moments, decode = autoencoders.moments_of_frame, autoencoders.decode_frame
normalise, denormalise = autoencoders.standardised, autoencoders.destandardised
export = partial(dit_family.export, exports=dit_exports.QWEN)
restore = partial(dit_family.restore, exports=dit_exports.QWEN)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.QWEN)
targets = partial(dit_family.targets, exports=dit_exports.QWEN)
reload = partial(dit_family.reload, "QwenImageLoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return whether the model is named as a distilled one."""
    names = dit_family.names_of(source)
    is_distilled = any(word in names for word in ("lightning", "distill", "turbo"))
    return ModelFacts("flow", "Qwen/Qwen-Image" if is_distilled else "")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.QWEN.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return that of the text whose states the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS["text_encoder"])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("qwen_image", "Qwen-Image/lora")


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `dit_family.load`."""
    return dit_family.load(
        NAME, _KINDS, _TOKENIZERS, base, revision=revision, vae=vae, folder=folder, dtype=dtype,
        only=only, int8=int8, reporter=reporter,
    )  # fmt: skip


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the last block's layers that only process text, which no gradient reaches."""
    last = len(parts.denoiser.transformer_blocks) - 1
    return frozenset(dit_names.module_name(f"transformer_blocks.{last}.{layer}") for layer in _IDLE)


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return the encoder's last states behind the template's beginning, [captions, tokens, 3584],
    and their mask.
    """
    encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
    tokens = tokenizer(
        [_TEMPLATE.format(caption) for caption in captions], max_length=_READ + _DROPPED,
        padding=True, padding_side="right", truncation=True, return_tensors="pt",
    ).to(encoder.device)  # fmt: skip
    output = encoder(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        output_hidden_states=True,
    )
    mask = tokens.attention_mask[:, _DROPPED:].bool()
    states = output.hidden_states[-1][:, _DROPPED:] * mask.unsqueeze(-1)
    return Conditioning(states, mask=mask)


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`."""
    height, width = noisy.shape[2] // 2, noisy.shape[3] // 2
    output = parts.denoiser(
        hidden_states=dit_packing.packed(noisy),
        timestep=times.expand(len(noisy)),
        encoder_hidden_states=conditioning.states,
        encoder_hidden_states_mask=conditioning.mask,
        img_shapes=[[(1, height, width)]] * len(noisy),
        return_dict=False,
    )
    return dit_packing.unpacked(output[0], noisy)


def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of an image's latent: channels, height, width."""
    return vae.config.z_dim, height // 8, width // 8
