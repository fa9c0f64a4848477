"""Typography that CLIP reads as other letters: curly quotes, ligatures, full-width letters, and
text that was decoded wrongly.

sd-scripts' tokenizer applies ftfy before it encodes a text; transformers 5 and the programs that
generate images do not. So files are made plain, and training reads them as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from datasetkit.captions.caption import normal_form, tag_form, with_entries, with_sentences
from datasetkit.captions.grammar import is_group
from datasetkit.captions.side_car_tags import unescape
from datasetkit.core.records import Caption

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

# Their plain forms separate tags, or the options of a wildcard: `dsk check` has another check for
# `，`.
_MEANS_MORE: Final = re.compile("([，｛｜｝])")
# The same with weighted captions: brackets are weights.
_MEANS_MORE_IF_WEIGHTED: Final = re.compile(r"([，｛｜｝（）［］：＼])")


def with_plain_letters(caption: Caption, triggers: Collection[str] = ()) -> Caption:
    """Return a caption with plain letters; triggers stay as they are."""
    forms = set(map(normal_form, triggers))
    pattern = _MEANS_MORE_IF_WEIGHTED if caption.syntax.weighted_captions else _MEANS_MORE

    def plain(tag: str) -> str:
        if tag.isascii() or is_group(tag, caption.syntax) or tag_form(tag, caption.syntax) in forms:
            return tag
        return "".join(map(plain_letters, pattern.split(tag)))

    after = with_entries(caption, lambda tags: list(enumerate(map(plain, tags))))
    return with_sentences(after, plain_letters) if caption.sentences else after


@lru_cache(maxsize=1 << 14)
def plain_letters(text: str) -> str:
    """Return a text as ftfy would write it, if its letters are Latin.

    Of other scripts only the encoding is corrected: curly quotes and full-width characters are
    their own punctuation. A text without letters and digits may be an emoticon, and stays.
    """
    if text.isascii() or _MEANS_MORE_IF_WEIGHTED.fullmatch(text):
        return text
    from ftfy import fix_text  # here: few captions need it

    fixed: str = fix_text(text, _config(latin=False))
    if any(map(str.isalnum, fixed)) and all(map(_is_latin, fixed)):
        fixed = fix_text(fixed, _config(latin=True))
    return fixed


def is_read_otherwise(caption: Caption) -> bool:
    """Tell whether CLIP reads other letters of a caption in sd-scripts, which applies ftfy."""
    return any(map(_has_plain_form, caption.pieces))


def _has_plain_form(tag: str) -> bool:
    return unescape(tag) != tag or plain_letters(tag) != tag


def _is_latin(character: str) -> bool:
    """Tell whether a character is not a letter of another script."""
    return not character.isalpha() or "LATIN" in unicodedata.name(character, "")


@lru_cache(maxsize=2)
def _config(*, latin: bool) -> TextFixerConfig:
    """Return what ftfy corrects: CLIP's tokenizer composes accents itself, and `dsk check` has
    other checks for HTML entities and control characters.
    """
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=latin,
        fix_character_width=latin,
        uncurl_quotes=latin,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
