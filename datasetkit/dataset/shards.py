"""WebDataset shards: tar files in which the files of a sample have one key, `0001.jpg` and
`0001.txt`.

The headers are read with tarfile, and nothing is extracted by name: the reader gives where in the
shard a file is. A shard may come from anywhere, so all of its headers are checked before one file
is written (docs/log.md says why the library `webdataset` does not read them).
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, NamedTuple

from datasetkit.core.errors import InputError
from datasetkit.core.file_kinds import readable_suffixes
from datasetkit.core.files import MASKS, MAX_CAPTION_BYTES, display, fold, natural_key, reading
from datasetkit.dataset.imports import MAX_SIDECAR
from datasetkit.dataset.naming import name_fault

SUFFIX: Final = ".tar"
# A path has 4096 bytes at most, and a header may hold two.
MAX_HEADER: Final = 16_384
# The largest image that is read: 8 bytes a pixel at the limit of pixels, and metadata.
MAX_IMAGE: Final = 2**29 + 2**24
_MASK: Final = "mask.png"
# Of several texts the first is the caption.
_TEXTS: Final = ("txt", "caption", "json")
_MOST_BYTES: Final[Mapping[str, int]] = {
    "txt": MAX_CAPTION_BYTES, "caption": MAX_CAPTION_BYTES, "json": MAX_SIDECAR,
}  # fmt: skip
# As the library splits a name: the key ends at the first dot of the file name.
_KEY: Final = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
_META: Final = re.compile(r"__[^/]*__(?:/|$)")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_NOT_A_FILE: Final[Mapping[bytes, str]] = {
    tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
}  # fmt: skip
_COMPRESSED: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd",
}  # fmt: skip
_DOWNLOAD_AGAIN: Final = "copy or download it again"


class ShardFile(NamedTuple):
    """One file of a shard: where its bytes are."""

    shard: Path
    extension: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the bytes of the file. Raises InputError."""
        with reading(self.shard), self.shard.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise InputError(f"{display(self.shard)} changed while it was read")
        return data


@dataclass(frozen=True, slots=True)
class ShardSample:
    """A sample with an image. key: its name without the extension, with slashes between folders.

    text: the caption, or a JSON object that has one.
    """

    key: str
    image: ShardFile
    text: ShardFile | None = None
    mask: ShardFile | None = None


@dataclass(frozen=True, slots=True)
class ShardSamples:
    """The samples of some shards, in their order. without_image: how many have none."""

    samples: tuple[ShardSample, ...]
    without_image: int = 0


# ---- reading


def find_shards(path: Path) -> list[Path]:
    """Return a shard, or the shards of a folder in natural order. Raises InputError."""
    if not path.is_dir():
        return [path]
    with reading(path):
        names = sorted((p.name for p in path.iterdir()), key=natural_key)
    shards = [path / n for n in names if n.lower().endswith(SUFFIX) and not n.startswith(".")]
    if not shards:
        raise InputError(
            f"{display(path)} has no .tar files", hint="name a shard, or the folder of the shards"
        )
    return shards


def read_samples(shards: Iterable[Path]) -> ShardSamples:
    """Return the samples of shards, whose keys differ on every disk. Raises InputError for a shard
    that is damaged, or has a file that must not be written.
    """
    samples: list[ShardSample] = []
    without_image = 0
    owners: dict[str, Path] = {}
    for shard in shards:
        for key, files in _by_key(shard).items():
            sample = _sample(shard, key, files)
            if sample is None:
                without_image += 1
                continue
            owner = owners.setdefault(fold(key), shard)
            if owner is not shard:
                raise InputError(
                    f"{display(owner)} and {display(shard)} both have a sample {display(key)}",
                    hint="import each of them into a folder of its own: --out",
                )
            samples.append(sample)
    return ShardSamples(tuple(samples), without_image)


def _by_key(shard: Path) -> dict[str, dict[str, ShardFile]]:
    """Return the files of each sample of a shard, by extension."""
    samples: dict[str, dict[str, ShardFile]] = {}
    spellings: dict[str, str] = {}
    for name, file in _files(shard):
        match = _KEY.fullmatch(name)
        if match is None:
            continue
        key, extension = match[1], match[2].lower()
        spelling = spellings.setdefault(fold(key), key)
        if spelling != key:
            raise InputError(
                f"{display(shard)} has the samples {display(spelling)} and {display(key)}, which "
                "are one name on some disks",
                hint="write the shard again with other keys",
            )
        files = samples.setdefault(key, {})
        if extension in files:
            raise InputError(
                f"{display(shard)} has {display(name)} twice",
                hint="write the shard again: each key may stand for one sample only",
            )
        files[extension] = file._replace(extension=extension)
    return samples


def _sample(shard: Path, key: str, files: Mapping[str, ShardFile]) -> ShardSample | None:
    """Return a sample, None if it has no image. Raises InputError."""
    images = [extension for extension in files if f".{extension}" in readable_suffixes()]
    if not images:
        return None
    if len(images) > 1:
        raise InputError(
            f"{display(shard)} has two images of the sample {display(key)}: "
            f"{' and '.join(map(display, images))}",
            hint="write the shard again with one image for each key",
        )
    parts = PurePosixPath(key).parts
    fault = next((fault for part in parts if (fault := name_fault(part))), None)
    if fault is None and any(fold(part) == MASKS for part in parts[:-1]):
        fault = f"is in a folder `{MASKS}`, where dsk keeps masks"
    if fault is not None:
        raise InputError(
            f"{display(shard)}: the name {display(key)} {fault}",
            hint="write the shard again with another key",
        )
    text = next((files[extension] for extension in _TEXTS if extension in files), None)
    sample = ShardSample(key, files[images[0]], text, files.get(_MASK))
    for file in filter(None, (sample.image, sample.text, sample.mask)):
        most = _MOST_BYTES.get(file.extension, MAX_IMAGE)
        if file.size > most:
            raise InputError(
                f"{display(shard)}: {display(f'{key}.{file.extension}')} has {file.size:,} bytes",
                hint=f"at most {most:,} are read",
            )
    return sample


