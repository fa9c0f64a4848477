"""Memory: what a run will take at its peak, estimated from the model's numbers and the options. No
torch is needed.

    weights      (UNet + text encoder) parameters x bytes of mixed_precision
    LoRA         its parameters x (4 weight + 4 gradient + the optimizer's states + 2 copy in half
    precision)
    activations  batch x latent pixels x unet_width x bytes x KEPT, and the text encoder's
    VAE          its parameters and activations: while encoding, and in every step where latents are
    not kept

The coefficients were measured on full-size models of Stable Diffusion 1 (docs/train.md has the
table).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from datasetkit.captions.tokens import CHUNK
from datasetkit.dataset.buckets import Size
from datasetkit.options.train import TrainOptions
from trainer.networks import blocks, layers
from trainer.networks.layers import Layer
from trainer.networks.ranks import RankSettings
from trainer.plan.model_shapes import SD1, ModelShapes

# How far the estimate may be from the peak that is measured, as a fraction.
MARGIN: Final = 0.2
_FLOAT: Final = 4  # bytes; what is trained is float32 whatever the base is
_BYTES: Final[Mapping[str, int]] = {"no": 4, "fp16": 2, "bf16": 2}
# The program itself with its libraries; a GPU's own driver context is about as much there.
RUNTIME: Final = 600e6
# Numbers kept for the backward pass (and made in it), for each number that the layers put out.
KEPT: Final[Mapping[bool, float]] = {False: 2.0, True: 0.45}
_TEXT_KEPT: Final = 1.0
# Bytes of captions' states that are kept where the text encoder is not trained: about 500 short
# ones in half precision.
KEPT_TEXT: Final = 64 * 2**20
# Numbers at an image's full size and for each of the VAE's channels there, while it encodes.
_VAE_KEPT: Final = 5.0
# Bytes of state for each trained parameter.
STATES: Final[Mapping[str, int]] = {
    "adamw": 8,
    "adamw8bit": 2,
    "pagedadamw8bit": 2,
    "pagedadamw": 8,
    "pagedadamw32bit": 8,
    "lion": 4,
    "lion8bit": 1,
    "pagedlion8bit": 1,
    "sgdnesterov": 4,
    "adafactor": 1,
    "prodigy": 16,
    "prodigyplusschedulefree": 5,
    "dadaptation": 12,
    "dadaptadam": 12,
    "dadaptadagrad": 12,
    "dadaptadan": 20,
    "dadaptadanip": 20,
    "dadaptlion": 8,
    "dadaptsgd": 12,
    "adamwschedulefree": 8,
    "radamschedulefree": 8,
    "sgdschedulefree": 4,
}
_USUAL_STATE: Final = 8  # of an optimizer that is named by its import path


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """One part of the memory. how: the arithmetic, in words."""

    name: str
    bytes: float
    how: str


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The peak of a run: of the device that computes, which without a GPU is the main memory.

    shares: what it consists of; bytes: their sum; loading: main memory while the model is read;
    margin: the fraction by which it may be wrong; assumed: the model's numbers are Stable Diffusion
    1's, as its files are not here.
    """

    shares: tuple[MemoryShare, ...]
    loading: float
    assumed: bool
    margin: float = MARGIN

    @property
    def bytes(self) -> float:
        """Return the sum of the shares."""
        return sum(share.bytes for share in self.shares)


def estimate(options: TrainOptions, largest: Size, anatomy: ModelShapes | None) -> MemoryEstimate:
    """Estimate the peak of a run. largest: the bucket of the most pixels; anatomy: None where the
    model is not here.
    """
    model = anatomy or SD1
    base = _BYTES[options.mixed_precision]
    pixels = largest[0] * largest[1]
    ranks, adapted = _adapted(options, model)
    parameters = sum(layers.numbers(own, ranks) for own in adapted)
    averaged = _FLOAT if options.ema_decay else 0
    copy = base if base < _FLOAT else 0  # autocast keeps one in half precision
    states = STATES.get(options.optimizer_type.casefold(), _USUAL_STATE)
    weights = _weights(options, model, base)
    shares = [
        MemoryShare("program", RUNTIME, "Python and its libraries, or a GPU's context"),
        MemoryShare(
            "weights",
            sum(count * each for count, each in weights),
            " + ".join(f"{_short(count)} parameters x {_plural(each)}" for count, each in weights),
        ),
        MemoryShare(
            "LoRA",
            parameters * (2 * _FLOAT + states + copy + averaged),
            f"{_short(parameters)} parameters x ({_FLOAT} weight + {_FLOAT} gradient + "
            f"{states} optimizer"
            f"{f' + {copy} copy' if copy else ''}{f' + {averaged} average' if averaged else ''}) "
            "bytes",
        ),
        *_changes(options, ranks, adapted, base),
        *_working(options, model, pixels, base),
    ]
    read = _FLOAT if options.reads_float32() else base
    loading = RUNTIME + read * (model.unet + model.text_encoder) + _FLOAT * model.vae
    return MemoryEstimate(tuple(shares), loading, anatomy is None)


