"""Chroma: Flux.1 without CLIP and guidance; the transformer reads T5's real tokens and one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from trainer.families.dit_family import TransformerFamily
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    from torch import Tensor

    from datasetkit.options.train import TrainOptions


class Chroma(TransformerFamily):
    """Chroma."""

    NAME = "chroma"
    TITLE = "Chroma"
    MARKS = FileMarks("ChromaTransformer2DModel", ("distilled_guidance_layer.",))
    FLOW = FlowDefaults("sigmoid", preview="flux_shift", guidance=5.0)
    LATENT_SCALE = 0.3611
    FORMATS = ("diffusers", "kohya")
    METADATA = FamilyNames("chroma", "chroma/lora", known_as=("chroma",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "T5EncoderModel",
        "vae": "AutoencoderKL",
    }
    EXPORTS = dit_exports.FLUX
    LOADER = "FluxLoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return what is known of a model: Chroma is not distilled, but for those named flash."""
        is_flash = "flash" in dit_family.names_of(source)
        return ModelFacts("flow", "lodestones/Chroma1-HD" if is_flash else "")

    def conditioning_values(
        self, widths: Mapping[Part, int], tokens: int, options: TrainOptions
    ) -> int:
        """Return the values of a caption's states: of its tokens and one more."""
        return super().conditioning_values(widths, tokens + 1, options)

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return T5's states of captions, [captions, 512, 4096], with the mask of the real tokens
        and the first of the padding.
        """
        import torch

        encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
        tokens = tokenizer(
            list(captions), padding="max_length", max_length=self.TEXT_LIMIT, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        mask = tokens.attention_mask.to(encoder.device)
        states = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
        places = torch.arange(self.TEXT_LIMIT, device=encoder.device)
        return Conditioning(states, mask=places <= mask.sum(dim=1, keepdim=True))

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`. The conditioning must have a
        mask.
        """
        import torch

        if conditioning.mask is None:
            raise ValueError("Chroma needs the mask of its text")
        images = dit_packing.packed(noisy)
        # Of bool: a mask of 0 and 1 would be added to the attention.
        mask = torch.cat([conditioning.mask, conditioning.mask.new_ones(images.shape[:2])], dim=1)
        output = parts.denoiser(
            hidden_states=images,
            timestep=times.expand(len(noisy)),
            encoder_hidden_states=conditioning.states,
            txt_ids=dit_packing.text_positions(conditioning.states.shape[1], noisy.device),
            img_ids=dit_packing.grid(noisy),
            attention_mask=mask,
            return_dict=False,
        )
        return dit_packing.unpacked(output[0], noisy)


FAMILY = Chroma()
