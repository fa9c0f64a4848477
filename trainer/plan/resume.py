"""What must be equal for a run to be resumed, and how a difference is put into words.

A state holds these facts of its run. They are compared before anything is loaded; needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, image_id
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.words import counted
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.files import run_manifest, saved_states
from trainer.files.saved_states import TrainingState
from trainer.optimizers.lr_schedules import SCHEDULES
from trainer.optimizers.schedule_options import schedule
from trainer.plan import model_fingerprint
from trainer.plan.plan import TrainImage, TrainingPlan

# Options that may change when a run is resumed: they decide where results go, not what is computed.
_MAY_CHANGE: Final = frozenset(
    n for n, option in by_name(TrainOptions).items() if option.applies != "at start"
)
_LENGTH: Final = ("max_train_epochs", "max_train_steps")
# Options that name a model -> what it is, and the options that only say where it is found.
_MODELS: Final = {
    "pretrained_model_name_or_path": (
        "the base model",
        ("pretrained_model_name_or_path", "revision"),
    ),
    "base_folder": ("the folder of the other parts", ("base_folder",)),
    "vae": ("the VAE", ("vae",)),
}
_NAMED: Final = 3
_VISIBLE: Final = 0.001  # of the learning rate
_START_OVER: Final = "or start over without --resume"


@dataclass(frozen=True, slots=True)
class TrainedImage:
    """What a run reads of an image. name: its folder and file, for people; a renamed image is the
    same image. caption, mask, settings: hashes; settings: how its folder is read. bucket: as text.
    """

    name: str
    id: str
    caption: str
    mask: str
    samples: int
    bucket: str
    settings: str


# What differs -> how a difference is called. First what people edit, then what follows from it.
_EDITS: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "id": lambda old, new: "image changed",
    "caption": lambda old, new: "caption changed",
    "mask": lambda old, new: "mask changed" if old and new else f"mask {_appeared(new)}",
}
_DERIVED: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "samples": lambda old, new: f"{counted(old, 'sample')} an epoch, now {new:,}",
    "bucket": lambda old, new: f"bucket {old}, now {new}",
    "settings": lambda old, new: "options of its folder changed",
}


def _appeared(new: str) -> str:
    return "added" if new else "removed"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The state from which a run goes on. notices: what a person should know of it."""

    state: TrainingState
    notices: tuple[str, ...] = ()


def facts(options: TrainOptions, plan: TrainingPlan) -> dict[str, Any]:
    """Return the facts of a run, as JSON."""
    images = [
        *zip(plan.images, plan.samples, strict=True),
        *((image, 0) for image in plan.held_out),
    ]
    value = {
        "options": {k: v for k, v in asdict(options).items() if k not in _MAY_CHANGE},
        "models": model_fingerprint.of_run(options),
        "images": [astuple(_image_facts(image, n)) for image, n in images],
        "steps": plan.steps,
        "processes": plan.batch_settings.processes,
    }
    result: dict[str, Any] = json.loads(json.dumps(value))
    return result


