"""The caption stage: images are decoded in threads, and one captioner describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.records import Done, Failed, ImageRecord, Outcome
from datasetkit.executors.batches import WorkerFacts
from datasetkit.images import pixels
from taggers.captioner import Captioner, Description, NoDescription, ResolvedCaptioner


@dataclass(frozen=True, slots=True)
class PromptedImage:
    """An image, and what the captioner is asked about it."""

    record: ImageRecord
    prompt: str

    @property
    def path(self) -> Path:
        return self.record.path


@dataclass(frozen=True, slots=True)
class CaptionStage:
    """Which captioner. batch_size: the captioner's, once it is open."""

    resolved: ResolvedCaptioner
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS
    batch_size: int = 1
    name: str = "caption"

    @contextmanager
    def open(self) -> Iterator[CaptionWorker]:
        """Load the model, or open the connection, in this process."""
        captioner = self.resolved.open()
        try:
            yield CaptionWorker(captioner, self.max_pixels)
        finally:
            captioner.close()


class CaptionWorker:
    """A captioner at work."""

    def __init__(self, captioner: Captioner, max_pixels: int) -> None:
        self.captioner, self._max_pixels = captioner, max_pixels

    @property
    def facts(self) -> WorkerFacts:
        return WorkerFacts(self.captioner.batch_size, device=self.captioner.device)

    def prepare(self, item: PromptedImage) -> object:
        return self.captioner.prepare(pixels.load(item.path, max_pixels=self._max_pixels))

    def process(
        self, batch: Sequence[tuple[PromptedImage, object]]
    ) -> Sequence[Outcome[Description]]:
        asked = [(image, item.prompt) for item, image in batch]
        answers = self.captioner.describe(asked)
        return [
            Failed(item.path, answer.reason, answer.hint)
            if isinstance(answer, NoDescription)
            else Done(item.record, answer, answer.note)
            for (item, _), answer in zip(batch, answers, strict=True)
        ]
