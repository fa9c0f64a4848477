"""Stable Diffusion 3.5: two CLIPs and T5 read the caption, one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, dit_family, dit_names, dit_shapes
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

NAME: Final[FamilyName] = "sd3"
TITLE: Final = "Stable Diffusion 3.5"
MARKS: Final = FileMarks("SD3Transformer2DModel", ("joint_blocks.",))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("sigmoid", shift=3.0, guidance=4.5)
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder", "text_encoder_2", "text_encoder_3")
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = 1.5305
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 256
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("diffusers",)
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_CLIP: Final = "CLIPTextModelWithProjection"
_KINDS: Final = {
    "transformer": "SD3Transformer2DModel",
    "text_encoder": _CLIP,
    "text_encoder_2": _CLIP,
    "text_encoder_3": "T5EncoderModel",
    "vae": "AutoencoderKL",
}
_TOKENIZERS: Final = {
    "text_encoder": "tokenizer",
    "text_encoder_2": "tokenizer_2",
    "text_encoder_3": "tokenizer_3",
}

block = dit_family.block
network_problem = dit_family.network_problem
convolutions = dit_family.convolutions
moments, decode = autoencoders.moments, autoencoders.decode
normalise, denormalise = autoencoders.shifted, autoencoders.unshifted
latent_shape = autoencoders.latent_shape
export = partial(dit_family.export, exports=dit_exports.SD3)
restore = partial(dit_family.restore, exports=dit_exports.SD3)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.SD3)
targets = partial(dit_family.targets, exports=dit_exports.SD3)
reload = partial(dit_family.reload, "SD3LoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return whether the model is named Turbo."""
    is_turbo = "turbo" in dit_family.names_of(source)
    return ModelFacts("flow", "stabilityai/stable-diffusion-3.5-large" if is_turbo else "")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.SD3.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return that of the text whose states the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS["text_encoder_3"])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("sd3.5", "stable-diffusion-3.5/lora")


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


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the last block's query of the text, which no gradient reaches."""
    last = len(parts.denoiser.transformer_blocks) - 1
    return frozenset([dit_names.module_name(f"transformer_blocks.{last}.attn.add_q_proj")])


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return both CLIPs' states side by side, widened to T5's, and T5's behind them, [captions, 77
    + 256, 4096]; and the CLIPs' vectors.
    """
    import torch
    from torch.nn import functional

    states, vectors = [], []
    for name in ENCODERS[:2]:
        clip = parts.encoders[name]
        ids = dit_family.padded_ids(parts.tokenizers[name], captions, 77).to(clip.device)
        output = clip(ids, output_hidden_states=True)
        vectors.append(output.text_embeds)
        states.append(output.hidden_states[-2])
    t5 = parts.encoders[ENCODERS[2]]
    ids = dit_family.padded_ids(parts.tokenizers[ENCODERS[2]], captions, TEXT_LIMIT)
    long = t5(ids.to(t5.device))[0]
    short = torch.cat(states, dim=2)
    short = functional.pad(short, (0, long.shape[2] - short.shape[2]))
    return Conditioning(torch.cat([short, long], dim=1), pooled=torch.cat(vectors, dim=1))


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`. Times are multiplied by 1000."""
    output = parts.denoiser(
        hidden_states=noisy,
        timestep=times.expand(len(noisy)) * 1000,
        encoder_hidden_states=conditioning.states,
        pooled_projections=conditioning.pooled,
        return_dict=False,
    )
    prediction: Tensor = output[0]
    return prediction
