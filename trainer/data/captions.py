"""Captions in training: shuffling, dropout, wildcards and kept tags, drawn for each sample.

A sentence is one piece: it keeps its place and its words, as the fixed tags do.
`datasetkit/captions/grammar.py` says what the text means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from datasetkit.captions.caption import joined_lines
from datasetkit.captions.grammar import (
    SEPARATOR,
    Piece,
    choose_wildcards,
    comma_tags,
    kept_and_free,
    pieces,
)
from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range
from datasetkit.core.records import CaptionKind, CaptionSyntax


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """How captions vary, under sd-scripts' names.

    caption_dropout_rate: probability that a sample has no caption.
    caption_dropout_every_n_epochs: 0: never; else no captions in the epochs n, 2n, ... (the first
    epoch is 1). keep_tokens: number of tags at the start that are neither shuffled nor dropped.
    keep_tokens_separator: a text such as `|||` that separates kept | free | kept tags; in a caption
    that has it, keep_tokens is ignored. caption_tag_dropout_rate: probability of dropping each free
    tag. caption_prefix, caption_suffix: added to each caption with a space. enable_wildcard: choose
    one option of `{a|b|c}`, and one of several lines. secondary_separator: a text that becomes a
    comma at the very end. token_warmup_min, token_warmup_step: use only the first so many free tags
    at the start, and all of them after so many optimizer steps (below 1: a fraction of the run; 0:
    from the start).

    kind, leading: what dsk.toml says about the captions, see CaptionSyntax.
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
    kind: CaptionKind = "tags"
    leading: tuple[str, ...] = ()

    @property
    def syntax(self) -> CaptionSyntax:
        """Return how captions are split into lines, tags and sentences."""
        return CaptionSyntax(
            enable_wildcard=self.enable_wildcard, kind=self.kind, leading=self.leading
        )

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
                hint = f"commas separate the tags: use another text, such as `{usual}`"
                raise ConfigError(f"{name} = {getattr(self, name)!r}", hint=hint)


def sample(
    caption: str,
    options: CaptionSettings,
    epoch: int,
    random: Random,
    progress: tuple[int, int] | None = None,
) -> str:
    """Return the caption of one sample. Only with enable_wildcard, or with sentences among tags, a
    caption has several lines.

    epoch: the first is 1. progress: optimizer steps taken before the sample, and those of the run;
    None: the token warm-up is over.

    The order is that of sd-scripts: choose a line, add prefix and suffix, caption dropout,
    wildcards, separate the kept tags, limit the free tags in the warm-up, shuffle them, tag
    dropout, join with a comma and a space, replace the secondary separator. As there, a caption is
    split only if an option orders or drops tags (or a wildcard was chosen, which may leave an empty
    tag); else its text is used as it was written. The separator of kept tags never reaches the text
    encoder (without shuffling sd-scripts leaves it in).
    """
    if options.kind != "tags":
        return _sample_with_sentences(caption, options, epoch, random, progress)
    if options.enable_wildcard and "\n" in caption:
        caption = random.choice(caption.split("\n"))
    caption = with_affixes(caption, options)
    if _dropped(options, epoch, random):
        return ""
    return _sample_of_tags(caption, options, random, progress)


def _sample_of_tags(
    caption: str, options: CaptionSettings, random: Random, progress: tuple[int, int] | None
) -> str:
    """Return tags as one sample trains them."""
    written = caption
    if options.enable_wildcard:
        caption = choose_wildcards(caption, random.choice)
    if caption == written and not _changes_tags(options):
        return _as_written(caption, options)
    first, free, last = _parts(caption, options)
    if progress is not None and options.token_warmup_step:
        free = free[: warmup_tags(len(free), options, *progress)]
    if options.shuffle_caption:
        random.shuffle(free)
    if options.caption_tag_dropout_rate > 0:
        free = [tag for tag in free if random.random() >= options.caption_tag_dropout_rate]
    return _joined([*first, *free, *last], options)


def _sample_with_sentences(
    caption: str,
    options: CaptionSettings,
    epoch: int,
    random: Random,
    progress: tuple[int, int] | None,
) -> str:
    """Return the same for a caption of sentences, or of tags and sentences."""
    captions = pieces(caption, options.syntax)
    chosen = random.choice(captions) if len(captions) > 1 else captions[0]
    if _dropped(options, epoch, random):
        return ""
    texts = []
    for piece, of_piece in _with_affixes_around(chosen, options):
        if not piece.is_sentence:
            texts.append(_sample_of_tags(piece.text, of_piece, random, progress))
            continue
        text = piece.text
        if options.enable_wildcard:
            text = choose_wildcards(text, random.choice)
        texts.append(_as_written(text, options))
    return joined_lines([text for text in texts if text])


