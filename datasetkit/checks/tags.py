"""Checks of what captions say: tags that nobody knows, that contradict or repeat each other, that
teach nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.contradictions import contradictions, load_contradictions
from datasetkit.captions.implications import close_chains, load_implications
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import CaptionFile, Check, CheckImage, CheckInput, Finding
from datasetkit.checks.captions import leading
from datasetkit.core.files import display

# A longer piece between commas is a sentence, not a tag that was misspelt.
_TAG_WORDS = 5
# So few captions say nothing about what is in all of them, or in one.
LEAST_CAPTIONS = 4
# Looking for the tag that was meant takes 30 ms: it is done for the commonest ones.
_NEAREST = 40


def unknown(of: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    holders: defaultdict[str, list[tuple[CheckImage, str]]] = defaultdict(list)
    for item, caption in of.trained:
        front = leading(item, caption, vocabulary)
        triggers = {normal_form(trigger) for trigger in item.place.triggers}
        # What leads a caption is a trigger of its own, or is said to be one too many.
        for tag, form in list(zip(caption.tags, caption.forms, strict=True))[front:]:
            if form not in triggers and tag not in vocabulary and len(tag.split()) <= _TAG_WORDS:
                holders[form].append((item, tag))
    commonest = sorted(holders, key=lambda form: (-len(holders[form]), form))
    for place, form in enumerate(commonest):
        near = vocabulary.nearest(form) if place < _NEAREST else ()
        meant = f"; nearest: `{near[0]}`" if near else ""
        for item, tag in holders[form]:
            yield Finding(
                item.path, f"`{display(tag)}` is no tag{meant}", len(holders[form]), display(form)
            )


def contradictory(of: CheckInput) -> Iterator[Finding]:
    table = load_contradictions()
    for item, caption in of.trained:
        for pair in contradictions(frozenset(caption.forms), table):
            yield Finding(item.path, f"`{pair[0]}` and `{pair[1]}`", 1.0, " + ".join(pair))


def redundant(of: CheckInput) -> Iterator[Finding]:
    generals: defaultdict[str, list[str]] = defaultdict(list)
    for tag, general in close_chains(load_implications("common")):
        generals[normal_form(tag)].append(normal_form(general))
    for item, caption in of.trained:
        forms = set(caption.forms)
        for form in caption.forms:
            for general in generals.get(form, ()):
                if general in forms:
                    reason = f"`{display(general)}` says nothing new beside `{display(form)}`"
                    yield Finding(item.path, reason, 1.0, display(general))


def in_all(of: CheckInput) -> Iterator[Finding]:
    for place in of.places:
        captions = [caption for item, caption in of.trained if item.place == place]
        if len(captions) < LEAST_CAPTIONS:
            continue
        own = {normal_form(trigger) for trigger in place.triggers}
        shared = set.intersection(*(set(caption.forms) for caption in captions))
        for form in (form for form in dict.fromkeys(captions[0].forms) if form in shared - own):
            reason = (
                f"`{display(form)}` is in all {len(captions)} captions: it fuses with the trigger"
            )
            yield Finding(place.folder, reason, len(captions), display(form))


def singleton(of: CheckInput) -> Iterator[Finding]:
    first: dict[str, tuple[CheckImage, CaptionFile]] = {}
    counts: Counter[str] = Counter()
    for item, caption in of.trained:
        counts.update(set(caption.forms))
        for form in caption.forms:
            first.setdefault(form, (item, caption))
    if len(of.trained) < LEAST_CAPTIONS:
        return
    triggers = {normal_form(trigger) for place in of.places for trigger in place.triggers}
    for form, (item, _) in first.items():
        if counts[form] == 1 and form not in triggers:
            yield Finding(
                item.path, f"`{display(form)}` is in this caption only", 1.0, display(form)
            )


CHECKS: Final = (
    Check(
        "unknown",
        "caption",
        "not in the vocabulary",
        "each tag of up to 5 words, by its normal form, beside the 10,861 of the WD taggers; "
        "triggers apart",
        "it is none of them; the nearest one is named for the 40 commonest",
        "dsk rules {folder} --replace old=new, or keep your own word",
        unknown,
    ),
    Check(
        "contradiction",
        "caption",
        "contradictory tags",
        "pairs of the shipped table of tags that exclude each other "
        "(datasetkit/data/contradictions.toml)",
        "both are in one caption",
        "look at the image and take one out",
        contradictory,
    ),
    Check(
        "redundant",
        "caption",
        "redundant tags",
        "pairs of the shipped table of implications, chains followed",
        "a general tag beside a specific one",
        "dsk rules {folder} --implies common",
        redundant,
    ),
    Check(
        "in-all",
        "caption",
        "tag in all captions",
        "the captions of each training folder, from 4 on",
        "a tag that is no trigger is in 100 % of them",
        "exclude it, if the trigger shall mean it; else add images without it",
        in_all,
    ),
    Check(
        "singleton",
        "caption",
        "tag in one caption only",
        "the captions of all training folders, from 4 on",
        "a tag is in one of them",
        "mend it, drop it, or leave it",
        singleton,
    ),
)
