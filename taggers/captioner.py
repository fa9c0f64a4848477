"""The interface of a captioner: a model that describes an image in sentences.

To add one, write a class that follows `Captioner` with a static method `resolve(name, options,
reporter) -> ResolvedCaptioner`, and name it in `taggers.captioners.ENGINES`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

# The presets that every engine knows, the shortest caption first. `training` is for engines that
# follow instructions.
CAPTION, DETAILED, PARAGRAPH, TRAINING = "caption", "detailed", "paragraph", "training"


@dataclass(frozen=True, slots=True)
class CaptionerIdentity:
    """All that a description depends on, besides the image and the prompt.

    revision: of the model's files. settings: how the text is generated.
    """

    name: str
    revision: str
    settings: str

    def recipe(self, prompt: str) -> str:
        """Return the key under which descriptions with a prompt are stored."""
        parts = json.dumps([self.name, self.revision, self.settings, prompt])
        return f"caption-1 {hashlib.sha256(parts.encode('utf-8', 'replace')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Description:
    """What a model wrote about an image, as one line. note: what is wrong with it, or ""."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class NoDescription:
    """Why an image has no description: the model refused, or the server failed."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CaptionerOptions:
    """Where a captioner is found and how it is run.

    Of models that run here: model_dir: a folder with its files. provider: as for taggers.
    batch_size: images per call, None = what suits the device. beams: of the search, 1 = greedy.

    Of a server: endpoint: the base of its API. model: its name there, "" = the only one that the
    server has. remote: it may be another machine. system: the system prompt. temperature, top_p,
    seed: of the sampling. max_side: the long edge of the images that are sent. timeout: seconds for
    one answer. jobs: requests at once.

    max_tokens: the longest answer.
    """

    model_dir: Path | None = None
    provider: str = "auto"
    threads: int = 0
    batch_size: int | None = None
    beams: int = 3
    endpoint: str = ""
    model: str = ""
    remote: bool = False
    system: str = ""
    temperature: float = 0.2
    top_p: float = 1.0
    seed: int = 0
    max_side: int = 1024
    timeout: float = 300.0
    jobs: int = 1
    max_tokens: int = 300


class Captioner(Protocol):
    """A loaded model, or an open connection to one.

    device: where it runs, for messages. batch_size: how many images one call of `describe` takes
    best; any number works.
    """

    @property
    def device(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def prepare(self, image: Image.Image) -> object:
        """Turn an image from `datasetkit.images.pixels.load` into an input of `describe`.

        It may be called from many threads.
        """
        ...

    def describe(
        self, batch: Sequence[tuple[object, str]]
    ) -> Sequence[Description | NoDescription]:
        """Describe images, each with its prompt: one answer for each, in order."""
        ...

    def close(self) -> None:
        """Free the model, or end the requests that are on their way."""
        ...


@dataclass(frozen=True, slots=True)
class ResolvedCaptioner:
    """A captioner that was found but not loaded.

    open: loads it. fetch: downloads the files that are missing, or asks whether the server is
    there. notice: a warning to show now, or "". follows_instructions: a prompt is a text of the
    user; otherwise it is one of `prompts`, or a task in angle brackets.
    """

    identity: CaptionerIdentity
    open: Callable[[], Captioner]
    fetch: Callable[[], None]
    notice: str = ""
    follows_instructions: bool = False
    prompts: tuple[str, ...] = (CAPTION, DETAILED, PARAGRAPH)
