"""Pixels: the one place that opens and saves images, and turns any of them into upright 8-bit
sRGB.
"""

from __future__ import annotations

import logging
import math
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from PIL import ExifTags, Image, ImageCms, ImageFile, PngImagePlugin, UnidentifiedImageError

from datasetkit.core.errors import DskError, InputError
from datasetkit.core.file_kinds import (
    FIRST_BYTES,
    PLUGINS,
    advice_for,
    has_plugin,
    kind_by_content,
)
from datasetkit.core.files import display, reading, write_atomic
from datasetkit.executors.in_flight import DECODED
from datasetkit.images import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What is read: the content decides, never the suffix. No other decoder of Pillow is ever reached.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
# Formats of plugins, as Pillow calls them.
_PLUGIN_FORMATS = {"HEIC": "HEIF", "JXL": "JXL"}
# What is written, by suffix.
WRITERS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
WITH_ALPHA = frozenset({"PNG", "WEBP"})
DEFAULT_MAX_PIXELS = limits.DEFAULT_MAX_PIXELS
# A JPEG is decoded at no less than this multiple of the size wanted: at 1.0 the result loses 0.3
# dB, at 1.5 nothing.
DRAFT_FACTOR = 1.5
# A file up to this many bytes goes to its decoder in one piece: 64 KiB at a time, as Pillow has it,
# costs 1 ms in 30.
_ONE_PIECE = 32 * 2**20
# Rows that are laid onto white at a time: a whole image at once would be in memory five times.
_BAND = 256

# Pillow's remarks on odd metadata would reach the terminal from any thread, and `catch_warnings` is
# not safe in threads: they are silenced once, here, for Pillow's own modules. What matters about a
# image is raised.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

Alpha = Literal["flatten", "keep"]
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The mode that a profile's pixels come in, by the colour space that the profile names (ICC.1,
# 7.2.8).
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says.

    width, height: pixels as it is looked at (EXIF turn applied). format: one of FORMATS, by
    content. frames: 1 for a still; the images of an animation or the pages of a TIFF, of which 100
    are counted (GIF and TIFF). has_alpha: it may have transparent pixels. orientation: how EXIF
    says that it is turned, 1..8.
    """

    width: int
    height: int
    format: str
    frames: int
    has_alpha: bool
    orientation: int = 1


def probe(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Read an image's header without decoding it. Raises InputError."""
    with DECODED.work(), _opened(path, max_pixels) as (image, structure):
        orientation = _header_orientation(image, path)
        width, height = image.size[::-1] if orientation >= 5 else image.size
        kind = _kind(image)
        frames = 1 if kind == "JPEG" else structure.frames or int(getattr(image, "n_frames", 1))
        return ImageHeader(width, height, kind, frames, image.has_transparency_data, orientation)


