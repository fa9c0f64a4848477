"""Stable Diffusion 3.5: two CLIPs and T5 read the caption, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.families import dit_family, dit_names
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


_CLIP: Final = "CLIPTextModelWithProjection"


class StableDiffusion3(TransformerFamily):
    """Stable Diffusion 3.5."""

    NAME = "sd3"
    TITLE = "Stable Diffusion 3.5"
    MARKS = FileMarks(
        "SD3Transformer2DModel",
        ("joint_blocks.",),
        own_keys=("time_text_embed.", "pos_embed.proj.", "transformer_blocks."),
    )
    FLOW = FlowDefaults("sigmoid", shift=3.0, guidance=4.5)
    ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
    LATENT_SCALE = 1.5305
    TEXT_LIMIT = 256
    FORMATS = ("diffusers",)
    COUNTED = "text_encoder_3"
    METADATA = FamilyNames(
        "sd3.5", "stable-diffusion-3.5/lora", known_as=("sd3", "stablediffusion3")
    )
    KINDS: Mapping[Part, str] = {
        "text_encoder": _CLIP,
        "text_encoder_2": _CLIP,
        "text_encoder_3": "T5EncoderModel",
        "vae": "AutoencoderKL",
    }
    TOKENIZERS: Mapping[Part, str] = {
        "text_encoder": "tokenizer",
        "text_encoder_2": "tokenizer_2",
        "text_encoder_3": "tokenizer_3",
    }
    EXPORTS = dit_exports.SD3
    LOADER = "SD3LoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is named Turbo."""
        is_turbo = "turbo" in dit_family.names_of(source)
        return ModelFacts("flow", "stabilityai/stable-diffusion-3.5-large" if is_turbo else "")

    def unreachable(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the last block's query of the text, which no gradient reaches."""
        last = len(parts.denoiser.transformer_blocks) - 1
        return frozenset([dit_names.module_name(f"transformer_blocks.{last}.attn.add_q_proj")])

    def conditioning_values(
        self, widths: Mapping[Part, int], tokens: int, options: TrainOptions
    ) -> int:
        """Return the values of a caption's states: 77 tokens of CLIP, padded to T5's width."""
        return (77 + self.TEXT_LIMIT) * widths.get(self.COUNTED, 0)

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return both CLIPs' states side by side, widened to T5's, and T5's behind them, [captions,
        77 + 256, 4096]; and the CLIPs' vectors.
        """
        import torch
        from torch.nn import functional

        states, vectors = [], []
        for name in self.ENCODERS[:2]:
            clip = parts.encoders[name]
            ids = dit_family.padded_ids(parts.tokenizers[name], captions, 77).to(clip.device)
            output = clip(ids, output_hidden_states=True)
            vectors.append(output.text_embeds)
            states.append(output.hidden_states[-2])
        t5 = parts.encoders[self.ENCODERS[2]]
        ids = dit_family.padded_ids(parts.tokenizers[self.ENCODERS[2]], captions, self.TEXT_LIMIT)
        long = t5(ids.to(t5.device))[0]
        short = torch.cat(states, dim=2)
        short = functional.pad(short, (0, long.shape[2] - short.shape[2]))
        return Conditioning(torch.cat([short, long], dim=1), pooled=torch.cat(vectors, dim=1))

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`. Times are multiplied by
        1000.
        """
        output = parts.denoiser(
            hidden_states=noisy,
            timestep=times.expand(len(noisy)) * 1000,
            encoder_hidden_states=conditioning.states,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )
        prediction: Tensor = output[0]
        return prediction


FAMILY = StableDiffusion3()
