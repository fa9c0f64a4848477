"""The contract between heavy work on images (a stage) and what decides where it runs (an
executor).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from datasetkit.core.records import ImageRecord, Outcome

T_co = TypeVar("T_co", covariant=True)


class Worker(Protocol[T_co]):
    """A stage at work in one process: its models are loaded."""

    def prepare(self, record: ImageRecord) -> object:
        """Do what needs one image alone: decode, preprocess, shrink.

        Runs in several threads at once, so it changes nothing of the worker. What it returns goes
        to `process`. Raises InputError for an image that cannot be worked on: that image becomes
        `Failed`, the others go on. An error about the set-up (StorageError, ModelFileError, ...)
        stops the run; anything else is a bug.
        """

    def process(self, batch: Sequence[tuple[ImageRecord, object]]) -> Sequence[Outcome[T_co]]:
        """Finish a batch of prepared images: one outcome for each, in the batch's order.

        Never runs twice at once. A batch holds `batch_size` images, the last one what is left;
        never none.
        """


class Stage(Protocol[T_co]):
    """What is to be done, as frozen picklable options; it holds no model and no open file.

    An image's outcome must not depend on the other images of its batch.
    """

    @property
    def name(self) -> str:
        """What the progress line and the report call it."""

    @property
    def batch_size(self) -> int:
        """How many images `process` takes at once, at least 1."""

    def open(self) -> AbstractContextManager[Worker[T_co]]:
        """Load the models in the process that calls this, for as long as the context is held.

        Raises DskError when the set-up cannot work: nothing has been done then.
        """
