"""The trigger of a folder: the words that begin its captions and that a prompt will use.

Everyone who needs it asks `known_trigger` or `known_triggers`. In this order it is:

  1. the one that dsk.toml declares for the concept
  2. the one that a command or the review page set last, stored in the project of the folder
  3. the words outside the vocabulary that most captions begin with
  4. the concept's name of a `<repeats>_<concept>` folder, where most captions begin with it
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit.captions.caption import name_in, normal_form
from datasetkit.captions.grammar import before_sentences, ends_as_sentence, is_group
from datasetkit.captions.side_car_tags import split_namespace
from datasetkit.captions.vocabulary import load
from datasetkit.core.packed import PackedList
from datasetkit.dataset import layout
from datasetkit.project.stored_triggers import stored_key, stored_triggers, words_ever_stored

# A trigger is inferred if at least this many captions, and this share of the folder, begin with it.
LEAST, SHARE = 3, 0.6
# How many names a line about captions shows.
_NAMES_SHOWN = 3

Tags = Sequence[str]


@dataclass(frozen=True, slots=True)
class KnownTrigger:
    """The trigger words of a folder, and how they are known; "" if there are none."""

    words: tuple[str, ...] = ()
    source: Literal["", "dsk.toml", "stored", "captions", "folder"] = ""

    @property
    def forms(self) -> frozenset[str]:
        """Return the normal forms of the words."""
        return frozenset(map(normal_form, self.words))


def known_trigger(
    folder: Path, captions: Iterable[Tags], *, declared: Tags = (), concept: str = ""
) -> KnownTrigger:
    """Return the trigger of a folder of images. declared: by dsk.toml. concept: the name that its
    laid-out folder has or will have, by default that in the name of the folder.
    """
    stored = stored_triggers([folder])[folder]
    return _known(folder, PackedList(filter(None, captions)), declared, stored, concept)


def known_triggers(
    captions: Iterable[tuple[Path, Tags]], declared: Callable[[Path], Tags]
) -> dict[Path, KnownTrigger]:
    """Return the trigger of each folder of some images, from (image, tags) each. declared: the
    trigger that dsk.toml declares for a folder.

    A folder with too few captions to infer its trigger has that of all of them.
    """
    by_folder: dict[Path, PackedList[Tags]] = {}
    folders: dict[str, Path] = {}
    for image, tags in captions:
        name = str(image).rpartition(os.sep)[0]  # `parent` makes a path for each
        if name not in folders:
            by_folder[folders.setdefault(name, image.parent)] = PackedList()
        if tags:
            by_folder[folders[name]].append(tags)
    stored = stored_triggers(by_folder)
    triggers = {
        folder: _known(folder, several, declared(folder), stored[folder])
        for folder, several in by_folder.items()
    }
    if len(triggers) > 1 and not all(trigger.words for trigger in triggers.values()):
        every = inferred(tags for several in by_folder.values() for tags in several)
        common = KnownTrigger(every, "captions")
        for folder, trigger in triggers.items():
            few = len(by_folder[folder]) < LEAST
            if not trigger.words and few and common.words and not is_reg(folder):
                triggers[folder] = common
    return triggers


def _known(
    folder: Path,
    captions: Sequence[Tags],
    declared: Tags,
    stored: tuple[str, ...],
    concept: str = "",
) -> KnownTrigger:
    if is_reg(folder):
        return KnownTrigger(stored, "stored") if stored else KnownTrigger()
    if declared:
        return KnownTrigger(tuple(declared), "dsk.toml")
    name = layout.parse(folder.resolve().name)
    concept = concept or (name.name if isinstance(name, layout.Concept) else "")
    other = _without_words_before(concept, inferred(captions))
    # The images of a folder may have been exchanged, or its trigger renamed by another program.
    if stored and (not other or not captions or any(has_one(stored, tags) for tags in captions)):
        return KnownTrigger(stored, "stored")
    if other:
        return KnownTrigger(other, "captions")
    if concept and _leads_most(concept, captions):
        return KnownTrigger((concept,), "folder")
    return KnownTrigger()


def inferred(captions: Iterable[Tags]) -> tuple[str, ...]:
    """Return the words outside the vocabulary that most captions begin with, in their order.

    Another such word may stand before them in some captions: `hand, sks, 1girl`. Parts of sentences
    and tags with a namespace (`rating:safe`) are not such words.
    """
    vocabulary = load()
    positions: defaultdict[str, list[int]] = defaultdict(list)
    spellings: dict[str, str] = {}
    number = 0
    for tags in filter(None, captions):
        number += 1
        seen: set[str] = set()
        for at, tag in enumerate(before_sentences(tags)):
            form = normal_form(tag)
            if tag in vocabulary or form in seen or is_group(tag):
                break
            if split_namespace(tag)[0]:
                continue
            seen.add(form)
            positions[form].append(at)
            spellings.setdefault(form, tag)
    least = max(LEAST, SHARE * number)
    usual = {form: sum(at) / len(at) for form, at in positions.items() if len(at) >= least}
    return tuple(spellings[form] for form in sorted(usual, key=lambda form: usual[form]))


def possible_trigger(captions: Sequence[Tags], *, least: int) -> str:
    """Return a word that is probably the trigger although it does not come first: it is in every
    caption and not in the vocabulary. "" if there is none, fewer captions than `least`, or
    sentences.
    """
    captions = [tags for tags in captions if tags]
    if len(captions) < least or any(map(ends_as_sentence, captions)):
        return ""
    vocabulary = load()
    shared = set.intersection(*({normal_form(tag) for tag in tags} for tags in captions))
    unknown = [tag for tag in captions[0] if normal_form(tag) in shared and tag not in vocabulary]
    return unknown[0] if unknown else ""


def is_reg(folder: Path) -> bool:
    """Tell whether a folder is one of a regularisation set, which has no trigger."""
    folder = folder.resolve()
    return folder.parent.name.casefold() == layout.REG and isinstance(
        layout.parse(folder.name), layout.Concept
    )


def begins_with(words: Tags, tags: Tags) -> bool:
    """Tell whether a caption begins with these words, in any spelling."""
    return [normal_form(tag) for tag in tags[: len(words)]] == [normal_form(w) for w in words]


def kept_first(forms: Collection[str], before: Tags, after: Tags) -> tuple[str, ...]:
    """Return a new caption with the trigger words of the one that it replaces, at its front."""
    words = tuple(dict.fromkeys(tag for tag in before if normal_form(tag) in forms))
    return (
        (*words, *(tag for tag in after if normal_form(tag) not in forms)) if words else (*after,)
    )


def has_one(words: Tags, tags: Tags) -> bool:
    """Tell whether a caption has one of these words, in any spelling, also inside a wildcard or a
    sentence.
    """
    return any(name_in(word, tags) for word in words)


def _leads_most(name: str, captions: Sequence[Tags]) -> bool:
    leading = sum(begins_with((name,), tags) for tags in captions)
    return leading > 0 and leading >= SHARE * len(captions)


def _without_words_before(concept: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the words before the concept's name: it is the trigger, where it is among them."""
    forms = [normal_form(word) for word in words]
    form = normal_form(concept)
    return words[forms.index(form) :] if form in forms else words


