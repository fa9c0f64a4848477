"""Uploads: files of a browser, staged in `.dsk/uploads/<id>/` and imported as one plan.

    upload.json   where the files go, and their paths, sizes and times
    <n>           the file of this number, complete
    <n>.out       why it is left out, by its content
    <n>.zip       the files that were unpacked from it, which are <n>-<k>
    names.json    where each file goes, written before the import

Nothing says how far an upload is: it follows from the files, so a page or a server that was killed
goes on with the same upload. The folder may have come with the project: links in it are not
followed, and its names are checked as those of a request.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from datasetkit.core import file_kinds
from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import InputError, StorageError
from datasetkit.core.file_kinds import FIRST_BYTES, FORMAT_SUFFIXES, kind_by_content
from datasetkit.core.files import (
    MAX_CAPTION_BYTES,
    PROJECT,
    display,
    fold,
    make_project_folder,
    read_regular,
    refuse_links,
    write_atomic,
    writing,
)
from datasetkit.core.words import counted
from datasetkit.images import pixels
from datasetkit.project.plans import Link, Plan
from datasetkit.project.session import RunContext, open_project
from datasetkit.verbs.studio import upload_names, zip_uploads
from datasetkit.verbs.studio.upload_names import (
    MAX_IMAGE_BYTES,
    ArrivedFile,
    ImportNames,
    LeftOutFile,
    SentFile,
)

FOLDER: Final = "uploads"
_RECORD, _NAMES = "upload.json", "names.json"
_LARGEST: Final = 64 * 2**20  # bytes of a record
_ID: Final = re.compile(r"[0-9a-f]{16}")
_STAGED: Final = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
_RESERVE: Final = 2 * 10**9  # bytes that the disk keeps free
_MOST: Final = 16  # uploads at once
_ABANDONED: Final = 86_400  # seconds
_NOT_AN_IMAGE: Final = "not an image"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload. root: of the project; to: the folder of the import, relative to `base`."""

    root: Path
    base: Path
    id: str
    to: str
    files: tuple[SentFile, ...]
    left_out: tuple[LeftOutFile, ...] = ()

    @property
    def folder(self) -> Path:
        return self.root / PROJECT / FOLDER / self.id

    @property
    def target(self) -> Path:
        return self.base / self.to if self.to else self.base

    def staged(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True, slots=True)
class UploadImport:
    """What an import did. files: imported, relative to the folder. present: that were there."""

    folder: Path
    files: tuple[str, ...]
    images: int
    present: tuple[str, ...]
    renamed: Mapping[str, str]
    left_out: tuple[LeftOutFile, ...]
    entry: int | None


# ---- beginning


def begin(root: Path, base: Path, to: str, files: Sequence[SentFile]) -> dict[str, Any]:
    """Begin an upload, or go on with the one of the same files; return `state`.

    base: the folder of the project that is open. Raises InputError for a folder outside of it,
    StorageError if the disk has less room than the files take.
    """
    target = require_target(base, to)
    remove_abandoned(root)
    same = _id_of(to, files)
    uploads = _uploads_folder(root)
    refused = upload_names.left_out(files, _has_image(target))
    upload = Upload(root, base, same, to, tuple(files), tuple(refused))
    if not (upload.folder / _RECORD).is_file():
        _require_room(uploads, sum(file.size for file in files))
        if _open_folders(uploads) >= _MOST:
            raise InputError(f"{_MOST} uploads are open", hint="end or cancel one of them")
        record = {
            "to": to,
            "files": [[file.path, file.size, file.modified] for file in files],
            "left_out": [asdict(item) for item in refused],
        }
        with writing(upload.folder):
            upload.folder.mkdir(exist_ok=True)
        write_atomic(upload.folder / _RECORD, json.dumps(record).encode())
    return state(upload)


def require_target(base: Path, to: str) -> Path:
    """Return a folder below the open one, which may not exist yet. Raises InputError."""
    if not to:
        return base
    for part in upload_names.relative(to).split("/"):
        if fault := upload_names.part_fault(part):
            raise InputError(f"the folder `{display(part)}` {fault}", hint="choose another name")
    target = base / to
    refuse_links(target, base)
    if target.exists() and not target.is_dir():
        raise InputError(f"{display(to)} is not a folder", hint="choose another name")
    return target


