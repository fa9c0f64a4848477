"""Z-Image: a 6B transformer that reads text and image as one sequence; Qwen3 reads the caption."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
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
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "z-image"
TITLE: Final = "Z-Image"
MARKS: Final = FileMarks("ZImageTransformer2DModel", ("cap_embedder.", "layers.0.attention."))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("shift", 2.0)  # as musubi-tuner
DENOISER: Final[Part] = dit_family.DENOISER
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = False
FILE_PARTS: Final[Mapping[Part, str]] = {}
PREDICTION: Final[Predicts | None] = "flow"
LATENT_SCALE: Final = 0.3611  # of Flux.1's VAE
DIVISOR: Final = dit_family.DIVISOR
TEXT_LIMIT: Final = 512
CLIP_SKIP: Final = False
BLOCKS: Final = BlockList()
FORMATS: Final[tuple[LoraFormat, ...]] = ("comfy", "kohya", "diffusers")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
_BASE: Final = "Tongyi-MAI/Z-Image"
_TURBO_SHIFT: Final = 3.0  # of Turbo's scheduler; the base has 6
_KINDS: Final = {
    "transformer": "ZImageTransformer2DModel",
    "text_encoder": "Qwen3Model",
    "vae": "AutoencoderKL",
}
_TOKENIZER: Final = "tokenizer"

block = dit_family.block
convolutions, unreachable = dit_family.convolutions, dit_family.unreachable
network_problem = dit_family.network_problem
moments, decode = autoencoders.moments, autoencoders.decode
normalise, denormalise = autoencoders.shifted, autoencoders.unshifted
latent_shape = autoencoders.latent_shape
export = partial(dit_family.export, exports=dit_exports.Z_IMAGE)
restore = partial(dit_family.restore, exports=dit_exports.Z_IMAGE)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.Z_IMAGE)
targets = partial(dit_family.targets, exports=dit_exports.Z_IMAGE)
reload = partial(dit_family.reload, "ZImageLoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
    """Return whether the model is the distilled Turbo, as its name or its scheduler says."""
    names = dit_family.names_of(source)
    if "de-turbo" in names or "deturbo" in names:
        return ModelFacts("flow")
    scheduler = read_json(source / "scheduler" / "scheduler_config.json") or {}
    if "turbo" in names or scheduler.get("shift") == _TURBO_SHIFT:
        return ModelFacts("flow", _BASE)
    note = "" if source.is_dir() else dit_family.DISTILLED_UNKNOWN.format(_BASE)
    return ModelFacts("flow", note=note)


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.Z_IMAGE.names)


def token_counter(source: Path) -> Callable[[str], int]:
    """Return a function that counts a caption's tokens, with those of the chat around it."""

    @cache
    def tokenizer() -> Any:
        from trainer.families.dit_files import load_tokenizer

        return load_tokenizer(source / _TOKENIZER)

    return lambda caption: len(tokenizer()(_chat(tokenizer(), caption)).input_ids)


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata; musubi-tuner's name is the same."""
    return FamilyNames("z_image", "z-image/lora")


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `dit_family.load`."""
    return dit_family.load(
        NAME, _KINDS, {"text_encoder": _TOKENIZER}, base, revision=revision, vae=vae,
        folder=folder, dtype=dtype, only=only, int8=int8, reporter=reporter,
    )  # fmt: skip


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


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return the states before the last layer, [captions, tokens, width], with the mask of the real
    tokens.
    """
    encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
    inputs = tokenizer(
        [_chat(tokenizer, caption) for caption in captions], padding="longest",
        max_length=TEXT_LIMIT, truncation=True, padding_side="right", return_tensors="pt",
    ).to(encoder.device)  # fmt: skip
    mask = inputs.attention_mask.bool()
    output = encoder(input_ids=inputs.input_ids, attention_mask=mask, output_hidden_states=True)
    return Conditioning(output.hidden_states[-2], mask=mask)


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the transformer's velocity, of the shape of `noisy`.

    The model counts time from noise to image, and its velocity points there: both are turned round.
    """
    import torch

    states, mask = conditioning.states, conditioning.mask
    each = states if mask is None else [row[kept] for row, kept in zip(states, mask, strict=True)]
    if len(each) == 1:  # one caption for all
        each = [each[0]] * len(noisy)
    output = parts.denoiser(
        list(noisy.unsqueeze(2)), (1.0 - times).expand(len(noisy)), list(each), return_dict=False
    )[0]
    return -torch.stack([image.squeeze(1) for image in output])
