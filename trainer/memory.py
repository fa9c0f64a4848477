"""Memory: what a run will take at its peak, estimated from the model's numbers and the options. No torch is needed.

    weights      (UNet + text encoder) parameters x bytes of mixed_precision
    LoRA         its parameters x (4 weight + 4 gradient + the optimizer's states + 2 copy in half precision)
    activations  batch x latent pixels x unet_width x bytes x KEPT, and the text encoder's
    VAE          its parameters and activations: while encoding, and in every step where latents are not kept

The coefficients were measured on full-size models of Stable Diffusion 1 (docs/train.md has the table).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from datasetkit.core.buckets import Size
from datasetkit.core.config import TrainOptions
from datasetkit.tokens import CHUNK
from trainer.weights import SD1, Anatomy

# How far the estimate may be from the peak that is measured, as a fraction.
MARGIN: Final = 0.2
_FLOAT: Final = 4  # bytes; what is trained is float32 whatever the base is
_BYTES: Final[Mapping[str, int]] = {"no": 4, "fp16": 2, "bf16": 2}
# The program itself with its libraries; a GPU's own driver context is about as much there.
RUNTIME: Final = 600e6
# Numbers kept for the backward pass (and made in it), for each number that the layers put out.
KEPT: Final[Mapping[bool, float]] = {False: 2.0, True: 0.45}
_TEXT_KEPT: Final = 1.0
# Bytes of captions' states that are kept where the text encoder is not trained: about 500 short ones in half precision.
KEPT_TEXT: Final = 64 * 2**20
# Numbers at a picture's full size and for each of the VAE's channels there, while it encodes.
_VAE_KEPT: Final = 5.0
# Bytes of state for each trained parameter.
STATES: Final[Mapping[str, int]] = {
    "adamw": 8,
    "adamw8bit": 2,
    "pagedadamw8bit": 2,
    "lion": 4,
    "lion8bit": 1,
    "prodigy": 16,
    "dadaptation": 12,
    "dadaptadam": 12,
    "dadaptlion": 8,
}
_USUAL_STATE: Final = 8  # of an optimizer that is named by its import path


@dataclass(frozen=True, slots=True)
class Share:
    """One part of the memory. how: the arithmetic, in words."""

    name: str
    bytes: float
    how: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The peak of a run: of the device that computes, which without a GPU is the main memory.

    shares: what it consists of; bytes: their sum; loading: main memory while the model is read, in float32; margin:
    the fraction by which it may be wrong; assumed: the model's numbers are Stable Diffusion 1's, as its files are not
    here.
    """

    shares: tuple[Share, ...]
    loading: float
    assumed: bool
    margin: float = MARGIN

    @property
    def bytes(self) -> float:
        """Return the sum of the shares."""
        return sum(share.bytes for share in self.shares)


def estimate(options: TrainOptions, largest: Size, anatomy: Anatomy | None) -> Estimate:
    """Estimate the peak of a run. largest: the bucket of the most pixels; anatomy: None where the model is not here."""
    model = anatomy or SD1
    base = _BYTES[options.mixed_precision]
    pixels = largest[0] * largest[1]
    parameters = _lora(options, model)
    copy = base if base < _FLOAT else 0  # autocast keeps one in half precision
    states = STATES.get(options.optimizer_type.casefold(), _USUAL_STATE)
    shares = [
        Share("program", RUNTIME, "Python and its libraries, or a GPU's context"),
        Share(
            "weights", (model.unet + model.text_encoder) * base,
            f"{_short(model.unet + model.text_encoder)} parameters x {base} bytes",
        ),
        Share(
            "LoRA", parameters * (2 * _FLOAT + states + copy),
            f"{_short(parameters)} parameters x ({_FLOAT} weight + {_FLOAT} gradient + {states} optimizer"
            f"{f' + {copy} copy' if copy else ''}) bytes",
        ),
        *_working(options, model, pixels, base),
    ]  # fmt: skip
    loading = RUNTIME + _FLOAT * (model.unet + model.text_encoder + model.vae)
    return Estimate(tuple(shares), loading, anatomy is None)


def _lora(options: TrainOptions, model: Anatomy) -> int:
    rates = options.rates()
    of_rank = (model.lora_unet if rates["unet"] else 0) + (model.lora_text if rates["text_encoder"] else 0)
    return of_rank * options.network_dim


def _working(options: TrainOptions, model: Anatomy, pixels: int, base: int) -> list[Share]:
    """Return what comes and goes: of a step, or of encoding before the first one where that takes more."""
    batch = options.train_batch_size
    latent = pixels / 64  # 8 x 8 image pixels make one
    unet = batch * latent * model.unet_width * base * KEPT[options.gradient_checkpointing]
    how = f"{batch} x {latent:,.0f} latent pixels x {model.unet_width:,.0f} numbers x {base} bytes"
    shares = [Share("activations", unet, f"{how} x {KEPT[options.gradient_checkpointing]:g}")]
    if options.rates()["text_encoder"]:
        places = batch * (options.max_token_length // CHUNK) * (CHUNK + 2)
        text = places * model.text_width * base * _TEXT_KEPT
        shares.append(
            Share("text activations", text, f"{places:,} places x {model.text_width:,} numbers x {base} bytes")
        )
    else:
        shares.append(Share("kept text", KEPT_TEXT, "states of captions that were encoded, at most"))
    vae_bytes = 2 if options.mixed_precision == "bf16" else _FLOAT
    encoding = pixels * model.vae_width * vae_bytes * _VAE_KEPT
    weights = model.vae * vae_bytes
    how = f"VAE: {_short(model.vae)} parameters x {vae_bytes} bytes, and its activations"
    vae = Share("encoding", weights + encoding, how)
    if not kept_latents(options):
        return [*shares, vae]
    return shares if sum(s.bytes for s in shares) >= vae.bytes else [vae]


def kept_latents(options: TrainOptions) -> bool:
    """Tell whether each picture is encoded once, before the first step."""
    return (options.cache_latents or options.cache_latents_to_disk) and not options.random_crop


def _short(number: float) -> str:
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.2f} G"
