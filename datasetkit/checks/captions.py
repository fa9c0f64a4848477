"""Checks of caption files: captions that a trainer misses, fails on or misreads."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from datasetkit.captions import grammar, tokens
from datasetkit.captions.caption import (
    is_laid_out,
    line_names,
    normal_form,
    parse,
    read_caption,
    tag_form,
)
from datasetkit.captions.caption import repeated as again
from datasetkit.captions.encodings import DAMAGED, is_damaged
from datasetkit.captions.exclusions import Exclusions, exclusions
from datasetkit.captions.grammar import (
    BOM,
    PLAIN,
    before_sentences,
    begins_as_sentence,
    ends_as_sentence,
    is_group,
    is_prose,
)
from datasetkit.captions.invisible import invisible as invisible_characters
from datasetkit.captions.selectors import load_groups
from datasetkit.captions.separators import has_underscores, other_separator
from datasetkit.captions.typography import with_plain_letters
from datasetkit.captions.vocabulary import Vocabulary, load
from datasetkit.checks import sd_scripts
from datasetkit.checks.base import CaptionFile, Check, CheckFolder, CheckImage, CheckInput, Finding
from datasetkit.checks.caption_files import files_of_same_tags
from datasetkit.core.errors import DskError
from datasetkit.core.files import display
from datasetkit.core.records import Caption, CaptionKind, CaptionSyntax
from datasetkit.project.caption_syntax import syntax_of


def text_of(caption: CaptionFile) -> str:
    """Return the text of a caption file; text that is not UTF-8 is reported as unreadable."""
    return caption.data.decode("utf-8", "replace")


def missing(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        if item.caption is None and not item.folder.is_reg:
            others = next(
                (path for path in sd_scripts.candidates(item.path)[1:] if path.is_file()), None
            )
            if others is not None:
                consequence = f"sd-scripts uses {display(others.name)}, which has a shorter stem"
            elif item.folder.laid_out:
                consequence = f"`{display(item.folder.name)}` is used as its caption"
            else:
                consequence = "it is trained without text"
            yield Finding(item.path, f"has no caption: {consequence}")


def empty(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        if item.caption is not None and not item.caption.fault and item.caption.is_empty:
            reason = (
                "no tags: it is trained without text"
                if item.caption.data
                else "0 bytes: sd-scripts stops with an error"
            )
            yield Finding(item.path, f"its caption file has {reason}")


def unreadable(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        if item.caption is not None and item.caption.fault:
            # A link and a file that is too large have no bytes here.
            step = "" if item.caption.data else "put a text file of at most 1 MB in its place"
            if is_damaged(item.caption.data):
                step = DAMAGED
            yield Finding(item.path, item.caption.fault, step=step)


def bom(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        if BOM in text_of(caption):
            what = "tag" if caption.tags else "sentence"
            first = display((*caption.tags, *caption.sentences)[0])
            yield Finding(item.path, f"its first {what} is read as {display(BOM)}{first}")


def invisible(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        if names := invisible_characters(text_of(caption)):
            tag = next((t for t in text_of(caption).split(",") if invisible_characters(t)), "")
            yield Finding(item.path, f"`{display(tag.strip())}` has {', '.join(names)}", len(names))


def lines(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        number = sum(bool(line.replace(BOM, "").strip()) for line in text_of(caption).splitlines())
        if number > 1 and not caption.syntax.enable_wildcard and caption.syntax.kind != "mixed":
            yield Finding(item.path, f"has {number} lines; trainers read only the first", number)


def name(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        if item.caption is None:
            continue
        if not item.caption.proper:
            named, wanted = item.caption.path.name, item.path.with_suffix(".txt").name
            is_readable = not item.caption.is_empty or item.caption.converted
            yield Finding(
                item.path,
                f"its caption file is `{display(named)}`, not `{display(wanted)}`",
                1.0,
                step="" if is_readable else f"write its text into {display(wanted)}",
            )
        elif item.caption.others:
            others = ", ".join(display(path.name) for path in item.caption.others)
            same = files_of_same_tags(item.caption)
            step = "" if same else "trainers read the .txt: compare them, then remove the other"
            yield Finding(item.path, f"has {others} as well as its .txt", step=step)


def trigger_missing(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.trained:
        absent = [
            trigger
            for trigger in item.folder.triggers
            if not all(line_names(line, trigger, caption.syntax) for line in caption.whole_lines)
        ]
        if absent:
            yield Finding(item.path, f"is missing {_quoted(absent)}", len(absent))


def mentions_excluded(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.trained:
        if not item.folder.excluded:
            continue
        is_prose = caption.syntax.kind == "tags" and ends_as_sentence(caption.tags)
        sentences = (", ".join(caption.tags),) if is_prose else caption.sentences
        looked_for = _excluded_words(item.folder.excluded)
        words = [word for sentence in sentences for word in looked_for.mentioned(sentence)]
        if words:
            yield Finding(item.path, f"mentions {_quoted(tuple(dict.fromkeys(words)))}", len(words))


@cache
def _excluded_words(exclude: tuple[str, ...]) -> Exclusions:
    return exclusions(exclude, load(), load_groups())


def trigger_twice(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.trained:
        counts = [
            Counter(tag_form(tag, caption.syntax) for tag in line)
            for line in caption.lines
            if not ends_as_sentence(line)
        ]
        for trigger in item.folder.triggers:
            times = max((count[normal_form(trigger)] for count in counts), default=0)
            if times > 1:
                yield Finding(item.path, f"has {_quoted([trigger])} {times} times")


def trigger_first(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.trained:
        for line in caption.lines:
            if ends_as_sentence(line):  # the trigger may stand inside
                continue
            forms = [tag_form(tag, caption.syntax) for tag in line]
            present = [normal_form(t) for t in item.folder.triggers if normal_form(t) in forms]
            if list(dict.fromkeys(forms))[: len(present)] != present:
                yield Finding(item.path, f"begins with {_quoted(line[: len(present)])}")
                break
    for folder in data.folders:
        word = folder.possible_trigger
        if word and not folder.triggers:
            reason = (
                f"`{display(word)}` is in all captions and not in the vocabulary, but not first: "
                "it may be the trigger"
            )
            step = "dsk rules {folder} --trigger " + shlex.quote(word) + ", if it is the trigger"
            yield Finding(folder.folder, reason, step=step)


def trigger_number(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for folder in data.folders:
        counts = [
            (item, leading(item, caption, vocabulary))
            for item, caption in data.trained
            if item.folder == folder
            and not is_prose(caption.tags)
            and caption.forms[: len(folder.triggers)] == tuple(map(normal_form, folder.triggers))
        ]
        usual = Counter(n for _, n in counts).most_common(1)
        for item, n in counts:
            if n != usual[0][0]:
                words = "1 word that is not a tag" if n == 1 else f"{n} words that are not tags"
                yield Finding(
                    item.path,
                    f"begins with {words}, most captions with {usual[0][0]}",
                    n,
                )


def leading(item: CheckImage, caption: CaptionFile, vocabulary: Vocabulary) -> int:
    """Count the tags at the front of a caption that are triggers or not in the vocabulary."""
    triggers = {normal_form(t) for t in item.folder.triggers}
    n = 0
    for tag, form in zip(caption.tags, caption.forms, strict=True):
        if form not in triggers and (form in vocabulary or is_group(tag, caption.syntax)):
            break
        n += 1
    return n


def repeated(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        triggers = {normal_form(t) for t in item.folder.triggers}
        twice = dict.fromkeys(
            form
            for line in caption.lines
            for n in again(line, caption.syntax)
            if (form := tag_form(line[n], caption.syntax)) not in triggers
        )
        if twice:
            yield Finding(item.path, f"has {_quoted(list(twice))} more than once", len(twice))


def separator(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for item, caption in data.captioned:
        character = other_separator(caption.tags, vocabulary)
        if character:
            shown = "spaces" if character == " " else f"`{character}`"
            reason = f"its tags are separated by {shown}: they are read as one tag"
            yield Finding(item.path, reason)


def letters(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        if text_of(caption).isascii():
            continue
        plain = with_plain_letters(caption.caption, item.folder.triggers)
        words = zip(_words(caption.caption.pieces), _words(plain.pieces), strict=False)
        changed = [
            f"`{display(before)}` is not `{display(after)}`"
            for before, after in words
            if before != after
        ]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            reason = f"{', '.join(changed[:3])}{more} for CLIP"
            yield Finding(item.path, reason, len(changed))


def _words(tags: Sequence[str]) -> list[str]:
    return [word for tag in tags for word in tag.split(" ")]


def prompt_syntax(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for item, caption in data.captioned:
        parts = [
            part
            for tag in caption.tags
            if tag not in vocabulary and (part := grammar.prompt_syntax(tag, caption.syntax))
        ]
        if parts:
            yield Finding(item.path, f"has {_quoted(parts)}", len(parts))


def underscores(data: CheckInput) -> Iterator[Finding]:
    vocabulary = load()
    for item, caption in data.captioned:
        tags = [tag for tag in caption.tags if has_underscores(tag, vocabulary)]
        if tags:
            yield Finding(item.path, f"has {_quoted(tags)}", len(tags))


def long(data: CheckInput) -> Iterator[Finding]:
    for item, caption in data.captioned:
        number = tokens.count_caption(caption.caption, data.tokens.count)
        over = number - data.tokens.limit
        if over > 0:
            yield Finding(
                item.path,
                f"{number} tokens: {over} {'is' if over == 1 else 'are'} cut off; "
                f"{data.tokens.step_for(number)}",
                number,
            )


def differs(data: CheckInput) -> Iterator[Finding]:
    for item in data.items:
        source = data.sources.get(item.path.resolve())
        if source is None or not source.is_file() or item.folder.is_reg:
            continue
        try:
            syntax = item.caption.syntax if item.caption else syntax_of(source.parent)
            theirs = read_caption(source, syntax)
        except DskError:
            yield Finding(
                item.path, f"the caption of its source {display(source.name)} cannot be read"
            )
            continue
        ours = item.caption.caption if item.caption else Caption(())
        if not is_laid_out(ours, theirs or Caption(())):
            yield Finding(
                item.path,
                f"differs from the caption of its source in {display(source.parent.name)}",
            )


def kind(data: CheckInput) -> Iterator[Finding]:
    for folder in data.folders:
        captions = [c for item, c in data.captioned if item.folder == folder]
        if len(captions) < LEAST or folder.is_reg:
            continue
        declared = captions[0].syntax.kind
        counts = Counter(likely_kind(text_of(caption)) for caption in captions)
        likely, number = counts.most_common(1)[0]
        is_part = declared == "mixed" and likely in ("tags", "sentence")
        if likely == declared or is_part or number < MOST * len(captions):
            continue
        look = _LOOKS[likely]
        reason = f"{number} of {len(captions)} captions look like {look}, and are read as "
        reason += _LOOKS[declared]
        step = f'captions = "{likely}" in its [[concept]] of dsk.toml, or in [dataset]'
        yield Finding(folder.folder, reason, number, step=step)


def likely_kind(text: str) -> CaptionKind:
    """Return the kind that the text of a caption seems to have: a guess, only to suggest it."""
    filled = [parse(line).tags for line, _ in grammar.lines(text)]
    lines = [tags for tags in filled if tags]
    prose = [is_sentence(tags) for tags in lines]
    if len(lines) > 1 and any(prose) and not all(prose):
        return "mixed"
    return "sentence" if prose and all(prose) else "tags"


def is_sentence(tags: Sequence[str]) -> bool:
    """Tell whether a line reads like a sentence: most of its parts are clauses, or it ends as one
    and has no more tags than a trigger before it.
    """
    clauses = sum(begins_as_sentence(tag) or len(tag.split(" ")) >= _CLAUSE for tag in tags)
    if ends_as_sentence(tags):
        return clauses > 0 and len(before_sentences(tags)) <= _TRIGGER_WORDS
    return is_prose(tags) and 2 * clauses >= len(tags)


def stray(data: CheckInput) -> Iterator[Finding]:
    for path in data.strays:
        yield Finding(path, "has no image")


def with_triggers_first(
    folder: CheckFolder, tags: Sequence[str], syntax: CaptionSyntax = PLAIN
) -> tuple[str, ...]:
    """Move the triggers that a line of tags has to its front, each once."""
    if ends_as_sentence(tags):
        return tuple(tags)
    forms = [tag_form(tag, syntax) for tag in tags]
    triggers = {form: t for t in folder.triggers if (form := normal_form(t)) in forms}
    if forms[: len(triggers)] == list(triggers):  # only repeated
        leading = tuple(tags[: len(triggers)])
    else:
        leading = tuple(triggers.values())
    rest = zip(tags, forms, strict=True)
    return leading + tuple(tag for tag, form in rest if form not in triggers)


def _quoted(tags: Sequence[str]) -> str:
    return ", ".join(f"`{display(tag)}`" for tag in tags)


# The suggestion of another kind: from so many captions on, where this share look like it. Clauses
# have so many words, and so many tags may stand before a sentence.
LEAST, MOST, _CLAUSE, _TRIGGER_WORDS = 3, 0.6, 4, 3
_LOOKS: Final = {
    "tags": "tags",
    "sentence": "sentences",
    "mixed": "lines of tags and sentences",
}

_TRIGGERS = (
    "the triggers: --trigger, else dsk.toml, else those that a command set, else the tags outside "
    "the vocabulary that most captions of a folder begin with, else the concept in the name of the "
    "folder, where most captions begin with it"
)

CHECKS: Final = (
    Check(
        "caption-missing",
        "caption",
        "no caption",
        "the file `<stem>.txt` beside each training image",
        "no caption file, under this or any other suffix",
        "dsk tag {folder}",
        missing,
    ),
    Check(
        "caption-empty",
        "caption",
        "empty caption",
        "the tags of the file",
        "no tags, or an empty file",
        "dsk tag {folder}, or remove the file",
        empty,
    ),
    Check(
        "caption-unreadable",
        "caption",
        "caption cannot be read",
        "the bytes of the file",
        "not UTF-8, a link, or over 1 MB",
        "dsk check {dataset} --fix --encoding NAME",
        unreadable,
        fix="converts UTF-16 and UTF-32 with a byte-order mark; others as --encoding says",
    ),
    Check(
        "bom",
        "caption",
        "byte-order mark",
        "U+FEFF anywhere in the file",
        "any: trainers read it as part of a tag",
        "dsk check {dataset} --fix",
        bom,
        fix="removes the marks",
    ),
    Check(
        "invisible",
        "caption",
        "invisible characters",
        "zero-width and control characters of the text, without those that emoji and scripts need",
        "any: trainers read them as part of a tag",
        "dsk check {dataset} --fix",
        invisible,
        fix="removes them",
    ),
    Check(
        "lines",
        "caption",
        "several lines",
        "the lines that are not blank",
        "more than 1",
        "dsk check {dataset} --fix",
        lines,
        fix="joins them with commas",
    ),
    Check(
        "caption-name",
        "caption",
        "misnamed caption",
        "`<stem>.caption`, `<stem>.TXT`, `<image>.txt` and the like",
        "one of them instead of `<stem>.txt`, or in addition to it",
        "dsk check {dataset} --fix",
        name,
        fix="writes `<stem>.txt`; the other file goes to .dsk/trash (if both exist, only where "
        "their tags are the same)",
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
        "mentions-excluded",
        "caption",
        "mentions what is excluded",
        "the `exclude` of `[tag]` and `[[concept]]` in dsk.toml, which the trigger should absorb",
        "a sentence of the caption has one of these words",
        "dsk review {dataset}",
        mentions_excluded,
    ),
    Check(
        "trigger-twice",
        "caption",
        "trigger twice",
        _TRIGGERS,
        "one of them is in the caption more than once",
        "dsk check {dataset} --fix",
        trigger_twice,
        fix="keeps the first",
    ),
    Check(
        "trigger-first",
        "caption",
        "trigger not first",
        _TRIGGERS,
        "another tag comes before a trigger; or a word that is not in the vocabulary is in all of "
        "4 or more captions, and no trigger is known",
        "dsk check {dataset} --fix",
        trigger_first,
        fix="moves the triggers of the caption to the front, in their order",
    ),
    Check(
        "trigger-number",
        "caption",
        "different number of triggers",
        "the tags at the front of a caption that are triggers or not in the vocabulary",
        "a different count from most captions in the folder; `keep_tokens` applies to all of them",
        "give each caption the same number of trigger words",
        trigger_number,
    ),
    Check(
        "tag-twice",
        "caption",
        "tag twice",
        "tags in normal form (case, `_`, brackets)",
        "one is there more than once",
        "dsk check {dataset} --fix",
        repeated,
        fix="keeps the first",
    ),
    Check(
        "separator",
        "caption",
        "another separator than a comma",
        "the parts of a tag at `，`, `、`, `;` and `|`; the words of a caption without a comma",
        "two or more are tags of the vocabulary (beside `，` or `、` one is enough)",
        "dsk rules {folder} --split, or for `，` and `、` dsk check {dataset} --fix",
        separator,
        fix="replaces `，` and `、` by commas",
    ),
    Check(
        "caption-kind",
        "caption",
        "captions of another kind",
        f"the lines of the captions of each training folder with {LEAST} or more",
        f"{MOST:.0%} of them look like sentences, tags, or lines of both, and dsk.toml says "
        "another kind; only a suggestion",
        'captions = "sentence" or "mixed" in dsk.toml',
        kind,
    ),
    Check(
        "letters",
        "caption",
        "letters that are not plain",
        "each tag, by ftfy; of scripts other than Latin only the encoding",
        "curly quotes, ligatures, full-width letters, or text that was decoded wrongly (`cafÃ©`): "
        "CLIP has other tokens for them",
        "dsk check {dataset} --fix",
        letters,
        fix="writes plain letters; triggers stay",
    ),
    Check(
        "underscores",
        "caption",
        "tags with underscores",
        "each tag as it is written",
        "a tag of the vocabulary has `_` where taggers and base models have spaces",
        "dsk rules {folder} --underscores-to-spaces",
        underscores,
    ),
    Check(
        "prompt-syntax",
        "caption",
        "syntax of prompts",
        "each tag as it is written",
        "`(tag:1.2)`, `(tag)` or `[tag]` without [train] weighted_captions, `<lora:...>`, `BREAK`: "
        "they are trained as words",
        "remove it; for weights: weighted_captions = true in [train]",
        prompt_syntax,
    ),
    Check(
        "tokens",
        "caption",
        "too many tokens",
        "tokens of the caption, by the tokenizer of the base model in [train], else by CLIP's",
        "more than [train] max_token_length (75, 150 or 225), or than a transformer reads",
        "set max_token_length, or shorten it",
        long,
    ),
    Check(
        "differs",
        "caption",
        "differs from its source",
        "the caption in a laid-out folder and that of the image it was linked from",
        "different tags or a different order",
        "copy the edit to the source, or delete it and run dsk layout again",
        differs,
    ),
    Check(
        "caption-stray",
        "caption",
        "caption without an image",
        "the stems of `.txt` and `.caption` files",
        "no image has that stem, nor a file that is left out, such as a HEIC or a video",
        "give it the name of its image, or move it to another folder",
        stray,
    ),
)
