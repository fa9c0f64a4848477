"""Tokens: count the CLIP tokens of a caption, with CLIP's own vocabulary and without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from datasetkit.captions import grammar
from datasetkit.captions.caption import one_line
from datasetkit.core.errors import ModelFileError
from datasetkit.core.records import Caption

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS: Final = 49406
EOS: Final = 49407
# One pass of the text encoder sees 77 positions: BOS, 75 tokens, EOS. Trainers chain one, two or
# three passes (`max_token_length` 75, 150, 225) and cut off the rest.
CHUNK: Final = 75
LIMITS: Final = (75, 150, 225)

FOLDER = Path(__file__).parents[1] / "data" / "clip_tokenizer"
_SHA256 = {
    "vocab.json": "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69",
    "merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
}
# CLIP's own word pattern (openai/CLIP, simple_tokenizer.py, MIT): the special tokens, contractions,
# runs of letters, single digits, and runs of anything else.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def ids(text: str) -> tuple[int, ...]:
    """Return the token ids of a text: BOS first, EOS last, not truncated or padded."""
    return BOS, *_encode(text), EOS


def spans(text: str) -> tuple[tuple[int, int], ...]:
    """Return the (start, end) of each token of a text, in characters, without BOS and EOS."""
    offsets: list[tuple[int, int]] = _tokenizer().encode(text, add_special_tokens=False).offsets
    return tuple(offsets)


def count(text: str) -> int:
    """Count the tokens of a text without BOS and EOS.

    No token spans a space, and captions repeat words: each word is encoded once and cached.
    """
    return sum(map(_count_word, text.split(" ")))


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """How many tokens of a caption a base model reads, and how they are counted.

    steps: numbers of tokens of which a plan says how many captions have more; kind: what messages
    call the tokens; option: what raises the limit, "" for nothing.
    """

    limit: int
    count: Callable[[str], int] = count
    steps: tuple[int, ...] = LIMITS
    kind: str = "CLIP tokens"
    option: str = "max_token_length"

    def step_for(self, tokens: int) -> str:
        """Return what to do about a caption with more tokens than the limit."""
        if not self.option:
            return f"the base model reads {self.limit}; shorten it"
        enough = next((limit for limit in self.steps if tokens <= limit), None)
        return f"{self.option} = {enough} is enough" if enough else "no trainer supports that many"


def count_tags(tags: Sequence[str]) -> int:
    """Count the tokens of tags that are joined by a comma and a space, as `count` does.

    Captions repeat tags, and each is encoded once.
    """
    return sum(map(_count_before_comma, tags[:-1])) + count(tags[-1]) if tags else 0


def count_caption(caption: Caption, count: Callable[[str], int] = count) -> int:
    """Return the number of tokens that a caption can have in training: of its longest line, with
    the longest option of each wildcard, without weights and without what separates kept tags.
    count: counts the tokens of a text, CLIP's by default.
    """
    syntax, text = caption.syntax, one_line(caption)
    if syntax.keep_tokens_separator.strip():
        text = text.replace(syntax.keep_tokens_separator.strip(), grammar.SEPARATOR)
    texts = text.split("\n") if syntax.enable_wildcard else [text]
    if syntax.enable_wildcard:
        texts = [
            grammar.choose_wildcards(t, lambda options: max(options, key=count)) for t in texts
        ]
    if syntax.weighted_captions:
        texts = [grammar.unweighted(t) for t in texts]
    return max(map(count, texts))


@lru_cache(maxsize=1 << 16)
def _count_before_comma(tag: str) -> int:
    return count(f"{tag},")


@lru_cache(maxsize=1 << 16)
def _count_word(word: str) -> int:
    return len(_encode(word))


def chunks_needed(tokens: int) -> Literal[1, 2, 3]:
    """Return how many 75-token passes a caption of so many tokens needs.

    Trainers have three at most and cut off the end of a caption longer than `LIMITS[-1]`.
    """
    if tokens <= LIMITS[0]:
        return 1
    return 2 if tokens <= LIMITS[1] else 3


def _encode(text: str) -> list[int]:
    encoded: list[int] = _tokenizer().encode(text, add_special_tokens=False).ids
    return encoded


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    """Build CLIP's byte-pair encoder (ViT-L/14, also SDXL's second encoder) from the shipped files.

    The ids equal those of CLIPTokenizer in transformers 5; version 4 differs only in mixed-case
    special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = json.loads(_shipped("vocab.json"))
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in _merge_lines())]
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=end, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    # The vocabulary spells every byte as a visible letter.
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, spelled])
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in ("<|startoftext|>", end)]
    )
    return tokenizer


def _merge_lines() -> list[str]:
    """Return the merges by rank, without the version line."""
    lines = _shipped("merges.txt").split("\n")
    return [line for line in lines if line and not line.startswith("#version")]


def _shipped(name: str) -> str:
    """Read a shipped vocabulary file and check its sha256. Raises ModelFileError."""
    path = FOLDER / name
    hint = "install datasetkit again"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"cannot read the tokenizer file {path}: {error.strerror}", hint=hint
        ) from error
    if hashlib.sha256(data).hexdigest() != _SHA256[name]:
        raise ModelFileError(f"the tokenizer file {path} is damaged", hint=hint)
    return data.decode("utf-8")
