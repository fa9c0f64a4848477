"""The commands of a training: where the dataset is not laid out for today's images, captions and
repeats, that comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasetkit.core.errors import DatasetError, DskError, InputError
from datasetkit.options.toml import find
from datasetkit.verbs.plan_repeats import plan_options, plan_repeats
from datasetkit.verbs.studio import concepts, layouts
from datasetkit.verbs.studio.commands import StudioCommand, shown
from datasetkit.verbs.studio.session import StudioSession


@dataclass(frozen=True, slots=True)
class TrainingSteps:
    """What runs before a training. before: `layout` and `reg`, or none of them. steps, epochs: of
    the training then; None where it reads the dataset as it is.
    """

    before: tuple[str, ...] = ()
    steps: int | None = None
    epochs: int | None = None


def steps_before(studio: StudioSession) -> TrainingSteps:
    """Return what must run before a training of the project. Raises DskError for a dataset that
    cannot be planned.
    """
    config = find(studio.folder)
    if not config.concepts or config.root != studio.root:
        return TrainingSteps()
    listed = concepts.find_concepts(studio)
    out = layouts.laid_out(studio)
    try:
        result = plan_repeats(
            studio.folder, plan_options(studio.folder, {}), context=studio.context
        )
    except DatasetError:
        if out is None:
            raise
        return TrainingSteps()  # the images are gone: what was laid out is all there is
    if result.origin == "laid out":
        return TrainingSteps()
    has_reg = any(concept.kind == "reg" for concept in listed)
    before: tuple[str, ...]
    if out is None or not layouts.is_current(listed, out, result):
        before = ("layout", "reg") if has_reg else ("layout",)
    elif has_reg and not layouts.is_reg_current(studio, out, result):
        before = ("reg",)
    else:
        return TrainingSteps()
    steps = layouts.total_steps(studio, listed, result)
    return TrainingSteps(before, steps, result.plan.batch_settings.epochs)


def chain(studio: StudioSession, command: StudioCommand) -> tuple[StudioCommand, ...]:
    """Return the commands of a training, the training last. Raises InputError for another command,
    DskError for a dataset that cannot be planned.
    """
    if command.verb != "train":
        raise InputError("only dsk train has steps before it", hint="leave out `lay_out`")
    return (*(StudioCommand(verb, (verb,)) for verb in steps_before(studio).before), command)


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return what runs before a training, and its steps where the laid-out dataset does not say
    them yet.
    """
    problem = None
    steps = TrainingSteps()
    try:
        steps = steps_before(studio)
    except DskError as error:
        problem = {"error": error.message, "hint": error.hint}
    return {
        "before": list(steps.before),
        "exists": not steps.before or layouts.laid_out(studio) is not None,
        "command": shown(StudioCommand(verb, (verb,)) for verb in (*steps.before, "train")),
        "steps": steps.steps,
        "epochs": steps.epochs,
        "problem": problem,
    }