# ---- in the store


def carried(targets: Mapping[Path, Iterable[Path]]) -> dict[Path, tuple[str, ...]]:
    """Return the triggers to store for folders of outputs: those of the folders of their images,
    from image -> outputs. A folder that has a trigger already keeps it.
    """
    sources = _folders(targets)
    stored = stored_triggers({*sources, *(f for several in sources.values() for f in several)})
    return {
        stored_key(out): words
        for out, several in sources.items()
        if not stored[out]
        and len(each := {stored[folder] for folder in several}) == 1
        and (words := each.pop())
    }


def carried_earlier(targets: Mapping[Path, Iterable[Path]]) -> dict[Path, tuple[str, ...]]:
    """Return the words of earlier triggers to store for folders of outputs, from image -> outputs:
    those that only the folders of their images have.
    """
    return earlier(_folders(targets))


def earlier(sources: Mapping[Path, Iterable[Path]]) -> dict[Path, tuple[str, ...]]:
    """Do `carried_earlier` for folders of outputs -> the folders of their images."""
    words = {
        out: dict.fromkeys(word for folder in several for word in words_ever_stored(folder))
        for out, several in sources.items()
    }
    new = {
        stored_key(out): tuple(word for word in several if word not in words_ever_stored(out))
        for out, several in words.items()
        if several
    }
    return {folder: several for folder, several in new.items() if several}


def _folders(targets: Mapping[Path, Iterable[Path]]) -> dict[Path, set[Path]]:
    """Return the folders of the images of each folder of outputs."""
    sources: defaultdict[Path, set[Path]] = defaultdict(set)
    for image, outputs in targets.items():
        for output in outputs:
            sources[output.parent].add(image.parent)
    return sources
