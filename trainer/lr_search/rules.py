"""The rules of the search: when an estimate is flat, what a probe means, which rate is taken.

Needs no torch, so a plan can count what a search costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.options.networks import NetworkArgs
from trainer.families.base import DENOISERS, PART_TITLES, Part
from trainer.paired import PairedMean, difference

SearchPart = Literal["unet", "text"]
ProbeOptimizer = Literal["prodigy", "dadapt"]
# flat: the estimate stopped to grow. growing: it still grew in the last step. never left d0: it
# stayed below ten times its start. not finite: the loss or a gradient became infinite.
Outcome = Literal["flat", "growing", "never left d0", "not finite"]

PROBED_PARTS: Final[Mapping[SearchPart, tuple[str, ...]]] = {
    "unet": DENOISERS,
    "text": ("text_encoder", "text_encoder_2"),
}
D0: Final = 1e-6
FLAT_STEPS: Final = 30  # the least number of steps over which an estimate is flat
_GROWTH: Final = 1.02  # over these steps
_LEFT: Final = 10  # times d0, above which the estimate has left it
RAISED: Final = 2  # how often d0 is multiplied by 10
IMAGES: Final = 8  # training images of the grid
FACTORS: Final = (0.25, 0.5, 1.0, 2.0)  # of the candidate, in the sweep
SWEEP_STEPS: Final = 60
TENTH: Final = 0.1  # of the denoiser's rate, for the text encoder


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of the optimizer that estimates the rate. estimates: d times the rate 1, of each
    step. flat_from: the step from which it is flat. change: of the loss on the grid since step 0,
    None where the weights are not finite.
    """

    seed: int
    d0: float
    outcome: Outcome
    estimates: tuple[float, ...]
    flat_from: int | None
    change: PairedMean | None

    @property
    def rate(self) -> float | None:
        """Return the estimated rate, None if it never left d0."""
        return None if self.outcome == "never left d0" else self.estimates[-1]

    @property
    def is_ruined(self) -> bool:
        """Tell whether the probe ran away: its own loss rose, or is not finite."""
        return self.change is None or self.change.is_rise


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A short run of AdamW. loss: the mean on the grid at its end, None where it is not finite;
    change: against step 0, image by image.
    """

    rate: float
    loss: float | None
    change: PairedMean | None
    is_taken: bool = False


@dataclass(frozen=True, slots=True)
class PartSearch:
    """What was found for a part. title: what messages call it. candidate: the median of the
    probes' rates; rate: the one that the sweep decided on, or without a sweep the candidate. None:
    nothing was found.
    """

    part: SearchPart
    title: str
    probes: tuple[Probe, ...]
    candidate: float | None
    sweep: tuple[SweepPoint, ...]
    rate: float | None


def title(part: SearchPart, denoiser: Part | None) -> str:
    """Return what messages call a part. denoiser: the model's, None while it is not known."""
    if part == "text":
        return PART_TITLES["text_encoder"]
    return (
        PART_TITLES[denoiser] if denoiser else " or ".join(PART_TITLES[part] for part in DENOISERS)
    )


@dataclass(frozen=True, slots=True)
class SearchCost:
    """What a search takes at most. probe_steps: of all probes (`raised` times as many if their d0
    must be raised); sweep_steps: of AdamW. passes: forward passes of the grid.
    """

    probes: int
    probe_steps: int
    sweep_steps: int
    passes: int
    raised: int = RAISED + 1


def cost(parts: int, seeds: int, most: int, *, sweep: bool, images: int) -> SearchCost:
    """Return what a search costs at most. images: of the grid."""
    from_sweep = parts * len(FACTORS) if sweep else 0
    grids = 2 * parts * seeds + (from_sweep + parts if sweep else 0)
    return SearchCost(
        parts * seeds, parts * seeds * most, from_sweep * SWEEP_STEPS, grids * images * 4
    )


def flat_from(estimates: Sequence[float], d0: float) -> int | None:
    """Return the step (from 1) since which the estimate is flat, None while it is not.

    It is flat at step s if it grew by less than 2 % over the last max(30, s / 2) steps, and is
    above ten times its start.
    """
    steps = len(estimates)
    window = max(FLAT_STEPS, steps // 2)
    if steps <= window or not has_left(estimates, d0):
        return None
    before = estimates[steps - 1 - window]
    if estimates[-1] >= _GROWTH * before:
        return None
    return next(n for n, value in enumerate(estimates, 1) if estimates[-1] < _GROWTH * value)


def has_left(estimates: Sequence[float], d0: float) -> bool:
    """Tell whether an estimate has left its start, or the usual one, if it starts below that: on
    the way from 1e-12 it is not a rate yet.
    """
    return bool(estimates) and estimates[-1] > _LEFT * max(d0, D0)


def candidate(probes: Sequence[Probe]) -> float | None:
    """Return the median of the rates of probes, None without any."""
    rates = [p.rate for p in probes if p.rate is not None and math.isfinite(p.rate)]
    return median(rates) if rates else None


def decide(
    losses: Mapping[float, Sequence[Sequence[float]] | None], before: Sequence[Sequence[float]]
) -> tuple[SweepPoint, ...]:
    """Take the smallest rate whose change of the loss is within one standard error of the best.

    losses: rate -> losses on the grid, (images, timesteps), None where they are not finite. before:
    those at step 0. A rate that does not lower the loss is not taken.
    """
    changes = {rate: difference(rows, before) for rate, rows in losses.items() if rows is not None}
    best = min(changes.values(), key=lambda change: change.mean, default=None)
    limit = 0.0 if best is None else min(0.0, best.mean + (best.error or 0.0))
    good = [rate for rate, change in changes.items() if change.mean <= limit and change.mean < 0]
    taken = min(good, default=None)
    points = []
    for rate, rows in sorted(losses.items()):
        loss = None if rows is None else _mean(rows)
        points.append(SweepPoint(rate, loss, changes.get(rate), rate == taken))
    return tuple(points)


def _mean(rows: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, rows)) / sum(map(len, rows))


def taken_rate(points: Sequence[SweepPoint]) -> float | None:
    """Return the rate that a sweep decided on, None where none lowered the loss."""
    return next((point.rate for point in points if point.is_taken), None)


def rounded(rate: float) -> float:
    """Return a rate as it is printed and written: three digits."""
    return float(f"{rate:.3g}")


def require_one_rate(args: NetworkArgs) -> None:
    """Raise ConfigError for network_args that give weights of one part different rates: a probe
    estimates one rate for all of them.
    """
    several = {
        "loraplus_lr_ratio": args.plus,
        "loraplus_unet_lr_ratio": args.plus_unet,
        "loraplus_text_encoder_lr_ratio": args.plus_text,
        "down_lr_weight": args.down_weights,
        "mid_lr_weight": args.mid_weights,
        "up_lr_weight": args.up_weights,
    }
    if given := [name for name, value in several.items() if value]:
        raise ConfigError(
            f"network_args: {', '.join(given)}: a search finds one rate for all weights of a part",
            hint="search without it, such as with --set 'network_args=[]', and give it again for "
            "the training",
        )
