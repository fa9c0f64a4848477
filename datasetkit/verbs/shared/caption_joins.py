"""How a sentence of a model gets into a caption: which kinds of captions there are, what stands
before it, and whose text it replaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import (
    joined_lines,
    of_lines,
    one_line,
    parse,
    with_sentence,
)
from datasetkit.captions.rules import apply_to, build, load_groups
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.records import Caption, CaptionSyntax, Done, ImageRecord, Outcome, Skipped
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import Store

BY_PERSON = "its caption was edited by a person or by dsk rules"
SENTENCE_BY_PERSON = "its sentence was written or edited by a person"
_MIXED = ("tags-then-sentence", "sentence-then-tags")


def kinds_of(images: Iterable[Path]) -> dict[Path, CaptionSyntax]:
    """Return how the captions of each folder of images are written."""
    return {folder: syntax_of(folder) for folder in dict.fromkeys(path.parent for path in images)}


def require_join(join: str, kinds: Mapping[Path, CaptionSyntax]) -> str:
    """Return the join that all folders allow; "auto" chooses it.

    Raises ConfigError where dsk.toml says that captions are of another kind.
    """
    joins = {folder: _require(join, folder, syntax) for folder, syntax in kinds.items()}
    if len(set(joins.values())) > 1:
        raise ConfigError(
            "the folders have captions of different kinds",
            hint="run dsk caption for each, or name one --join for all",
        )
    return next(iter(joins.values()), "sentence")


def _require(join: str, folder: Path, syntax: CaptionSyntax) -> str:
    is_mixed = syntax.kind == "mixed"
    if join == "auto":
        if not is_mixed:
            return "sentence"
        return "lines" if syntax.enable_wildcard else "tags-then-sentence"
    if join in ("sentence", "sidecar"):
        return join
    if not is_mixed:
        raise ConfigError(
            f"--join {join}: the captions of {display(folder)} have no lines of tags and sentences",
            hint='write captions = "mixed" under [dataset] of dsk.toml, or in its [[concept]]',
        )
    if join == "lines" and not syntax.enable_wildcard:
        raise ConfigError(
            f"--join lines: in {display(folder)} all lines are one caption",
            hint="write enable_wildcard = true under [train] of dsk.toml: training then takes one "
            "line at random",
        )
    if join in _MIXED and syntax.enable_wildcard:
        raise ConfigError(
            f"--join {join}: with enable_wildcard each line of a caption of {display(folder)} is a "
            "caption of its own",
            hint="--join lines",
        )
    return join


class Joiner:
    """Joins sentences with captions. words: the trigger of each image."""

    def __init__(self, join: str, existing: str, words: Mapping[Path, Sequence[str]]) -> None:
        self._join, self._existing, self._words = join, existing, words
        self._by_dsk: set[Caption] = set()
        self._own_sentences: set[str] = set()

    def read_generated(self, store: Store, captions: Iterable[Caption | None]) -> None:
        """Learn which captions and which sentences dsk wrote."""
        present = [caption for caption in captions if caption is not None]
        self._by_dsk |= store.generated(present)
        sentences = [Caption((s,)) for caption in present for s in caption.sentences]
        self._own_sentences |= {c.tags[0] for c in store.generated(sentences)}

    def joined(self, record: ImageRecord, sentence: str) -> Outcome[Caption]:
        """Return the caption of an image with a new sentence; skip one that a person wrote."""
        present = record.caption
        if present is None:
            present = parse("", syntax_of(record.path.parent))
        kind = present.syntax.kind
        if self._is_kept(present):
            return Skipped(record, SENTENCE_BY_PERSON if kind == "mixed" else BY_PERSON)
        text = self._with_existing(present, sentence)
        if kind == "tags":
            after = of_lines([text], present.syntax)
        elif kind == "sentence":
            after = with_sentence(present, text)
        else:
            after = self._mixed(present, text, self._words[record.path])
        return Done(record, self._with_trigger(after, self._words[record.path]))

    def is_generated(self, record: ImageRecord) -> bool:
        """Tell whether dsk writes all of the new caption of an image."""
        before = record.caption
        if before is None or before.is_empty or before in self._by_dsk:
            return True
        if before.syntax.kind == "mixed":
            return not before.tags or self._join == "sentence"
        return self._existing == "overwrite"

    def sentences_of(self, done: Done[Caption]) -> list[Caption]:
        """Return the sentences of a new caption that are all dsk's, each as a caption."""
        before = done.record.caption
        if before is not None and self._joins(before):
            return []
        return [Caption((sentence,)) for sentence in done.value.sentences]

    def _is_by_person(self, caption: Caption) -> bool:
        """Tell whether a person wrote what the sentence would replace. Tags of a mixed caption are
        not replaced.
        """
        if caption.is_empty or caption in self._by_dsk:
            return False
        if caption.syntax.kind == "mixed" and self._join != "sentence":
            return any(sentence not in self._own_sentences for sentence in caption.sentences)
        return True

    def _is_kept(self, caption: Caption) -> bool:
        return self._existing == "skip" and self._is_by_person(caption)

    def _joins(self, caption: Caption) -> bool:
        return self._existing in ("append", "prepend") and self._is_by_person(caption)

    def _with_existing(self, caption: Caption, sentence: str) -> str:
        """Return the new text, with that of a person before or behind it if requested."""
        if not self._joins(caption):
            return sentence
        kind = caption.syntax.kind
        old = one_line(caption).strip() if kind == "tags" else " ".join(caption.sentences)
        return joined_lines([old, sentence] if self._existing == "append" else [sentence, old])

    def _mixed(self, caption: Caption, sentence: str, words: Sequence[str]) -> Caption:
        """Return a mixed caption with one sentence. words: the trigger, which comes before the
        sentence where that is first.
        """
        if self._join == "sentence":
            return with_sentence(parse("", caption.syntax), sentence)
        first = self._join == "sentence-then-tags"
        return with_sentence(caption, sentence, first=first, words=words if first else ())

    def _with_trigger(self, caption: Caption, words: Sequence[str]) -> Caption:
        if not words:
            return caption
        known = vocabulary.load()
        rules = build(trigger=words, vocabulary=known, groups=load_groups())
        return apply_to(rules, caption, category=known.category).caption
