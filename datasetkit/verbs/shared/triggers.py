"""The triggers of the images that a verb reads, and what it stores of the triggers that it sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from datasetkit.captions.caption import has_fixed_part, name_in, normal_form, one_line
from datasetkit.captions.grammar import PLAIN, comma_tags
from datasetkit.captions.rulesets import Replace
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
    replaced: Iterable[Replace] = (),
) -> dict[Path, tuple[str, ...]]:
    """Return what `Project.apply` stores once captions have changed.

    words: the trigger that was put first, () for none. before: every image of the folders; after:
    the new captions. partial: a filter left images out: the trigger is that of a folder only if
    most of its captions begin with it then. replaced: the tags that were replaced. A trigger that
    was replaced in all captions is stored with its new words; one that was removed is forgotten.
    """
    new_words = {normal_form(rule.old): rule.new for rule in replaced}
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for image in before:
        by_folder[image.parent].append(image)
    stored: dict[Path, tuple[str, ...]] = {}
    for folder, images in by_folder.items():
        old = {i: caption for i in images if (caption := before[i]) and not caption.is_empty}
        new = {image: after[image] for image in images if image in after}
        trigger = triggers[folder]
        if words:
            if not partial or _most_begin_with(words, (old | new).values()):
                stored[stored_key(folder)] = tuple(words)
        elif trigger.source == "stored" and _is_lost(trigger.words, old, new):
            forms = map(normal_form, trigger.words)
            stored[stored_key(folder)] = tuple(new_words[f] for f in forms if f in new_words)
    return stored


def _most_begin_with(words: Sequence[str], captions: Collection[Caption]) -> bool:
    leading = sum(begins_with(words, _first_words(caption)) for caption in captions)
    return leading > 0 and leading >= SHARE * len(captions)


def _is_lost(
    words: Sequence[str], old: Mapping[Path, Caption], new: Mapping[Path, Caption]
) -> bool:
    """Tell whether new captions have lost the words, and no caption has them now."""
    lost = [i for i in old.keys() & new.keys() if _has_one(words, old[i])]
    return bool(lost) and not any(_has_one(words, caption) for caption in {**old, **new}.values())


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