def has_position(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bool:
    """Tell whether an image's EXIF data says where on Earth it was taken. Raises InputError."""
    with DECODED.work(), _opened(path, max_pixels) as (image, _):
        return bool(image.getexif().get_ifd(ExifTags.IFD.GPSInfo))


def _kind(image: Image.Image) -> str:
    """Return one of FORMATS, or HEIC or JXL. A phone's MPO is a JPEG with previews and depth maps
    behind it, not an animation.
    """
    return {"MPO": "JPEG", "HEIF": "HEIC"}.get(image.format or "", image.format or "")


@dataclass(frozen=True, slots=True)
class ReducedImage:
    """An image decoded at a whole, a half, a quarter or an eighth of its size, to be shrunk
    further.

    width, height: of the whole image, upright. box: where that lies in the pixels of `image`,
    (left, top, right, bottom), for `Image.resize`: a side that the reduction does not divide ends
    inside of a pixel. format: of FORMATS.
    """

    image: Image.Image
    width: int
    height: int
    box: tuple[float, float, float, float]
    format: str


def load(
    path: Path,
    *,
    alpha: Alpha = "flatten",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    shrink_to: int | None = None,
) -> Image.Image:
    """Open an image as upright 8-bit sRGB without metadata; of an animation its first frame.

    alpha: "flatten" lays the image onto white; "keep" returns RGBA where a pixel is transparent,
    else RGB. max_pixels: width x height beyond it is refused before anything is decoded. shrink_to:
    see `load_reduced`. Raises InputError with the reason for a file that cannot be read or is
    incomplete.
    """
    return load_reduced(path, shrink_to, alpha=alpha, max_pixels=max_pixels).image


def load_reduced(
    path: Path,
    shrink_to: int | None,
    *,
    alpha: Alpha = "flatten",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    factor: float = DRAFT_FACTOR,
    open_file: Callable[[Path], BinaryIO] | None = None,
) -> ReducedImage:
    """Open an image as `load` does, for a caller who will shrink its long edge to `shrink_to`
    pixels.

    A JPEG is decoded at a half, a quarter or an eighth where that leaves at least `factor` times as
    much. Without the box a side of 3,333 pixels would be scaled as if it were 3,334: half a pixel
    off at the far edge. open_file: opens the path, for a caller that must know which file it gets.
    """
    with DECODED.work(), _opened(path, max_pixels, open_file) as (image, _):
        width, height = image.size
        if shrink_to is not None and _kind(image) == "JPEG":
            share = factor * shrink_to / max(image.size)
            image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
        is_whole = image.info.get("progressive")  # all of it is in memory before it is reduced
        DECODED.take(width * height if is_whole else image.width * image.height)
        image.load()
        orientation = _orientation(image)
        standard = _detached(_standard(image, alpha), image)
        # The decoder rounds both sides up. Take the smallest part that fits: at 1 x 1 every part
        # does.
        part = next((n for n in (1, 2, 4, 8) if image.size == (-(-width // n), -(-height // n))), 1)
        spare = image.width - width / part, image.height - height / part
        turn = _UPRIGHT.get(orientation)
        if orientation >= 5 and turn is not None:
            width, height, spare = height, width, spare[::-1]
        left = spare[0] if orientation in (2, 3, 6, 7) else 0.0
        top = spare[1] if orientation in (3, 4, 7, 8) else 0.0
        upright = standard.transpose(turn) if turn is not None else standard
        box = (left, top, left + width / part, top + height / part)
        return ReducedImage(upright, width, height, box, _kind(image))


def save(image: Image.Image, path: Path, *, quality: int = 95) -> None:
    """Write an image (L, RGB or RGBA) whole or not at all, in the format of the path's suffix,
    without metadata.

    Raises InputError where the format cannot hold it, StorageError where the disk does not take it.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"cannot write {display(path)}: not a format that is written",
            hint="use jpg, png or webp",
        )
    try:
        data = encode(image, writer, quality=quality)
    except (OSError, ValueError, MemoryError) as error:
        reason = _one_line(error) or "the encoder failed"
        raise InputError(
            f"cannot write {display(path)} as {writer}: {reason}", hint="try --format png"
        ) from error
    write_atomic(path, data)


def encode(
    image: Image.Image, writer: str, *, quality: int = 95, text: Mapping[str, str] | None = None
) -> bytes:
    """Return the file of an image as bytes; pixels only: no EXIF, XMP, GPS, comment or profile (it
    is sRGB).

    quality: 1..100 for JPEG and WebP. A JPEG of 95 and more keeps the colours of every pixel
    (4:4:4), a lower one has Pillow's 4:2:0. text: the text chunks of a PNG, by keyword: how a
    generated image was made.
    """
    bare = image.copy()  # the encoders look for comments and profiles in `info`
    bare.info.clear()
    options: dict[str, Any] = {"quality": quality} if writer != "PNG" else {}
    if writer == "JPEG" and quality >= 95:
        options["subsampling"] = 0
    file = BytesIO()
    if text:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, value in text.items():
            options["pnginfo"].add_text(key, value)
    bare.save(file, writer, **options)
    return file.getvalue()


def png_text(path: Path) -> Mapping[str, str]:
    """Return the text chunks of a PNG before its pixels, by keyword; none for another file, or one
    that cannot be read.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return {str(k): str(v) for k, v in image.info.items() if isinstance(v, str)}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}


def to_srgb(image: Image.Image, *, alpha: Alpha = "flatten") -> Image.Image:
    """Bring a decoded image of any mode to 8-bit sRGB: RGB, or RGBA where `alpha` is "keep" and
    it shows through.

    A broken ICC profile, or one of another kind of colour than the pixels, is ignored, as viewers
    do. The given image is not changed; the returned one carries no metadata.
    """
    plain = _standard(image, alpha)
    plain = image.copy() if plain is image else plain
    plain.info = {}
    return plain


def _standard(image: Image.Image, alpha: Alpha) -> Image.Image:
    """Return the image as RGB or RGBA; itself where there is nothing to do."""
    icc = (
        image.info.get("icc_profile") if image.mode != "LAB" else None
    )  # Pillow itself brings LAB to sRGB
    plain = _eight_bit(image)
    if icc:
        plain = _from_profile(plain, icc)
    if plain.mode in ("LA", "RGBA"):
        return _settle_alpha(plain, alpha)
    return plain if plain.mode == "RGB" else plain.convert("RGB")


def _detached(plain: Image.Image, decoded: Image.Image) -> Image.Image:
    """Remove the file's metadata from an image, in place if the decoder allows it: copying 36 MB
    takes 10 ms.
    """
    if plain is decoded:
        if _kind(plain) == "JPEG":
            plain.getexif().clear()
        else:
            plain = plain.copy()
    plain.info = {}
    return plain


def _settle_alpha(image: Image.Image, alpha: Alpha) -> Image.Image:
    """Drop an alpha that hides nothing; keep any other, or flatten it onto white."""
    if image.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB")
    if alpha == "keep":
        return image.convert("RGBA")
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, (255, 255, 255, 255))
        flat.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return flat


# --- opening
# --------------------------------------------------------------------------------------------------


@contextmanager
def _opened(
    path: Path, max_pixels: int, open_file: Callable[[Path], BinaryIO] | None = None
) -> Iterator[tuple[Image.Image, limits.Structure]]:
    """Open an image up to its header, and return it with its structure (`limits`); any error of a
    decoder, here or in the body, becomes InputError.
    """
    name = display(path)
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise InputError(f"cannot read {name}: not a regular file")
        if status.st_size == 0:
            raise InputError(
                f"cannot read {name}: it is empty (0 bytes)", hint="copy it again, or remove it"
            )
        file = path.open("rb") if open_file is None else open_file(path)
    _allow(max_pixels)
    with file:
        try:
            structure = limits.inspect(file, name, max_pixels)
            with Image.open(file, formats=_formats(file, name)) as image:
                _require_size(name, image.size, max_pixels)
                _require_size(name, _tile_size(image), max_pixels)
                if isinstance(image, ImageFile.ImageFile):
                    image.decodermaxblock = max(
                        image.decodermaxblock, min(status.st_size, _ONE_PIECE)
                    )
                yield image, structure
        except DskError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(f"{name}: it", max_pixels) from error
        except Exception as error:  # decoders raise nearly anything on malformed data
            raise _unreadable(name, error, kind_by_content(_start(file))) from error


def _start(file: BinaryIO) -> bytes:
    """Return the first bytes of an open file, and put it back to its start; b"" if it is closed."""
    if file.closed:  # a plugin closes what it has read as a whole
        return b""
    file.seek(0)
    start = file.read(FIRST_BYTES)
    file.seek(0)
    return start


def _formats(file: BinaryIO, name: str) -> tuple[str, ...]:
    """Return the decoders that may see an open file. Raises InputError for a format whose plugin is
    not installed.
    """
    kind = kind_by_content(_start(file))
    if kind not in _PLUGIN_FORMATS:
        return FORMATS
    if not _load_plugin(kind):
        raise InputError(f"cannot read {name}: it is {kind}", hint=advice_for(kind, "image"))
    return (_PLUGIN_FORMATS[kind],)


@lru_cache(maxsize=len(_PLUGIN_FORMATS))
def _load_plugin(kind: str) -> bool:
    """Register the decoder of a format with Pillow; tell whether it is installed."""
    if not has_plugin(kind):
        return False
    plugin = import_module(PLUGINS[kind])
    if kind == "HEIC":  # one thread for each image: the executor has the others
        plugin.register_heif_opener(
            thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
        )
    return True


def _allow(max_pixels: int) -> None:
    """Raise Pillow's own limit where the caller allows more; its default stays in force
    otherwise.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _require_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"cannot read {name}: it is {width} x {height} pixels", hint="remove it")
    if width * height > max_pixels:
        raise _too_large(f"{name}: {width} x {height}", max_pixels)


def _tile_size(image: Image.Image) -> tuple[int, int]:
    """Return the tile size of a TIFF (6.0, section 15): a tiny image may ask for one huge
    tile.
    """
    tags = getattr(image, "tag_v2", {})
    return tags.get(322, 1), tags.get(323, 1)


def _too_large(what: str, max_pixels: int) -> InputError:
    return InputError(
        f"cannot read {what} is beyond the limit of {max_pixels / 1e6:g} megapixels",
        hint="--max-pixels raises the limit, for files that you trust",
    )


def _unreadable(name: str, error: Exception, kind: str | None) -> InputError:
    """Return the error of a file that was not decoded. kind: by its first bytes."""
    if isinstance(error, UnidentifiedImageError):
        if kind is not None and kind not in (*FORMATS, *_PLUGIN_FORMATS):
            group = kind if kind in ("video", "archive") else "image"
            return InputError(f"cannot read {name}: it is {kind}", hint=advice_for(kind, group))
        if kind in _PLUGIN_FORMATS:
            hint = "copy it again, or remove it"
            return InputError(f"cannot read {name}: not a whole {kind} image", hint=hint)
        hint = "convert it to one of these, or remove it"
        return InputError(
            f"cannot read {name}: not a whole image of {', '.join(FORMATS)}", hint=hint
        )
    if isinstance(error, MemoryError):
        return InputError(
            f"cannot read {name}: it does not fit in memory",
            hint="close other programs, or shrink it",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return InputError(f"cannot read {name}: {error.strerror}")
    reason = _one_line(error)
    detail = f" ({reason})" if reason else ""
    return InputError(
        f"cannot read {name}: damaged or cut short{detail}", hint="copy it again, or remove it"
    )


def _one_line(error: Exception) -> str:
    return display(" ".join(str(error).split()))[:120]


def _orientation(image: Image.Image) -> int:
    """Return the EXIF (or XMP) orientation, 1..8; 1 where there is none. Damaged EXIF does not cost
    the image.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as in _opened: the parser raises nearly anything
        return 1


def _header_orientation(image: Image.Image, path: Path) -> int:
    """Return the turn still to be applied to a header's size; a PNG is decoded only if its EXIF
    stands at its end.
    """
    if image.format == "TIFF":  # Pillow has turned its size already
        return 1
    if image.format != "PNG" or "exif" in image.info:
        return _orientation(image)
    if _ends_in_exif(path):
        DECODED.take(image.width * image.height)
        return _orientation(image)
    try:
        return int(
            Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        )  # PNG's own getexif decodes
    except Exception:  # as in _orientation
        return 1


def _ends_in_exif(path: Path, *, window: int = 64 * 1024) -> bool:
    """Tell whether EXIF or XMP may stand behind a PNG's pixels, where its header does not
    show it.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - window))
        tail = file.read()
    return b"eXIf" in tail or b"XML:com.adobe.xmp" in tail


# --- modes and profiles
# ----------------------------------------------------------------------------------------------


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image as L, LA, RGB, RGBA or CMYK of 8 bits; a transparent colour becomes an
    alpha channel.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bit_grey(image)
    if image.mode == "La":
        return image.convert("LA")
    if image.has_transparency_data:
        key = image.info.get("transparency")
        if (
            isinstance(key, tuple) and max(key) > 255
        ):  # of a 16-bit RGB PNG, whose pixels come as their high bytes
            image.info["transparency"] = tuple(value >> 8 for value in key)
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


# How many pixels are scaled together.
_PIXELS_AT_ONCE = 1 << 16


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys by 257, and 32-bit ones by the white that their brightest pixel speaks
    for.

    I (int32): white is 255, 65535 or the brightest pixel; F: 1, 255, 65535 or the brightest,
    whichever is the first to hold them all. Below zero and not-a-number are black. (Pillow's own
    convert clips at 255: all white.)
    """
    # here and below: few images need it, and it takes a tenth of a second to load
    import numpy as np

    values: NDArray[Any] = np.asarray(image)
    if image.mode.startswith("I;16"):
        scale = ((np.arange(65536) + 128) // 257).astype(np.uint8)
        grey = Image.fromarray(scale[values])
        key = image.info.get("transparency")
        if not isinstance(key, int):
            return grey
        return Image.merge(
            "LA", (grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
        )
    # A few rows at a time stay in the processor's cache: whole images take twice the time, and
    # four copies in memory.
    rows = max(1, _PIXELS_AT_ONCE // image.width)
    bands = [values[start : start + rows] for start in range(0, image.height, rows)]
    peak = max(float(band.max(where=np.isfinite(band), initial=0)) for band in bands)
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    white = np.float32(next((w for w in whites if peak <= w), peak))
    scaled = np.empty(values.shape, np.uint8)
    for start, band in zip(range(0, image.height, rows), bands, strict=True):
        finite = np.where(np.isfinite(band), band, 0).astype(np.float32)
        scaled[start : start + rows] = np.clip(finite / white, 0.0, 1.0) * 255.0 + 0.5
    return Image.fromarray(scaled)


def _from_profile(image: Image.Image, icc: bytes) -> Image.Image:
    """Bring pixels from their ICC profile to sRGB; unchanged where the profile is sRGB, broken or
    does not fit.
    """
    try:
        mode = _profile_mode(icc)
        if mode is None or not _fits(image, mode) or (mode == "RGB" and _is_srgb(icc)):
            return image
        colours = image.convert(mode)
        rgb = _transform(colours, icc)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if image.mode in ("LA", "RGBA"):
        rgb.putalpha(image.getchannel("A"))
    return rgb


def _fits(image: Image.Image, mode: str) -> bool:
    """Tell whether pixels may be read through a profile of `mode`: greys are RGB too, nothing else
    is two things.
    """
    if mode == "RGB":
        return image.mode in ("L", "LA", "RGB", "RGBA")
    return image.mode == mode or (mode == "L" and image.mode == "LA")


def _profile_mode(icc: bytes) -> str | None:
    return _PROFILE_MODES.get(ImageCms.ImageCmsProfile(BytesIO(icc)).profile.xcolor_space.strip())


def _transform(image: Image.Image, icc: bytes) -> Image.Image:
    # Each image gets its own profiles and transforms: sharing them between threads is not
    # guaranteed to work.
    source, target = ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, target, image.mode, "RGB").apply(image)


@lru_cache(maxsize=16)
def _is_srgb(icc: bytes) -> bool:
    """Tell whether a profile changes no colour by more than one level: most do not, and the
    transform is slow.
    """
    import numpy as np

    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = np.concatenate([cube, greys])[None]
    changed = np.asarray(_transform(Image.fromarray(colours), icc))
    return int(np.abs(changed.astype(np.int16) - colours).max()) <= 1
