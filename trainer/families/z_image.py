"""Z-Image: a 6B transformer that reads text and image as one sequence; Qwen3 reads the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.families import dit_family
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
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    from torch import Tensor


_BASE: Final = "Tongyi-MAI/Z-Image"
_TURBO_SHIFT: Final = 3.0  # of Turbo's scheduler; the base has 6


def _chat(tokenizer: Any, caption: str) -> str:
    """Return a caption as a question to the chat model; thinking is left on, so no empty thoughts
    are added.
    """
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": caption}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return text


class ZImage(TransformerFamily):
    """Z-Image."""

    NAME = "z-image"
    TITLE = "Z-Image"
    MARKS = FileMarks("ZImageTransformer2DModel", ("cap_embedder.", "layers.0.attention."))
    FLOW = FlowDefaults("shift", 2.0)  # as musubi-tuner
    LATENT_SCALE = 0.3611  # of Flux.1's VAE
    FORMATS = ("comfy", "kohya", "diffusers")
    METADATA = FamilyNames("z_image", "z-image/lora", known_as=("zimage",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "Qwen3Model",
        "vae": "AutoencoderKL",
    }
    EXPORTS = dit_exports.Z_IMAGE
    LOADER = "ZImageLoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return whether the model is the distilled Turbo, as its name or its scheduler says."""
        names = dit_family.names_of(source)
        if "de-turbo" in names or "deturbo" in names:
            return ModelFacts("flow")
        scheduler = read_json(source / "scheduler" / "scheduler_config.json") or {}
        if "turbo" in names or scheduler.get("shift") == _TURBO_SHIFT:
            return ModelFacts("flow", _BASE)
        note = "" if source.is_dir() else dit_family.DISTILLED_UNKNOWN.format(_BASE)
        return ModelFacts("flow", note=note)

    def count_tokens(self, tokenizer: Any, caption: str, folder: Path) -> int:
        """Return the tokens of a caption with the chat around it."""
        return len(tokenizer(_chat(tokenizer, caption)).input_ids)

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the states before the last layer, [captions, tokens, width], with the mask of the
        real tokens.
        """
        encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
        inputs = tokenizer(
            [_chat(tokenizer, caption) for caption in captions], padding="longest",
            max_length=self.TEXT_LIMIT, truncation=True, padding_side="right", return_tensors="pt",
        ).to(encoder.device)  # fmt: skip
        mask = inputs.attention_mask.bool()
        output = encoder(input_ids=inputs.input_ids, attention_mask=mask, output_hidden_states=True)
        return Conditioning(output.hidden_states[-2], mask=mask)

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`.

        The model counts time from noise to image, and its velocity points there: both are turned
        round.
        """
        import torch

        states, mask = conditioning.states, conditioning.mask
        each = (
            states if mask is None else [row[kept] for row, kept in zip(states, mask, strict=True)]
        )
        if len(each) == 1:  # one caption for all
            each = [each[0]] * len(noisy)
        output = parts.denoiser(
            list(noisy.unsqueeze(2)),
            (1.0 - times).expand(len(noisy)),
            list(each),
            return_dict=False,
        )[0]
        return -torch.stack([image.squeeze(1) for image in output])


FAMILY = ZImage()
