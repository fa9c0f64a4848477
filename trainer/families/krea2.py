"""Krea 2: twelve layers of Qwen3-VL read the caption; the transformer mixes them itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "krea2"
TITLE: Final = "Krea 2"
MARKS: Final = FileMarks("Krea2Transformer2DModel", ("txtfusion.",))
PROCESS: Final[ProcessName] = "flow"
# diffusers' pipeline counts guidance from 0: its default of 4.5 is 5.5 here.
FLOW: Final = FlowDefaults("krea2_shift", preview="krea2_shift", guidance=5.5)
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = None
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 512
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("comfy", "diffusers")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_BASE: Final = "krea/Krea-2-Raw"
_KINDS: Final = {
    "transformer": "Krea2Transformer2DModel",
    "text_encoder": "Qwen3VLModel",
    "vae": "AutoencoderKLQwenImage",
}
_TOKENIZERS: Final = {"text_encoder": "tokenizer"}
_PREFIX: Final = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
)
_SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n"
_DROPPED: Final = 34  # tokens of the prefix
_SUFFIX_TOKENS: Final = 5
# The hidden states that are read, where the model's index does not say others.
_LAYERS: Final = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)

block = dit_family.block
network_problem = dit_family.network_problem
convolutions, unreachable = dit_family.convolutions, dit_family.unreachable
moments, decode = autoencoders.moments_of_frame, autoencoders.decode_frame
normalise, denormalise = autoencoders.standardised, autoencoders.destandardised
export = partial(dit_family.export, exports=dit_exports.KREA2)
restore = partial(dit_family.restore, exports=dit_exports.KREA2)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.KREA2)
targets = partial(dit_family.targets, exports=dit_exports.KREA2)
reload = partial(dit_family.reload, "Krea2LoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return whether the model is Turbo, as its index or its name says."""
    index = read_json(source / "model_index.json") or {}
    names = dit_family.names_of(source)
    distilled = index.get("is_distilled")
    if distilled is None:
        distilled = "turbo" in names
    if distilled:
        return ModelFacts("flow", _BASE)
    unknown = source.is_file() and "raw" not in names
    return ModelFacts("flow", note=dit_family.DISTILLED_UNKNOWN.format(_BASE) if unknown else "")


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.KREA2.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return that of the text whose states the transformer reads."""
    return dit_family.token_counter(source, _TOKENIZERS["text_encoder"])


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("krea2", "krea-2/lora")


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
    """Return the states of twelve layers, [captions, tokens, 12, 2560], and the mask of the real
    tokens: caption and suffix, with the padding between them.
    """
    import torch

    encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
    tokens = tokenizer(
        [_PREFIX + caption for caption in captions], truncation=True, padding=True,
        padding_side="right", max_length=TEXT_LIMIT + _DROPPED - _SUFFIX_TOKENS,
        return_tensors="pt",
    )  # fmt: skip
    suffix = tokenizer([_SUFFIX] * len(captions), return_tensors="pt")
    ids, mask = (
        torch.cat([getattr(each, name) for each in (tokens, suffix)], dim=1).to(encoder.device)
        for name in ("input_ids", "attention_mask")
    )
    # The padding has no position of its own, so the suffix follows the caption.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0).expand(3, -1, -1)
    output = encoder(
        input_ids=ids, attention_mask=mask.bool(), position_ids=positions,
        output_hidden_states=True,
    )  # fmt: skip
    states = torch.stack([output.hidden_states[layer] for layer in _layers(parts)], dim=2)
    return Conditioning(states[:, _DROPPED:], mask=mask[:, _DROPPED:].bool())


def _layers(parts: Parts) -> Sequence[int]:
    index = read_json(parts.source / "model_index.json") or {}
    layers: Sequence[int] = index.get("text_encoder_select_layers") or _LAYERS
    return layers


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`."""
    import torch

    text = dit_packing.text_positions(conditioning.states.shape[1], noisy.device)
    output = parts.denoiser(
        hidden_states=dit_packing.packed(noisy),
        timestep=times.expand(len(noisy)),
        encoder_hidden_states=conditioning.states,
        encoder_attention_mask=conditioning.mask,
        position_ids=torch.cat([text, dit_packing.grid(noisy)]).float(),
        return_dict=False,
    )
    return dit_packing.unpacked(output[0], noisy)


def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of an image's latent: channels, height, width."""
    return vae.config.z_dim, height // 8, width // 8
