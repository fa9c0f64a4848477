"""How sd-scripts reads a folder of images: which of them, and with which caption (train_util.py,
in our words).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.files import CAPTION_SUFFIX, MAX_CAPTION_BYTES, display, read_regular

# Each in lower and in upper case. AVIF and JPEG XL join them where Pillow has their plugins.
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True)
class SdScriptsCaption:
    """What sd-scripts takes for a caption. source: the file it comes from, None for the folder's
    name or nothing.

    stops: why it would end with an error there, "" where it goes on.
    """

    text: str
    source: Path | None = None
    stops: str = ""


def is_listed(image: Path) -> bool:
    """Tell whether sd-scripts finds an image by its suffix."""
    return (
        image.suffix in (image.suffix.lower(), image.suffix.upper())
        and image.suffix.lower() in SUFFIXES
    )


def candidates(image: Path) -> tuple[Path, ...]:
    """Return the caption files that are tried: the same stem, then the path without its last four
    `_` pieces.

    The second is for crops of faces, which their tool names so; it splits the whole path, the
    folder too.
    """
    bare = str(image.with_suffix(""))
    pieces = bare.split("_")
    shorter = "_".join(pieces[:-4]) if len(pieces) >= 5 else bare
    return tuple(dict.fromkeys(Path(name + CAPTION_SUFFIX) for name in (bare, shorter)))


def read_caption(image: Path, class_tokens: str) -> SdScriptsCaption:
    """Return the caption that sd-scripts trains an image with, under `caption_extension = ".txt"`.

    class_tokens: what the folder's name says behind its number, for an image without a caption
    file. Of a file the first line is taken, without the blanks around it; a byte-order mark stays.
    Raises InputError for a caption that is no regular file.
    """
    for path in candidates(image):
        data = read_regular(path, limit=MAX_CAPTION_BYTES) if path.is_file() else None
        if data is None:
            continue
        if not data:
            return SdScriptsCaption("", path, f"{display(path.name)} is empty (0 bytes)")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return SdScriptsCaption("", path, f"{display(path.name)} is not UTF-8")
        # Python's universal newlines, as a file opened for text has them: not all of what
        # splitlines takes for one.
        return SdScriptsCaption(
            text.replace("\r\n", "\n").replace("\r", "\n").split("\n", 1)[0].strip(), path
        )
    return SdScriptsCaption(class_tokens)
