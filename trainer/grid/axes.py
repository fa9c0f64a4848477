"""The axes of a grid: what each value changes in a cell, and how it is labelled."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.words import counted
from trainer.grid import values
from trainer.grid.loras import GridLora
from trainer.monitor.prompts import Prompt

# What the command line calls the axes, in the order in which they change a cell.
NAMES: Final = (
    "base", "epoch", "lora", "weight", "unet-weight", "text-weight", "prompt", "size", "seed",
    "steps", "cfg", "sampler", "clip-skip", "sr",
)  # fmt: skip
# Axes along which the LoRA changes, by its file or its weights (field of a cell): the first of them
# gets the value "without".
FILE_AXES: Final = ("epoch", "lora")
WEIGHT_AXES: Final = {"weight": "weight", "unet-weight": "unet", "text-weight": "text"}
LORA_AXES: Final = (*FILE_AXES, *WEIGHT_AXES)
_MOST_CLIP_SKIP: Final = 12
_SEEDS: Final = 2**32  # seeds that are drawn, as in the web interfaces
WITHOUT: Final = "without"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """What one cell shows. base: as --base names it. lora: None for the base alone. weight: of the
    LoRA, times unet or text: of that part.
    """

    base: str
    lora: GridLora | None
    weight: float = 1.0
    unet: float = 1.0
    text: float = 1.0
    prompt: Prompt
    clip_skip: int

    @property
    def weights(self) -> tuple[float, float]:
        """Return the weights of the UNet and of the text encoders."""
        return (
            round(self.weight * self.unet, 6) + 0.0,
            round(self.weight * self.text, 6) + 0.0,
        )


@dataclass(frozen=True, slots=True)
class AxisValue:
    """One value of an axis. label, note: how it is called, and a second, fainter line. value: None
    for "without the LoRA".
    """

    value: Any
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a grid."""

    name: str
    values: tuple[AxisValue, ...]

    def apply(self, value: AxisValue, cell: CellRequest) -> CellRequest:
        """Return a cell at a value of this axis."""
        if self.name in LORA_AXES and value.value is None:
            return replace(cell, lora=None)
        return _CHANGES[self.name](cell, value.value)


@dataclass(frozen=True, slots=True)
class GridContent:
    """What the axes may choose from. search: what the axis sr replaces; replacements: by what."""

    loras: tuple[GridLora, ...]
    prompts: tuple[Prompt, ...]
    replacements: str = ""


def parse(text: str, content: GridContent) -> Axis:
    """Parse `name` or `name=values`. Raises ConfigError."""
    name, sign, given = text.partition("=")
    name = name.strip().lower().replace("_", "-")
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, f"the axes are {', '.join(NAMES)}", cutoff=0.6)
        raise ConfigError(f"there is no axis {display(name) or '(nothing)'}", hint=hint)
    if sign and not given.strip():
        raise ConfigError(f"the axis {name} has no values", hint=_example(name))
    axis = Axis(name, tuple(_PARSERS[name](name, given.strip(), content)))
    seen: set[str] = set()
    for value in axis.values:
        if value.label in seen:
            raise ConfigError(
                f"the axis {name} has {display(value.label)} twice", hint="give each value once"
            )
        seen.add(value.label)
    return axis


def _example(name: str) -> str:
    return f"write {_EXAMPLES.get(name, f'{name}=1,2,3')}"


_EXAMPLES: Final[Mapping[str, str]] = {
    "base": "base=first.safetensors,second.safetensors",
    "weight": "weight=0.5,0.8,1",
    "unet-weight": "unet-weight=0,0.5,1",
    "text-weight": "text-weight=0,0.5,1",
    "size": "size=512x512,512x768",
    "seed": "seed=1-4",
    "steps": "steps=20,30",
    "cfg": "cfg=4,7",
    "sampler": "sampler=euler_a,dpmsolver++",
    "clip-skip": "clip-skip=1,2",
    "sr": 'sr=kitsu,1girl, or --sr "kitsu=kitsu,1girl"',
    "epoch": "epoch, or epoch=2,4,6",
    "lora": "lora, or lora=NAME,NAME",
    "prompt": "prompt, or prompt=1,3",
}


# ---- values


def _required(name: str, given: str) -> str:
    if not given:
        raise ConfigError(f"the axis {name} has no values", hint=_example(name))
    return given


