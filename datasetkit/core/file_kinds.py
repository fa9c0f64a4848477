"""What a file is, by its name and, where the name does not tell, by its first bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from datasetkit.core.install import install_command, package_command
from datasetkit.core.records import LeftOut
from datasetkit.core.words import counted

# The suffixes of the formats that are read, by format, the usual suffix first. The content decides
# how a file is decoded, not its suffix.
FORMAT_SUFFIXES: Final = MappingProxyType({
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "JXL": (".jxl",),
})  # fmt: skip
# The formats that Pillow reads with a plugin only, and the module of the plugin.
PLUGINS: Final = MappingProxyType({"HEIC": "pi_heif", "JXL": "pillow_jxl"})
# Every suffix of an image, with the plugins or without them: such a file has a caption of its own.
IMAGE_SUFFIXES: Final = frozenset(s for suffixes in FORMAT_SUFFIXES.values() for s in suffixes)

# Other images, videos and archives, by suffix: they are left out by name.
_RAW: Final = "camera raw"
_OTHER_IMAGES: Final = {
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jpm", ".jpc"), "JPEG 2000"),
    **dict.fromkeys((".jxr", ".wdp", ".hdp"), "JPEG XR"),
    **dict.fromkeys((".psd", ".psb"), "PSD"),
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".ico", ".cur", ".icns"), "icon"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pam"), "PNM"),
    **dict.fromkeys((".tga", ".tpic"), "TGA"),
    **dict.fromkeys((".exr", ".hdr"), "HDR"),
    **dict.fromkeys((".xcf", ".kra", ".ora", ".clip", ".sai", ".sai2", ".procreate", ".afphoto",
                     ".pdn", ".mdp"), "layered image"),
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf",
                     ".raw", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"), _RAW),
    ".dds": "DDS", ".pcx": "PCX", ".qoi": "QOI", ".bpg": "BPG", ".flif": "FLIF", ".ai": "AI",
    ".eps": "EPS", ".emf": "EMF", ".wmf": "WMF",
}  # fmt: skip
_VIDEOS: Final = frozenset(
    ".mp4 .m4v .mov .webm .mkv .avi .wmv .flv .f4v .mpg .mpeg .3gp .3g2 .mts .m2ts .ogv .vob "
    ".rmvb .asf .gifv .mjpeg".split()
)
_ARCHIVES: Final = frozenset(".zip .rar .7z .tar .tgz .cbz .cbr .cb7".split())
# Files whose first bytes need no look: texts, sidecars, models and the like.
_DATA: Final = frozenset(
    ".json .jsonl .csv .tsv .xml .xmp .aae .toml .yaml .yml .md .ini .cfg .conf .log .lnk .url "
    ".npz .npy .pt .pth .ckpt .safetensors .onnx .pkl .parquet .arrow .sqlite .sqlite3 .db "
    ".py .ipynb .sh .bat .cmd .ps1 .exe .dll .pdf .docx .xlsx .sha256 .md5 .gz .xz .zst "
    ".wav .mp3 .flac .ogg .m4a .ttf .otf".split()
)

# What systems and their programs leave in folders, in lower case. Folders below, files above.
_SYSTEM_FILES: Final = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini",
    "zbthumbnail.info", "pspbrwse.jbf", "folder.htt", "autorun.inf", ".ds_store", ".directory",
    ".localized", ".nomedia", ".picasa.ini", ".dropbox", ".dropbox.attr",
})  # fmt: skip
_SYSTEM_FILE_STARTS: Final = ("._", "synophoto_thumb", "synofile_thumb")
_SYSTEM_FOLDERS: Final = frozenset({
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
    "recycler", "recycled", "system volume information", "__macosx", "lost+found", "_gsdata_",
    "__pycache__", "found.000", "network trash folder", "temporary items", ".@__thumb",
    ".appledouble", ".documentrevisions-v100", ".fseventsd", ".ipynb_checkpoints",
    ".picasaoriginals", ".spotlight-v100", ".temporaryitems", ".thumbnails", ".trash", ".trashes",
})  # fmt: skip

# Which advice a kind gets; a kind without one is an image that another program has to convert.
_PLUGIN_ADVICE: Final = {
    "HEIC": lambda: f"{install_command('formats')} reads it, or save it as JPEG",
    "JXL": lambda: (
        f"{package_command('pillow-jxl-plugin')} reads it, or djxl (libjxl) converts it to PNG"
    ),
}
_CONVERT: Final = "save it as PNG or JPEG"
_GROUP_ADVICE: Final = {
    "video": "ffmpeg -i VIDEO FRAME_%04d.png takes images from it",
    "archive": "unpack it",
    "name": "give it the suffix of its format",
    "hidden": "rename it without the dot",
    "link": "name the folder that it points to",
    "system": "",
    "folder": "add -r where the command has it, or name each",
}


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, with its dot; "" for none."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and suffix and dot else ""


@lru_cache(maxsize=1)
def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of the images that can be read here, with the plugins that are
    installed.
    """
    return frozenset(
        suffix
        for kind, suffixes in FORMAT_SUFFIXES.items()
        if kind not in PLUGINS or has_plugin(kind)
        for suffix in suffixes
    )


def has_plugin(kind: str) -> bool:
    """Tell whether the plugin that reads a format is installed; it is not imported."""
    return find_spec(PLUGINS[kind]) is not None


def is_image_name(name: str) -> bool:
    """Tell whether a file of this name is listed as an image."""
    return suffix_of(name) in readable_suffixes() and not is_system_file(name)


