"""Florence-2 as four ONNX graphs: image -> features, tokens -> embeddings, both -> encoder states,
encoder states and the tokens so far -> the next token. No torch is needed.

The image is squeezed to a square, as the model was trained; beam search with 3 beams and no
repeated sequence of 3 tokens is what its card uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display, file_sha256
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.vision import providers
from taggers import florence2_models as models
from taggers import onnx_file, sessions
from taggers.answers import description_of
from taggers.beam_search import BeamSearch, SearchSettings
from taggers.captioner import (
    CAPTION,
    DETAILED,
    PARAGRAPH,
    CaptionerIdentity,
    CaptionerOptions,
    Description,
    NoDescription,
    ResolvedCaptioner,
)

# What the model was trained to be asked, by preset and by task.
QUESTIONS: Final = {
    CAPTION: "What does the image describe?",
    DETAILED: "Describe in detail what is shown in the image.",
    PARAGRAPH: "Describe with a paragraph what is shown in the image.",
}
_TASKS: Final = {
    "<CAPTION>": QUESTIONS[CAPTION],
    "<DETAILED_CAPTION>": QUESTIONS[DETAILED],
    "<MORE_DETAILED_CAPTION>": QUESTIONS[PARAGRAPH],
}
_PREPROCESS: Final = "square-bicubic-1"
_CPU_BATCH, _CARD_BATCH = 1, 8
_ON_THE_CPU: Final = ("cpu", "openvino")
_NO_REPEAT: Final = 3
_START_TOKEN, _END_TOKEN = "<s>", "</s>"
_SMALL: Final = 1_000_000  # bytes of a JSON file of settings

Tensor = NDArray[Any]


class Florence2Captioner:
    """A loaded model; see `taggers.captioner.Captioner`."""

    def __init__(self, files: models.Files, options: CaptionerOptions) -> None:
        """Load files that were checked before."""
        self._folder = files[models.DECODER].parent
        self._side, self._mean, self._std = _read_preprocessor(files[models.PREPROCESSOR])
        self._tokenizer = _open_tokenizer(files[models.TOKENIZER])
        first, end = map(self._tokenizer.token_to_id, (_START_TOKEN, _END_TOKEN))
        if first is None or end is None:
            raise ModelFileError(
                f"{display(files[models.TOKENIZER])} has no {_START_TOKEN} and {_END_TOKEN}",
                hint="it belongs to another model: download the model again",
            )
        self._search = SearchSettings(
            options.beams, options.max_tokens, start=end, first=first, end=end, no_repeat=_NO_REPEAT
        )
        open_graph = partial(
            sessions.open_session, provider=options.provider, threads=options.threads
        )
        self._vision = open_graph(files[models.VISION])
        self._embed = open_graph(files[models.EMBED])
        self._encoder = open_graph(files[models.ENCODER])
        self._decoder = _Decoder(open_graph(files[models.DECODER]), files[models.DECODER])
        self.device = providers.device(self._vision)
        default = _CPU_BATCH if self.device in _ON_THE_CPU else _CARD_BATCH
        self.batch_size = options.batch_size or default

    @staticmethod
    def resolve(
        name: str, options: CaptionerOptions, reporter: Reporter = SILENT
    ) -> ResolvedCaptioner:
        """Find a model by name, or in `options.model_dir`, without loading it."""
        settings = f"{_PREPROCESS} beams={options.beams} tokens={options.max_tokens}"
        if options.model_dir is not None:
            files = models.in_folder(options.model_dir)
            identity = CaptionerIdentity(models.DEFAULT_NAME, _content_hash(files), settings)
            return ResolvedCaptioner(
                identity, open=partial(_open_from_folder, files, options), fetch=_nothing
            )
        named = models.find(name)
        model = models.pin(named)
        is_branch = not model.sha256 and named.revision != model.revision
        return ResolvedCaptioner(
            CaptionerIdentity(model.repo, model.content, settings),
            open=partial(_open_from_hub, model, options),
            fetch=partial(_fetch, model),
            notice=f"{name} has no commit; to get the same captions later, write {model.name}"
            if is_branch
            else "",
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """Return the image as the model's input, (3, side, side). May be called from threads."""
        square = image.convert("RGB").resize((self._side, self._side), Image.Resampling.BICUBIC)
        levels = np.asarray(square, np.float32) / np.float32(255)
        return np.ascontiguousarray(((levels - self._mean) / self._std).transpose(2, 0, 1))

    def describe(
        self, batch: Sequence[tuple[object, str]]
    ) -> Sequence[Description | NoDescription]:
        """Describe images. Images with the same prompt go through the model together."""
        answers: dict[int, Description | NoDescription] = {}
        for prompt in dict.fromkeys(prompt for _, prompt in batch):
            numbers = [n for n, (_, other) in enumerate(batch) if other == prompt]
            images = np.stack([np.asarray(batch[n][0], np.float32) for n in numbers])
            for n, tokens in zip(numbers, self._generate(images, prompt), strict=True):
                answers[n] = self._description(tokens)
        return [answers[n] for n in range(len(batch))]

    def close(self) -> None:
        """Free the sessions."""
        del self._vision, self._embed, self._encoder, self._decoder

    def tokens_of(self, image: Image.Image, prompt: str) -> list[int]:
        """Return the tokens that the model generates for an image, for tests."""
        return self._generate(self.prepare(image)[None], prompt)[0]

    def _description(self, tokens: list[int]) -> Description | NoDescription:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return description_of(text, cut_off=tokens[-1] != self._search.end)

    def _generate(self, images: Tensor, prompt: str) -> list[list[int]]:
        """Return the tokens of a text for each image. images: (n, 3, side, side)."""
        question = _TASKS.get(prompt, QUESTIONS.get(prompt, prompt))
        ids = [
            self._search.first,
            *self._tokenizer.encode(question, add_special_tokens=False).ids,
            self._search.end,
        ]
        features = _run(self._vision, {"pixel_values": images})
        words = self._embedded(np.array([ids] * len(images), np.int64))
        inputs = np.concatenate([features, words], axis=1)
        mask = np.ones(inputs.shape[:2], np.int64)
        states = _run(self._encoder, {"attention_mask": mask, "inputs_embeds": inputs})
        return self._search_all(states, mask)

    def _search_all(self, states: Tensor, mask: Tensor) -> list[list[int]]:
        """Search a text for each row of encoder states, all in step with each other.

        The rows of a finished text are left out of the next steps.
        """
        searches = [BeamSearch(self._search) for _ in states]
        beams = self._search.beams
        active = list(range(len(searches)))
        cache = self._decoder.empty_cache(len(active) * beams)
        rows = np.repeat(np.arange(len(states)), beams)
        states, mask = states[rows], mask[rows]
        while active:
            last = np.concatenate([searches[n].tokens[:, -1:] for n in active])
            logits, cache = self._decoder.step(self._embedded(last), states, mask, cache)
            kept: list[Tensor] = []
            for index, n in enumerate(active):
                at = index * beams
                searches[n].advance(logits[at : at + beams])
                if not searches[n].done:
                    kept.append(at + searches[n].parents)
            active = [n for n in active if not searches[n].done]
            if active:
                order = np.concatenate(kept)
                # The beams of an image share what the encoder made of it, which is by far the
                # larger part of the cache: it is copied only when an image is finished.
                finished = len(order) < len(rows)
                cache = _reordered(cache, order, with_image=finished)
                rows = rows[order]
                if finished:
                    states, mask = states[order], mask[order]
        return [search.best() for search in searches]

    def _embedded(self, tokens: Tensor) -> Tensor:
        return _run(self._embed, {"input_ids": tokens})


