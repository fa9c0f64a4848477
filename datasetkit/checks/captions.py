"""Checks of caption files: what a trainer does not find, stops at, or reads otherwise than it was
meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from datasetkit.captions import tokens
from datasetkit.captions.caption import normal_form, read_caption
from datasetkit.captions.vocabulary import Vocabulary, load
from datasetkit.checks import sd_scripts
from datasetkit.checks.base import CaptionFile, Check, CheckFolder, CheckImage, CheckInput, Finding
from datasetkit.core.errors import DskError
from datasetkit.core.files import display

BOM: Final = "\ufeff"
# A guessed trigger leads at least so many captions, and this share of those of its folder.
GUESS_LEAST, GUESS_SHARE = 3, 0.6


def text_of(caption: CaptionFile) -> str:
    """Return the text of a caption file; what is no UTF-8 has been reported as unreadable."""
    return caption.data.decode("utf-8", "replace")


def missing(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        if item.caption is None and not item.place.is_reg:
            others = next(
                (path for path in sd_scripts.candidates(item.path)[1:] if path.is_file()), None
            )
            if others is not None:
                trained = f"sd-scripts takes {display(others.name)}, whose stem is shorter"
            else:
                trained = (
                    f"{f'`{display(item.place.name)}`' if item.place.laid_out else 'nothing'} "
                    "is trained"
                )
            yield Finding(item.path, f"has no caption: {trained}")


def empty(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        if item.caption is not None and not item.caption.fault and not item.caption.tags:
            what = (
                "0 bytes: sd-scripts stops there"
                if not item.caption.data
                else "no tag: nothing is trained"
            )
            yield Finding(item.path, f"its caption file has {what}")


def unreadable(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        if item.caption is not None and item.caption.fault:
            yield Finding(item.path, item.caption.fault)


def bom(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.captioned:
        if BOM in text_of(caption):
            yield Finding(
                item.path, f"its first tag is read as {display(BOM)}{display(caption.tags[0])}"
            )


def lines(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.captioned:
        number = sum(bool(line.replace(BOM, "").strip()) for line in text_of(caption).splitlines())
        if number > 1:
            yield Finding(item.path, f"{number} lines, of which the first is trained", number)


def name(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        if item.caption is None:
            continue
        if not item.caption.proper:
            yield Finding(
                item.path, f"its caption is called {display(item.caption.path.name)}, not .txt", 1.0
            )
        elif item.caption.others:
            others = ", ".join(display(path.name) for path in item.caption.others)
            yield Finding(item.path, f"{others} stands beside its .txt")


def trigger_missing(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.trained:
        lacking = [t for t in item.place.triggers if normal_form(t) not in caption.forms]
        if lacking:
            yield Finding(item.path, f"lacks {_quoted(lacking)}", len(lacking))


def trigger_twice(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.trained:
        counts = Counter(caption.forms)
        for trigger in item.place.triggers:
            if counts[normal_form(trigger)] > 1:
                yield Finding(
                    item.path, f"has {_quoted([trigger])} {counts[normal_form(trigger)]} times"
                )


def trigger_first(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.trained:
        wanted = [normal_form(t) for t in item.place.triggers if normal_form(t) in caption.forms]
        if list(dict.fromkeys(caption.forms))[: len(wanted)] != wanted:
            yield Finding(item.path, f"begins with {_quoted(caption.tags[: len(wanted)])}")


def trigger_number(of: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for place in of.places:
        whole = [
            (item, leading(item, caption, vocabulary))
            for item, caption in of.trained
            if item.place == place
            and caption.forms[: len(place.triggers)] == tuple(map(normal_form, place.triggers))
        ]
        usual = Counter(n for _, n in whole).most_common(1)
        for item, n in whole:
            if n != usual[0][0]:
                yield Finding(
                    item.path,
                    f"begins with {n} words that are no tags, most captions with {usual[0][0]}",
                    n,
                )


def leading(item: CheckImage, caption: CaptionFile, vocabulary: Vocabulary) -> int:
    """Count the tags at the front of a caption that are its triggers or no tags of the
    vocabulary.
    """
    own = {normal_form(t) for t in item.place.triggers}
    n = 0
    for tag, form in zip(caption.tags, caption.forms, strict=True):
        if form not in own and tag in vocabulary:
            break
        n += 1
    return n


def repeated(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.captioned:
        own = {normal_form(t) for t in item.place.triggers}
        twice = [form for form, n in Counter(caption.forms).items() if n > 1 and form not in own]
        if twice:
            yield Finding(item.path, f"has {_quoted(twice)} more than once", len(twice))


def long(of: CheckInput) -> Iterator[Finding]:
    for item, caption in of.captioned:
        number = tokens.count(", ".join(caption.tags))
        if number > of.max_tokens:
            enough = next((limit for limit in tokens.LIMITS if number <= limit), None)
            step = f"max_token_length = {enough} holds it" if enough else "no trainer holds so many"
            yield Finding(
                item.path, f"{number} tokens: {number - of.max_tokens} are cut off; {step}", number
            )


def differs(of: CheckInput) -> Iterator[Finding]:
    for item in of.items:
        source = of.sources.get(item.path.resolve())
        if source is None or not source.is_file() or item.place.is_reg:
            continue
        try:
            theirs = read_caption(source)
        except DskError:
            yield Finding(
                item.path, f"the caption of its source {display(source.name)} cannot be read"
            )
            continue
        if (theirs.tags if theirs else ()) != (item.caption.tags if item.caption else ()):
            yield Finding(
                item.path, f"is not what stands beside its source in {display(source.parent.name)}"
            )


def stray(of: CheckInput) -> Iterator[Finding]:
    for path in of.strays:
        yield Finding(path, "belongs to no image")


def guess_triggers(captions: Sequence[CaptionFile]) -> tuple[str, ...]:
    """Return what leads most captions of a folder and no tagger gives: probably its triggers."""
    vocabulary = load()
    found: list[str] = []
    left = [caption.tags for caption in captions if caption.tags]
    enough = max(GUESS_LEAST, GUESS_SHARE * len(left))
    while True:
        at = len(found)
        here = Counter(
            normal_form(tags[at]) for tags in left if len(tags) > at and tags[at] not in vocabulary
        )
        form, n = next(iter(here.most_common(1)), ("", 0))
        if n < enough or form in map(normal_form, found):
            return tuple(found)
        found.append(
            next(tags[at] for tags in left if len(tags) > at and normal_form(tags[at]) == form)
        )


def with_triggers(place: CheckFolder, tags: Sequence[str]) -> tuple[str, ...]:
    """Return a caption's tags with those triggers first that it has, each once."""
    present = {normal_form(tag) for tag in tags}
    own = tuple(trigger for trigger in place.triggers if normal_form(trigger) in present)
    forms = {normal_form(trigger) for trigger in own}
    return own + tuple(tag for tag in tags if normal_form(tag) not in forms)


