"""Flux.1 dev: T5 reads the caption, and CLIP makes one vector of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from trainer.families.dit_family import DENOISER, TransformerFamily
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports
from trainer.plan import safetensors_header

if TYPE_CHECKING:
    from torch import Tensor


# What sd-scripts tells the model in training; images are generated with 3.5.
GUIDANCE: Final = 1.0
# In the original layout and in diffusers'.
_GUIDANCE_LAYERS: Final = ("guidance_in.", "guidance_embedder.")
_DISTILLED: Final = "black-forest-labs/FLUX.1-dev"


class Flux(TransformerFamily):
    """Flux.1 dev."""

    NAME = "flux"
    TITLE = "Flux.1"
    MARKS = FileMarks(
        "FluxTransformer2DModel",
        ("double_blocks.", "single_blocks."),
        own_keys=("time_text_embed.", "single_transformer_blocks.0.norm.linear."),
    )
    PADDED = True
    FLOW = FlowDefaults("flux_shift", preview="flux_shift", guidance=3.5)
    ENCODERS = ("text_encoder", "text_encoder_2")
    LATENT_SCALE = 0.3611
    FORMATS = ("diffusers", "kohya")
    COUNTED = "text_encoder_2"
    METADATA = FamilyNames("flux1", "flux-1-dev/lora", known_as=("flux1",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "vae": "AutoencoderKL",
    }
    TOKENIZERS: Mapping[Part, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
    EXPORTS = dit_exports.FLUX
    LOADER = "FluxLoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is schnell, which has no layers for guidance."""
        if source.is_file():
            names = safetensors_header.read(source).shapes
            guided = any(sign in name for name in names for sign in _GUIDANCE_LAYERS)
        else:
            config = read_json(source / DENOISER / "config.json") or {}
            guided = config.get("guidance_embeds") is not False
        is_schnell = not guided or "schnell" in dit_family.names_of(source)
        return ModelFacts("flow", _DISTILLED if is_schnell else "")

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return T5's states of captions, [captions, 512, 4096], and CLIP's vector. The padding is
        read, so it is kept.
        """
        clip, t5 = (parts.encoders[name] for name in self.ENCODERS)
        short, long = (parts.tokenizers[name] for name in self.ENCODERS)
        vector = clip(dit_family.padded_ids(short, captions, 77).to(clip.device)).pooler_output
        states = t5(dit_family.padded_ids(long, captions, self.TEXT_LIMIT).to(t5.device))[0]
        return Conditioning(states, pooled=vector)

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`."""
        import torch

        value = GUIDANCE if conditioning.guidance is None else conditioning.guidance
        has_guidance = parts.denoiser.config.guidance_embeds
        output = parts.denoiser(
            hidden_states=dit_packing.packed(noisy),
            timestep=times.expand(len(noisy)),
            guidance=torch.full((len(noisy),), value, device=noisy.device)
            if has_guidance
            else None,
            pooled_projections=conditioning.pooled,
            encoder_hidden_states=conditioning.states,
            txt_ids=dit_packing.text_positions(conditioning.states.shape[1], noisy.device),
            img_ids=dit_packing.grid(noisy),
            return_dict=False,
        )
        return dit_packing.unpacked(output[0], noisy)


FAMILY = Flux()