def _epochs(name: str, given: str, content: GridContent) -> list[AxisValue]:
    loras = sorted(content.loras, key=lambda lora: lora.age)
    for lora in loras:
        if lora.run != loras[0].run:
            raise ConfigError(
                f"{display(loras[0].path.name)} and {display(lora.path.name)} are not of one run",
                hint="compare files of several runs with the axis lora",
            )
    every = [AxisValue(lora, *_age(lora, loras)) for lora in loras]
    labels = [value.label for value in every]
    for value in every:
        if labels.count(value.label) > 1:
            names = [display(v.value.path.name) for v in every if v.label == value.label]
            raise ConfigError(
                f"{names[0]} and {names[1]} are both of {value.label}",
                hint="compare them with the axis lora",
            )
    if not given:
        return every
    chosen: list[AxisValue] = []
    for part in values.split(given, name):
        if part.lower() in ("best", "last"):
            numbers: list[float | str] = [part.lower()]
        else:
            numbers = [*values.numbers(part, name, whole=True)]
        for number in numbers:
            chosen.append(_epoch(number, every, name))
    return chosen


def _epoch(wanted: float | str, every: Sequence[AxisValue], name: str) -> AxisValue:
    plain = [value for value in every if not value.value.best]
    if wanted == "last" and plain:
        return plain[-1]
    for value in every:
        lora: GridLora = value.value
        if lora.best if wanted == "best" else lora.epoch == wanted and not lora.best:
            return value
    has = ", ".join(str(v.value.epoch) if not v.value.best else "best" for v in every)
    shown = wanted if isinstance(wanted, str) else f"{wanted:g}"
    raise ConfigError(f"no LoRA is of epoch {shown}", hint=f"there are {has}")


def _age(lora: GridLora, loras: Sequence[GridLora]) -> tuple[str, str]:
    """Return the label and the note of a LoRA of a run: by its step, where an epoch has several."""
    epochs = [other.epoch for other in loras if not other.best]
    step = "" if lora.step is None else f"step {lora.step:,}"
    if lora.best:
        epoch = "" if lora.epoch is None else f"epoch {lora.epoch}"
        return "best", ", ".join(filter(None, (epoch, step)))
    if lora.epoch is None and not step:
        return lora.name, ""
    if lora.epoch is None or (epochs.count(lora.epoch) > 1 and step):
        return step, "" if lora.epoch is None else f"epoch {lora.epoch}"
    return f"epoch {lora.epoch}", step


def _loras(name: str, given: str, content: GridContent) -> list[AxisValue]:
    by_name: dict[str, GridLora] = {}
    for lora in content.loras:
        if lora.name in by_name:
            raise ConfigError(
                f"{display(by_name[lora.name].path)} and {display(lora.path)} have one name",
                hint="rename one of them: cells are labelled by it",
            )
        by_name[lora.name] = lora
    chosen = values.split(given, name) if given else list(by_name)
    for text in chosen:
        if text not in by_name:
            hint = did_you_mean(text, by_name, f"the LoRAs are {', '.join(by_name)}", cutoff=0.6)
            raise ConfigError(f"there is no LoRA {display(text)}", hint=hint)
    return [AxisValue(by_name[text], text) for text in chosen]


