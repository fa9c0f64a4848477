"""The caption stage: images are decoded in threads, and one captioner describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.records import Done, Failed, ImageRecord, Outcome
from datasetkit.images import pixels
from taggers.captioner import Captioner, Description, NoDescription, ResolvedCaptioner


@dataclass(frozen=True, slots=True)
class CaptionStage:
    """Which captioner, and the prompt of each image. batch_size: the captioner's, once it is
    open.
    """

    resolved: ResolvedCaptioner
    prompts: Mapping[Path, str]
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS
    batch_size: int = 1
    name: str = "caption"

    @contextmanager
    def open(self) -> Iterator[CaptionWorker]:
        """Load the model, or open the connection, in this process."""
        captioner = self.resolved.open()
        try:
            yield CaptionWorker(captioner, self.prompts, self.max_pixels)
        finally:
            captioner.close()


class CaptionWorker:
    """A captioner at work."""

    def __init__(self, captioner: Captioner, prompts: Mapping[Path, str], max_pixels: int) -> None:
        self.captioner, self._prompts, self._max_pixels = captioner, prompts, max_pixels

    def prepare(self, record: ImageRecord) -> object:
        return self.captioner.prepare(pixels.load(record.path, max_pixels=self._max_pixels))

    def process(
        self, batch: Sequence[tuple[ImageRecord, object]]
    ) -> Sequence[Outcome[Description]]:
        asked = [(image, self._prompts[record.path]) for record, image in batch]
        answers = self.captioner.describe(asked)
        return [
            Failed(record.path, answer.reason, answer.hint)
            if isinstance(answer, NoDescription)
            else Done(record, answer, answer.note)
            for (record, _), answer in zip(batch, answers, strict=True)
        ]
