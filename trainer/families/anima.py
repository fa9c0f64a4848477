"""Anima: a 2B transformer for anime with booru tags; Qwen3 reads the caption, and a conditioner
turns its states and T5's token ids into 512 text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


CONDITIONER: Final = "text_conditioner"
# Before the names of the conditioner in the published files, which have it beside the transformer.
_ADAPTER: Final = "llm_adapter."


def _tokens(tokenizer: Any, captions: Sequence[str], device: Any) -> tuple[Tensor, Tensor]:
    """Return the ids of captions and their mask, [captions, tokens]; the padding is at the end."""
    output = tokenizer(
        list(captions), padding="longest", max_length=TransformerFamily.TEXT_LIMIT, truncation=True,
        padding_side="right", return_tensors="pt",
    )  # fmt: skip
    return output.input_ids.long().to(device), output.attention_mask.long().to(device)


class Anima(FrameLatents, TransformerFamily):
    """Anima."""

    NAME = "anima"
    TITLE = "Anima"
    MARKS = FileMarks(
        "CosmosTransformer3DModel",
        (_ADAPTER,),
        lambda folder, config: (folder / CONDITIONER).is_dir(),
        prefixes=("", "net.", "model.diffusion_model.", "diffusion_model."),
    )
    FLOW = FlowDefaults("sigmoid", shift=3.0)  # images are generated with the shift
    # The conditioner reads text as the encoder does, once for each caption.
    ENCODERS = ("text_encoder", CONDITIONER)
    FORMATS = ("comfy", "kohya", "diffusers")
    COUNTED = CONDITIONER
    METADATA = FamilyNames("anima", "anima/lora", known_as=("anima",))
    KINDS: Mapping[Part, str] = {
        "text_encoder": "Qwen3Model",
        CONDITIONER: "AnimaTextConditioner",
        "vae": "AutoencoderKLQwenImage",
    }
    IN_FILE: Mapping[Part, str] = {CONDITIONER: _ADAPTER}
    TOKENIZERS: Mapping[Part, str] = {"text_encoder": "tokenizer", CONDITIONER: "t5_tokenizer"}
    EXPORTS = dit_exports.ANIMA
    LOADER = "AnimaLoraLoaderMixin"

    def inspect(self, source: Path) -> ModelFacts:
        """Return what is known of a model: there is no distilled Anima."""
        return ModelFacts("flow")

    def prepare(self, denoiser: Any) -> None:
        """Leave the padding mask to `predict`: diffusers resizes it with torchvision."""
        denoiser.register_to_config(concat_padding_mask=False)

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the conditioner's states of captions, [captions, tokens, 1024], with the mask of
        T5's tokens. At most 512 tokens of each tokenizer are read.
        """
        import torch

        encoder, conditioner = parts.encoders["text_encoder"], parts.encoders[CONDITIONER]
        ids, mask = _tokens(parts.tokenizers["text_encoder"], captions, encoder.device)
        if not ids.shape[1]:  # Qwen's tokenizer ends a text with nothing
            ids, mask = (
                torch.zeros(len(captions), 1, dtype=torch.int64, device=encoder.device),
            ) * 2
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        states = states * mask.to(states).unsqueeze(-1)
        t5_ids, t5_mask = _tokens(parts.tokenizers[CONDITIONER], captions, encoder.device)
        text = conditioner(
            source_hidden_states=states.to(conditioner.dtype),
            target_input_ids=t5_ids,
            target_attention_mask=t5_mask,
            source_attention_mask=mask,
        )
        return Conditioning(text[:, : t5_ids.shape[1]], mask=t5_mask.bool())

    def predict(
        self, parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Return the transformer's velocity, of the shape of `noisy`.

        The text is padded with zeros to 512 tokens, all of which are read.
        """
        from torch.nn import functional

        states = conditioning.states
        images = functional.pad(noisy, (0, 0, 0, 0, 0, 1))  # a padding mask of zeros
        output = parts.denoiser(
            hidden_states=images.unsqueeze(2),
            timestep=times.expand(len(noisy)),
            encoder_hidden_states=functional.pad(
                states, (0, 0, 0, self.TEXT_LIMIT - states.shape[1])
            ),
            return_dict=False,
        )
        prediction: Tensor = output[0].squeeze(2)
        return prediction


FAMILY = Anima()
