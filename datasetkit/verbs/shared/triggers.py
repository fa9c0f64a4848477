"""The triggers of the images that a verb reads, and what it stores of the triggers that it sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import has_fixed_part, name_in, normal_form, one_line
from datasetkit.captions.grammar import PLAIN, comma_tags
from datasetkit.captions.rulesets import Replace
from datasetkit.core.packed import PackedList
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.dataset.keep_tokens import ConceptCaptions
from datasetkit.dataset.trigger import (
    SHARE,
    KnownTrigger,
    begins_with,
    known_trigger,
    known_triggers,
)
from datasetkit.options.toml import Config
from datasetkit.project.stored_triggers import stored_key
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    declared_additional,
    declared_at,
)


def triggers_of(
    captions: Iterable[tuple[Path, Caption | None]], declared: Sequence[str] | None = None
) -> dict[Path, KnownTrigger]:
    """Return the trigger of each folder of some images. declared: by dsk.toml; None to find out."""
    return triggers_of_tags(((image, _tags(caption)) for image, caption in captions), declared)


def triggers_of_tags(
    tags: Iterable[tuple[Path, Sequence[str]]], declared: Sequence[str] | None = None
) -> dict[Path, KnownTrigger]:
    """Do `triggers_of` with the tags of each image."""
    return known_triggers(tags, declared_at if declared is None else lambda _: declared)


def captions_of(records: Iterable[ImageRecord]) -> Iterator[tuple[Path, Caption | None]]:
    """Yield images with their captions."""
    return ((record.path, record.caption) for record in records)


def words_of(triggers: Mapping[Path, KnownTrigger]) -> tuple[str, ...]:
    """Return the trigger words of several folders, each once."""
    return tuple(dict.fromkeys(word for trigger in triggers.values() for word in trigger.words))


def concept_captions(
    concept: ConceptSet, records: Iterable[ImageRecord], config: Config
) -> ConceptCaptions:
    """Return the captions of a concept that `keep_tokens` applies to, with the tags that each of
    them should begin with.
    """
    captions = PackedList(
        (r.path, r.caption.tags, has_fixed_part(r.caption))
        for r in records
        if r.caption is not None and r.caption.tags
    )
    trigger = known_trigger(
        concept.folder,
        (tags for _, tags, _ in captions),
        declared=concept.trigger,
        concept=concept.name,
    )
    return ConceptCaptions(
        PackedList((path, tags) for path, tags, is_fixed in captions if not is_fixed),
        trigger,
        declared_additional(config, concept.name),
    )


def triggers_to_store(
    words: Sequence[str],
    before: Iterable[tuple[Path, Caption | None]],
    after: Iterable[tuple[Path, Caption]],
    triggers: Mapping[Path, KnownTrigger],
    *,
    partial: bool = False,
    replaced: Iterable[Replace] = (),
) -> dict[Path, tuple[str, ...]]:
    """Return what `Project.apply` stores once captions have changed.

    words: the trigger that was put first, () for none. before: every image of the folders; after:
    the new captions, in the same order. partial: a filter left images out: the trigger is that of a
    folder only if most of its captions begin with it then. replaced: the tags that were replaced. A
    trigger that was replaced in all captions is stored with its new words; one that was removed is
    forgotten.
    """
    new_words = {normal_form(rule.old): rule.new for rule in replaced}
    by_folder: dict[Path, _FolderCaptions] = {}
    changes = iter(after)
    change = next(changes, None)
    for image, old in before:
        folder, new = image.parent, None
        if change is not None and change[0] == image:
            new, change = change[1], next(changes, None)
        if folder not in by_folder:
            by_folder[folder] = _FolderCaptions(words or _stored_words(triggers[folder]))
        if partial or not words:
            old = None if old is None or old.is_empty else old
            by_folder[folder].add(old, new, is_set=bool(words))
    if words:
        led = [f for f, captions in by_folder.items() if not partial or captions.most_begin]
        return {stored_key(folder): tuple(words) for folder in led}
    return {
        stored_key(folder): tuple(
            new_words[form] for form in map(normal_form, captions.words) if form in new_words
        )
        for folder, captions in by_folder.items()
        if captions.have_lost
    }


def _stored_words(trigger: KnownTrigger) -> tuple[str, ...]:
    return trigger.words if trigger.source == "stored" else ()


@dataclass(slots=True)
class _FolderCaptions:
    """What the captions of a folder have of some words: how many begin with them after a change,
    whether it removed them from one, and whether one has them still.
    """

    words: Sequence[str]
    number: int = 0
    leading: int = 0
    removed: bool = False
    remain: bool = False

    def add(self, old: Caption | None, new: Caption | None, *, is_set: bool) -> None:
        """Count a caption. old: before the change, new: after it, None for no change. is_set: the
        words are put first; else they are the stored ones.
        """
        now = old if new is None else new
        if now is None:
            return
        if is_set:
            self.number += 1
            self.leading += begins_with(self.words, _first_words(now))
        elif self.words and not self.remain:
            self.remain = _has_one(self.words, now)
            if old is not None and new is not None and not self.remain:
                self.removed |= _has_one(self.words, old)

    @property
    def most_begin(self) -> bool:
        return self.leading > 0 and self.leading >= SHARE * self.number

    @property
    def have_lost(self) -> bool:
        return self.removed and not self.remain


def _first_words(caption: Caption) -> Sequence[str]:
    """Return the tags of a caption. What stands before the first commas of a sentence may be a
    trigger that is set now.
    """
    if caption.syntax.kind == "tags":
        return caption.tags
    return comma_tags(one_line(caption))


def _has_one(words: Sequence[str], caption: Caption) -> bool:
    return any(name_in(word, caption.tags, PLAIN, caption.sentences) for word in words)


def _tags(caption: Caption | None) -> tuple[str, ...]:
    return () if caption is None else caption.tags