def _files(shard: Path) -> Iterator[tuple[str, ShardFile]]:
    """Yield the name of each file of a shard, without a leading `./`, and where it is. Files that
    are hidden, or about the shard itself, are left out.
    """
    with reading(shard), shard.open("rb") as file:
        _require_tar(shard, file)
        size = os.fstat(file.fileno()).st_size
        try:
            headers: Any = _Headers(file, shard)
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it keeps all of them
                    name = _safe_name(shard, member)
                    end = member.offset_data + member.size
                    if end > size:
                        raise _cut_off(shard)
                    if name:
                        yield name, ShardFile(shard, "", member.offset_data, member.size)
                end = tar.offset
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            if "unexpected end" in str(error):
                raise _cut_off(shard) from None
            raise _damaged(shard, str(error) or type(error).__name__) from None
        # tarfile takes any header that it cannot read for the end.
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise _cut_off(shard)
    if block.strip(b"\0"):
        raise _damaged(shard, f"no header at byte {end:,}")


class _Headers:
    """The part of a file object that tarfile uses, with a limit of what it reads at once: a header
    may claim gigabytes, or a negative size.
    """

    def __init__(self, file: BinaryIO, shard: Path) -> None:
        self._file, self._shard = file, shard
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise _damaged(self._shard, f"a header of more than {MAX_HEADER:,} bytes")
        return self._file.read(size)


def _require_tar(shard: Path, file: BinaryIO) -> None:
    start = file.read(8)
    file.seek(0)
    for magic, program in _COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(
                f"{display(shard)} is compressed, which is not supported",
                hint=f"unpack it first: {program} {display(shard.name)}",
            )


def _safe_name(shard: Path, member: tarfile.TarInfo) -> str:
    """Return the name of a file, "" for what is left out. Raises InputError for what no shard has:
    a path out of the folder, a link, a device.
    """
    name = member.name
    parts = name.split("/")
    if member.size < 0:
        raise _damaged(shard, "a file of a negative size")
    kind = _NOT_A_FILE.get(member.type)
    if kind is not None:
        raise _refused(shard, f"{display(name)} is {kind}")
    if name.startswith("/") or "\\" in name or ".." in parts or _DRIVE.match(name):
        raise _refused(shard, f"{display(name)} is not a path below a folder")
    if member.issparse():
        raise _refused(shard, f"{display(name)} is a sparse file")
    parts = [part for part in parts if part not in ("", ".")]
    if not member.isreg() or any(part.startswith(".") for part in parts):
        return ""
    return "" if _META.match("/".join(parts)) else "/".join(parts)


def _refused(shard: Path, problem: str) -> InputError:
    return InputError(
        f"{display(shard)}: {problem}", hint="a shard has files only: do not use this one"
    )


def _cut_off(shard: Path) -> InputError:
    return InputError(f"{display(shard)} is cut off", hint=_DOWNLOAD_AGAIN)


def _damaged(shard: Path, reason: str) -> InputError:
    return InputError(
        f"{display(shard)} is not a tar file, or is damaged: {display(reason)}",
        hint=_DOWNLOAD_AGAIN,
    )


# ---- writing


@dataclass(frozen=True, slots=True)
class SampleSource:
    """A sample that is to be written: its image, its caption as bytes, and its mask, if any."""

    key: str
    image: Path
    caption: bytes
    mask: Path | None = None


@dataclass(slots=True)
class KeyedSamples:
    """Samples by their keys, which the names of their images give."""

    samples: list[SampleSource] = field(default_factory=list)
    _owners: dict[str, Path] = field(default_factory=dict)

    def add(self, folder: str, image: Path, caption: bytes, mask: Path | None) -> None:
        """Add an image below a folder of the shard, "" for none. Raises InputError for two images
        with one key: a dot ends a key, so `a.b` and `a_b` have the same.
        """
        stem = image.stem.replace(".", "_")
        key = f"{folder}/{stem}" if folder else stem
        owner = self._owners.setdefault(fold(key), image)
        if owner is not image:
            raise InputError(
                f"{display(owner.name)} and {display(image.name)} would have the same key "
                f"{display(key)}",
                hint="dsk rename gives each image a name of its own",
            )
        self.samples.append(SampleSource(key, image, caption, mask))


def shard_bytes(samples: Sequence[SampleSource]) -> Iterator[bytes]:
    """Yield the bytes of a shard. They depend on names and contents only: no time, no owner.

    Raises InputError for an image that cannot be read.
    """
    length = 0
    for sample in samples:
        with reading(sample.image):
            image = sample.image.read_bytes()
        files = [(sample.image.suffix.lower().lstrip("."), image), ("txt", sample.caption)]
        if sample.mask is not None:
            with reading(sample.mask):
                files.append((_MASK, sample.mask.read_bytes()))
        for extension, data in files:
            header = _header(f"{sample.key}.{extension}", len(data))
            padding = bytes(-len(data) % tarfile.BLOCKSIZE)
            length += len(header) + len(data) + len(padding)
            yield header
            yield data
            yield padding
    length += 2 * tarfile.BLOCKSIZE
    yield bytes(2 * tarfile.BLOCKSIZE + -length % tarfile.RECORDSIZE)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def holds(path: Path, chunks: Iterable[bytes]) -> bool:
    """Tell whether a file holds these bytes and no others."""
    with reading(path), path.open("rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)
