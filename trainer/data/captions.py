"""Captions in training: what one sample to an image reads of its caption, drawn anew each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from datasetkit.captions.caption import SEPARATOR
from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range

# A wildcard is `{a|b|c}`; `{{` and `}}` are braces that stay, held apart while wildcards are looked
# for.
_WILDCARD: Final = re.compile(r"\{([^{}]+)\}")
_OPENED, _CLOSED = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """How captions vary, under sd-scripts' names.

    caption_dropout_rate: chance that a sample reads no caption at all.
    caption_dropout_every_n_epochs: 0 for never; else no caption in the epochs n, 2n, ... (the first
    epoch is 1). keep_tokens: tags at the start that are neither shuffled nor dropped.
    keep_tokens_separator: a text such as `|||` that parts kept | free | kept tags in a caption;
    where it stands in a caption, keep_tokens does not count. caption_tag_dropout_rate: chance of
    each free tag to go. caption_prefix, caption_suffix: stand before and behind each caption, a
    space between. enable_wildcard: of `{a|b|c}` one is drawn, and of several lines one.
    secondary_separator: a text that becomes a comma at the very end. token_warmup_min,
    token_warmup_step: of the free tags only the first so many are read at the start, all of them
    after so many optimizer steps (below 1: a part of the run; 0: from the start).
    """

    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    shuffle_caption: bool = False
    caption_tag_dropout_rate: float = 0.0
    caption_prefix: str = ""
    caption_suffix: str = ""
    enable_wildcard: bool = False
    secondary_separator: str = ""
    token_warmup_min: int = 1
    token_warmup_step: int | float = 0

    def __post_init__(self) -> None:
        in_range("caption_dropout_rate", self.caption_dropout_rate, 0, 1)
        in_range("caption_tag_dropout_rate", self.caption_tag_dropout_rate, 0, 1)
        in_range(
            "caption_dropout_every_n_epochs", self.caption_dropout_every_n_epochs, 0, 1_000_000
        )
        in_range("keep_tokens", self.keep_tokens, 0, 1_000_000)
        in_range("token_warmup_min", self.token_warmup_min, 0, 1_000_000)
        in_range("token_warmup_step", self.token_warmup_step, 0, 1_000_000_000)
        for name, usual in (("keep_tokens_separator", "|||"), ("secondary_separator", ";;;")):
            if SEPARATOR in getattr(self, name):
                hint = f"commas part the tags: give another text, `{usual}` is usual"
                raise ConfigError(f"{name} = {getattr(self, name)!r}", hint=hint)


def sample(
    caption: str,
    options: CaptionOptions,
    epoch: int,
    random: Random,
    progress: tuple[int, int] | None = None,
) -> str:
    """Return the caption that one sample reads. A caption has several lines only for
    enable_wildcard.

    epoch: the first is 1. progress: optimizer steps that were taken before the sample, and those of
    the run; None: no free tag has to wait any more.

    In this order, sd-scripts' own: one line drawn and put between prefix and suffix, caption
    dropout, wildcards, the kept tags set apart, the first of the free ones alone while they are
    warmed up, those shuffled, tag dropout, joined by a comma and a space, the secondary separator
    replaced. The separator of kept tags never reaches the text encoder, not even without shuffle
    (sd-scripts leaves it in then).
    """
    if options.enable_wildcard and "\n" in caption:
        caption = random.choice(caption.split("\n"))
    caption = framed(caption, options)
    if _dropped(options, epoch, random):
        return ""
    if options.enable_wildcard:
        caption = _wildcards(caption, random.choice)
    first, free, last = _parts(caption, options)
    if progress is not None and options.token_warmup_step:
        free = free[: warm(len(free), options, *progress)]
    if options.shuffle_caption:
        random.shuffle(free)
    if options.caption_tag_dropout_rate > 0:
        free = [tag for tag in free if random.random() >= options.caption_tag_dropout_rate]
    return _joined([*first, *free, *last], options)


def longest(caption: str, options: CaptionOptions, length: Callable[[str], int]) -> str:
    """Return the longest text that a sample may read, by `length`: of its lines, with the longest
    choices in them.
    """
    found = []
    for line in caption.split("\n"):
        text = framed(line, options)
        if options.enable_wildcard:
            text = _wildcards(text, lambda choices: max(choices, key=length))
        first, free, last = _parts(text, options)
        found.append(_joined([*first, *free, *last], options))
    return max(found, key=length)


def framed(caption: str, options: CaptionOptions) -> str:
    """Put a caption between prefix and suffix."""
    return " ".join(
        part for part in (options.caption_prefix, caption, options.caption_suffix) if part
    )


def warm(free: int, options: CaptionOptions, step: int, steps: int) -> int:
    """Return how many of the free tags are read after `step` of `steps`: a straight line from the
    least to all.
    """
    of_run = options.token_warmup_step
    warmup = int(of_run * steps) if of_run < 1 else int(of_run)
    if step >= warmup:
        return free
    return step * (free - options.token_warmup_min) // warmup + options.token_warmup_min


def _dropped(options: CaptionOptions, epoch: int, random: Random) -> bool:
    if options.caption_dropout_rate > 0 and random.random() < options.caption_dropout_rate:
        return True
    every = options.caption_dropout_every_n_epochs
    return every > 0 and epoch % every == 0


def _wildcards(caption: str, choose: Callable[[list[str]], str]) -> str:
    """Put one of its choices in the place of each wildcard, from left to right."""
    held = caption.replace("{{", _OPENED).replace("}}", _CLOSED)
    chosen = _WILDCARD.sub(lambda found: choose(found[1].split("|")), held)
    return chosen.replace(_OPENED, "{").replace(_CLOSED, "}")


def _joined(tags: list[str], options: CaptionOptions) -> str:
    text = f"{SEPARATOR} ".join(tags)
    return (
        text.replace(options.secondary_separator, SEPARATOR)
        if options.secondary_separator
        else text
    )


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
