"""What is measured of each LoRA of a grid, and which file the measures suggest.

Each measure is shown beside the others; they are never added up, because they answer different
questions. Differences are tested pair by pair (the same image and noise, the same prompt and seed),
which is far more precise than either number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.paired import PairedMean, difference, mean

# A difference counts if it is more than chance, and than this share of what the whole training
# changed.
_SHARE: Final = 0.01
# Of the base's diversity over seeds, below which images are much alike.
_SAME: Final = 0.5

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VariantMeasures:
    """The values of one LoRA at its weights, or of the base alone. None: not measured.

    held_out, trained: losses, (images, timesteps). to_held_out, to_trained: distance of each drawn
    image to the nearest image of these. recall: share of each prompt's tags that the tagger finds.
    drift: distance of each image without the trigger to that of the base. diversity: mean distance
    of the images of each prompt with different seeds.
    """

    held_out: Values | None = None
    trained: Values | None = None
    to_held_out: Values | None = None
    to_trained: Values | None = None
    recall: Values | None = None
    drift: Values | None = None
    diversity: Values | None = None


@dataclass(frozen=True, slots=True)
class VariantScore:
    """The numbers of one LoRA, or of the base alone (lora: ""). None: not measured.

    held_out_loss, and its change since the base, paired; trained_change: the same of training
    images. recall: of tags. to_held_out, to_trained: mean distance of the images with the trigger;
    drift: of those without it to the base's. diversity: of the images of a prompt, over its seeds.
    """

    label: str
    lora: str
    unet_weight: float
    text_weight: float
    held_out_loss: float | None
    change: PairedMean | None
    trained_change: PairedMean | None
    recall: float | None
    to_held_out: PairedMean | None
    to_trained: PairedMean | None
    drift: PairedMean | None
    diversity: PairedMean | None = None


@dataclass(frozen=True, slots=True)
class FileSuggestion:
    """Which file to use, and why. label: "" for no suggestion. remarks: what speaks against it."""

    label: str
    lora: str
    reasons: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GridScores:
    """The scores of a grid. rows: the base first, then LoRAs in the order of the grid. notes: how
    the columns were measured, and why some are empty.
    """

    rows: tuple[VariantScore, ...]
    suggestion: FileSuggestion
    tagger: str
    held_out_images: int
    trained_images: int
    notes: tuple[str, ...]


def score(
    label: str,
    lora: str,
    weights: tuple[float, float],
    now: VariantMeasures,
    base: VariantMeasures | None,
) -> VariantScore:
    """Return the numbers of a variant. base: what the base alone has; None for the base itself."""

    def change(values: Values | None, before: Values | None) -> PairedMean | None:
        return None if values is None or before is None else difference(values, before)

    def average(values: Values | None) -> PairedMean | None:
        return None if values is None or not len(values) else mean(values)

    loss, recall = average(now.held_out), average(now.recall)
    return VariantScore(
        label=label,
        lora=lora,
        unet_weight=weights[0],
        text_weight=weights[1],
        held_out_loss=None if loss is None else loss.mean,
        change=None if base is None else change(now.held_out, base.held_out),
        trained_change=None if base is None else change(now.trained, base.trained),
        recall=None if recall is None else recall.mean,
        to_held_out=average(now.to_held_out),
        to_trained=average(now.to_trained),
        drift=None if base is None else average(now.drift),
        diversity=average(now.diversity),
    )


def suggest(
    variants: Sequence[tuple[str, str, VariantMeasures]], base: VariantMeasures
) -> FileSuggestion:
    """Suggest the earliest file after which nothing gets better: neither the loss on held-out
    images nor the distance of the drawn images to them.

    variants: label, file and measures in the order of the training.
    """
    if len(variants) < 2:
        return FileSuggestion("", "", ("a suggestion needs two files or more",))
    if base.held_out is None:
        return FileSuggestion("", "", ("a suggestion needs held-out images",))
    measures = [m for _, _, m in variants]
    curves = {"the loss on held-out images": [m.held_out for m in measures]}
    before = {"the loss on held-out images": base.held_out}
    if base.to_held_out is not None and len(base.to_held_out) > 1:
        name = "the distance of the images to held-out ones"
        curves[name] = [m.to_held_out for m in measures]
        before[name] = base.to_held_out
    chosen = 0
    for name, curve in curves.items():
        values = [v for v in curve if v is not None]
        if len(values) == len(variants):
            chosen = max(chosen, _last_useful(values, before[name]))
    label, lora, now = variants[chosen]
    reasons = [
        _reason(name, [v for v in curve if v is not None], chosen, [v[0] for v in variants])
        for name, curve in curves.items()
    ]
    remarks = (*_remarks(variants, chosen), *_sameness(now, base))
    return FileSuggestion(label, lora, tuple(reasons), remarks)


def _sameness(now: VariantMeasures, base: VariantMeasures) -> list[str]:
    """Return a remark where the seeds change the images much less than those of the base."""
    if now.diversity is None or base.diversity is None:
        return []
    if not now.diversity.mean() < _SAME * base.diversity.mean():
        return []
    return ["its images differ from seed to seed by less than half of the base's: it has one image"]


def _last_useful(curve: Sequence[Values], base: Values) -> int:
    """Return the number of the first variant after which none is lower by more than chance and by
    more than a share of the whole fall.
    """
    whole = max(float(base.mean() - values.mean()) for values in curve)
    for n, values in enumerate(curve):
        later = [difference(other, values) for other in curve[n + 1 :]]
        if not any(d.is_fall and d.mean < -_SHARE * whole for d in later):
            return n
    return len(curve) - 1


def _reason(name: str, curve: Sequence[Values], chosen: int, labels: Sequence[str]) -> str:
    if chosen == len(curve) - 1:
        change = difference(curve[chosen], curve[chosen - 1])
        return f"{name} at the last file, against {labels[chosen - 1]}: {change.words()}"
    later = [difference(other, curve[chosen]) for other in curve[chosen + 1 :]]
    lowest = min(range(len(later)), key=lambda n: later[n].mean)
    return (
        f"{name} hardly falls after it: {later[lowest].words()} at the lowest later file, "
        f"{labels[chosen + 1 + lowest]}"
    )


def _remarks(variants: Sequence[tuple[str, str, VariantMeasures]], chosen: int) -> list[str]:
    remarks: list[str] = []
    measures = variants[chosen][2]
    if chosen == len(variants) - 1:
        remarks.append("it is the last file: a longer training may be better still")
    last = variants[-1][2].held_out
    now = measures.held_out
    if last is not None and now is not None and difference(now, last).is_fall:
        remarks.append("after it the loss on held-out images rises: the LoRA overfits")
    if measures.to_trained is not None and measures.to_held_out is not None:
        nearer = difference(measures.to_trained, measures.to_held_out)
        if nearer.is_fall:
            remarks.append(
                "its images are nearer to training images than to held-out ones "
                f"({nearer.words()}): look whether they are copies"
            )
    return remarks
