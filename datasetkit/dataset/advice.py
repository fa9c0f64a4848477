"""Advice: the numbers of a plan that are outside of the usual range, and what to change."""

from __future__ import annotations

from collections.abc import Iterator

from datasetkit.dataset.kinds import Kind
from datasetkit.dataset.repeats import ConceptPlan, RepeatsPlan, balance_reg

# Usual numbers of training samples, (per epoch, in all), from published guides.
USUAL: dict[Kind, tuple[tuple[int, int], tuple[int, int]]] = {
    "character": ((300, 500), (2_000, 7_000)),
    "style": ((400, 600), (8_000, 12_000)),
    "garment": ((150, 300), (1_500, 3_000)),
    "concept": ((200, 600), (1_500, 7_000)),
    "object": ((200, 600), (1_500, 7_000)),
}
# Optimizer steps that are planned for a concept where nobody wants another number.
DEFAULT_STEPS = 1000
# Guides differ, and their numbers work: only what is several times off deserves a line.
_FAR_OFF = 3
# Relative difference from the requested steps, and ratio of the samples of two concepts, from which
# to warn.
_TOLERANCE, _UNBALANCED = 0.1, 1.5


def advice(plan: RepeatsPlan, kind: Kind = "character") -> tuple[str, ...]:
    """Return warnings about a plan, one line each; none if all numbers are usual.

    The samples are those of the whole training set, without regularisation.
    """
    return (
        *_requested_steps(plan),
        *_ranges(plan, kind),
        *_balance(plan),
        *_reg(plan),
        *_assumptions(plan),
    )


def _requested_steps(plan: RepeatsPlan) -> Iterator[str]:
    for concept in plan.concepts:
        if (
            plan.steps is None
            or concept.ideal is None
            or abs(concept.alone.steps - plan.steps) <= _TOLERANCE * plan.steps
        ):
            continue
        if concept.ideal < 1 and concept.repeats == 1:
            yield _too_many(concept, plan.batch_settings.epochs, plan.steps)
        else:
            yield (
                f"{concept.name}: repeats = {concept.repeats} makes {concept.alone.steps:,} steps, "
                f"not {plan.steps:,}: repeats are whole numbers, and concepts are balanced; other "
                "--epochs may come nearer"
            )


def _too_many(concept: ConceptPlan, epochs: int, steps: int) -> str:
    fewer = max(1, round(steps / concept.alone.steps_per_epoch))
    result = fewer * concept.alone.steps_per_epoch
    problem = (
        f"{concept.name}: even 1 repeat makes {concept.alone.steps:,} steps in {epochs} epochs, "
        f"not {steps:,}"
    )
    if fewer < epochs:
        return f"{problem}; --epochs {fewer} makes {result:,}"
    return f"{problem}; use fewer images or a larger batch"


def _ranges(plan: RepeatsPlan, kind: Kind) -> Iterator[str]:
    an_epoch, in_all = USUAL[kind]
    samples, epochs = plan.train.samples, plan.batch_settings.epochs
    less = (
        "fewer repeats and more epochs"
        if any(c.repeats > 1 for c in plan.concepts)
        else "fewer images"
    )
    # --steps changes nothing where each concept has its repeats already.
    planned = any(concept.ideal is not None for concept in plan.concepts)
    more_steps, fewer_steps = (
        ("more --steps", "fewer --steps") if planned else ("more repeats", "fewer repeats")
    )
    for number, (low, high), what, more, fewer in (
        (
            samples * epochs,
            in_all,
            "samples in all",
            f"more epochs or {more_steps}",
            f"fewer epochs or {fewer_steps}",
        ),
        (samples, an_epoch, "samples an epoch", "more repeats and fewer epochs", less),
    ):
        if not low / _FAR_OFF <= number <= high * _FAR_OFF:
            change = more if number < low else fewer
            yield f"{number:,} {what}; {low:,}-{high:,} are usual for a {kind}: use {change}"
            return


def _balance(plan: RepeatsPlan) -> Iterator[str]:
    most = max(plan.concepts, key=lambda c: c.samples)
    least = min(plan.concepts, key=lambda c: c.samples)
    if most.samples > _UNBALANCED * least.samples:
        better = max(1, round(most.images * most.repeats / least.images))
        change = (
            f"{better} repeats would balance {least.name}"
            if better > least.repeats
            else "other repeats would balance them"
        )
        yield (
            f"{most.name} has {most.samples:,} samples an epoch and {least.name} "
            f"{least.samples:,}: {change}"
        )


def _reg(plan: RepeatsPlan) -> Iterator[str]:
    if plan.reg is None or not plan.reg.unused:
        return
    train_samples = sum(c.images * c.repeats for c in plan.concepts)  # at one resolution
    repeats = balance_reg(train_samples, plan.reg.images)
    change = "use fewer images, or more training repeats"
    if plan.reg.images <= train_samples:
        change = f"{repeats} {'repeat' if repeats == 1 else 'repeats'} would use them all"
    yield (
        f"{plan.reg.unused:,} of {plan.reg.images:,} regularisation images are never used: "
        f"they make {plan.reg.wanted:,} samples, training has {plan.train.samples:,} an epoch; "
        f"{change}"
    )


def _assumptions(plan: RepeatsPlan) -> Iterator[str]:
    if plan.batch_settings.batch_size > 1 and any(
        concept.one_bucket_assumed for concept in plan.concepts
    ):
        yield (
            "the image sizes are unknown: one bucket is assumed; with several buckets an epoch "
            "has more batches"
        )