def _weights(options: TrainOptions, model: ModelShapes, base: int) -> list[tuple[int, int]]:
    """Return the parameters of the frozen base, and the bytes of each; those of one kind are one
    entry.
    """
    unet = 1 if options.fp8_base or options.fp8_base_unet else base
    text = 1 if options.fp8_base else base
    if unet == text:
        return [(model.unet + model.text_encoder, unet)]
    return [(model.unet, unet), (model.text_encoder, text)]


def _plural(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"


def _adapted(
    options: TrainOptions, model: ModelShapes
) -> tuple[RankSettings, list[tuple[Layer, ...]]]:
    """Return the layers of each trained part. Raises ConfigError for lists of blocks that are
    another model's.
    """
    rates, args = options.rates(), options.network()
    blocks.check(args, model.sides)
    ranks = RankSettings(args, options.network_dim, options.network_alpha, model.sides)
    return ranks, [own for part, own in model.layers.items() if rates[part]]


def _changes(
    options: TrainOptions, ranks: RankSettings, adapted: list[tuple[Layer, ...]], base: int
) -> list[MemoryShare]:
    """Return what a method holds that makes the whole change of a layer before it uses it; LoRA and
    LoCon do not.
    """
    if ranks.args.algo == "lora":
        return []
    sizes: Counter[int | None] = Counter()
    for layer in (
        layer for own in adapted for layer in own if layers.rank(layer, ranks) is not None
    ):
        sizes[layer.block] += layer.out * layer.ins * layer.kernel
    # Computed again block by block, the largest block is held.
    held = max(sizes.values(), default=0) if options.gradient_checkpointing else sizes.total()
    return [MemoryShare("changes of layers", held * base, f"{_short(held)} numbers x {base} bytes")]


def _working(
    options: TrainOptions, model: ModelShapes, pixels: int, base: int
) -> list[MemoryShare]:
    """Return what comes and goes: of a step, or of encoding before the first one where that takes
    more.
    """
    batch = options.train_batch_size
    latent = pixels / model.vae_shrinks**2
    unet = batch * latent * model.unet_width * base * KEPT[options.gradient_checkpointing]
    how = f"{batch} x {latent:,.0f} latent pixels x {model.unet_width:,.0f} numbers x {base} bytes"
    shares = [MemoryShare("activations", unet, f"{how} x {KEPT[options.gradient_checkpointing]:g}")]
    rates = options.rates()
    wide = (model.text_width if rates["text_encoder"] else 0) + (
        model.text_width_2 if rates["text_encoder_2"] else 0
    )
    if wide:
        places = batch * (options.max_token_length // CHUNK) * (CHUNK + 2)
        text = places * wide * base * _TEXT_KEPT
        shares.append(
            MemoryShare(
                "text activations", text, f"{places:,} places x {wide:,} numbers x {base} bytes"
            )
        )
    else:
        shares.append(
            MemoryShare("kept text", KEPT_TEXT, "states of captions that were encoded, at most")
        )
    vae_bytes = 2 if options.mixed_precision == "bf16" else _FLOAT
    encoding = pixels * model.vae_width * vae_bytes * _VAE_KEPT
    weights = model.vae * vae_bytes
    how = f"VAE: {_short(model.vae)} parameters x {vae_bytes} bytes, and its activations"
    vae = MemoryShare("encoding", weights + encoding, how)
    if not kept_latents(options):
        return [*shares, vae]
    return shares if sum(s.bytes for s in shares) >= vae.bytes else [vae]


def kept_latents(options: TrainOptions) -> bool:
    """Tell whether each image is encoded once, before the first step."""
    return (options.cache_latents or options.cache_latents_to_disk) and not options.random_crop


def _short(number: float) -> str:
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.2f} G"
