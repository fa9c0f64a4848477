"""How many tokens of a caption a base model reads, and how they are counted. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

from datasetkit.captions import tokens
from datasetkit.core.errors import ModelFileError
from datasetkit.options.train import TrainOptions
from trainer.families import registry, source
from trainer.families.detect import detect


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """A base model's limit. steps: numbers of tokens of which a plan says how many captions have
    more; kind: what messages call the tokens; option: what raises the limit, "" for nothing.
    """

    limit: int
    count: Callable[[str], int] = tokens.count
    steps: tuple[int, ...] = tokens.LIMITS
    kind: str = "CLIP tokens"
    option: str = "max_token_length"


def of_base(options: TrainOptions) -> TokenLimit:
    """Return the limit of a run's base model; a model that is not on this machine is taken for one
    with CLIP. Raises ModelFileError for a tokenizer that cannot be read.
    """
    clip = TokenLimit(options.max_token_length)
    base = source.local(options.pretrained_model_name_or_path, options.revision)
    if base is None:
        return clip
    family = None
    with suppress(ModelFileError):
        family = registry.family(detect(base).family)
    if family is None or family.TEXT_LIMIT is None:
        return clip
    folder = base if base.is_dir() else source.local(options.base_folder)
    count = None
    if folder is not None and find_spec("transformers") is not None:
        count = family.token_counter(folder)
    return TokenLimit(
        family.TEXT_LIMIT, count or (lambda text: 0), (family.TEXT_LIMIT,), "tokens", ""
    )
