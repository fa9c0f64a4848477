"""How sd-scripts reads a folder: the images that it finds and the captions that it uses
(train_util.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.files import CAPTION_SUFFIX, MAX_CAPTION_BYTES, display, read_regular

# In lower and in upper case. With plugins of Pillow it also finds AVIF and JPEG XL.
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True)
class SdScriptsCaption:
    """The caption that sd-scripts uses. source: its file, None for the folder's name or nothing.

    stops: the error that it would stop with, else "".
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


def candidates(image: Path, extension: str = CAPTION_SUFFIX) -> tuple[Path, ...]:
    """Return the caption files that sd-scripts tries: the same stem, then the path without its last
    four `_` parts.

    The second is for the file names of its face-cropping tool; it splits the whole path, with the
    folder.
    """
    stem = str(image.with_suffix(""))
    parts = stem.split("_")
    shorter = "_".join(parts[:-4]) if len(parts) >= 5 else stem
    return tuple(dict.fromkeys(Path(name + extension) for name in (stem, shorter)))


def read_caption(
    image: Path,
    class_tokens: str,
    *,
    enable_wildcard: bool = False,
    extension: str = CAPTION_SUFFIX,
) -> SdScriptsCaption:
    """Return the caption that sd-scripts trains an image with, for this `caption_extension`.

    class_tokens: the concept in the folder's name, used for an image without a caption file. Of a
    file it uses the first line, stripped, but with a byte-order mark; with enable_wildcard all
    lines that are not blank. Raises InputError for a caption that is not a regular file.
    """
    for path in candidates(image, extension):
        data = read_regular(path, limit=MAX_CAPTION_BYTES) if path.is_file() else None
        if data is None:
            continue
        if not data:
            return SdScriptsCaption("", path, f"{display(path.name)} is empty (0 bytes)")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return SdScriptsCaption("", path, f"{display(path.name)} is not UTF-8")
        # Universal newlines, as in a file opened as text; splitlines knows more characters.
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        used = lines if enable_wildcard else lines[:1]
        return SdScriptsCaption("\n".join(map(str.strip, filter(str.strip, used))), path)
    return SdScriptsCaption(class_tokens)
