"""Flux.2: klein base 4B and 9B with Qwen3 as their text encoder, and dev 32B with Mistral 3."""

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
from trainer.families.model_files import read_json
from trainer.lora_files import dit_exports

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "flux2"
TITLE: Final = "Flux.2"
MARKS: Final = FileMarks("Flux2Transformer2DModel", ("double_stream_modulation_img.",))
PROCESS: Final[ProcessName] = "flow"
FLOW: Final = FlowDefaults("flux2_shift", preview="flux2")
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
FORMATS: Final[tuple[LoraFormat, ...]] = ("comfy", "diffusers", "kohya")
REFUSES: Final[Mapping[str, str]] = dit_family.REFUSES
# What diffusers' training script tells dev in training; klein has no guidance.
GUIDANCE: Final = 3.5
_DEV: Final = "mistral3"
# Hidden states side by side, by the text encoder's kind.
_LAYERS: Final = {_DEV: (10, 20, 30)}
_KLEIN_LAYERS: Final = (9, 18, 27)
_SYSTEM_MESSAGE: Final = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation."
)
_BASE: Final = "black-forest-labs/FLUX.2-klein-base-{}"
_LARGE_LAYERS: Final = 8  # double blocks of klein 9B; 4B has 5

block = dit_family.block
convolutions, unreachable = dit_family.convolutions, dit_family.unreachable
network_problem = dit_family.network_problem
moments, decode = autoencoders.moments, autoencoders.decode
token_counter: Callable[[Path], Callable[[str], int]] = dit_family.token_counter
export = partial(dit_family.export, exports=dit_exports.FLUX2)
restore = partial(dit_family.restore, exports=dit_exports.FLUX2)
restored_shapes = partial(dit_family.restored_shapes, exports=dit_exports.FLUX2)
targets = partial(dit_family.targets, exports=dit_exports.FLUX2)
reload = partial(dit_family.reload, "Flux2LoraLoaderMixin")


def inspect(source: Path) -> ModelFacts:
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


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return dit_shapes.anatomy(shapes, dit_exports.FLUX2.names)


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return no warnings."""
    return ()


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames("flux2", "flux-2/lora")


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `dit_family.load`."""
    from trainer.families.source import find

    source = find(base, revision)
    others = source if source.is_dir() or folder is None else folder
    encoder = read_json(others / "text_encoder" / "config.json") or {}
    is_dev = encoder.get("model_type") == _DEV
    kinds = {
        "transformer": "Flux2Transformer2DModel",
        "text_encoder": "Mistral3ForConditionalGeneration" if is_dev else "Qwen3ForCausalLM",
        "vae": "AutoencoderKLFlux2",
    }
    return dit_family.load(
        NAME, kinds, {"text_encoder": "tokenizer"}, base, revision=revision, vae=vae, folder=folder,
        dtype=dtype, only=only, int8=int8, reporter=reporter,
    )  # fmt: skip


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return three hidden states side by side, [captions, 512, 3 x width]. The padding is read, so
    it is kept.
    """
    import torch

    encoder, tokenizer = parts.encoders["text_encoder"], parts.tokenizers["text_encoder"]
    is_dev = encoder.config.model_type == _DEV
    texts = [_prompt(tokenizer, caption, is_dev=is_dev) for caption in captions]
    tokens = tokenizer(
        texts, padding="max_length", truncation=True, max_length=TEXT_LIMIT, return_tensors="pt",
        add_special_tokens=not is_dev,
    )  # fmt: skip
    output = encoder(
        input_ids=tokens.input_ids.to(encoder.device),
        attention_mask=tokens.attention_mask.to(encoder.device),
        output_hidden_states=True,
        use_cache=False,
    )
    layers = _LAYERS.get(encoder.config.model_type, _KLEIN_LAYERS)
    return Conditioning(torch.cat([output.hidden_states[layer] for layer in layers], dim=2))


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


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
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


def _positions(height: int, width: int, length: int, device: Any) -> Tensor:
    """Return the positions of tokens, (tokens, 4): time, row, column, place in the text."""
    import torch

    axes = (torch.arange(n, device=device) for n in (1, height, width, length))
    return torch.cartesian_prod(*axes)


def normalise(vae: Any, latents: Tensor) -> Tensor:
    """Return latents in patches of 2 x 2, [images, 128, h / 2, w / 2], normalised as the VAE's
    batch norm says.
    """
    from torch.nn import functional

    mean, deviation = _statistics(vae, latents)
    return (functional.pixel_unshuffle(latents, 2) - mean) / deviation


def denormalise(vae: Any, latents: Tensor) -> Tensor:
    """Undo `normalise`."""
    from torch.nn import functional

    mean, deviation = _statistics(vae, latents)
    return functional.pixel_shuffle(latents * deviation + mean, 2)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = (
        x.to(like).view(1, -1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var)
    )
    return mean, (variance + vae.config.batch_norm_eps).sqrt()


def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of an image's normalised latent: channels, height, width."""
    channels, rows, columns = autoencoders.latent_shape(vae, width, height)
    return 4 * channels, rows // 2, columns // 2
