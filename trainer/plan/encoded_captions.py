"""Estimate what encoded captions take, on disk or in main memory. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.options.train import TrainOptions
from trainer import precision
from trainer.data import captions
from trainer.data.captions import CaptionSettings
from trainer.families import registry
from trainer.families.option_checks import frees_encoders
from trainer.plan import memory
from trainer.plan.memory import MemoryShare
from trainer.plan.model_shapes import ModelShapes
from trainer.plan.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class EncodedCaptions:
    """The captions that a run encodes before its first step and keeps.

    count: at most; 0 where the text encoders stay. size: bytes of each. copies: one on disk, which
    all processes share, or one in the main memory of each process.
    """

    count: int
    size: float
    copies: int
    on_disk: bool

    @property
    def bytes(self) -> float:
        """Return the bytes of all of them."""
        return self.count * self.size * self.copies

    def share(self) -> MemoryShare:
        """Return them as a part of the main memory."""
        processes = f" x {self.copies} processes" if self.copies > 1 else ""
        how = f"at most {self.count:,} x {self.size / 1e6:,.2f} MB{processes}"
        return MemoryShare("encoded captions", self.bytes, how)


def estimate(
    options: TrainOptions, plan: TrainingPlan, model: ModelShapes, tokens: float
) -> EncodedCaptions:
    """Estimate the encoded captions of a run. tokens: of a caption, on average."""
    options = precision.decided(options)
    family = registry.family(model.family)
    on_disk = options.cache_text_encoder_outputs_to_disk
    values = family.conditioning_values(model.anatomy.hidden_widths, round(tokens), options)
    return EncodedCaptions(
        texts(options, plan) if frees_encoders(options, family) else 0,
        values * memory.BYTES[options.mixed_precision],
        1 if on_disk else plan.batch_settings.processes,
        on_disk,
    )


def texts(options: TrainOptions, plan: TrainingPlan) -> int:
    """Return how many different captions a run encodes, at most: one that varies has a text for
    each sample of each epoch, or for so many epochs as text_wordings says.
    """
    epochs = min(plan.epochs, options.text_wordings or plan.epochs)
    fixed: set[tuple[str, CaptionSettings]] = set()
    varying = 0
    for image, samples in zip(plan.images, plan.samples, strict=True):
        if samples and captions.varies(image.caption, image.subset.captions):
            varying += samples * epochs
        elif samples:
            fixed.add((image.caption, image.subset.captions))
    return varying + len(fixed)