def _id_of(to: str, files: Sequence[SentFile]) -> str:
    """Return the same id for the same files, so that a page that was reloaded goes on."""
    text = json.dumps([to, sorted((f.path, f.size, f.modified) for f in files)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _uploads_folder(root: Path) -> Path:
    folder = make_project_folder(root) / FOLDER
    with writing(folder):
        make_folders(folder)
    return folder


def _open_folders(uploads: Path) -> int:
    return sum((folder / _RECORD).is_file() for folder in uploads.iterdir())


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free - _RESERVE:
        raise StorageError(
            f"the files take {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB free, of "
            f"which {_RESERVE / 1e9:g} stay free",
            hint="free some disk space, or use the folder where it lies",
        )


def _has_image(target: Path) -> Callable[[str, str], bool]:
    """Return what tells whether a folder below the target has an image of a stem."""
    stems: dict[str, set[str]] = {}

    def has(folder: str, stem: str) -> bool:
        if folder not in stems:
            names = [n for n in _names_in(target / folder) if file_kinds.is_image_name(n)]
            stems[folder] = {fold(s) for n in names for s in (n, PurePosixPath(n).stem)}
        return fold(stem) in stems[folder]

    return has


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:  # it does not exist yet, or is a file
        return []


# ---- reading back


def find(root: Path, base: Path, upload_id: str) -> Upload | None:
    """Return an upload that was begun, None without one. Raises InputError for a damaged one."""
    if not _ID.fullmatch(upload_id):
        return None
    folder = root / PROJECT / FOLDER / upload_id
    refuse_links(folder, root)
    data = read_regular(folder / _RECORD, limit=_LARGEST)
    if data is None:
        return None
    try:
        record = json.loads(data)
        files = upload_names.sent_files(
            [{"path": p, "size": size, "modified": t * 1000} for p, size, t in record["files"]]
        )
        refused = tuple(LeftOutFile(**item) for item in record["left_out"])
        to = str(record["to"])
        require_target(base, to)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{display(folder)} is damaged", hint="cancel the upload and begin it again"
        ) from error
    return Upload(root, base, upload_id, to, tuple(files), refused)


def open_uploads(root: Path, base: Path) -> list[Upload]:
    """Return the uploads that have not ended, the newest first."""
    folder = root / PROJECT / FOLDER
    if folder.is_symlink():
        return []
    dated: list[tuple[float, Upload]] = []
    for name in _names_in(folder):
        with suppress(InputError, OSError):
            upload = find(root, base, name)
            if upload is not None:
                dated.append(((upload.folder / _RECORD).stat().st_mtime, upload))
    return [upload for _, upload in sorted(dated, key=lambda pair: -pair[0])]


def state(upload: Upload) -> dict[str, Any]:
    """Return what has arrived of an upload.

    files: each has its number, and a state: wanted, arrived or left-out. bytes: of those that are
    imported; waiting: how many are wanted.
    """
    names = _regular(upload.folder)
    refused = {item.path: item for item in upload.left_out}
    rows: list[dict[str, Any]] = []
    for number, file in enumerate(upload.files):
        why = refused.get(file.path)
        if why is None and f"{number}.out" in names:
            why = _read_out(upload, number, file)
        arrived = str(number) in names or f"{number}.zip" in names
        rows.append({
            "n": number,
            "path": file.path,
            "size": file.size,
            "modified": file.modified,
            "state": "left-out" if why else "arrived" if arrived else "wanted",
            **({"kind": why.kind, "reason": why.reason} if why else {}),
        })  # fmt: skip
    waiting = [row for row in rows if row["state"] == "wanted"]
    return {
        "id": upload.id,
        "to": upload.to,
        "files": rows,
        "unpacked": _unpacked_state(upload, names),
        "waiting": len(waiting),
        "bytes": sum(row["size"] for row in rows if row["state"] != "left-out"),
        "bytes_waiting": sum(row["size"] for row in waiting),
        "free": max(0, shutil.disk_usage(upload.root).free - _RESERVE),
    }


def _regular(folder: Path) -> dict[str, int]:
    """Return the regular files of a folder with their sizes: links are none."""
    with suppress(OSError), os.scandir(folder) as entries:
        stats = [(e.name, e.stat(follow_symlinks=False)) for e in entries]
        return {name: info.st_size for name, info in stats if stat.S_ISREG(info.st_mode)}
    return {}


def _read_out(upload: Upload, number: int, file: SentFile) -> LeftOutFile:
    with suppress(InputError, ValueError, TypeError, KeyError):
        reason = json.loads(read_regular(upload.staged(f"{number}.out"), limit=_LARGEST) or b"")
        return LeftOutFile(file.path, str(reason["kind"]), str(reason["reason"]))
    return LeftOutFile(file.path, "other", _NOT_AN_IMAGE)


def _unpacked_state(upload: Upload, names: Mapping[str, int]) -> dict[str, Any]:
    files, refused = _unpacked(upload, names)
    return {"files": len(files), "left_out": [asdict(item) for item in refused]}


def _unpacked(
    upload: Upload, names: Mapping[str, int]
) -> tuple[list[tuple[str, SentFile]], list[LeftOutFile]]:
    """Return the files that were unpacked from archives, by their staged names, and those that are
    left out.
    """
    files: list[tuple[str, SentFile]] = []
    refused: list[LeftOutFile] = []
    for name in sorted(name for name in names if name.endswith(".zip")):
        number = name.removesuffix(".zip")
        with suppress(InputError, ValueError, TypeError, KeyError):
            record = json.loads(read_regular(upload.staged(name), limit=_LARGEST) or b"")
            for k, path, size, modified in record["files"]:
                files.append(
                    (f"{number}-{int(k)}", SentFile(str(path), int(size), float(modified)))
                )
            refused += [LeftOutFile(**item) for item in record["left_out"]]
    return files, refused


# ---- receiving


class Receiver:
    """Writes one file of an upload to the disk, and judges it when it is complete.

    Raises InputError as soon as more arrives than was announced.
    """

    def __init__(self, upload: Upload, number: int) -> None:
        if not 0 <= number < len(upload.files):
            raise InputError(f"the upload has no file {number}")
        self._upload, self._number = upload, number
        self._sent = upload.files[number]
        if any(item.path == self._sent.path for item in upload.left_out):
            raise InputError(f"{display(self._sent.path)} is left out", hint="do not send it")
        self._part = upload.staged(f"{number}.{secrets.token_hex(4)}.part")
        self._written = 0
        with writing(self._part):
            self._file = self._part.open("xb")

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self._sent.size:
            raise InputError(
                f"{display(self._sent.path)} has more than {self._sent.size:,} bytes",
                hint="it was changed meanwhile: choose it again",
            )
        with writing(self._part):
            self._file.write(data)

    def finish(self) -> dict[str, Any]:
        """Check what has arrived; return the state of the file, and why it is left out."""
        try:
            with writing(self._part):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            if self._written != self._sent.size:
                raise InputError(
                    f"{display(self._sent.path)} has {self._written:,} bytes, not "
                    f"{self._sent.size:,}",
                    hint="send it again",
                )
            return self._judged()
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove what has arrived, unless it is complete."""
        self._file.close()
        with suppress(OSError):
            self._part.unlink()

    def _judged(self) -> dict[str, Any]:
        why = fault(self._part, self._sent)
        if why is None and _is_zip(self._part, self._sent):
            try:
                _unpack(self._upload, self._number, self._part)
            except InputError as error:
                why = "archive", error.message
        elif why is None:
            with suppress(OSError):
                os.utime(self._part, (self._sent.modified or time.time(),) * 2)
            with writing(self._part):
                self._part.replace(self._upload.staged(str(self._number)))
        if why is None:
            return {"n": self._number, "state": "arrived"}
        reason = {"kind": why[0], "reason": why[1]}
        write_atomic(self._upload.staged(f"{self._number}.out"), json.dumps(reason).encode())
        return {"n": self._number, "state": "left-out", **reason}


def _is_zip(path: Path, sent: SentFile) -> bool:
    return sent.suffix == upload_names.ZIP and _kind(path) == "archive"


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        return kind_by_content(file.read(FIRST_BYTES))


def fault(path: Path, sent: SentFile) -> tuple[str, str] | None:
    """Return the kind and the reason of a file whose content is not imported, else None."""
    kind = _kind(path)
    if kind is not None and kind in FORMAT_SUFFIXES:
        return _image_fault(path, kind)
    if kind == "archive" and sent.suffix == upload_names.ZIP:
        return None
    if kind is not None:
        return kind, file_kinds.advice_for(kind, kind if kind in ("video", "archive") else "image")
    if sent.suffix in upload_names.SIDECARS:
        return _text_fault(path)
    return "other", _NOT_AN_IMAGE


def _image_fault(path: Path, kind: str) -> tuple[str, str] | None:
    if kind in file_kinds.PLUGINS and not file_kinds.has_plugin(kind):
        return kind, file_kinds.advice_for(kind, "image")
    if path.stat().st_size > MAX_IMAGE_BYTES:
        return "size", f"larger than {MAX_IMAGE_BYTES // 2**20} MB"
    try:
        pixels.probe(path)
    except InputError as error:
        return "damaged", error.message.removeprefix(f"cannot read {display(path)}: ")
    return None


def _text_fault(path: Path) -> tuple[str, str] | None:
    data = path.read_bytes() if path.stat().st_size <= MAX_CAPTION_BYTES else None
    if data is None:
        return "size", f"larger than {MAX_CAPTION_BYTES:,} bytes"
    if b"\0" in data:
        return "other", "not a text"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "encoding", "not UTF-8: save it in that encoding"
    return None


def _unpack(upload: Upload, number: int, path: Path) -> None:
    """Unpack an archive into files of its own. The record comes last: without it, the files are
    not there.
    """
    content = zip_uploads.read(path, _has_image(upload.target))
    _require_room(upload.folder, content.bytes)
    refused = list(content.left_out)
    files: list[list[Any]] = []
    made: list[Path] = []

    def target(k: int) -> Path:
        made.append(upload.staged(f"{number}-{k}"))
        made[-1].unlink(missing_ok=True)
        return made[-1]

    try:
        for k, entry in enumerate(zip_uploads.unpack(path, content, target)):
            staged, sent = made[-1], entry.sent
            if why := fault(staged, sent):
                refused.append(LeftOutFile(sent.path, *why))
                staged.unlink()
                continue
            os.utime(staged, (sent.modified or time.time(),) * 2)
            files.append([k, sent.path, sent.size, sent.modified])
        record = {"files": files, "left_out": [asdict(item) for item in refused]}
        write_atomic(upload.staged(f"{number}.zip"), json.dumps(record).encode())
    except BaseException:
        for staged in made:
            staged.unlink(missing_ok=True)
        raise


# ---- ending


def finish(upload: Upload, context: RunContext) -> UploadImport:
    """Import what has arrived, as one plan. Raises InputError while files are missing, Locked,
    StorageError.

    An import that was cut off is completed: a file that is there already is not imported twice.
    """
    if waiting := state(upload)["waiting"]:
        raise InputError(
            f"{counted(waiting, 'file')} have not arrived", hint="send them, or cancel the upload"
        )
    target = require_target(upload.base, upload.to)
    names = _regular(upload.folder)
    arrived = list(_arrived(upload, names))
    with open_project(upload.root, context) as project:
        planned = _planned(upload, arrived, target)
        ops = [
            Link(staged, target / path)
            for staged, path in planned.targets.items()
            if not _is_there(staged, target / path)
        ]
        images = sum(file.is_image and not file.sent.is_mask for file in arrived)
        title = f"{counted(images, 'image')} to {display(upload.to or upload.base.name)}"
        entry = project.apply(Plan(tuple(ops)), "import", title)
    refused = [*upload.left_out, *_out(upload, names), *_unpacked(upload, names)[1]]
    discard(upload)
    imported = {file.staged for file in arrived if file.is_image and not file.sent.is_mask}
    return UploadImport(
        folder=target,
        files=tuple(planned.targets.values()),
        images=len(imported & planned.targets.keys()),
        present=tuple(planned.present),
        renamed=planned.renamed,
        left_out=(*refused, *planned.left_out),
        entry=entry,
    )


def _arrived(upload: Upload, names: Mapping[str, int]) -> Iterator[ArrivedFile]:
    staged = [(str(n), f) for n, f in enumerate(upload.files) if str(n) in names]
    for name, sent in (*staged, *_unpacked(upload, names)[0]):
        path = upload.staged(name)
        if names.get(name) != sent.size or fault(path, sent):
            continue  # not what was received
        kind = _kind(path)
        is_image = kind in FORMAT_SUFFIXES
        proper = sent.suffix in file_kinds.readable_suffixes() or not is_image
        new = sent.name if proper or kind is None else sent.name + FORMAT_SUFFIXES[kind][0]
        yield ArrivedFile(path, sent, new, is_image)


def _out(upload: Upload, names: Mapping[str, int]) -> list[LeftOutFile]:
    return [
        _read_out(upload, n, file) for n, file in enumerate(upload.files) if f"{n}.out" in names
    ]


def _planned(upload: Upload, arrived: Sequence[ArrivedFile], target: Path) -> ImportNames:
    """Return where each file goes; an import that was cut off goes on with its names."""
    before = _read_names(upload, arrived)
    if before is not None:
        return before
    folders = {file.parent for file in arrived}
    folders |= {file.sent.folder for file in arrived}
    for folder in folders:
        refuse_links(target / folder if folder else target, upload.base)
    existing = {folder: _names_in(target / folder) for folder in folders}
    planned = upload_names.plan_names(
        arrived, existing, lambda staged, path: _same_bytes(staged, target / path)
    )
    record = {
        "targets": {staged.name: path for staged, path in planned.targets.items()},
        "present": planned.present,
        "renamed": planned.renamed,
        "left_out": [asdict(item) for item in planned.left_out],
    }
    write_atomic(upload.staged(_NAMES), json.dumps(record).encode())
    return planned


def _read_names(upload: Upload, arrived: Sequence[ArrivedFile]) -> ImportNames | None:
    data = read_regular(upload.staged(_NAMES), limit=_LARGEST)
    if data is None:
        return None
    try:
        record = json.loads(data)
        targets = {upload.staged(name): str(path) for name, path in record["targets"].items()}
        if not targets.keys() <= {file.staged for file in arrived}:
            return None
        for path in targets.values():
            require_target(upload.base, "/".join(filter(None, (upload.to, _folder_of(path)))))
            if upload_names.part_fault(upload_names.relative(path).rpartition("/")[2]):
                return None
    except InputError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return ImportNames(targets, record["present"], record["renamed"], [])


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _is_there(staged: Path, path: Path) -> bool:
    """Tell whether an import that was cut off has made a file."""
    return path.is_file() and not path.is_symlink() and _same_bytes(staged, path)


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        return second.is_file() and filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def discard(upload: Upload) -> None:
    """Remove an upload. Files that are imported stay."""
    with suppress(OSError):  # first: without it, there is no upload any more
        (upload.folder / _RECORD).unlink()
    shutil.rmtree(upload.folder, ignore_errors=True)


def remove_abandoned(root: Path) -> int:
    """Remove uploads that nobody has touched for a day; return their number."""
    folder = root / PROJECT / FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return 0
    removed = 0
    for name in _names_in(folder):
        path = folder / name
        with suppress(OSError):
            if _ID.fullmatch(name) and not path.is_symlink():
                record = (path / _RECORD).stat() if (path / _RECORD).is_file() else path.stat()
                touched = max(path.stat().st_mtime, record.st_mtime)
                if time.time() - touched > _ABANDONED:
                    shutil.rmtree(path)
                    removed += 1
    return removed
