"""Flux.2: klein base 4B and 9B with Qwen3 as their text encoder, and dev 32B with Mistral 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.families import autoencoders, dit_family
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

if TYPE_CHECKING:
    from torch import Tensor


# What diffusers' training script tells dev in training; klein has no guidance.
GUIDANCE: Final = 3.5
_DEV: Final = "mistral3"
_DEV_ENCODER: Final = "Mistral3ForConditionalGeneration"
# Hidden states side by side, by the text encoder's kind.
_LAYERS: Final = {_DEV: (10, 20, 30)}
_KLEIN_LAYERS: Final = (9, 18, 27)
_SYSTEM_MESSAGE: Final = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation."
)
_BASE: Final = "black-forest-labs/FLUX.2-klein-base-{}"
_LARGE_LAYERS: Final = 8  # double blocks of klein 9B; 4B has 5


def _prompt(tokenizer: Any, caption: str, *, is_dev: bool) -> str:
    """Return a caption in the encoder's chat template; dev has a system message and no answer."""
    if not is_dev:
        messages: list[dict[str, Any]] = [{"role": "user", "content": caption}]
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )
    messages = [
        {"role": role, "content": [{"type": "text", "text": content}]}
        for role, content in (
            ("system", _SYSTEM_MESSAGE),
            ("user", caption.replace("[IMG]", "")),  # it stands for an image
        )
    ]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def _positions(height: int, width: int, length: int, device: Any) -> Tensor:
    """Return the positions of tokens, (tokens, 4): time, row, column, place in the text."""
    import torch

    axes = (torch.arange(n, device=device) for n in (1, height, width, length))
    return torch.cartesian_prod(*axes)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = (
        x.to(like).view(1, -1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var)
    )
    return mean, (variance + vae.config.batch_norm_eps).sqrt()


def preview_shift(tokens: int, steps: int) -> float:
    """Return the shift of an image that is generated, measured by the authors.

    Its logarithm is linear in the steps between 10 and 200; above 4300 tokens it is the same for
    any number of steps.
    """
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return math.exp(at_200)
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    return math.exp(at_200 + (at_10 - at_200) * (200 - steps) / 190)


class Flux2(TransformerFamily):
    """Flux.2 klein base and dev."""

    NAME = "flux2"
    TITLE = "Flux.2"
    MARKS = FileMarks("Flux2Transformer2DModel", ("double_stream_modulation_img.",))
    HIDDEN_STATES = 3
    PADDED = True
    FLOW = FlowDefaults("flux2_shift", preview_shift=preview_shift)
    FORMATS = ("comfy", "diffusers", "kohya")
    METADATA = FamilyNames("flux2", "flux-2/lora", known_as=("flux2",))
    # "text_encoder": see `kinds`.
    KINDS: Mapping[Part, str] = {"text_encoder": "", "vae": "AutoencoderKLFlux2"}
    EXPORTS = dit_exports.FLUX2
    LOADER = "Flux2LoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is a distilled klein, as its index or its name says."""
        index = read_json(source / "model_index.json") or {}
        config = read_json(source / DENOISER / "config.json") or {}
        names = dit_family.names_of(source)
        distilled = index.get("is_distilled")
        if distilled is None:
            distilled = "klein" in names and "base" not in names
        large = config.get("num_layers") == _LARGE_LAYERS or "9b" in names
        base = _BASE.format("9B" if large else "4B")
        if distilled:
            return ModelFacts("flow", base)
        unknown = source.is_file() and "base" not in names and "dev" not in names
        return ModelFacts("flow", note=dit_family.DISTILLED_UNKNOWN.format(base) if unknown else "")

    def kinds(self, folder: Path) -> Mapping[Part, str]:
        """Return the class of each part; the text encoder of dev is another one."""
        encoder = read_json(folder / "text_encoder" / "config.json") or {}
        is_dev = encoder.get("model_type") == _DEV
        text_encoder = _DEV_ENCODER if is_dev else "Qwen3ForCausalLM"
        return {**super().kinds(folder), "text_encoder": text_encoder}

    def count_tokens(self, tokenizer: Any, caption: str, folder: Path) -> int:
        """Return the tokens of a caption with the chat around it."""
        is_dev = self.kinds(folder)["text_encoder"] == _DEV_ENCODER
        text = _prompt(tokenizer, caption, is_dev=is_dev)
        return len(tokenizer(text, add_special_tokens=not is_dev).input_ids)

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return three hidden states side by side, [captions, 512, 3 x width]. The padding is read,
        so it is kept.
        """
        import torch

        encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
        is_dev = encoder.config.model_type == _DEV
        texts = [_prompt(tokenizer, caption, is_dev=is_dev) for caption in captions]
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.TEXT_LIMIT,
            return_tensors="pt", add_special_tokens=not is_dev,
        )  # fmt: skip
        output = encoder(
            input_ids=tokens.input_ids.to(encoder.device),
            attention_mask=tokens.attention_mask.to(encoder.device),
            output_hidden_states=True,
            use_cache=False,
        )
        layers = _LAYERS.get(encoder.config.model_type, _KLEIN_LAYERS)
        return Conditioning(torch.cat([output.hidden_states[layer] for layer in layers], dim=2))

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`, [images, 128, h, w]."""
        import torch

        height, width = noisy.shape[2:]
        states = conditioning.states
        guidance = None
        if parts.denoiser.config.guidance_embeds:
            value = GUIDANCE if conditioning.guidance is None else conditioning.guidance
            guidance = torch.full((len(noisy),), value, device=noisy.device)
        output = parts.denoiser(
            hidden_states=noisy.flatten(2).transpose(1, 2),
            timestep=times.expand(len(noisy)),
            guidance=guidance,
            encoder_hidden_states=states,
            txt_ids=_positions(1, 1, states.shape[1], noisy.device),
            img_ids=_positions(height, width, 1, noisy.device),
            return_dict=False,
        )
        prediction: Tensor = output[0].transpose(1, 2).unflatten(2, (height, width))
        return prediction

    def normalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Return latents in patches of 2 x 2, [images, 128, h / 2, w / 2], normalised as the VAE's
        batch norm says.
        """
        from torch.nn import functional

        mean, deviation = _statistics(vae, latents)
        return (functional.pixel_unshuffle(latents, 2) - mean) / deviation

    def denormalise(self, vae: Any, latents: Tensor) -> Tensor:
        """Undo `normalise`."""
        from torch.nn import functional

        mean, deviation = _statistics(vae, latents)
        return functional.pixel_shuffle(latents * deviation + mean, 2)

    def latent_shape(self, vae: Any, width: int, height: int) -> tuple[int, int, int]:
        """Return the shape of an image's normalised latent: channels, height, width."""
        channels, rows, columns = autoencoders.latent_shape(vae, width, height)
        return 4 * channels, rows // 2, columns // 2


FAMILY = Flux2()