def is_system_file(name: str) -> bool:
    """Tell whether a system or one of its programs leaves files of this name."""
    lower = name.lower()
    return lower in _SYSTEM_FILES or lower.startswith(_SYSTEM_FILE_STARTS)


def is_system_folder(name: str) -> bool:
    """Tell whether a system or one of its programs keeps its own files in a folder of this name."""
    return name.lower() in _SYSTEM_FOLDERS or name.lower().startswith(".trash-")


def is_searched(folder_name: str) -> bool:
    """Tell whether images are searched in a subfolder of this name: no hidden one, nor one of a
    system.
    """
    return not folder_name.startswith(".") and not is_system_folder(folder_name)


def needs_first_bytes(name: str) -> bool:
    """Tell whether a name does not show what a file is."""
    return suffix_of(name) not in _DATA


def group_by_name(name: str) -> tuple[str, str] | None:
    """Return the kind and the group of an image that cannot be read, a video or an archive; None
    for other names.
    """
    suffix = suffix_of(name)
    if suffix in IMAGE_SUFFIXES:
        kind = next(kind for kind, suffixes in FORMAT_SUFFIXES.items() if suffix in suffixes)
        return None if suffix in readable_suffixes() else (kind, "image")
    if suffix in _OTHER_IMAGES:
        return _OTHER_IMAGES[suffix], "image"
    if suffix in _VIDEOS:
        return "video", "video"
    if suffix in _ARCHIVES:
        return "archive", "archive"
    return None


@lru_cache(maxsize=64)  # a folder may have thousands of a kind, and some advice reads files
def advice_for(kind: str, group: str) -> str:
    """Return what to do about a file that is left out."""
    if group != "image":
        return _GROUP_ADVICE[group]
    return _PLUGIN_ADVICE[kind]() if kind in _PLUGIN_ADVICE else _CONVERT


# ---- the first bytes
# --------------------------------------------------------------------------------------------------

FIRST_BYTES: Final = 64
_STARTS: Final = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"), (b"\xff\x0a", "JXL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "PSD"), (b"gimp xcf", "layered image"), (b"qoif", "QOI"),
    (b"\x1aE\xdf\xa3", "video"), (b"FLV\x01", "video"), (b"\0\0\x01\xba", "video"),
    (b"PK\x03\x04", "archive"), (b"Rar!\x1a\x07", "archive"), (b"7z\xbc\xaf\x27\x1c", "archive"),
)  # fmt: skip
# Sizes of the header that follows `BM`: a text may begin with these letters.
_BMP_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)
_AVIF: Final = (b"avif", b"avis")
_HEIC: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


def kind_by_content(start: bytes) -> str | None:
    """Return the format of an image, `video` or `archive` by a file's first bytes; None for any
    other file.
    """
    for begins, kind in _STARTS:
        if start.startswith(begins):
            return kind
    if start[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "video"}.get(start[8:12])
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if start[4:8] == b"ftyp":
        return _kind_by_brand(start)
    return None


def _kind_by_brand(start: bytes) -> str:
    """Return the kind of an ISO base media file (ISO 14496-12): its own brand, else those that it
    is compatible with.
    """
    end = min(len(start), int.from_bytes(start[:4], "big"))
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, end, 4))]
    for brand in brands:
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIC:
            return "HEIC"
    if brands[0] in (b"mif1", b"msf1", b"miaf"):
        return "HEIC"
    return _RAW if brands[0] == b"crx " else "video"


# ---- in words
# --------------------------------------------------------------------------------------------------

_NAMED: Final = 3
_PLURALS: Final = frozenset({
    "video", "archive", "icon", "layered image", "hidden image", "linked folder", "system file",
    "system folder",
})  # fmt: skip


def counts_of(left_out: Iterable[LeftOut]) -> str:
    """Return the kinds of files that are left out, with their numbers: `2 HEIC, 1 video`."""
    counts = Counter(item.kind for item in left_out)
    return ", ".join(
        f"{n:,} {kind}{'s' if n > 1 and kind in _PLURALS else ''}" for kind, n in counts.items()
    )


def advice_on(left_out: Iterable[LeftOut]) -> str:
    """Return what to do about each kind of files that are left out."""
    kinds: dict[str, list[str]] = {}
    for kind, advice in {item.kind: item.advice for item in left_out if item.advice}.items():
        kinds.setdefault(advice, []).append(kind)
    if len(kinds) == 1:
        return next(iter(kinds))
    return "; ".join(f"{', '.join(names)}: {advice}" for advice, names in kinds.items())


def summary(left_out: Iterable[LeftOut]) -> str:
    """Return in one line which files of a person are left out, and what to do; "" for none."""
    items = [item for item in left_out if item.group not in ("system", "folder")]
    if not items:
        return ""
    advice = advice_on(items)
    return f"{counted(len(items), 'file')} left out: {counts_of(items)} ({_names(items)})" + (
        f"; {advice}" if advice else ""
    )


def subfolder_summary(left_out: Iterable[LeftOut]) -> str:
    """Return in one line which subfolders with images are not searched; "" for none."""
    items = [item for item in left_out if item.group == "folder"]
    if not items:
        return ""
    names = f"{counted(len(items), 'subfolder')} with images not searched: {_names(items)}"
    return f"{names}; {advice_on(items)}"


def system_summary(left_out: Iterable[LeftOut]) -> str:
    """Return in one line which files and folders of systems are left out; "" for none."""
    items = [item for item in left_out if item.group == "system"]
    return f"left out: {counts_of(items)} ({_names(items)})" if items else ""


def _names(items: Sequence[LeftOut]) -> str:
    return ", ".join(item.path.name for item in items[:_NAMED]) + (
        " ..." if len(items) > _NAMED else ""
    )
