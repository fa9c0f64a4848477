"""Chroma: Flux.1 without CLIP and guidance; the transformer reads T5's real tokens and one more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, dit_family, dit_packing, dit_shapes
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

NAME: Final[FamilyName] = "chroma"
TITLE: Final = "Chroma"
MARKS: Final = FileMarks("ChromaTransformer2DModel", ("distilled_guidance_layer.",))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("sigmoid", preview="flux_shift", guidance=5.0)
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = 0.3611
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 512
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("diffusers", "kohya")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_KINDS: Final = {
    "transformer": "ChromaTransformer2DModel",
    "text_encoder": "T5EncoderModel",
    "vae": "AutoencoderKL",
}
_TOKENIZERS: Final = {"text_encoder": "tokenizer"}

block = dit_family.block
network_problem = dit_family.network_problem
convolutions, unreachable = dit_family.convolutions, dit_family.unreachable
moments, decode = autoencoders.moments, autoencoders.decode
normalise, denormalise = autoencoders.shifted, autoencoders.unshifted
latent_shape = autoencoders.latent_shape
export = partial(dit_family.export, exports=dit_exports.FLUX)
restore = partial(dit_family.restore, exports=dit_exports.FLUX)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.FLUX)
targets = partial(dit_family.targets, exports=dit_exports.FLUX)
reload = partial(dit_family.reload, "FluxLoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return what is known of a model: Chroma is not distilled, but for those named flash."""
    is_flash = "flash" in dit_family.names_of(source)
    return ModelFacts("flow", "lodestones/Chroma1-HD" if is_flash else "")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.FLUX.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return that of the text whose states the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS["text_encoder"])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("chroma", "chroma/lora")


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


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return T5's states of captions, [captions, 512, 4096], with the mask of the real tokens and
    the first of the padding.
    """
    import torch

    encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=TEXT_LIMIT, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    mask = tokens.attention_mask.to(encoder.device)
    states = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
    places = torch.arange(TEXT_LIMIT, device=encoder.device)
    return Conditioning(states, mask=places <= mask.sum(dim=1, keepdim=True))


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
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