def _quoted(tags: Sequence[str]) -> str:
    return ", ".join(f"`{display(tag)}`" for tag in tags)


_TRIGGERS = (
    "the triggers: --trigger, else dsk.toml's, else what leads most captions of a "
    "folder and is no tag"
)

CHECKS: Final = (
    Check(
        "caption-missing",
        "caption",
        "no caption",
        "the file `<stem>.txt` beside each training image",
        "there is none, nor one of another suffix",
        "dsk tag {folder}",
        missing,
    ),
    Check(
        "caption-empty",
        "caption",
        "empty caption",
        "the tags of the file",
        "none; a file of 0 bytes is one too",
        "dsk tag {folder}, or remove the file",
        empty,
    ),
    Check(
        "caption-unreadable",
        "caption",
        "caption cannot be read",
        "the bytes of the file",
        "not UTF-8, a link, or over 1 MB",
        "save it as UTF-8",
        unreadable,
    ),
    Check(
        "bom",
        "caption",
        "byte-order mark",
        "U+FEFF anywhere in the file",
        "any: trainers take it for a part of a tag",
        "dsk check {folder} --fix",
        bom,
        fix="takes the marks out",
    ),
    Check(
        "lines",
        "caption",
        "several lines",
        "the lines that are not blank",
        "more than 1",
        "dsk check {folder} --fix",
        lines,
        fix="joins them by commas",
    ),
    Check(
        "caption-name",
        "caption",
        "caption of another name",
        "`<stem>.caption`, `<stem>.TXT`, `<picture>.txt`",
        "one stands in place of `<stem>.txt`, or beside it",
        "dsk check {folder} --fix",
        name,
        fix="writes `<stem>.txt`; the other file goes to .dsk/trash (beside a .txt only where "
        "both say the same)",
    ),
    Check(
        "trigger-missing",
        "caption",
        "trigger missing",
        _TRIGGERS,
        "one of them is not in the caption",
        "dsk rules {folder} --trigger {trigger}",
        trigger_missing,
    ),
    Check(
        "trigger-twice",
        "caption",
        "trigger twice",
        _TRIGGERS,
        "one of them is there more than once",
        "dsk check {folder} --fix",
        trigger_twice,
        fix="keeps the first",
    ),
    Check(
        "trigger-first",
        "caption",
        "trigger not first",
        _TRIGGERS,
        "another tag stands before one that is there",
        "dsk check {folder} --fix",
        trigger_first,
        fix="puts the triggers that are there first, in their order",
    ),
    Check(
        "trigger-number",
        "caption",
        "unequal number of triggers",
        "the tags at the front of a caption that are triggers or no tags of the vocabulary",
        "another number than in most captions of the folder: keep_tokens holds one number for all",
        "give each caption the same number of trigger words",
        trigger_number,
    ),
    Check(
        "tag-twice",
        "caption",
        "tag twice",
        "tags by their normal form (case, `_`, brackets)",
        "one stands more than once",
        "dsk check {folder} --fix",
        repeated,
        fix="keeps the first",
    ),
    Check(
        "tokens",
        "caption",
        "too many tokens",
        "CLIP tokens of the caption without its start and end",
        "more than [train] max_token_length (75, 150 or 225)",
        "set max_token_length, or shorten it",
        long,
    ),
    Check(
        "differs",
        "caption",
        "not as its source",
        "the caption in a laid-out folder and the one beside the image that it was linked from",
        "other tags, or another order",
        "dsk layout again, or carry the edit over",
        differs,
    ),
    Check(
        "caption-stray",
        "caption",
        "caption without an image",
        "`.txt` and `.caption` files by their stem",
        "no image of that stem",
        "rename or remove it",
        stray,
    ),
)