class _Decoder:
    """The decoder graph: it keeps keys and values of the tokens so far, and of the image.

    Its inputs `past_key_values.N.decoder|encoder.key|value` come back as `present.N...`; those of
    the encoder are computed in the first step only, and later outputs of that name are empty.
    """

    def __init__(self, session: Any, path: Path) -> None:
        self._session = session
        self._shapes = {
            item.name: item.shape
            for item in session.get_inputs()
            if item.name.startswith("past_key_values.")
        }
        names = {item.name for item in session.get_inputs()}
        needed = {"inputs_embeds", "encoder_hidden_states", "encoder_attention_mask"}
        if not self._shapes or not needed | {"use_cache_branch"} <= names:
            raise ModelFileError(
                f"{display(path)} is not a decoder of Florence-2 with a cache",
                hint="take decoder_model_merged.onnx of an export for transformers.js",
            )
        self._outputs = [item.name for item in session.get_outputs()]

    def empty_cache(self, rows: int) -> dict[str, Tensor]:
        """Return the cache before the first step."""
        return {
            name: np.zeros((rows, shape[1], 0, shape[3]), np.float32)
            for name, shape in self._shapes.items()
        }

    def step(
        self, words: Tensor, states: Tensor, mask: Tensor, cache: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits of the next token, (rows, vocabulary), and the new cache."""
        is_first = next(iter(cache.values())).shape[2] == 0
        feeds = {
            "inputs_embeds": words,
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "use_cache_branch": np.array([not is_first]),
            **cache,
        }
        outputs = dict(zip(self._outputs, _run_all(self._session, feeds), strict=True))
        new = {name: outputs[name.replace("past_key_values", "present")] for name in cache}
        if not is_first:
            new |= {name: kept for name, kept in cache.items() if ".encoder." in name}
        return outputs["logits"][:, -1], new


def _reordered(
    cache: Mapping[str, Tensor], order: Tensor, *, with_image: bool
) -> dict[str, Tensor]:
    """Return the rows of a cache in a new order. with_image: also what is known of the image."""
    return {
        name: values[order] if with_image or ".encoder." not in name else values
        for name, values in cache.items()
    }


def _run(session: Any, feeds: Mapping[str, Tensor]) -> Tensor:
    return np.asarray(_run_all(session, feeds)[0])


def _run_all(session: Any, feeds: Mapping[str, Tensor]) -> list[Tensor]:
    try:
        outputs: list[Tensor] = session.run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ModelFileError(
            f"Florence-2 failed on {providers.device(session)}: {str(error).splitlines()[0]}",
            hint="if memory ran out, use --batch-size 1 or --provider cpu",
        ) from error
    return outputs


def _read_preprocessor(path: Path) -> tuple[int, Tensor, Tensor]:
    """Return the side of the model's input in pixels, and the mean and deviation of its colours."""
    try:
        if path.stat().st_size > _SMALL:
            raise ValueError("too large")
        settings = json.loads(path.read_text("utf-8"))
        size = settings["size"]
        mean, std = (np.array(settings[key], np.float32) for key in ("image_mean", "image_std"))
        side = int(size["height"])
        if not 1 <= side <= 4096 or side != size["width"] or mean.shape != (3,) or std.min() <= 0:
            raise ValueError("not the values of Florence-2")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{display(path)} cannot be used: {error}", hint="download the model again"
        ) from error
    return side, mean, std


def _open_tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelFileError(
            f"{display(path)} is not a tokenizer: {error}", hint="download the model again"
        ) from error


def _content_hash(files: models.Files) -> str:
    """Return a hash over all files of a model in a folder."""
    beside = [
        path for file in files.values() if file.suffix == ".onnx" for path in onnx_file.check(file)
    ]
    hashes = [file_sha256(path) for path in (*files.values(), *beside)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:40]


def _fetch(model: models.Florence2Model) -> None:
    sessions.require_onnxruntime()
    models.fetch(model)


def _open_from_hub(model: models.Florence2Model, options: CaptionerOptions) -> Florence2Captioner:
    sessions.require_onnxruntime()
    files = models.fetch(model)
    models.require_intact(model, files)
    return Florence2Captioner(files, options)


def _open_from_folder(files: models.Files, options: CaptionerOptions) -> Florence2Captioner:
    sessions.require_onnxruntime()
    return Florence2Captioner(files, options)


def _nothing() -> None:
    """Do nothing: `in_folder` has checked that the files are there."""
