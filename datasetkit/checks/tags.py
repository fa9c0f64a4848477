"""Checks of tags: unknown, contradictory or redundant ones, and those in all captions or in one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.contradictions import contradictions, load_contradictions
from datasetkit.captions.grammar import is_group, is_prose
from datasetkit.captions.implications import close_chains, load_implications
from datasetkit.captions.side_car_tags import (
    DROPPED,
    split_namespace,
    unescape,
    without_namespace,
)
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import CaptionFile, Check, CheckImage, CheckInput, Finding
from datasetkit.checks.captions import leading
from datasetkit.core.files import display

# A longer text between commas is a sentence, not a misspelt tag.
_TAG_WORDS = 5
# Fewer captions say nothing about tags that all of them have, or one.
LEAST_CAPTIONS = 4
# Finding the nearest tag takes 30 ms: do it for the most common unknown tags.
_SUGGESTIONS = 40


def unknown(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    holders: defaultdict[str, list[tuple[CheckImage, str]]] = defaultdict(list)
    for item, caption in data.trained:
        front = leading(item, caption, vocabulary)
        triggers = {normal_form(trigger) for trigger in item.folder.triggers}
        # Unknown tags at the front are triggers, or reported by `trigger-number`.
        if is_prose(caption.tags):
            continue
        for tag, form in list(zip(caption.tags, caption.forms, strict=True))[front:]:
            if form in triggers or form in vocabulary or is_group(tag, caption.syntax):
                continue
            if len(tag.split()) <= _TAG_WORDS:
                holders[form].append((item, tag))
    most_common = sorted(holders, key=lambda form: (-len(holders[form]), form))
    for rank, form in enumerate(most_common):
        nearest = vocabulary.nearest(form) if rank < _SUGGESTIONS else ()
        suggestion = f"; nearest: `{nearest[0]}`" if nearest else ""
        for item, tag in holders[form]:
            yield Finding(
                item.path,
                f"`{display(tag)}` is not a tag{suggestion}",
                len(holders[form]),
                display(form),
            )


def entities(data: CheckInput) -> Iterator[Finding]:
    for item, tag, text in _changed_by(unescape, data):
        reason = f"`{display(tag)}` has an HTML entity: `{display(text)}`"
        yield Finding(item.path, reason, 1.0, display(tag))


def namespace(data: CheckInput) -> Iterator[Finding]:
    for item, tag, name in _changed_by(without_namespace, data):
        reason = f"`{display(tag)}` has a namespace, which is trained as a word"
        yield Finding(item.path, reason, 1.0, display(name))


def _changed_by(
    change: Callable[[str], str], data: CheckInput
) -> Iterator[tuple[CheckImage, str, str]]:
    """Yield the tags that a function changes, with what it makes of them."""
    for item, caption in data.captioned:
        for tag in caption.tags:
            if (new := change(tag)) != tag:
                yield item, tag, new


def origin(data: CheckInput) -> Iterator[Finding]:
    tags = [
        (item, tag, prefix)
        for item, caption in data.captioned
        for tag in caption.tags
        for prefix, name in [split_namespace(tag, DROPPED)]
        if prefix and name
    ]
    globs = ",".join(sorted({f"{prefix}:*" for _, _, prefix in tags}))
    step = f"dsk rules {{folder}} --exclude '{globs}', or keep it if you train it"
    for item, tag, prefix in tags:
        reason = f"`{display(tag)}` says where the image comes from, not what it shows"
        yield Finding(item.path, reason, 1.0, display(f"{prefix}:*"), step)


def contradictory(data: CheckInput) -> Iterator[Finding]:
    table = load_contradictions()
    for item, caption in data.trained:
        pairs = (
            pair for forms in caption.line_forms for pair in contradictions(frozenset(forms), table)
        )
        for pair in dict.fromkeys(pairs):
            yield Finding(item.path, f"`{pair[0]}` and `{pair[1]}`", 1.0, " + ".join(pair))


def redundant(data: CheckInput) -> Iterator[Finding]:
    generals: defaultdict[str, list[str]] = defaultdict(list)
    for tag, general in close_chains(load_implications("common")):
        generals[normal_form(tag)].append(normal_form(general))
    for item, caption in data.trained:
        pairs = (
            (general, form)
            for forms in caption.line_forms
            for form in forms
            for general in generals.get(form, ())
            if general in forms
        )
        for general, form in dict.fromkeys(pairs):
            reason = f"`{display(general)}` is redundant with `{display(form)}`"
            yield Finding(item.path, reason, 1.0, display(general))


def in_all(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for folder in data.folders:
        captions = [caption for item, caption in data.trained if item.folder == folder]
        if len(captions) < LEAST_CAPTIONS:
            continue
        triggers = {normal_form(trigger) for trigger in folder.triggers}
        shared = frozenset.intersection(*(caption.all_forms for caption in captions)) - triggers
        # A word that no vocabulary has is more likely a trigger than one to exclude.
        for form in (
            f for f in dict.fromkeys(captions[0].forms) if f in shared and f in vocabulary
        ):
            reason = (
                f"`{display(form)}` is in all {len(captions)} captions: it becomes part of the "
                "trigger"
            )
            yield Finding(folder.folder, reason, len(captions), display(form))


def singleton(data: CheckInput) -> Iterator[Finding]:
    first: dict[str, tuple[CheckImage, CaptionFile]] = {}
    counts: Counter[str] = Counter()
    for item, caption in data.trained:
        counts.update(caption.all_forms)
        for form in (form for forms in caption.line_forms for form in forms):
            first.setdefault(form, (item, caption))
    if len(data.trained) < LEAST_CAPTIONS:
        return
    triggers = {normal_form(trigger) for folder in data.folders for trigger in folder.triggers}
    for form, (item, _) in first.items():
        if counts[form] == 1 and form not in triggers:
            yield Finding(
                item.path, f"`{display(form)}` is only in this caption", 1.0, display(form)
            )


CHECKS: Final = (
    Check(
        "unknown",
        "caption",
        "not in the vocabulary",
        "each tag of up to 5 words except triggers, in normal form, against the 10,861 tags of the "
        "WD taggers",
        "it is not one of them; for the 40 most common ones the nearest tag is named",
        "dsk rules {folder} --replace old=new, or keep your own word",
        unknown,
    ),
    Check(
        "entities",
        "caption",
        "HTML entities",
        "each tag",
        "a character of a web page such as `&gt;` or `&#039;`",
        "dsk check {dataset} --fix",
        entities,
        fix="writes the character",
    ),
    Check(
        "namespace",
        "caption",
        "tags with a namespace",
        "each tag, against the namespaces of boorus and hydrus",
        "`character:`, `copyright:`, `series:`, `general:` and the like before the tag",
        "dsk check {dataset} --fix",
        namespace,
        fix="removes the namespace",
    ),
    Check(
        "origin",
        "caption",
        "tags of the image's origin",
        "each tag, against the namespaces of boorus and hydrus",
        "`artist:`, `rating:`, `year:`, `filename:` and the like before the tag",
        "dsk rules {folder} --exclude 'artist:*', or keep it if you train it",
        origin,
    ),
    Check(
        "contradiction",
        "caption",
        "contradictory tags",
        "pairs of the shipped table of tags that exclude each other "
        "(datasetkit/data/contradictions.toml)",
        "both are in one caption",
        "look at the image and remove one",
        contradictory,
    ),
    Check(
        "redundant",
        "caption",
        "redundant tags",
        "pairs of the shipped table of implications, chains followed",
        "a general tag and a specific one that implies it",
        "dsk rules {folder} --implies common",
        redundant,
    ),
    Check(
        "in-all",
        "caption",
        "tag in all captions",
        "the captions of each training folder with 4 or more",
        "a tag of the vocabulary that is not a trigger is in all of them",
        "exclude it if the trigger should mean it; else add images without it",
        in_all,
    ),
    Check(
        "singleton",
        "caption",
        "tag in one caption only",
        "the captions of all training folders, if there are 4 or more",
        "a tag is in one of them",
        "correct it, drop it, or keep it",
        singleton,
    ),
)
