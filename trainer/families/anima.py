"""Anima: a 2B transformer for anime with booru tags; Qwen3 reads the caption, and a conditioner
turns its states and T5's token ids into 512 text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, dit_family, dit_shapes
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

NAME: Final[FamilyName] = "anima"
TITLE: Final = "Anima"
CONDITIONER: Final = "text_conditioner"
MARKS: Final = FileMarks(
    "CosmosTransformer3DModel",
    ("llm_adapter.",),
    lambda folder, config: (folder / CONDITIONER).is_dir(),
    prefixes=("", "net.", "model.diffusion_model.", "diffusion_model."),
)
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("sigmoid", shift=3.0)  # images are generated with the shift
DENOISER: Final[Part] = dit_family.DENOISER
# The conditioner reads text as the encoder does, once for each caption.
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder", CONDITIONER)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = None
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 512
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("comfy", "kohya", "diffusers")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_KINDS: Final = {
    "transformer": "CosmosTransformer3DModel",
    "text_encoder": "Qwen3Model",
    CONDITIONER: "AnimaTextConditioner",
    "vae": "AutoencoderKLQwenImage",
}
_TOKENIZERS: Final = {"text_encoder": "tokenizer", CONDITIONER: "t5_tokenizer"}

block = dit_family.block
convolutions, unreachable = dit_family.convolutions, dit_family.unreachable
network_problem = dit_family.network_problem
moments, decode = autoencoders.moments_of_frame, autoencoders.decode_frame
normalise, denormalise = autoencoders.standardised, autoencoders.destandardised
export = partial(dit_family.export, exports=dit_exports.ANIMA)
restore = partial(dit_family.restore, exports=dit_exports.ANIMA)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.ANIMA)
targets = partial(dit_family.targets, exports=dit_exports.ANIMA)
reload = partial(dit_family.reload, "AnimaLoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return what is known of a model: there is no distilled Anima."""
    return ModelFacts("flow")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.ANIMA.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return T5's: its tokens are those that the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS[CONDITIONER])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata; sd-scripts' name is the same."""
    return FamilyNames("anima", "anima/lora")


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `dit_family.load`."""
    parts = dit_family.load(
        NAME,
        _KINDS,
        _TOKENIZERS,
        base,
        revision=revision,
        vae=vae,
        folder=folder,
        dtype=dtype,
        only=only,
        int8=int8,
        reporter=reporter,
    )
    # diffusers resizes the mask with torchvision; `predict` appends the channel itself.
    if parts.denoiser is not None:
        parts.denoiser.register_to_config(concat_padding_mask=False)
    return parts


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return the conditioner's states of captions, [captions, tokens, 1024], with the mask of T5's
    tokens. At most 512 tokens of each tokenizer are read.
    """
    import torch

    encoder, conditioner = parts.encoders["text_encoder"], parts.encoders[CONDITIONER]
    ids, mask = _tokens(parts.tokenizers["text_encoder"], captions, encoder.device)
    if not ids.shape[1]:  # Qwen's tokenizer ends a text with nothing
        ids, mask = (torch.zeros(len(captions), 1, dtype=torch.int64, device=encoder.device),) * 2
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


def _tokens(tokenizer: Any, captions: Sequence[str], device: Any) -> tuple[Tensor, Tensor]:
    """Return the ids of captions and their mask, [captions, tokens]; the padding is at the end."""
    output = tokenizer(
        list(captions), padding="longest", max_length=TEXT_LIMIT, truncation=True,
        padding_side="right", return_tensors="pt",
    )  # fmt: skip
    return output.input_ids.long().to(device), output.attention_mask.long().to(device)


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`.

    The text is padded with zeros to 512 tokens, all of which are read.
    """
    from torch.nn import functional

    states = conditioning.states
    images = functional.pad(noisy, (0, 0, 0, 0, 0, 1))  # a padding mask of zeros
    output = parts.denoiser(
        hidden_states=images.unsqueeze(2),
        timestep=times.expand(len(noisy)),
        encoder_hidden_states=functional.pad(states, (0, 0, 0, TEXT_LIMIT - states.shape[1])),
        return_dict=False,
    )
    prediction: Tensor = output[0].squeeze(2)
    return prediction


def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of an image's latent: channels, height, width."""
    return vae.config.z_dim, height // 8, width // 8
