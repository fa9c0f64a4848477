"""Qwen-Image: Qwen2.5-VL reads the caption in a fixed template, whose beginning is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.families import dit_family, dit_names, dit_packing
from trainer.families.base import (
    Conditioning,
    FamilyNames,
    FileMarks,
    FlowDefaults,
    ModelFacts,
    Part,
    Parts,
)
from trainer.families.dit_family import FrameLatents, TransformerFamily
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    from torch import Tensor


_TEMPLATE: Final = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
    "{}<|im_end|>\n<|im_start|>assistant\n"
)
_DROPPED: Final = 34  # tokens of the template before the caption
# What the text of the last block leads to is not read.
_IDLE: Final = ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")


class QwenImage(FrameLatents, TransformerFamily):
    """Qwen-Image."""

    NAME = "qwen"
    TITLE = "Qwen-Image"
    MARKS = FileMarks("QwenImageTransformer2DModel", ("transformer_blocks.0.img_mlp.",))
    TEXT_LIMIT = 1024  # with the end of the template
    FLOW = FlowDefaults("qwen_shift", preview="qwen_shift")
    FORMATS = ("comfy", "diffusers", "kohya")
    METADATA = FamilyNames("qwen_image", "Qwen-Image/lora", known_as=("qwen",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "Qwen2_5_VLForConditionalGeneration",
        "vae": "AutoencoderKLQwenImage",
    }
    EXPORTS = dit_exports.QWEN
    LOADER = "QwenImageLoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is named as a distilled one."""
        names = dit_family.names_of(source)
        is_distilled = any(word in names for word in ("lightning", "distill", "turbo"))
        return ModelFacts("flow", "Qwen/Qwen-Image" if is_distilled else "")

    def unreachable(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the last block's layers that only process text, which no gradient reaches."""
        last = len(parts.denoiser.transformer_blocks) - 1
        return frozenset(
            dit_names.module_name(f"transformer_blocks.{last}.{layer}") for layer in _IDLE
        )

    def count_tokens(self, tokenizer: Any, caption: str, folder: Path) -> int:
        """Return the tokens of a caption and of the template's end."""
        return len(tokenizer(_TEMPLATE.format(caption)).input_ids) - _DROPPED

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the encoder's last states behind the template's beginning, [captions, tokens,
        3584], and their mask.
        """
        encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
        tokens = tokenizer(
            [_TEMPLATE.format(caption) for caption in captions],
            max_length=self.TEXT_LIMIT + _DROPPED, padding=True, padding_side="right",
            truncation=True, return_tensors="pt",
        ).to(encoder.device)  # fmt: skip
        output = encoder(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            output_hidden_states=True,
        )
        mask = tokens.attention_mask[:, _DROPPED:].bool()
        states = output.hidden_states[-1][:, _DROPPED:] * mask.unsqueeze(-1)
        return Conditioning(states, mask=mask)

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
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


FAMILY = QwenImage()
