"""What the tags of other programs have that captions must not: namespaces and HTML entities.

`character:hatsune miku` is a tag with the namespace of a booru or of hydrus, `&gt;_&lt;` comes from
a web page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Container
from typing import Final

# Namespaces that say what kind of tag follows: the tag belongs into a caption, they do not.
# parody, male, female, mixed and other are those of galleries.
BARE: Final = frozenset(
    "character copyright series general person species parody male female mixed other tag".split()
)
# Namespaces of what an image does not show: its makers, its origin, its file.
DROPPED: Final = frozenset(
    "artist creator contributor studio circle group director cosplayer uploader translator "
    "rating title year date source site url id md5 score pool filename page chapter volume "
    "meta metadata medium lore language reclass invalid deprecated".split()
)
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def split_namespace(tag: str, known: Container[str] = BARE | DROPPED) -> tuple[str, str]:
    """Return the known namespace of a tag and the rest; "" and the tag without one.

    Any other colon is part of the tag (`re:zero`, `:d`). hydrus writes a tag that begins with a
    colon with two.
    """
    if ":" not in tag:
        return "", tag
    if tag.startswith("::"):
        return "", tag[1:]
    namespace, colon, name = tag.partition(":")
    namespace = namespace.strip().casefold()
    return (namespace, name.strip()) if colon and namespace in known else ("", tag)


def without_namespace(tag: str) -> str:
    """Return a tag of a caption without the namespace of what it shows. A space behind the colon
    makes it a text: `character: a girl in red`.
    """
    namespace, name = split_namespace(tag, BARE)
    return name if namespace and name and not tag.partition(":")[2][:1].isspace() else tag


def unescape(text: str) -> str:
    """Replace HTML entities by their characters, also those that were escaped twice. Only whole
    ones with a semicolon: any other `&` is part of the text.
    """
    for _ in range(2):
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return text
