"""Generated images: what is drawn for a regularisation set, in which sizes, and what is told of
each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from datasetkit.captions.caption import normal_form
from datasetkit.core.records import Caption
from datasetkit.dataset.buckets import Size

RECORD: Final = 1  # the version of what stands beside an image
# Under which other programs look for an image's prompt.
TEXT_KEY: Final = "parameters"
# Pixels that a side is a multiple of: one of the latent.
_STEP: Final = 8
_LEAST: Final = 64


@dataclass(frozen=True, slots=True)
class RegImage:
    """One image to draw. stem: of its file; prompt: also its caption; size: width and height in
    pixels.
    """

    index: int
    stem: str
    prompt: str
    size: Size
    seed: int


@dataclass(frozen=True, slots=True)
class RegSettings:
    """What all images of a set have in common. model: its name, without folders; hash: sha256 of
    its weights.
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
    """Where an image comes from, as it stands in `<stem>.json`."""

    wanted: RegImage
    settings: RegSettings
    program: str

    def text(self) -> str:
        """Return the file's text."""
        told = {
            "version": RECORD,
            "program": self.program,
            **asdict(self.settings),
            **asdict(self.wanted),
        }
        # Both have a seed: that of the set, and the image's own.
        told["seed"], told["set_seed"] = self.wanted.seed, self.settings.seed
        return json.dumps(told, ensure_ascii=False, indent=2) + "\n"

    def parameters(self) -> str:
        """Return what the user interfaces write into an image, and read from it."""
        wanted, settings = self.wanted, self.settings
        negative = f"\nNegative prompt: {settings.negative}" if settings.negative else ""
        width, height = wanted.size
        facts = {
            "Steps": settings.steps, "Sampler": settings.sampler, "CFG scale": f"{settings.cfg:g}",
            "Seed": wanted.seed, "Size": f"{width}x{height}", "Model hash": settings.hash[:10],
            "Model": settings.model, "Clip skip": settings.clip_skip, "Version": self.program,
        }  # fmt: skip
        return f"{wanted.prompt}{negative}\n" + ", ".join(
            f"{key}: {value}" for key, value in facts.items()
        )


def parse(text: str) -> Mapping[str, Any] | None:
    """Read a record; None for a text that is none."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return (
        told
        if isinstance(told, dict) and told.get("version") == RECORD and "set_seed" in told
        else None
    )


def differing(told: Mapping[str, Any], settings: RegSettings) -> str:
    """Return the first setting in which an image that is there differs, in words; "" for none.

    A model whose hash is not known yet ("") is not compared.
    """
    now = asdict(settings)
    now["set_seed"] = now.pop("seed")
    for name, value in now.items():
        if name != "model" and told.get(name) != value and (name != "hash" or value):
            was, is_now = (str(each)[:40] for each in (told.get(name), value))
            return f"{name} was {was} and is {is_now}"
    return ""


def reclassed(caption: Caption, triggers: Sequence[str], class_name: str) -> Caption:
    """Return a training caption with the class in the place of the trigger: first, and once."""
    gone = {normal_form(trigger) for trigger in triggers} | {normal_form(class_name)}
    return Caption((class_name, *(tag for tag in caption.tags if normal_form(tag) not in gone)))


def wanted(
    class_name: str, count: int, prompts: Sequence[str], sizes: Sequence[Size], seed: int
) -> tuple[RegImage, ...]:
    """Return the images to draw: prompts and sizes in turn, the seeds one after the other.

    So a set that grows keeps what it has.
    """
    stem = "_".join(class_name.split())
    return tuple(
        RegImage(
            n,
            f"{stem}_{n + 1:04d}",
            prompts[n % len(prompts)],
            fitted(sizes[n % len(sizes)]),
            (seed + n) % 2**63,
        )
        for n in range(count)
    )


def fitted(size: Size) -> Size:
    """Return a size that can be drawn, of the same shape: sides that are multiples of 8, none below
    64.
    """
    larger = max(1.0, _LEAST / min(size))
    width, height = (int(side * larger) // _STEP * _STEP for side in size)
    return width, height
