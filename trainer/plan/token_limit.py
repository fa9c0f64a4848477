"""How many tokens of a caption a base model reads, and how they are counted. Needs no torch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec

from datasetkit.captions.tokens import TokenLimit
from datasetkit.core.errors import ModelFileError
from datasetkit.options.train import TrainOptions
from trainer.families import registry, source
from trainer.families.detect import detect


def of_base(options: TrainOptions) -> TokenLimit:
    """Return the limit of a run's base model; a model that is not on this machine is taken for one
    with CLIP. Without transformers, which reads other tokenizers, CLIP's tokens are counted. Its
    `count` raises ModelFileError for a tokenizer that cannot be read.
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
    limit = TokenLimit(family.TEXT_LIMIT, steps=(family.TEXT_LIMIT,), option="")
    if folder is None or find_spec("transformers") is None:
        return limit
    return replace(limit, count=family.token_counter(folder), kind="tokens")
