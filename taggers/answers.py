"""What models answer, as captions: one line of plain sentences."""

from __future__ import annotations

import re
from typing import Final

from datasetkit.captions.invisible import without_invisible
from taggers.captioner import Description, NoDescription

_MORE: Final = "a larger --max-tokens leaves room for the whole answer"
_OTHER: Final = "try another prompt or model"
# Longer texts are not captions; no text encoder reads so much.
LONGEST: Final = 6000
# Reasoning models think aloud first.
_THOUGHT: Final = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.I)
_END_OF_THOUGHT: Final = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.I)
# "Here is the caption:" in a line of its own, or one of these words before the caption.
_ANNOUNCED: Final = re.compile(r"\A(?:[^\n.!?]{0,20}!)?[^\n.!?]{0,100}:\s*\n+")
_LABEL: Final = re.compile(r"\A\W{0,3}(?:caption|description|answer)\W{0,3}:\W{0,3}\s", re.I)
_MARKUP: Final = re.compile(r"\*\*|__|`+|^\s*(?:#+|[-*•]|\d+\.)\s+", re.M)
_QUOTES: Final = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("「", "」"))
_REFUSED: Final = re.compile(
    r"(?:i'?m sorry|sorry, (?:but )?i|i(?:'m| am) (?:unable|not able)|i can(?:'|no)t"
    r"|i (?:do not|don't|won't|will not) (?:feel|describe|provide)|as an ai\b"
    r"|i apologi[sz]e|unfortunately, i|抱歉|对不起|很抱歉|我无法|我不能|作为一个?(?:ai|人工智能)"
    r"|申し訳|извините|к сожалению, я|я не могу)",
    re.I,
)
_SENTENCE_END: Final = re.compile(r"[.!?][\"'”’»)\]]*(?=\s|\Z)|[。！？][」』”’）]*")


def description_of(answer: str, *, cut_off: bool = False) -> Description | NoDescription:
    """Return an answer as a caption: one line, without what models write around it.

    cut_off: the answer ended at the limit of tokens: it is kept up to its last full sentence.
    """
    text = _without_thoughts(answer)
    cut_off = cut_off or len(text) > LONGEST
    text = _plain(text[:LONGEST])
    if not text:
        reason = (
            "its answer was cut off while it was thinking" if cut_off else "its answer is empty"
        )
        return NoDescription(f"the model did not describe it: {reason}", _MORE if cut_off else "")
    if _REFUSED.match(text.replace("’", "'")):
        return NoDescription(f"the model refused to describe it: {text[:120]}", _OTHER)
    if not cut_off:
        return Description(text)
    whole = full_sentences(text)
    if not whole:
        return NoDescription("its description was cut off in its first sentence", _MORE)
    return Description(whole, "its description was cut off: it ends with the last full sentence")


def full_sentences(text: str) -> str:
    """Return a text up to the end of its last full sentence, "" if it has none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def _without_thoughts(answer: str) -> str:
    """Return an answer without the thoughts before it: also where only their end is marked, and
    nothing where they have no end.
    """
    ends = [match.end() for match in _END_OF_THOUGHT.finditer(answer)]
    text = answer[ends[-1] :] if ends else answer
    return "" if _THOUGHT.match(text.lstrip()) else text


def _plain(text: str) -> str:
    """Return a text as one line without markup, quotes around it, and characters that captions
    give a meaning to.
    """
    text = without_invisible(text.replace("\ufeff", "")).strip()
    text = _LABEL.sub("", _ANNOUNCED.sub("", text))
    text = _MARKUP.sub("", text)
    text = " ".join(text.split())
    for first, last in _QUOTES:
        inner = text[1:-1]
        if text[:1] == first and text[-1:] == last and first not in inner and last not in inner:
            text = inner.strip()
    # Braces would be a wildcard, and bars its options or a separator.
    return text.translate({ord("{"): "(", ord("}"): ")", ord("|"): "/", 0xFFFD: None}).strip()
