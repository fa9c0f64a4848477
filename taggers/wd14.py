"""A WD14 tagger: a model of SmilingWolf's family as a running session, from the hub or from a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import ModelFileError
from datasetkit.core.events import SILENT, Reporter
from taggers import hub, models, onnx_file, sessions
from taggers.base import Identity, Labels, Resolved, TaggerOptions, round_scores
from taggers.labels import read_labels
from taggers.models import LABEL_FILE, MODEL_FILE, Model, ModelFiles
from taggers.preprocess import PREPROCESS, to_square_bgr

# On a CPU a batch gains nothing; a graphics card idles without one.
CPU_BATCH, CARD_BATCH = 1, 8
# A sigmoid leaves 0..1 by rounding only; logits leave it by far.
SLACK = 1e-3
CHECKSUM_SUFFIX = ".sha256"


class Wd14Tagger:
    """A loaded WD14 model; see `taggers.base.Tagger`."""

    def __init__(
        self,
        files: ModelFiles,
        identity: Identity,
        *,
        options: TaggerOptions | None = None,
        pr_threshold: float | None = None,
    ) -> None:
        """Load the files, which were checked before; raises ModelFileError where weights and labels do not fit."""
        options = options or TaggerOptions()
        self.identity = identity
        self.pr_threshold = pr_threshold
        self.labels: Labels = read_labels(files.labels)
        self._weights = files.weights
        self._session: Any = sessions.open_session(files.weights, provider=options.provider, threads=options.threads)
        self.device = sessions.device(self._session)
        self.notice = sessions.idle_card(self._session, options.provider)
        self._input, self._fixed_batch, self._size = _input(self._session, files.weights)
        self._output = _output(self._session, files.weights)
        self._require_width(self._output.shape[-1])
        default = CPU_BATCH if self.device == "cpu" else CARD_BATCH
        self.batch_size: int = self._fixed_batch or options.batch_size or default

    @staticmethod
    def resolve(name: str, options: TaggerOptions, reporter: Reporter = SILENT) -> Resolved:
        """Find a model by name, or in `options.model_dir`, without loading it.

        Nothing is fetched for a pinned model, so that stored scores need neither its files nor a connection.
        """
        if options.model_dir is not None:
            return _in_folder(name, options.model_dir, options)
        asked = models.find(name)
        model = models.pin(asked)
        identity = Identity(model.name, model.revision, PREPROCESS)
        moving = asked.revision != model.revision
        return Resolved(
            identity,
            open=partial(_open_from_hub, model, identity, options),
            fetch=partial(_fetch, model),
            notice=f"{name} names no commit; to get the same tags later, write {model.name}" if moving else "",
            pr_threshold=model.pr_threshold,
        )

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the picture as the model's input: (size, size, 3), BGR, 0 to 255; safe in many threads."""
        return to_square_bgr(image, self._size)

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded probabilities, (len(batch), len(labels)).

        Raises ModelFileError when the model fails or gives numbers that are no probabilities.
        """
        pictures = [np.asarray(picture, np.float32) for picture in batch]
        count = self._fixed_batch or max(1, len(pictures))
        rows = [self._run(pictures[at : at + count]) for at in range(0, len(pictures), count)]
        return round_scores(np.concatenate(rows)) if rows else np.zeros((0, len(self.labels)), np.float32)

    def close(self) -> None:
        """Let the session go."""
        self._session = None

    def _run(self, pictures: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        missing = (self._fixed_batch or 0) - len(pictures)
        filled = pictures + [pictures[-1]] * max(0, missing)
        try:
            found = self._session.run([self._output.name], {self._input: np.stack(filled)})[0]
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ModelFileError(
                f"{self._weights} failed on {self.device}: {str(error).splitlines()[0]}",
                hint="where memory ran out, a smaller batch size or --provider cpu helps",
            ) from error
        self._require_width(found.shape[-1])
        if not (np.isfinite(found).all() and found.min() >= -SLACK and found.max() <= 1 + SLACK):
            raise ModelFileError(
                f"{self._weights} gave numbers that are no probabilities",
                hint="a WD14 model ends in a sigmoid; half-precision copies may overflow",
            )
        probabilities: NDArray[np.float32] = np.clip(found[: len(pictures)], 0, 1)
        return probabilities

    def _require_width(self, width: object) -> None:
        """A label file of another model would give wrong tags without a word; a symbolic width is seen at the run."""
        if isinstance(width, int) and width != len(self.labels):
            raise ModelFileError(
                f"{self._weights} scores {width} tags, its label file names {len(self.labels)}",
                hint=f"take {MODEL_FILE} and {LABEL_FILE} from the same repository and revision",
            )


def _fetch(model: Model) -> None:
    sessions.require_onnxruntime()
    models.fetch(model)


def _open_from_hub(model: Model, identity: Identity, options: TaggerOptions) -> Wd14Tagger:
    sessions.require_onnxruntime()
    files = models.fetch(model)
    models.require_intact(model, files)
    return Wd14Tagger(files, identity, options=options, pr_threshold=model.pr_threshold)


def _in_folder(name: str, folder: Path, options: TaggerOptions) -> Resolved:
    known = models.MODELS.get(name)
    files = ModelFiles(folder / MODEL_FILE, folder / LABEL_FILE)
    identity = Identity(name, _content(files), PREPROCESS)
    return Resolved(
        identity,
        open=partial(_open_from_folder, files, identity, options, known.pr_threshold if known else None),
        fetch=_nothing,
        pr_threshold=known.pr_threshold if known else None,
    )


def _open_from_folder(
    files: ModelFiles, identity: Identity, options: TaggerOptions, pr_threshold: float | None
) -> Wd14Tagger:
    if _content(files) != identity.revision:
        raise ModelFileError(f"{files.weights.parent}: the model's files have changed during the run", hint="run again")
    return Wd14Tagger(files, identity, options=options, pr_threshold=pr_threshold)


def _content(files: ModelFiles) -> str:
    """Return what stands for a revision where there is no hub: a hash over the bytes of all files of the model.

    A `model.onnx.sha256` beside the weights, as `sha256sum` writes it, is checked where there is one.
    """
    for path in (files.weights, files.labels):
        if not path.is_file():
            raise ModelFileError(f"{path} is missing", hint=f"--model-dir needs {MODEL_FILE} and {LABEL_FILE}")
    beside = onnx_file.check(files.weights)
    hashes = [hub.sha256(path) for path in (files.weights, files.labels, *beside)]
    checksum = files.weights.with_name(MODEL_FILE + CHECKSUM_SUFFIX)
    if checksum.is_file() and checksum.read_text("utf-8").split()[:1] != hashes[:1]:
        raise ModelFileError(
            f"{files.weights} is damaged or incomplete: its sha256 is not that of {checksum.name}",
            hint="copy the model again",
        )
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:40]


def _nothing() -> None:
    """Files in a named folder are there or are refused; nothing is fetched."""


def _input(session: Any, weights: Path) -> tuple[str, int | None, int]:
    """Return the input's name, its batch where that is fixed, and its side in pixels."""
    first = session.get_inputs()[0]
    shape = first.shape
    fits = len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2] and shape[3] == 3
    if not fits or first.type != "tensor(float)":
        raise ModelFileError(
            f"{weights} takes {first.type} {shape}; a WD14 model takes tensor(float) [batch, size, size, 3]",
            hint=f"use {MODEL_FILE} of one of: {', '.join(models.MODELS)}",
        )
    return first.name, shape[0] if isinstance(shape[0], int) else None, shape[1]


def _output(session: Any, weights: Path) -> Any:
    first = session.get_outputs()[0]
    if len(first.shape) != 2:
        raise ModelFileError(f"{weights} gives {first.shape}; a WD14 model gives [batch, tags]")
    return first
