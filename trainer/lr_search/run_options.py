"""The options of the short runs of a search: those of the training, but for what a search sets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.lr_search.rules import ProbeOptimizer, SearchPart
from trainer.optimizers.optimizer_names import import_path, literal_args

BETAS: Final = (0.9, 0.999)
WEIGHT_DECAY: Final = 0.01
# D-Adaptation's estimate may grow without a limit in one step, and then runs away.
GROWTH_RATE: Final = 1.2
# What the optimizer is made of is the search's; the data, the noise and the network are the run's.
_CONSTANT: Final[dict[str, Any]] = {
    "lr_scheduler": "constant",
    "lr_scheduler_type": "",
    "lr_scheduler_args": (),
    "lr_warmup_steps": 0,
    "lr_decay_steps": 0,
    "lr_scheduler_min_lr_ratio": None,
    "lr_scheduler_timescale": None,
    "ema_decay": 0.0,
    "scale_weight_norms": None,
}


def betas_of(options: TrainOptions) -> tuple[float, float]:
    """Return the betas of the training's own Adam, else Adam's usual ones: probes and sweep have
    them, and a rate is written with them.
    """
    name = import_path(options.optimizer_type).partition(":")[2]
    if "Adam" in name or "Prodigy" in name:
        with suppress(ConfigError):
            betas = literal_args(options.optimizer_args).get("betas")
            if isinstance(betas, tuple) and len(betas) == 2:
                return float(betas[0]), float(betas[1])
    return BETAS


def adamw_args(options: TrainOptions) -> tuple[str, str]:
    """Return the arguments of AdamW in the sweep, as optimizer_args."""
    first, second = betas_of(options)
    return f"betas={first:g},{second:g}", f"weight_decay={WEIGHT_DECAY:g}"


def searched(options: TrainOptions) -> TrainOptions:
    """Return options for the plan of a search: those of the training, without what the search
    replaces and what only a training writes.
    """
    return replace(
        options,
        optimizer_type="AdamW",
        optimizer_args=adamw_args(options),
        sample_prompts="",
        sample_every_n_epochs=None,
        sample_every_n_steps=None,
        sample_at_first=False,
        logging_dir="",
        **_CONSTANT,
    )


def of_base(options: TrainOptions, parts: Sequence[SearchPart]) -> TrainOptions:
    """Return the options by which the model is loaded once, with a network on all parts."""
    rates: dict[str, Any] = {
        "unet_lr": 1e-4 if "unet" in parts else 0.0,
        "text_encoder_lr": _text_rate(options, 1e-4) if "text" in parts else 0.0,
    }
    return replace(
        options,
        optimizer_type="AdamW",
        optimizer_args=(),
        # Latents are encoded once for all runs, unless each sample has other pixels.
        cache_latents=options.cache_latents or not options.color_aug,
        network_train_unet_only=False,
        network_train_text_encoder_only=False,
        **{**_CONSTANT, **rates},
    )


def of_probe(
    options: TrainOptions, part: SearchPart, seed: int, optimizer: ProbeOptimizer, d0: float
) -> TrainOptions:
    """Return the options of a probe: the rate 1, constant, without clipping."""
    first, second = betas_of(options)
    arguments = [
        f"betas={first!r},{second!r}", f"weight_decay={WEIGHT_DECAY}", "decouple=True", f"d0={d0!r}"
    ]  # fmt: skip
    if optimizer == "prodigy":
        arguments.append("safeguard_warmup=False")
    else:
        arguments.append(f"growth_rate={GROWTH_RATE}")
    return replace(
        of_base(options, [part]),
        seed=seed,
        optimizer_type="Prodigy" if optimizer == "prodigy" else "DAdaptAdam",
        optimizer_args=tuple(arguments),
        max_grad_norm=0.0,
        **_rates(options, part, 1.0),
    )


def of_sweep(options: TrainOptions, part: SearchPart, rate: float) -> TrainOptions:
    """Return the options of a run of the sweep: AdamW with the betas of the probes."""
    return replace(
        of_base(options, [part]),
        optimizer_args=adamw_args(options),
        **_rates(options, part, rate),
    )


def _rates(options: TrainOptions, part: SearchPart, rate: float) -> dict[str, Any]:
    if part == "unet":
        return {"unet_lr": rate, "text_encoder_lr": 0.0}
    return {"unet_lr": 0.0, "text_encoder_lr": _text_rate(options, rate)}


def _text_rate(options: TrainOptions, rate: float) -> float | tuple[float, float]:
    """Return a rate for those text encoders that the options train."""
    given = options.text_encoder_lr
    if not isinstance(given, tuple):
        return rate
    first, second = (rate if of_part else 0.0 for of_part in given)
    return (first, second)
