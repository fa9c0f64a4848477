"""Regularisation images to generate: prompts, sizes and seeds, and the record of each image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from datasetkit.captions import grammar
from datasetkit.captions.caption import (
    laid_out_text,
    name_in,
    normal_form,
    one_line,
    replaced_names,
    tag_form,
    with_sentences,
    with_source,
    with_tags,
)
from datasetkit.core.records import Caption
from datasetkit.dataset.buckets import Size
from datasetkit.images.parameters import parameters

RECORD: Final = 1  # the version of the record beside an image
# Sides are multiples of one latent pixel.
_STEP: Final = 8
_LEAST: Final = 64


@dataclass(frozen=True, slots=True)
class RegImage:
    """One image to generate. stem: of its file; prompt: also its caption; size: (width, height) in
    pixels.
    """

    index: int
    stem: str
    prompt: str
    size: Size
    seed: int


@dataclass(frozen=True, slots=True)
class RegSettings:
    """The settings that all images of a set share. model: its name, without folders; hash: sha256
    of its weights.
    """

    class_name: str
    model: str
    hash: str
    from_captions: bool
    negative: str
    steps: int
    cfg: float
    sampler: str
    seed: int
    clip_skip: int


@dataclass(frozen=True, slots=True)
class RegRecord:
    """How an image was generated, written to `<stem>.json`."""

    image: RegImage
    settings: RegSettings
    program: str

    def text(self) -> str:
        """Return the text of the file."""
        record = {
            "version": RECORD,
            "program": self.program,
            **asdict(self.settings),
            **asdict(self.image),
        }
        # The set and the image both have a seed.
        record["seed"], record["set_seed"] = self.image.seed, self.settings.seed
        return json.dumps(record, ensure_ascii=False, indent=2) + "\n"

    def parameters(self) -> str:
        """Return the parameters in the format of the common web interfaces."""
        image, settings = self.image, self.settings
        return parameters(
            image.prompt, settings.negative, steps=settings.steps, sampler=settings.sampler,
            cfg=settings.cfg, seed=image.seed, size=image.size, model=settings.model,
            model_hash=settings.hash, clip_skip=settings.clip_skip, program=self.program,
        )  # fmt: skip


def parse(text: str) -> Mapping[str, Any] | None:
    """Parse a record; None for any other text."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    is_record = isinstance(record, dict) and record.get("version") == RECORD
    return record if is_record and "set_seed" in record else None


def difference(record: Mapping[str, Any], settings: RegSettings) -> str:
    """Describe the first setting in which an existing image differs; "" if there is none.

    A hash that is not known yet ("") is not compared.
    """
    now = asdict(settings)
    now["set_seed"] = now.pop("seed")
    for name, value in now.items():
        if name != "model" and record.get(name) != value and (name != "hash" or value):
            old, new = (str(setting)[:40] for setting in (record.get(name), value))
            return f"{name} was {old} and is {new}"
    return ""


def reclassed(caption: Caption, triggers: Sequence[str], class_name: str) -> Caption:
    """Replace the triggers of a training caption by the class: at its start, and inside sentences.
    One that is a sentence needs no second mention of the class.
    """
    removed = {normal_form(trigger) for trigger in triggers} | {normal_form(class_name)}
    caption = with_sentences(
        caption, lambda sentence: replaced_names(sentence, triggers, class_name)
    )
    is_named = caption.syntax.kind == "sentence" and name_in(
        class_name, (), sentences=caption.sentences
    )

    def change(tags: tuple[str, ...]) -> tuple[str, ...]:
        rest = [tag for tag in tags if tag_form(tag, caption.syntax) not in removed]
        return (*rest,) if is_named else (class_name, *rest)

    after = with_tags(caption, change)
    return after if after.source is None else with_source(after, laid_out_text(after))


def as_prompt(caption: Caption) -> str:
    """Return a caption as a prompt: its first line, with the first option of each wildcard."""
    if not caption.syntax.enable_wildcard:
        return one_line(caption)
    first = caption.text().split("\n")[0]
    return grammar.choose_wildcards(first, lambda options: options[0])


def images_to_generate(
    class_name: str, count: int, prompts: Sequence[str], sizes: Sequence[Size], seed: int
) -> tuple[RegImage, ...]:
    """Return the images to generate: prompts and sizes in turn, with consecutive seeds.

    So a larger set keeps the images of a smaller one.
    """
    stem = "_".join(class_name.split())
    return tuple(
        RegImage(
            n,
            f"{stem}_{n + 1:04d}",
            prompts[n % len(prompts)],
            usable_size(sizes[n % len(sizes)]),
            (seed + n) % 2**63,
        )
        for n in range(count)
    )


def usable_size(size: Size) -> Size:
    """Return a size of the same shape that can be generated: multiples of 8, at least 64."""
    scale = max(1.0, _LEAST / min(size))
    width, height = (int(side * scale) // _STEP * _STEP for side in size)
    return width, height
