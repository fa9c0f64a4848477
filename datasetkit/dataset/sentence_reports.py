"""Reports about captions that are sentences: how long they are, and what they say most often."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Final

from datasetkit.captions.tokens import TokenLimit
from datasetkit.dataset.charts import TOTAL

if TYPE_CHECKING:
    from pandas import DataFrame

    from datasetkit.dataset.reports import CaptionedImage

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_LONGEST_PHRASE: Final = 3  # words
_MOST_PHRASES: Final = 50  # of each concept and number of words
# Words that say nothing alone, at the beginning or at the end of a phrase.
_FUNCTION_WORDS: Final = frozenset(
    "a an the and or but of in on at to by for with from into over under as is are was were be "
    "being been has have had it its his her hers their this that these those there which who she "
    "he they while".split()
)


def lengths(items: Sequence[CaptionedImage], limit: TokenLimit) -> DataFrame:
    """Return for each concept, and for all, how long the sentences of its captions are.

    One row per concept, with the columns: concept; images that have sentences; words and tokens of
    the sentences of an image, the mean and the most; over, the images with more tokens than the
    base model reads.
    """
    from pandas import DataFrame

    rows = []
    for concept, texts in _by_concept(items):
        words = [len(_WORD.findall(text)) for text in texts]
        tokens = [limit.count(text) for text in texts]
        rows.append(
            {
                "concept": concept,
                "images": len(texts),
                "words": round(mean(words), 1),
                "most_words": max(words),
                "tokens": round(mean(tokens), 1),
                "most_tokens": max(tokens),
                "limit": limit.limit,
                "over": sum(count > limit.limit for count in tokens),
            }
        )
    return DataFrame(rows)


def phrases(items: Sequence[CaptionedImage]) -> DataFrame:
    """Count the phrases of one to three words in the sentences of each concept, and of all.

    One row per concept and phrase, with the columns: concept; words; phrase; images; percent of
    the images that have sentences. The most frequent first, ties by phrase; a phrase in one image
    is left out.
    """
    from pandas import DataFrame

    rows = []
    for concept, texts in _by_concept(items):
        counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for length, phrase in set(_phrases(text)):
                counts[length][phrase] += 1
        for length in sorted(counts):
            ranked = sorted(counts[length].items(), key=lambda pair: (-pair[1], pair[0]))
            rows += [
                {
                    "concept": concept,
                    "words": length,
                    "phrase": phrase,
                    "images": images,
                    "percent": round(100 * images / len(texts), 2),
                }
                for phrase, images in ranked[:_MOST_PHRASES]
                if images > 1
            ]
    return DataFrame(rows, columns=["concept", "words", "phrase", "images", "percent"])


def _phrases(text: str) -> Iterator[tuple[int, str]]:
    """Yield the phrases of a text with their number of words; none goes over a comma or an end."""
    for clause in re.split(r"[.,;:!?\n]", text.lower()):
        words = _WORD.findall(clause)
        for length in range(1, _LONGEST_PHRASE + 1):
            for start in range(len(words) - length + 1):
                phrase = words[start : start + length]
                if not {phrase[0], phrase[-1]} & _FUNCTION_WORDS:
                    yield length, " ".join(phrase)


def _by_concept(items: Sequence[CaptionedImage]) -> Iterator[tuple[str, list[str]]]:
    """Yield the sentences of each image of a concept, joined; of all concepts if there are
    several.
    """
    concepts: defaultdict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.sentences:
            concepts[item.concept].append(" ".join(item.sentences))
    yield from sorted(concepts.items())
    if len(concepts) > 1:
        yield TOTAL, [text for texts in concepts.values() for text in texts]
