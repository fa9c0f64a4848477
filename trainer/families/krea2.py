"""Krea 2: twelve layers of Qwen3-VL read the caption; the transformer mixes them itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.families import dit_family, dit_packing
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
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    from torch import Tensor


_BASE: Final = "krea/Krea-2-Raw"
_PREFIX: Final = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
)
_SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n"
_DROPPED: Final = 34  # tokens of the prefix
_SUFFIX_TOKENS: Final = 5
# The hidden states that are read, where the model's index does not say others.
_LAYERS: Final = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)


def _layers(parts: Parts) -> Sequence[int]:
    index = read_json(parts.source / "model_index.json") or {}
    layers: Sequence[int] = index.get("text_encoder_select_layers") or _LAYERS
    return layers


class Krea2(FrameLatents, TransformerFamily):
    """Krea 2."""

    NAME = "krea2"
    TITLE = "Krea 2"
    MARKS = FileMarks("Krea2Transformer2DModel", ("txtfusion.",), own_keys=("text_fusion.",))
    HIDDEN_STATES = 12
    FLOW = FlowDefaults("krea2_shift", preview="krea2_shift", guidance=5.5)
    FORMATS = ("comfy", "diffusers")
    METADATA = FamilyNames("krea2", "krea-2/lora", known_as=("krea2",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "Qwen3VLModel",
        "vae": "AutoencoderKLQwenImage",
    }
    EXPORTS = dit_exports.KREA2
    LOADER = "Krea2LoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is Turbo, as its index or its name says."""
        index = read_json(source / "model_index.json") or {}
        names = dit_family.names_of(source)
        distilled = index.get("is_distilled")
        if distilled is None:
            distilled = "turbo" in names
        if distilled:
            return ModelFacts("flow", _BASE)
        unknown = source.is_file() and "raw" not in names
        return ModelFacts(
            "flow", note=dit_family.DISTILLED_UNKNOWN.format(_BASE) if unknown else ""
        )

    def count_tokens(self, tokenizer: Any, caption: str, folder: Path) -> int:
        """Return the tokens of a caption and of the suffix."""
        return len(tokenizer(_PREFIX + caption).input_ids) - _DROPPED + _SUFFIX_TOKENS

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the states of twelve layers, [captions, tokens, 12, 2560], and the mask of the
        real tokens: caption and suffix, with the padding between them.
        """
        import torch

        encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
        tokens = tokenizer(
            [_PREFIX + caption for caption in captions], truncation=True, padding=True,
            padding_side="right", max_length=self.TEXT_LIMIT + _DROPPED - _SUFFIX_TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        suffix = tokenizer([_SUFFIX] * len(captions), return_tensors="pt")
        ids, mask = (
            torch.cat([getattr(each, name) for each in (tokens, suffix)], dim=1).to(encoder.device)
            for name in ("input_ids", "attention_mask")
        )
        # The padding has no position of its own, so the suffix follows the caption.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0).expand(3, -1, -1)
        output = encoder(
            input_ids=ids, attention_mask=mask.bool(), position_ids=positions,
            output_hidden_states=True,
        )  # fmt: skip
        states = torch.stack([output.hidden_states[layer] for layer in _layers(parts)], dim=2)
        return Conditioning(states[:, _DROPPED:], mask=mask[:, _DROPPED:].bool())

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`."""
        import torch

        text = dit_packing.text_positions(conditioning.states.shape[1], noisy.device)
        output = parts.denoiser(
            hidden_states=dit_packing.packed(noisy),
            timestep=times.expand(len(noisy)),
            encoder_hidden_states=conditioning.states,
            encoder_attention_mask=conditioning.mask,
            position_ids=torch.cat([text, dit_packing.grid(noisy)]).float(),
            return_dict=False,
        )
        return dit_packing.unpacked(output[0], noisy)


FAMILY = Krea2()
