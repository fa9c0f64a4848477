"""The triggers of the images that a verb reads, and what it stores of the triggers that it sets."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasetkit.captions.caption import has_fixed_part
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.dataset.keep_tokens import ConceptCaptions
from datasetkit.dataset.trigger import (
    SHARE,
    KnownTrigger,
    begins_with,
    has_one,
    known_trigger,
    known_triggers,
    stored_key,
)
from datasetkit.options.toml import Config
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    declared_additional,
    declared_at,
)


def triggers_of(
    captions: Mapping[Path, Caption | None], declared: Sequence[str] | None = None
) -> dict[Path, KnownTrigger]:
    """Return the trigger of each folder of some images. declared: by dsk.toml; None to find out."""
    return triggers_of_tags({i: _tags(caption) for i, caption in captions.items()}, declared)


def triggers_of_tags(
    tags: Mapping[Path, Sequence[str]], declared: Sequence[str] | None = None
) -> dict[Path, KnownTrigger]:
    """Do `triggers_of` with the tags of each image."""
    folders = dict.fromkeys(image.parent for image in tags)
    return known_triggers(
        tags, {f: declared_at(f) if declared is None else declared for f in folders}
    )


def captions_of(records: Iterable[ImageRecord]) -> dict[Path, Caption | None]:
    """Return the captions of images, by path."""
    return {record.path: record.caption for record in records}


def words_of(triggers: Mapping[Path, KnownTrigger]) -> tuple[str, ...]:
    """Return the trigger words of several folders, each once."""
    return tuple(dict.fromkeys(word for trigger in triggers.values() for word in trigger.words))


def concept_captions(
    concept: ConceptSet, records: Iterable[ImageRecord], config: Config
) -> ConceptCaptions:
    """Return the captions of a concept that `keep_tokens` applies to, with the tags that each of
    them should begin with.
    """
    captions = {r.path: r.caption for r in records if r.caption is not None and r.caption.tags}
    trigger = known_trigger(
        concept.folder,
        [caption.tags for caption in captions.values()],
        declared=concept.trigger,
        concept=concept.name,
    )
    return ConceptCaptions(
        {path: c.tags for path, c in captions.items() if not has_fixed_part(c)},
        trigger,
        declared_additional(config, concept.name),
    )


def triggers_to_store(
    words: Sequence[str],
    before: Mapping[Path, Caption | None],
    after: Mapping[Path, Caption],
    triggers: Mapping[Path, KnownTrigger],
    *,
    partial: bool = False,
) -> dict[Path, tuple[str, ...]]:
    """Return what `Project.apply` stores once captions have changed.

    words: the trigger that was put first, () for none. before: every image of the folders; after:
    the new captions. partial: a filter left images out: the trigger is that of a folder only if
    most of its captions begin with it then. One that was removed from all captions is forgotten.
    """
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for image in before:
        by_folder[image.parent].append(image)
    stored: dict[Path, tuple[str, ...]] = {}
    for folder, images in by_folder.items():
        old = {image: _tags(before[image]) for image in images}
        new = {image: after[image].tags for image in images if image in after}
        if words:
            captions = [tags for tags in (old | new).values() if tags]
            leading = sum(begins_with(words, tags) for tags in captions)
            if not partial or (leading and leading >= SHARE * len(captions)):
                stored[stored_key(folder)] = tuple(words)
        elif triggers[folder].source == "stored":
            has = functools.partial(has_one, triggers[folder].words)
            lost = any(has(old[image]) and not has(tags) for image, tags in new.items())
            if lost and not any(map(has, (old | new).values())):
                stored[stored_key(folder)] = ()
    return stored


def _tags(caption: Caption | None) -> tuple[str, ...]:
    return () if caption is None else caption.tags
