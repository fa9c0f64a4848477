"""The WD14 taggers and others like them: an ONNX file with a `selected_tags.csv` or a
`tag_mapping.json`, from the hub or from a folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import ModelFileError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.images.pixels import ReducedImage
from datasetkit.vision import providers
from taggers import folder, models, precision, sessions
from taggers.base import Identity, Labels, ResolvedTagger, TaggerOptions, round_scores
from taggers.kinds import KINDS, ModelKind
from taggers.labels import read_labels
from taggers.models import MODEL_FILE, HubModel, ModelFiles
from taggers.preprocess import (
    FAST_FACTOR,
    FAST_PREPROCESS,
    PREPROCESS,
    shrunk_to_square_bgr,
    to_square_bgr,
)

# A batch gains nothing on a CPU; without one a graphics card is idle most of the time.
CPU_BATCH, CARD_BATCH = 1, 8
ON_THE_CPU = ("cpu", "openvino")
# How far a probability may leave 0 to 1 by rounding; logits leave it by far.
SLACK = 1e-3


class Wd14Tagger:
    """A loaded model; see `taggers.base.Tagger` and `taggers.base.FastDecoder`."""

    def __init__(
        self,
        files: ModelFiles,
        identity: Identity,
        *,
        options: TaggerOptions | None = None,
        pr_threshold: float | None = None,
    ) -> None:
        """Load files that were checked before. Raises ModelFileError if weights and labels do not
        fit.
        """
        options = options or TaggerOptions()
        self.identity = identity
        self.pr_threshold = pr_threshold
        self.labels: Labels = read_labels(files.labels)
        self._kind = KINDS[files.labels.name]
        self._weights = files.weights
        self._session: Any = sessions.open_session(
            precision.weights_for(files.weights, options.precision),
            provider=options.provider,
            threads=options.threads,
            precision=options.precision,
        )
        self.device = providers.device(self._session)
        self.notice = (
            ""
            if options.precision != "float32"
            else sessions.idle_card(self._session, options.provider)
        )
        self._input, self._fixed_batch, self._size = _input(
            self._session, files.weights, self._kind
        )
        self.decode_at = self._size if options.fast_decode else None
        self.decode_factor = FAST_FACTOR
        self._output = _output(self._session, files.weights)
        self._run_session = sessions.runner(self._session, self._input, self._output.name)
        self._require_width(self._output.shape[-1])
        on_the_cpu = self.device in ON_THE_CPU
        cores = os.cpu_count() or 1
        self.fills_cores = on_the_cpu and (options.threads or cores) >= cores
        default = CPU_BATCH if on_the_cpu else CARD_BATCH
        self.batch_size: int = self._fixed_batch or options.batch_size or default

    @staticmethod
    def resolve(name: str, options: TaggerOptions, reporter: Reporter = SILENT) -> ResolvedTagger:
        """Find a model by name, or in `options.model_dir`, without loading it.

        A pinned model is not downloaded here: stored scores need neither its files nor a
        connection.
        """
        if options.model_dir is not None:
            return _in_folder(name, options.model_dir, options)
        named = models.find(name)
        model = models.pin(named)
        identity = _identity(model.name, model.revision, options)
        is_branch = named.revision != model.revision
        return ResolvedTagger(
            identity,
            open=partial(_open_from_hub, model, identity, options),
            fetch=partial(_fetch, model),
            notice=f"{name} has no commit; to get the same tags later, write {model.name}"
            if is_branch
            else "",
            pr_threshold=model.pr_threshold,
        )

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the image as the model's input, e.g. (size, size, 3), BGR, 0 to 255.

        It may be called from many threads.
        """
        return self._kind.tensor(to_square_bgr(image, self._size))

    def prepare_shrunk(self, image: ReducedImage) -> NDArray[np.float32]:
        """Do what `prepare` does, with an image that its decoder reduced."""
        return self._kind.tensor(shrunk_to_square_bgr(image, self._size))

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded probabilities, (len(batch), len(labels)).

        Raises ModelFileError if the model fails, or its output is not probabilities.
        """
        images = [np.asarray(image, np.float32) for image in batch]
        count = self._fixed_batch or self.batch_size
        rows = [self._run(images[at : at + count]) for at in range(0, len(images), count)]
        return (
            round_scores(np.concatenate(rows))
            if rows
            else np.zeros((0, len(self.labels)), np.float32)
        )

    def close(self) -> None:
        """Free the session."""
        self._session = None
        del self._run_session

    def _run(self, images: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        missing = (self._fixed_batch or 0) - len(images)
        filled = images + [images[-1]] * max(0, missing)
        try:
            output = self._run_session(np.stack(filled))
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ModelFileError(
                f"{self._weights} failed on {self.device}: {str(error).splitlines()[0]}",
                hint="if memory ran out, use a smaller batch size or --provider cpu",
            ) from error
        self._require_width(output.shape[-1])
        probabilities = self._kind.probabilities(output[: len(images)])
        if not (
            np.isfinite(output).all()
            and probabilities.min() >= -SLACK
            and probabilities.max() <= 1 + SLACK
        ):
            raise ModelFileError(
                f"the output of {self._weights} is not probabilities",
                hint=f"a model with {self._kind.label_file} ends in a sigmoid; half-precision "
                "copies may overflow",
            )
        return np.clip(probabilities, 0, 1)

    def _require_width(self, width: object) -> None:
        """Raise ModelFileError for the label file of another model, which would give wrong tags.

        width: of the output; if the model leaves it open, it is known only once it runs.
        """
        if isinstance(width, int) and width != len(self.labels):
            raise ModelFileError(
                f"{self._weights} scores {width} tags, its label file has {len(self.labels)}",
                hint=f"take {MODEL_FILE} and {self._kind.label_file} from the same repository "
                "and revision",
            )


def _identity(name: str, revision: str, options: TaggerOptions) -> Identity:
    return Identity(
        name, revision, FAST_PREPROCESS if options.fast_decode else PREPROCESS, options.precision
    )


def _fetch(model: HubModel) -> None:
    sessions.require_onnxruntime()
    models.fetch(model)


def _open_from_hub(model: HubModel, identity: Identity, options: TaggerOptions) -> Wd14Tagger:
    sessions.require_onnxruntime()
    files = models.fetch(model)
    models.require_intact(model, files)
    return Wd14Tagger(files, identity, options=options, pr_threshold=model.pr_threshold)


def _in_folder(name: str, path: Path, options: TaggerOptions) -> ResolvedTagger:
    model = models.MODELS.get(name)
    pr_threshold = model.pr_threshold if model else None
    files = folder.find(path)
    stamp = folder.stamp(files)
    identity = _identity(name, folder.content_hash(files), options)
    return ResolvedTagger(
        identity,
        open=partial(_open_from_folder, files, stamp, identity, options, pr_threshold),
        fetch=_nothing,
        pr_threshold=pr_threshold,
    )


def _open_from_folder(
    files: ModelFiles,
    stamp: object,
    identity: Identity,
    options: TaggerOptions,
    pr_threshold: float | None,
) -> Wd14Tagger:
    if folder.stamp(files) != stamp and folder.content_hash(files) != identity.revision:
        raise ModelFileError(
            f"{files.weights.parent}: the model's files changed during the run", hint="run again"
        )
    return Wd14Tagger(files, identity, options=options, pr_threshold=pr_threshold)


def _nothing() -> None:
    """Do nothing: `folder.find` has checked that the files are there."""


def _input(session: Any, weights: Path, kind: ModelKind) -> tuple[str, int | None, int]:
    """Return the input's name, its batch size (None if any), and its side in pixels."""
    first = session.get_inputs()[0]
    side = kind.side(first.shape)
    if side is None or first.type != "tensor(float)":
        raise ModelFileError(
            f"{weights} takes {first.type} {first.shape}; a model with {kind.label_file} takes "
            f"tensor(float) {kind.expected()}",
            hint=f"take {MODEL_FILE} and its label file from the same repository and revision",
        )
    return first.name, first.shape[0] if isinstance(first.shape[0], int) else None, side


def _output(session: Any, weights: Path) -> Any:
    first = session.get_outputs()[0]
    if len(first.shape) != 2:
        raise ModelFileError(f"{weights} gives {first.shape}; a tagger gives [batch, tags]")
    return first
