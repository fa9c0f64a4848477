"""The tag stage: decode and preprocess in parallel, one model for all; out come rows of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from datasetkit.core.records import Done, ImageRecord, Outcome
from datasetkit.executors.batches import WorkerFacts
from datasetkit.images import pixels
from taggers.base import FastDecoder, ResolvedTagger, Tagger, pack


@dataclass(frozen=True, slots=True)
class PackedScores:
    """The scores of one image by one model: the packed row that the store keeps."""

    row: bytes


@dataclass(frozen=True, slots=True)
class TagStage:
    """Which tagger, and how images are read for it. batch_size: the tagger's, once it is open."""

    resolved: ResolvedTagger
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS
    batch_size: int = 1
    name: str = "tag"

    @contextmanager
    def open(self) -> Iterator[TagWorker]:
        """Load the model in this process."""
        tagger = self.resolved.open()
        try:
            yield TagWorker(tagger, self.max_pixels)
        finally:
            tagger.close()


class TagWorker:
    """A loaded tagger at work."""

    def __init__(self, tagger: Tagger, max_pixels: int) -> None:
        self.tagger = tagger
        self.max_pixels = max_pixels

    @property
    def facts(self) -> WorkerFacts:
        tagger = self.tagger
        return WorkerFacts(
            tagger.batch_size, tagger.fills_cores, tagger.device, tagger.notice,
            tagger.labels.pairs(),
        )  # fmt: skip

    def prepare(self, record: ImageRecord) -> object:
        tagger = self.tagger
        if isinstance(tagger, FastDecoder) and tagger.decode_at is not None:
            return tagger.prepare_shrunk(
                pixels.load_reduced(
                    record.path,
                    tagger.decode_at,
                    max_pixels=self.max_pixels,
                    factor=tagger.decode_factor,
                )
            )
        return tagger.prepare(pixels.load(record.path, max_pixels=self.max_pixels))

    def process(
        self, batch: Sequence[tuple[ImageRecord, object]]
    ) -> Sequence[Outcome[PackedScores]]:
        rows = self.tagger.scores([prepared for _, prepared in batch])
        return [
            Done(record, PackedScores(pack(row)))
            for (record, _), row in zip(batch, rows, strict=True)
        ]