def _weights(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    parsed = values.numbers(_required(name, given), name, whole=False)
    return [
        AxisValue(None, WITHOUT, "weight 0")
        if name == "weight" and value == 0
        else AxisValue(value, f"{name.replace('-', ' ')} {value:g}")
        for value in parsed
    ]


def _prompts(name: str, given: str, content: GridContent) -> list[AxisValue]:
    count = len(content.prompts)
    numbers = values.numbers(given, name, whole=True) if given else range(1, count + 1)
    chosen: list[AxisValue] = []
    for number in numbers:
        if not 1 <= number <= count:
            raise ConfigError(
                f"there is no prompt {number:g}", hint=f"there are {counted(count, 'prompt')}"
            )
        prompt = content.prompts[int(number) - 1]
        chosen.append(AxisValue(prompt, prompt.text, f"prompt {int(number)}, seed {prompt.seed}"))
    texts = [value.label for value in chosen]
    if len(set(texts)) == len(texts):
        return chosen
    # One text with different flags.
    return [replace(v, label=f"{v.note}: {v.label}", note="") for v in chosen]


def _seeds(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    chosen: list[AxisValue] = []
    for number in values.numbers(_required(name, given), name, whole=True):
        seed = int(number)
        if seed == -1:  # drawn, but the same again in each run of the command
            digest = hashlib.sha256(f"seed {len(chosen)}".encode()).digest()
            seed = int.from_bytes(digest[:8], "big") % _SEEDS
        chosen.append(AxisValue(seed, f"seed {seed}"))
    return chosen


def _steps(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    parsed = values.numbers(_required(name, given), name, whole=True)
    return [AxisValue(int(n), counted(int(n), "step")) for n in parsed]


def _guidance(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    parsed = values.numbers(_required(name, given), name, whole=False)
    return [AxisValue(n, f"cfg {n:g}") for n in parsed]


def _samplers(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    return [AxisValue(text, text) for text in values.split(_required(name, given), name)]


def _clip_skips(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    parsed = values.numbers(_required(name, given), name, whole=True)
    for n in parsed:
        if not 1 <= n <= _MOST_CLIP_SKIP:
            raise ConfigError(
                f"clip-skip={n:g} is not between 1 and {_MOST_CLIP_SKIP}", hint=_example(name)
            )
    return [AxisValue(int(n), f"clip skip {int(n)}") for n in parsed]


def _sizes(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    chosen: list[AxisValue] = []
    for text in values.split(_required(name, given), name):
        match = re.fullmatch(r"(\d{1,5})(?:\s*[x×]\s*(\d{1,5}))?", text.lower())
        if match is None:
            raise ConfigError(f"size={display(text)} is not a size", hint=_example(name))
        width, height = int(match[1]), int(match[2] or match[1])
        chosen.append(AxisValue((width, height), f"{width} x {height}"))
    return chosen


def _bases(name: str, given: str, _content: GridContent) -> list[AxisValue]:
    parts = values.split(_required(name, given), name)
    stems = [Path(text).stem if text.endswith(".safetensors") else text for text in parts]
    unique = len(set(stems)) == len(stems)
    return [
        AxisValue(text, stem if unique else text) for text, stem in zip(parts, stems, strict=True)
    ]


def _replacements(name: str, given: str, content: GridContent) -> list[AxisValue]:
    """Return what is searched with each replacement: `kitsu,1girl` searches the first value, and
    `fox=kitsu,1girl` another text.
    """
    if given and content.replacements:
        raise ConfigError("the axis sr has its values twice", hint="leave out one of them, or --sr")
    parts = values.split(_required(name, given or content.replacements), name)
    search, sign, first = parts[0].partition("=")
    search = search.strip() if sign else parts[0]
    if not search:
        raise ConfigError("the axis sr searches nothing", hint=_example(name))
    if sign:
        parts[0] = first.strip()
    pattern = whole_word(search)
    if not any(pattern.search(f"{p.text}\n{p.negative}") for p in content.prompts):
        raise ConfigError(
            f"no prompt has {display(search)}", hint="the first value of sr is what is replaced"
        )
    return [AxisValue((search, text), text or "(nothing)") for text in parts]


def whole_word(text: str) -> re.Pattern[str]:
    """Return a pattern that finds a text, but not inside a longer word: `ann` not in `annie`."""
    before = r"(?<![A-Za-z0-9_])" if re.match(r"[A-Za-z0-9_]", text) else ""
    after = r"(?![A-Za-z0-9_])" if re.search(r"[A-Za-z0-9_]$", text) else ""
    return re.compile(before + re.escape(text) + after)


_Parser = Callable[[str, str, GridContent], list[AxisValue]]
_PARSERS: Final[Mapping[str, _Parser]] = {
    "base": _bases, "epoch": _epochs, "lora": _loras, "weight": _weights,
    "unet-weight": _weights, "text-weight": _weights, "prompt": _prompts, "size": _sizes,
    "seed": _seeds, "steps": _steps, "cfg": _guidance, "sampler": _samplers,
    "clip-skip": _clip_skips, "sr": _replacements,
}  # fmt: skip


# ---- what a value changes


def _in_prompt(field: str) -> Callable[[CellRequest, Any], CellRequest]:
    return lambda cell, value: replace(cell, prompt=replace(cell.prompt, **{field: value}))


def _in_cell(field: str) -> Callable[[CellRequest, Any], CellRequest]:
    return lambda cell, value: replace(cell, **{field: value})


def _with_size(cell: CellRequest, size: tuple[int, int]) -> CellRequest:
    return replace(cell, prompt=replace(cell.prompt, width=size[0], height=size[1]))


def _replaced(cell: CellRequest, pair: tuple[str, str]) -> CellRequest:
    pattern, text = whole_word(pair[0]), pair[1]
    prompt = replace(
        cell.prompt,
        text=pattern.sub(lambda _: text, cell.prompt.text),
        negative=pattern.sub(lambda _: text, cell.prompt.negative),
    )
    return replace(cell, prompt=prompt)


_CHANGES: Final[Mapping[str, Callable[[CellRequest, Any], CellRequest]]] = {
    "base": _in_cell("base"), "epoch": _in_cell("lora"), "lora": _in_cell("lora"),
    **{name: _in_cell(field) for name, field in WEIGHT_AXES.items()},
    "prompt": _in_cell("prompt"), "size": _with_size, "seed": _in_prompt("seed"),
    "steps": _in_prompt("steps"), "cfg": _in_prompt("guidance"),
    "sampler": _in_prompt("sampler"), "clip-skip": _in_cell("clip_skip"), "sr": _replaced,
}  # fmt: skip


# ---- which axes there are


def chosen(given: Sequence[str], content: GridContent, *, compare_base: bool) -> tuple[Axis, ...]:
    """Return the axes x, y and z. given: as options name them; "" where none is. compare_base: the
    first axis along which the LoRA changes gets "without" as its first value.

    Without axes of its own a grid compares its LoRAs, or weights of its only one, for each prompt.
    Raises ConfigError where the axes do not fit each other, the LoRAs or the prompts.
    """
    texts = [text.strip() for text in given]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts[1:]:
        raise ConfigError("there is a z axis without a y axis", hint="call it --y")
    named = [parse(text, content) for text in texts if text]
    if not texts or not texts[0]:
        named.insert(0, _default(content))
    if content.replacements and not any(axis.name == "sr" for axis in named):
        named.append(parse("sr", content))
    if len(content.prompts) > 1 and not any(axis.name == "prompt" for axis in named):
        if len(named) == 3:
            raise ConfigError(
                f"there are {counted(len(content.prompts), 'prompt')} and no axis for them",
                hint="make one axis prompt, or give one prompt with --prompt",
            )
        named.append(parse("prompt", content))
    _refuse_contradictions(named, content)
    if compare_base:
        named = _with_base(named, content)
    if len(named) > 3:
        raise ConfigError(
            f"a grid has three axes, and these are {len(named)}: "
            + ", ".join(axis.name for axis in named),
            hint="leave out one of them",
        )
    return tuple(named)


def _default(content: GridContent) -> Axis:
    if len(content.loras) == 1:
        return parse("weight=0.5,0.75,1", content)
    epochs = [lora.epoch for lora in content.loras if not lora.best]
    one_run = len({lora.run for lora in content.loras}) == 1 and None not in epochs
    return parse("epoch" if one_run else "lora", content)


def _refuse_contradictions(axes: Sequence[Axis], content: GridContent) -> None:
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two axes are {name}", hint="give each axis another name")
    if "epoch" in names and "lora" in names:
        raise ConfigError("epoch and lora are both the LoRA file", hint="leave out one of them")
    if len(content.loras) > 1 and not {*FILE_AXES} & {*names}:
        raise ConfigError(
            f"there are {counted(len(content.loras), 'LoRA')} and no axis for them",
            hint="make one axis epoch or lora, or name one file",
        )


def _with_base(axes: list[Axis], content: GridContent) -> list[Axis]:
    """Return the axes with the value "without" at the first along which the LoRA changes; where
    there is none, with an axis for it in front.
    """
    without = AxisValue(None, WITHOUT, "the LoRA")
    for n, axis in enumerate(axes):
        if axis.name in LORA_AXES:
            if any(value.value is None for value in axis.values):
                return axes
            changed = replace(axis, values=(without, *axis.values))
            return [*axes[:n], changed, *axes[n + 1 :]]
    if len(axes) == 3:
        raise ConfigError(
            "there is no axis for the images without the LoRA",
            hint="make one axis weight, or leave these images out with --no-base",
        )
    only = content.loras[0]
    return [Axis("lora", (without, AxisValue(only, only.name))), *axes]
