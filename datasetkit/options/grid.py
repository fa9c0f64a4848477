"""Options of `dsk grid`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import CheckedOptions, check, option
from datasetkit.options.scan import Tags
from datasetkit.options.train import SAMPLERS

# Of a grid, beside the LoRAs.
FOLDER: Final = "grid"
_AXES: Final = "commands/grid.md#axes"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOptions(CheckedOptions):
    """`dsk grid`: the axes, what is drawn, and where.

    An axis is `name` or `name=values`, see trainer/grid/axes.py; "" is chosen by the files and the
    prompts. None takes what the prompt's own flags say, then [train], then the usual value.
    """

    x: str = option(
        "",
        "The axis of the columns: NAME or NAME=VALUES, such as epoch or weight=0.5,0.8,1.",
        see=_AXES,
        group="Grid",
        shown="epoch, lora or weight",
        change="the columns are to show something else",
    )
    y: str = option(
        "",
        "The axis of the rows.",
        see=_AXES,
        shown="prompt, if there are several",
        change="two things are to be compared at once",
    )
    z: str = option(
        "",
        "The third axis: a contact sheet for each of its values.",
        see=_AXES,
        shown="none",
        change="three things are to be compared at once",
    )
    prompt: tuple[str, ...] = option(
        (),
        "A prompt, with the flags of sample_prompts. Repeatable.",
        see="train.md#preview-images",
        repeat=True,
        shown="those of --prompts",
        change="you have no file of prompts",
    )
    prompts: str = option(
        "",
        "A text file with one prompt per line, as sample_prompts.",
        path="input file",
        shown="sample_prompts of [train]",
        change="other prompts are to be drawn than during the training",
    )
    sr: str = option(
        "",
        "The values of the axis sr, search and replace: TEXT=VALUE,VALUE,...",
        see=_AXES,
        shown="none",
        change="a word of the prompts is to be replaced by others",
    )
    negative: str | None = option(
        None,
        "The negative prompt: what must not be drawn.",
        shown="none",
        change="the model needs it: `lowres, bad anatomy` and such",
    )
    size: tuple[int, int] | None = option(
        None,
        "Width and height in pixels: 512 or 512x768; multiples of 8.",
        range=(64, 4096),
        unit="pixels",
        shown="resolution of [train]",
        change="the images must have another shape",
    )
    seed: int | None = option(
        None,
        "Seed of the first prompt; the next has one more.",
        range=(0, 2**63 - 1),
        shown="that of [train]",
        change="you want other images",
    )
    steps: int | None = option(
        None,
        "Steps of the sampler.",
        range=(1, 1000),
        unit="steps",
        shown="30",
        change="the model asks for another number",
    )
    cfg: float | None = option(
        None,
        "Guidance; at 1 and below none.",
        range=(0, 100),
        shown="7.5",
        change="the model asks for another number",
    )
    sampler: str | None = option(
        None,
        "The sampler.",
        see="train.md#preview-images",
        choices=SAMPLERS,
        shown="sample_sampler of [train]",
        change="the model asks for another one",
    )
    base: str = option(
        "",
        "The model that draws; tiny is part of the package.",
        path="model",
        shown="that of [train]",
        change="there is no dsk.toml, or another model is to draw",
    )
    baseline: bool = option(
        True,
        "Also draw what the base model makes of each cell without a LoRA.",
        flags=("--baseline/--no-base",),
        change="you have that column already: without it nothing can be judged",
    )
    score: bool = option(
        False,
        "Also measure each LoRA: loss on held-out images, tags that are found, distance to "
        "held-out and to training images, drift without the trigger; and suggest a file.",
        see="commands/grid.md#scores",
        change="the images alone do not decide it; it needs the dataset and takes longer",
    )
    data: str = option(
        "",
        "The dataset of the training.",
        path="input folder",
        needs="score",
        shown="that of dsk.toml",
        change="with `--score` and without a `dsk.toml`",
    )
    held_out: str = option(
        "",
        "A folder of images with captions that the training did not see.",
        path="input folder",
        needs="score",
        shown="those of validation_split",
        change="the training had no validation_split",
    )
    trigger: Tags = option(
        (),
        "The words without which a prompt must not show the subject.",
        needs="score",
        shown="those of the captions",
        change="the captions do not begin with it",
    )
    tagger: str = option(
        "",
        "The tagger that looks for the prompts' tags.",
        needs="score",
        shown="wd14 if it is on this machine, else basic",
        change="you tagged with another one",
    )
    out: str = option(
        "",
        "The folder of the grid.",
        path="output folder",
        shown="grid, beside the LoRAs",
        change="another grid is to be kept",
    )

    def __post_init__(self) -> None:
        check(self)
        for side in self.size or ():
            if side % 8:
                raise ConfigError(
                    f"size = {side}: a side is a multiple of 8", hint=f"give {side // 8 * 8}"
                )
