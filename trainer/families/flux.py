"""Flux.1 dev: T5 reads the caption, and CLIP makes one vector of it."""

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
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports
from trainer.plan import safetensors_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "flux"
TITLE: Final = "Flux.1"
MARKS: Final = FileMarks("FluxTransformer2DModel", ("double_blocks.", "single_blocks."))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("flux_shift", preview="flux_shift", guidance=3.5)
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder", "text_encoder_2")
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
# What sd-scripts tells the model in training; images are generated with 3.5.
GUIDANCE: Final = 1.0
# In the original layout and in diffusers'.
_GUIDANCE_LAYERS: Final = ("guidance_in.", "guidance_embedder.")
_DISTILLED: Final = "black-forest-labs/FLUX.1-dev"
_KINDS: Final = {
    "transformer": "FluxTransformer2DModel",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "vae": "AutoencoderKL",
}
_TOKENIZERS: Final = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}

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
    """Return whether the model is schnell, which has no layers for guidance."""
    if source.is_file():
        names = safetensors_header.read(source).shapes
        guided = any(sign in name for name in names for sign in _GUIDANCE_LAYERS)
    else:
        config = read_json(source / DENOISER / "config.json") or {}
        guided = config.get("guidance_embeds") is not False
    is_schnell = not guided or "schnell" in dit_family.names_of(source)
    return ModelFacts("flow", _DISTILLED if is_schnell else "")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.FLUX.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return that of the text whose states the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS["text_encoder_2"])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("flux1", "flux-1-dev/lora")


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
    """Return T5's states of captions, [captions, 512, 4096], and CLIP's vector. The padding is
    read, so it is kept.
    """
    clip, t5 = (parts.encoders[name] for name in ENCODERS)
    short, long = (parts.tokenizers[name] for name in ENCODERS)
    vector = clip(dit_family.padded_ids(short, captions, 77).to(clip.device)).pooler_output
    states = t5(dit_family.padded_ids(long, captions, TEXT_LIMIT).to(t5.device))[0]
    return Conditioning(states, pooled=vector)


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`."""
    import torch

    value = GUIDANCE if conditioning.guidance is None else conditioning.guidance
    has_guidance = parts.denoiser.config.guidance_embeds
    output = parts.denoiser(
        hidden_states=dit_packing.packed(noisy),
        timestep=times.expand(len(noisy)),
        guidance=torch.full((len(noisy),), value, device=noisy.device) if has_guidance else None,
        pooled_projections=conditioning.pooled,
        encoder_hidden_states=conditioning.states,
        txt_ids=dit_packing.text_positions(conditioning.states.shape[1], noisy.device),
        img_ids=dit_packing.grid(noisy),
        return_dict=False,
    )
    return dit_packing.unpacked(output[0], noisy)