def _with_affixes_around(
    chosen: Sequence[Piece], options: CaptionSettings
) -> list[tuple[Piece, CaptionSettings]]:
    """Return the pieces of a caption with prefix and suffix, and the options of each: tags behind
    the leading words of a sentence have fewer that are kept.
    """
    around: list[tuple[Piece, CaptionSettings]] = []
    keep = options.keep_tokens
    for n, piece in enumerate(chosen):
        affixes = replace(
            options,
            caption_prefix=options.caption_prefix if n == 0 else "",
            caption_suffix=options.caption_suffix if n == len(chosen) - 1 else "",
            keep_tokens=keep,
        )
        around.append((piece._replace(text=with_affixes(piece.text, affixes)), affixes))
        count = piece.leading if piece.is_sentence else len(comma_tags(piece.text))
        keep = max(0, keep - count)
    return around


def _longest_with_sentences(
    caption: str, options: CaptionSettings, length: Callable[[str], int]
) -> str:
    texts = []
    for line in pieces(caption, options.syntax):
        written = [piece.text for piece, _ in _with_affixes_around(line, options)]
        if options.enable_wildcard:
            written = [
                choose_wildcards(text, lambda choices: max(choices, key=length)) for text in written
            ]
        texts.append(joined_lines([_as_written(text, options) for text in written]))
    return max(texts, key=length)


def longest(caption: str, options: CaptionSettings, length: Callable[[str], int]) -> str:
    """Return the longest possible text of a sample, by `length`: over all lines and wildcards."""
    if options.kind != "tags":
        return _longest_with_sentences(caption, options, length)
    texts = []
    for line in caption.split("\n"):
        written = text = with_affixes(line, options)
        if options.enable_wildcard:
            text = choose_wildcards(text, lambda choices: max(choices, key=length))
        if text == written and not _changes_tags(options):
            texts.append(_as_written(text, options))
            continue
        first, free, last = _parts(text, options)
        texts.append(_joined([*first, *free, *last], options))
    return texts[0] if len(texts) == 1 else max(texts, key=length)


def only_tags(caption: str, options: CaptionSettings) -> list[str] | None:
    """Return the tags of which the longest text of a sample consists; None where it has more, or
    is another one: then ask `longest`.
    """
    if (
        options.kind != "tags"
        or "\n" in caption
        or not _changes_tags(options)
        or options.caption_prefix
        or options.caption_suffix
        or options.secondary_separator
        or options.keep_tokens_separator
        or (options.enable_wildcard and ("{" in caption or "}" in caption))
    ):
        return None
    return comma_tags(caption)


def varies(caption: str, options: CaptionSettings) -> bool:
    """Tell whether samples of a caption may have different texts, beside none at all."""
    chosen = options.enable_wildcard and ("\n" in caption or "{" in caption)
    return chosen or _changes_tags(options)


def with_affixes(caption: str, options: CaptionSettings) -> str:
    """Add prefix and suffix to a caption."""
    return " ".join(
        part for part in (options.caption_prefix, caption, options.caption_suffix) if part
    )


def warmup_tags(free: int, options: CaptionSettings, step: int, steps: int) -> int:
    """Return how many free tags are used after `step` of `steps`: linear from the minimum to
    all.
    """
    warmup_option = options.token_warmup_step
    warmup = int(warmup_option * steps) if warmup_option < 1 else int(warmup_option)
    if step >= warmup:
        return free
    return step * (free - options.token_warmup_min) // warmup + options.token_warmup_min


def _dropped(options: CaptionSettings, epoch: int, random: Random) -> bool:
    if options.caption_dropout_rate > 0 and random.random() < options.caption_dropout_rate:
        return True
    every = options.caption_dropout_every_n_epochs
    return every > 0 and epoch % every == 0


def _changes_tags(options: CaptionSettings) -> bool:
    """Tell whether an option orders or drops tags, so that the caption has to be split."""
    return (
        options.shuffle_caption
        or options.caption_tag_dropout_rate > 0
        or options.token_warmup_step > 0
    )


def _as_written(caption: str, options: CaptionSettings) -> str:
    """Return a caption without the separators that no text encoder reads."""
    parts = kept_and_free(caption, options.keep_tokens_separator)
    if parts is not None:
        return _joined([text for part in parts if (text := part.strip(f"{SEPARATOR} "))], options)
    return _joined([caption], options)


def _joined(tags: list[str], options: CaptionSettings) -> str:
    text = f"{SEPARATOR} ".join(tags)
    return (
        text.replace(options.secondary_separator, SEPARATOR)
        if options.secondary_separator
        else text
    )


def _parts(caption: str, options: CaptionSettings) -> tuple[list[str], list[str], list[str]]:
    """Split a caption into kept, free and kept tags."""
    parts = kept_and_free(caption, options.keep_tokens_separator)
    if parts is not None:
        first, free, last = map(comma_tags, parts)
        return first, free, last
    tags = comma_tags(caption)
    return tags[: options.keep_tokens], tags[options.keep_tokens :], []