def _image_facts(image: TrainImage, samples: int) -> TrainedImage:
    subset = asdict(image.subset)
    settings = {k: v for k, v in subset.items() if k not in ("folder", "name", "repeats")}
    return TrainedImage(
        f"{image.subset.folder.name}/{image.path.name}",
        image.id,
        _hash(image.caption),
        image_id(image.mask) if image.mask is not None else "",
        samples,
        "x".join(map(str, image.bucket.bucket)),
        _hash(json.dumps(settings, sort_keys=True, default=str)),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def unfinished(
    folder: Path, name: str, options: TrainOptions, plan: TrainingPlan
) -> TrainingState | None:
    """Return the newest state of a run that has not ended well and that this run could resume, None
    without one.
    """
    try:
        manifest = run_manifest.read(folder, name)
        if manifest is not None and manifest.status == "finished":
            return None
        state = saved_states.newest(folder, name)
        return None if state is None else _checked(state, options, plan).state
    except (ConfigError, InputError):
        return None


def resume_point(
    folder: Path,
    name: str,
    options: TrainOptions,
    plan: TrainingPlan,
    *,
    extend: bool = False,
    reporter: Reporter = SILENT,
) -> ResumePoint:
    """Return the newest complete state of a run: in the folder, or where it has none, that of an
    earlier run below `previous/`. extend: another number of steps is meant, also where it changes
    the LR schedule.

    Raises InputError without a state, ConfigError for a run that differs from the state's.
    """
    state = saved_states.newest(folder, name, reporter)
    notices: tuple[str, ...] = ()
    if state is None:
        state = saved_states.newest_of_previous(folder, name, reporter)
        if state is None:
            raise InputError(
                f"{display(folder)} has no training state of {display(name)}",
                hint=_where_to_resume(folder),
            )
        notices = (
            f"{display(folder)} has no training state of {display(name)}: the run in "
            f"{display(state.folder.parent)} goes on from step {state.step:,}",
        )
    point = _checked(state, options, plan, extend=extend)
    return replace(point, notices=(*notices, *point.notices))


def _where_to_resume(folder: Path) -> str:
    """Return a hint for a folder without a state of the run: runs of other names may have one."""
    others = saved_states.names(folder)
    if not others:
        return "train without --resume, or set the output_dir and output_name of the run"
    more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
    return (
        f"it has states of {', '.join(map(display, others[:_NAMED]))}{more}: set output_name, or "
        "train without --resume"
    )


def _checked(
    state: TrainingState, options: TrainOptions, plan: TrainingPlan, *, extend: bool = False
) -> ResumePoint:
    now = facts(options, plan)
    try:
        differing = differences(state.facts, now)
        steps = int(state.facts["steps"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the training state {display(state.folder.name)} is damaged ({error})",
            hint="start over without --resume",
        ) from error
    name = display(state.folder.name)
    if differing:
        raise ConfigError(
            f"{name} cannot be resumed: {'; '.join(differing)}",
            hint=f"set it back, {_START_OVER}",
        )
    if plan.steps <= state.step:
        raise ConfigError(
            f"{name} was saved after {counted(state.step, 'step')}, and this run would end after "
            f"{plan.steps:,}",
            hint=f"set max_train_steps or max_train_epochs so that it takes more steps, "
            f"{_START_OVER}",
        )
    if plan.steps == steps:
        return ResumePoint(state)
    changed = f"the run has {counted(plan.steps, 'step')} instead of {steps:,}"
    effects = _effects_of_length(options, steps, plan.steps, state.step)
    if effects and not extend:
        raise ConfigError(
            f"{name} cannot be resumed: {changed}, and {effects[0]}",
            hint=f"add --extend to go on all the same, set it back, {_START_OVER}",
        )
    return ResumePoint(state, (f"{changed}{''.join(f'; {effect}' for effect in effects)}",))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between the facts of two runs, but for their length: options and models,
    and images, else what follows from neither.
    """
    options = _option_differences(old, new)
    images = _image_differences(
        [TrainedImage(*row) for row in old["images"]],
        [TrainedImage(*row) for row in new["images"]],
        derived=not options,
    )
    if options or images:
        return [*options, *images]
    derived = ["processes"]
    if all(old["options"].get(key) == new["options"].get(key) for key in _LENGTH):
        derived.append("steps")
    return [f"{key} was {old[key]} and is {new[key]}" for key in derived if old[key] != new[key]]


def _option_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    was, now = old["options"], new["options"]
    models, same = _model_differences(old, new)
    names = [
        name
        for name in dict.fromkeys([*now, *was])
        if was.get(name) != now.get(name) and name not in (*_LENGTH, *same)
    ]
    return [
        *(f"{name} was {_short(was.get(name))} and is {_short(now.get(name))}" for name in names),
        *models,
    ]


def _model_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return a line about each model that another one has replaced under its name, and the options
    of models that are the same, wherever they are now.
    """
    differing: list[str] = []
    same: list[str] = []
    for option, (what, places) in _MODELS.items():
        was, now = (facts["models"].get(option) for facts in (old, new))
        if was is None or now is None:  # not on this machine: its name and commit decide
            continue
        if was == now:
            same += places
        elif all(old["options"].get(key) == new["options"].get(key) for key in places):
            files = [f for f in dict.fromkeys([*was, *now]) if was.get(f) != now.get(f)]
            more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
            where = f" ({display(files[0])}{more})" if files[0] else ""
            differing.append(
                f"{what} {display(str(new['options'][option]))} is not the one of the state{where}"
            )
    return differing, same


def _image_differences(
    old: Sequence[TrainedImage], new: Sequence[TrainedImage], *, derived: bool
) -> list[str]:
    """Return one line that names the first images that differ. derived: also those that differ in
    what follows from options and other images.
    """
    order = {id(image): n for n, image in enumerate([*old, *new])}
    # A partner that was made up is in neither list.
    pairs = sorted(
        _pairs(old, new), key=lambda pair: min(order[id(i)] for i in pair if id(i) in order)
    )
    for kinds in (_EDITS, _DERIVED) if derived else (_EDITS,):
        changes = [
            f"{display(image.name)}: {words}"
            for was, now in pairs
            if (image := now or was) and (words := _change(was, now, kinds))
        ]
        if changes:
            more = len(changes) - _NAMED
            others = f", and {more:,} more" if more > 0 else ""
            return [f"{', '.join(changes[:_NAMED])}{others}"]
    return []


def _change(
    was: TrainedImage | None,
    now: TrainedImage | None,
    kinds: Mapping[str, Callable[[Any, Any], str]],
) -> str:
    """Return in words how an image differs, "" where not in these respects."""
    if was is None or now is None:
        return _appeared("" if now is None else now.id)
    for name, words in kinds.items():
        if getattr(was, name) != getattr(now, name):
            return words(getattr(was, name), getattr(now, name))
    return ""


def _pairs(
    old: Sequence[TrainedImage], new: Sequence[TrainedImage]
) -> Iterable[tuple[TrainedImage | None, TrainedImage | None]]:
    """Yield the images that differ, old and new: those of one name, then those of one content; an
    image that was removed or added has no partner.
    """
    was, now = _without_equal(old, new), _without_equal(new, old)
    for key in ("name", "id"):
        partners: dict[str, list[TrainedImage]] = {}
        for image in now:
            partners.setdefault(getattr(image, key), []).append(image)
        alone = []
        for image in was:
            if same := partners.get(getattr(image, key)):
                yield image, same.pop(0)
            else:
                alone.append(image)
        was, now = alone, [image for images in partners.values() for image in images]
    # An image that is trained at more or fewer resolutions was neither added nor removed.
    before, after = ({(image.name, image.id) for image in images} for images in (old, new))
    for image in was:
        yield image, replace(image, samples=0) if (image.name, image.id) in after else None
    for image in now:
        yield replace(image, samples=0) if (image.name, image.id) in before else None, image


def _without_equal(
    images: Sequence[TrainedImage], others: Sequence[TrainedImage]
) -> list[TrainedImage]:
    """Return the images that are not also among the others, under any name."""
    counts = Counter(astuple(image)[1:] for image in others)
    result = []
    for image in images:
        if counts[astuple(image)[1:]]:
            counts[astuple(image)[1:]] -= 1
        else:
            result.append(image)
    return result


def _effects_of_length(options: TrainOptions, old: int, new: int, step: int) -> list[str]:
    """Return what another number of steps changes besides the length, in words."""
    effects = []
    warmup = options.token_warmup_step
    if 0 < warmup < 1:
        effects.append(
            f"token_warmup_step = {warmup:g} takes {int(warmup * new):,} steps instead of "
            f"{int(warmup * old):,}"
        )
    if options.lr_scheduler_type:  # its arguments say how long it is
        return effects
    factor = SCHEDULES[options.lr_scheduler]
    before, after = schedule(options, old), schedule(options, new)
    changes = {
        n: abs(factor(n, after) - factor(n, before))
        for n in range(min(old, new))
        if factor(n, after) != factor(n, before)
    }
    to_come = [n for n in changes if n >= step]
    if to_come:
        # The next step, unless its change is too small to be seen.
        n = to_come[0] if changes[to_come[0]] >= _VISIBLE else max(to_come, key=changes.__getitem__)
        effects.insert(
            0,
            f"the LR schedule {options.lr_scheduler} becomes one of {counted(new, 'step')}: "
            f"step {n + 1:,} has {factor(n, after):.1%} of the learning rate instead of "
            f"{factor(n, before):.1%}",
        )
    elif changes:  # a warmup that is a share of the steps, and is over
        effects.insert(
            0,
            f"with {counted(new, 'step')} the LR schedule {options.lr_scheduler} would have had "
            f"other learning rates up to step {max(changes) + 1:,}, which the run has passed",
        )
    return effects


def _short(value: object) -> str:
    if value is None:
        return "not set"
    text = str(value).lower() if isinstance(value, bool) else display(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
