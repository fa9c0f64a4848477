"""Captions in training: what one visit to a picture reads of its caption, drawn anew each time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from datasetkit.core.captions import SEPARATOR
from datasetkit.core.config import in_range
from datasetkit.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """How captions vary, under sd-scripts' names.

    caption_dropout_rate: chance that a visit reads no caption at all. caption_dropout_every_n_epochs: 0 for never;
    else no caption in the epochs n, 2n, ... (the first epoch is 1). keep_tokens: tags at the start that are neither
    shuffled nor dropped. keep_tokens_separator: a text such as `|||` that parts kept | free | kept tags in a caption;
    where it stands in a caption, keep_tokens does not count. caption_tag_dropout_rate: chance of each free tag to go.
    """

    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    shuffle_caption: bool = False
    caption_tag_dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        in_range("caption_dropout_rate", self.caption_dropout_rate, 0, 1)
        in_range("caption_tag_dropout_rate", self.caption_tag_dropout_rate, 0, 1)
        in_range("caption_dropout_every_n_epochs", self.caption_dropout_every_n_epochs, 0, 1_000_000)
        in_range("keep_tokens", self.keep_tokens, 0, 1_000_000)
        if SEPARATOR in self.keep_tokens_separator:
            hint = "commas part the tags: give another text, `|||` is usual"
            raise ConfigError(f"keep_tokens_separator = {self.keep_tokens_separator!r}", hint=hint)


def visit(caption: str, options: CaptionOptions, epoch: int, random: Random) -> str:
    """Return the caption that one visit reads. epoch: the first is 1.

    In this order, sd-scripts' own: caption dropout, the kept tags set apart, the free ones shuffled, tag dropout,
    joined by a comma and a space. The separator of kept tags never reaches the text encoder, not even without shuffle
    (sd-scripts leaves it in then).
    """
    if _dropped(options, epoch, random):
        return ""
    first, free, last = _parts(caption, options)
    if options.shuffle_caption:
        random.shuffle(free)
    if options.caption_tag_dropout_rate > 0:
        free = [tag for tag in free if random.random() >= options.caption_tag_dropout_rate]
    return f"{SEPARATOR} ".join([*first, *free, *last])


def _dropped(options: CaptionOptions, epoch: int, random: Random) -> bool:
    if options.caption_dropout_rate > 0 and random.random() < options.caption_dropout_rate:
        return True
    every = options.caption_dropout_every_n_epochs
    return every > 0 and epoch % every == 0


def _parts(caption: str, options: CaptionOptions) -> tuple[list[str], list[str], list[str]]:
    """Split a caption into kept, free and kept tags."""
    separator = options.keep_tokens_separator
    if separator and separator in caption:
        first, _, rest = caption.partition(separator)
        free, _, last = rest.partition(separator)
        return _tags(first), _tags(free), _tags(last)
    tags = _tags(caption)
    return tags[: options.keep_tokens], tags[options.keep_tokens :], []


def _tags(text: str) -> list[str]:
    return [tag for piece in text.split(SEPARATOR) if (tag := piece.strip())]
