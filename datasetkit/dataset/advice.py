"""Advice: which numbers of a plan lie outside of what is usual, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from datasetkit.dataset.repeats import ConceptPlan, RepeatsPlan, balance_reg

Kind = Literal["character", "style"]

# Samples of training images: (an epoch, in all), before dividing by the batch; what the makers'
# guides give.
USUAL: dict[Kind, tuple[tuple[int, int], tuple[int, int]]] = {
    "character": ((300, 500), (2_000, 7_000)),
    "style": ((400, 600), (8_000, 12_000)),
}
# Steps that miss the wish by more than this fraction are worth a word; so are concepts whose
# samples differ by a half.
_OFF, _UNBALANCED = 0.1, 1.5


def advice(plan: RepeatsPlan, kind: Kind = "character") -> tuple[str, ...]:
    """Return what a person should know before training, one line each; nothing when all is usual.

    The samples are those of the whole training set, regularisation apart.
    """
    return (
        *_wished_steps(plan),
        *_ranges(plan, kind),
        *_balance(plan),
        *_reg(plan),
        *_assumptions(plan),
    )


def _wished_steps(plan: RepeatsPlan) -> Iterator[str]:
    for concept in plan.concepts:
        if (
            plan.steps is None
            or concept.ideal is None
            or abs(concept.alone.steps - plan.steps) <= _OFF * plan.steps
        ):
            continue
        if concept.ideal < 1 and concept.repeats == 1:
            yield _too_many(concept, plan.batch_settings.epochs, plan.steps)
        else:
            yield (
                f"{concept.name}: repeats {concept.repeats} make {concept.alone.steps:,} "
                f"steps, not {plan.steps:,}: "
                "repeats are whole numbers and concepts are balanced; other --epochs may come "
                "nearer"
            )


def _too_many(concept: ConceptPlan, epochs: int, steps: int) -> str:
    fewer = max(1, round(steps / concept.alone.steps_per_epoch))
    made = fewer * concept.alone.steps_per_epoch
    fact = (
        f"{concept.name}: 1 repeat, the least, makes {concept.alone.steps:,} steps in "
        f"{epochs} epochs, not {steps:,}"
    )
    if fewer < epochs:
        return f"{fact}; --epochs {fewer} makes {made:,}"
    return f"{fact}; use fewer images or a larger batch"


def _ranges(plan: RepeatsPlan, kind: Kind) -> Iterator[str]:
    an_epoch, in_all = USUAL[kind]
    samples, epochs = plan.train.samples, plan.batch_settings.epochs
    less = (
        "fewer repeats and more epochs"
        if any(c.repeats > 1 for c in plan.concepts)
        else "fewer images"
    )
    for number, (low, high), what, more, fewer in (
        (samples, an_epoch, "samples an epoch", "more repeats and fewer epochs", less),
        (
            samples * epochs,
            in_all,
            "samples in all",
            "more epochs or more --steps",
            "fewer epochs or fewer --steps",
        ),
    ):
        if not low <= number <= high:
            change = more if number < low else fewer
            yield (
                f"{number:,} {what}; {low:,}-{high:,} are usual for a {kind}: {change} would "
                "come nearer"
            )


def _balance(plan: RepeatsPlan) -> Iterator[str]:
    most = max(plan.concepts, key=lambda c: c.samples)
    least = min(plan.concepts, key=lambda c: c.samples)
    if most.samples > _UNBALANCED * least.samples:
        better = max(1, round(most.samples / least.images))
        change = (
            f"{better} repeats would balance {least.name}"
            if better > least.repeats
            else "repeats can balance them"
        )
        yield (
            f"{most.name} gets {most.samples:,} samples an epoch and {least.name} "
            f"{least.samples:,}: {change}"
        )


def _reg(plan: RepeatsPlan) -> Iterator[str]:
    if plan.reg is None or not plan.reg.unused:
        return
    repeats = balance_reg(plan.train.samples, plan.reg.images)
    change = "use fewer of them, or raise the training repeats"
    if plan.reg.images <= plan.train.samples:
        change = f"{repeats} {'repeat' if repeats == 1 else 'repeats'} would use them all"
    yield (
        f"{plan.reg.unused:,} of {plan.reg.images:,} regularisation images are never used: "
        "images x repeats = "
        f"{plan.reg.wanted:,}, training has {plan.train.samples:,} samples an epoch; {change}"
    )


def _assumptions(plan: RepeatsPlan) -> Iterator[str]:
    if plan.batch_settings.batch_size > 1 and any(
        concept.one_bucket_assumed for concept in plan.concepts
    ):
        yield (
            "the sizes of the images are not known: one bucket was assumed, several round "
            "up more batches"
        )
