"""Estimate a run's peak memory from the model's shapes and the options. Needs no torch.

    weights      (denoiser + text encoders) parameters x bytes of mixed_precision
    LoRA         parameters x (4 weight + 4 gradient + optimizer states + 2 half-precision copy)
    activations  batch x latent pixels x width x bytes x KEPT, and the text encoder's
    VAE          parameters and activations: while encoding, and in every step without cached
                 latents

The coefficients were measured on full-size Stable Diffusion 1 models (table in docs/train.md).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any, Final

from datasetkit.captions.tokens import CHUNK
from datasetkit.dataset.buckets import Size
from datasetkit.options.train import TrainOptions
from trainer import precision
from trainer.families import registry
from trainer.families.base import rates as part_rates
from trainer.families.option_checks import frees_encoders
from trainer.networks import blocks, layers
from trainer.networks.layers import Layer
from trainer.networks.ranks import RankSettings
from trainer.plan import model_shapes
from trainer.plan.model_shapes import ModelShapes

# Possible relative error of the estimate.
MARGIN: Final = 0.2
_FLOAT: Final = 4  # bytes; trained weights are always float32
BYTES: Final[Mapping[str, int]] = {"no": 4, "fp16": 2, "bf16": 2}
# Python and its libraries; a GPU's driver context takes about as much.
RUNTIME: Final = 600e6
# Values stored for the backward pass (and computed in it) per output value of a layer. True: with
# gradient checkpointing.
KEPT: Final[Mapping[bool, float]] = {False: 2.0, True: 0.45}
_TEXT_KEPT: Final = 1.0
# Limit of the cached text states, in bytes: about 500 short captions in half precision.
KEPT_TEXT: Final = 64 * 2**20
# Values stored while the VAE encodes, per image pixel and channel at full size.
_VAE_KEPT: Final = 5.0
# Bytes of optimizer state per trained parameter.
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
DEFAULT_STATE: Final = 8  # of an optimizer given by its import path
# Memory of usual cards in GB, and the share of it that a run may take by the estimate.
CARDS: Final = (48, 32, 24, 16, 12, 10, 8)
_USABLE: Final = 0.9 * 2**30


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """One part of the memory. how: the arithmetic as text."""

    name: str
    bytes: float
    how: str


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """A run's peak memory on its device, which without a GPU is the main memory.

    shares: its parts; bytes: their sum; loading: main memory while the model is loaded; captions:
    main memory of encoded captions, from before the denoiser is loaded to the end, None for none;
    margin: possible relative error; assumed: the model's files are missing, so Stable Diffusion 1's
    shapes are assumed.
    """

    shares: tuple[MemoryShare, ...]
    loading: float
    assumed: bool
    margin: float = MARGIN
    captions: MemoryShare | None = None

    @property
    def bytes(self) -> float:
        """Return the sum of the shares."""
        return sum(share.bytes for share in self.shares)


def estimate(options: TrainOptions, largest: Size, shapes: ModelShapes | None) -> MemoryEstimate:
    """Estimate a run's peak memory. largest: the largest bucket; shapes: None for a missing
    model.
    """
    options = precision.decided(options)
    model = shapes or model_shapes.assumed()
    base = BYTES[options.mixed_precision]
    pixels = largest[0] * largest[1]
    ranks, adapted = _adapted(options, model)
    parameters = sum(layers.parameter_count(part, ranks) for part in adapted)
    averaged = _FLOAT if options.ema_decay else 0
    copy = base if base < _FLOAT else 0  # autocast caches one in half precision
    states = STATES.get(options.optimizer_type.casefold(), DEFAULT_STATE)
    weights = _weights(options, model, base)
    shares = [
        MemoryShare("program", RUNTIME, "Python and its libraries, or a GPU's context"),
        MemoryShare(
            "weights",
            sum(count * each for count, each in weights),
            " + ".join(f"{_short(count)} parameters x {_plural(each)}" for count, each in weights),
        ),
        *(
            [MemoryShare("streamed", -streamed, f"{_short(streamed)} bytes stay in main memory")]
            if (streamed := _streamed(options, model))
            else []
        ),
        MemoryShare(
            "LoRA",
            parameters * (2 * _FLOAT + states + copy + averaged),
            f"{_short(parameters)} parameters x ({_FLOAT} weight + {_FLOAT} gradient + "
            f"{states} optimizer"
            f"{f' + {copy} copy' if copy else ''}{f' + {averaged} average' if averaged else ''}) "
            "bytes",
        ),
        *_full_changes(options, ranks, adapted, base),
        *_working(options, model, pixels, base),
    ]
    return MemoryEstimate(tuple(shares), _loading(options, model, base), shapes is None)


def with_captions(estimate: MemoryEstimate, captions: MemoryShare) -> MemoryEstimate:
    """Return the estimate of a run that keeps its encoded captions in main memory."""
    return replace(estimate, loading=estimate.loading + captions.bytes, captions=captions)


@dataclass(frozen=True, slots=True)
class CardFit:
    """The options with which a run fits a card, the mildest ones. card: GB. options: name -> value,
    those that are not set already.
    """

    card: int
    options: Mapping[str, bool | int | str]


def fits(options: TrainOptions, largest: Size, shapes: ModelShapes | None) -> tuple[CardFit, ...]:
    """Return how the run fits usual cards that it does not fit as it is, the largest card first;
    cards that it fits by no options are left out.
    """
    savings = _savings(options, shapes or model_shapes.assumed())

    @cache
    def needed(number: int) -> float:
        return estimate(replace(options, **savings[number]), largest, shapes).bytes

    # Each takes less memory than the one before.
    numbers = {
        card: bisect_left(
            range(len(savings)), True, key=lambda number: needed(number) <= card * _USABLE
        )
        for card in CARDS
    }
    return tuple(
        CardFit(card, savings[number])
        for card, number in numbers.items()
        if 0 < number < len(savings)
    )


def _savings(options: TrainOptions, model: ModelShapes) -> list[dict[str, Any]]:
    """Return options that save memory, each with those before it, the mildest first; the first one
    changes nothing.
    """
    changes: dict[str, Any] = {}
    savings = [changes]
    if not options.gradient_checkpointing:
        savings.append(changes := {**changes, "gradient_checkpointing": True})
    if options.network().dora:  # it needs the exact weights
        return savings
    if not options.is_int8(denoiser=True):
        savings.append(changes := {**changes, "base_precision": "int8"})
    counts = range(options.blocks_to_swap + 1, len(_block_sizes(model)) + 1)
    return [*savings, *({**changes, "blocks_to_swap": count} for count in counts)]


def _block_sizes(model: ModelShapes) -> dict[int, int]:
    """Return block of the denoiser -> the number of its weights, as far as networks adapt them,
    which are nearly all.
    """
    sizes: Counter[int] = Counter()
    for layer in model.layers[registry.family(model.family).DENOISER]:
        if layer.block is not None:
            sizes[layer.block] += layer.out * layer.ins * layer.kernel
    return dict(sizes)


def _streamed(options: TrainOptions, model: ModelShapes) -> int:
    """Return the bytes of weights that stay in main memory, but for the layer that is copied."""
    if not options.blocks_to_swap:
        return 0
    sizes = _block_sizes(model)
    layers_of_model = model.layers[registry.family(model.family).DENOISER]
    largest = max(layer.out * layer.ins * layer.kernel for layer in layers_of_model)
    streamed = sum(sizes[block] for block in sorted(sizes)[-options.blocks_to_swap :])
    return max(0, streamed - largest)


def lora_parameters(options: TrainOptions, shapes: ModelShapes | None) -> int:
    """Return the number of trained parameters. shapes: None for a missing model."""
    ranks, adapted = _adapted(options, shapes or model_shapes.assumed())
    return sum(layers.parameter_count(part, ranks) for part in adapted)


def _loading(options: TrainOptions, model: ModelShapes, base: int) -> float:
    """Return the main memory while the model is loaded."""
    family = registry.family(model.family)
    each = _FLOAT if options.reads_float32() else base
    if family.DENOISER == "unet":
        return RUNTIME + each * (model.denoiser + model.encoders) + _FLOAT * model.vae
    # Read in the file's precision, the transformer as int8 layer by layer if it is kept so.
    denoiser = model.denoiser * (1 if options.is_int8(denoiser=True) else each)
    encoders = model.encoders * base
    both = max if frees_encoders(options, family) else sum
    return RUNTIME + both((denoiser + _FLOAT * model.vae, encoders))


def _weights(options: TrainOptions, model: ModelShapes, base: int) -> list[tuple[int, int]]:
    """Return (parameters, bytes per parameter) of the frozen base, one entry per precision."""
    denoiser = 1 if options.is_int8(denoiser=True) else base
    text = 1 if options.is_int8(denoiser=False) else base
    if frees_encoders(options, registry.family(model.family)):
        # They are on the device before the denoiser is, and not with it.
        return [max((model.denoiser, denoiser), (model.encoders, text), key=math.prod)]
    if denoiser == text:
        return [(model.denoiser + model.encoders, denoiser)]
    return [(model.denoiser, denoiser), (model.encoders, text)]


def _plural(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"


def _adapted(
    options: TrainOptions, model: ModelShapes
) -> tuple[RankSettings, list[tuple[Layer, ...]]]:
    """Return the layers of each trained part. Raises ConfigError for block lists of another
    model.
    """
    args = options.network()
    blocks.check(args, model.blocks)
    ranks = RankSettings(args, options.network_dim, options.network_alpha, model.blocks)
    rates = part_rates(registry.family(model.family), options)
    return ranks, [part_layers for part, part_layers in model.layers.items() if rates.get(part)]


def _full_changes(
    options: TrainOptions, ranks: RankSettings, adapted: list[tuple[Layer, ...]], base: int
) -> list[MemoryShare]:
    """Return the memory of full weight changes, which all methods but LoRA and LoCon compute."""
    lora = ranks.args.algo == "lora"
    if lora and not ranks.args.tucker:
        return []
    sizes: Counter[int | None] = Counter()
    for layer in chain.from_iterable(adapted):
        if layers.rank(layer, ranks) is not None and (layer.kernel > 1 or not lora):
            sizes[layer.block] += layer.out * layer.ins * layer.kernel
    # With gradient checkpointing the changes are recomputed block by block.
    count = max(sizes.values(), default=0) if options.gradient_checkpointing else sizes.total()
    return [MemoryShare("weight changes", count * base, f"{_short(count)} values x {base} bytes")]


def _working(
    options: TrainOptions, model: ModelShapes, pixels: int, base: int
) -> list[MemoryShare]:
    """Return the temporary memory of a step, or of encoding before the first step if that is
    more.
    """
    batch = options.train_batch_size
    latent = pixels / model.vae_factor**2
    width, kept = model.anatomy.width, KEPT[options.gradient_checkpointing]
    how = f"{batch} x {latent:,.0f} latent pixels x {width:,.0f} values x {base} bytes"
    shares = [MemoryShare("activations", batch * latent * width * base * kept, f"{how} x {kept:g}")]
    rates = part_rates(registry.family(model.family), options)
    widths = model.anatomy.text_widths
    text_width = sum(each for part, each in widths.items() if rates.get(part))
    if text_width:
        positions = batch * (options.max_token_length // CHUNK) * (CHUNK + 2)
        text = positions * text_width * base * _TEXT_KEPT
        shares.append(
            MemoryShare(
                "text activations",
                text,
                f"{positions:,} positions x {text_width:,} values x {base} bytes",
            )
        )
    else:
        shares.append(MemoryShare("cached text", KEPT_TEXT, "states of encoded captions, at most"))
    vae_bytes = 2 if options.mixed_precision == "bf16" else _FLOAT
    encoding = pixels * model.vae_width * vae_bytes * _VAE_KEPT
    weights = model.vae * vae_bytes
    how = f"VAE: {_short(model.vae)} parameters x {vae_bytes} bytes, and its activations"
    vae = MemoryShare("encoding", weights + encoding, how)
    if not caches_latents(options):
        return [*shares, vae]
    return shares if sum(s.bytes for s in shares) >= vae.bytes else [vae]


def caches_latents(options: TrainOptions) -> bool:
    """Tell whether each image is encoded once, before the first step."""
    return (options.cache_latents or options.cache_latents_to_disk) and not options.random_crop


def _short(number: float) -> str:
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.2f} G"
