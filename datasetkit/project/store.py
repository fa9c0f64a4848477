"""The store: what dsk remembers about a project, in `.dsk/store.sqlite`, which may be deleted.

`files` spares hashing an image twice, `scores` spares inference, `written` tells dsk's captions
from a person's, `made` tells which outputs are up to date, `looks` which images are nearly the
same, `measures` spares looking for faces and text twice, `journal` and `ops` hold what each command
did (project/journal.py). Paths are bytes relative to the project root, so that a moved project and
any file name work.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasetkit.core.errors import InputError, StorageError
from datasetkit.core.files import PROJECT, display, refuse_link, writing
from datasetkit.core.records import Caption

SCHEMA_VERSION = 3
STORE = Path(PROJECT, "store.sqlite")
_CLAIMED = (
    -1
)  # the size of an output that a run is about to make, and may have made before it was killed
_SCHEMA = """
CREATE TABLE files (
  path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, id TEXT, width INTEGER, height INTEGER
);
CREATE TABLE models (key TEXT PRIMARY KEY, labels BLOB);
CREATE TABLE scores (image TEXT, model TEXT, row BLOB, PRIMARY KEY (image, model)) WITHOUT ROWID;
CREATE TABLE written (hash TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE made (
  path BLOB PRIMARY KEY, source TEXT, recipe TEXT, origin BLOB, size INTEGER, mtime_ns INTEGER
);
CREATE TABLE journal (
  id INTEGER PRIMARY KEY, verb TEXT, title TEXT, started REAL, state TEXT, phase TEXT,
  undoes INTEGER
);
CREATE TABLE ops (
  entry INTEGER, n INTEGER, kind TEXT, src BLOB, dst BLOB, before BLOB, after BLOB,
  sign TEXT, temp BLOB,
  PRIMARY KEY (entry, n)
) WITHOUT ROWID;
CREATE TABLE dirs (entry INTEGER, n INTEGER, path BLOB, PRIMARY KEY (entry, n)) WITHOUT ROWID;
"""
# What each version added to the one before.
_ADDED = {
    2: "CREATE TABLE looks (file TEXT PRIMARY KEY, look BLOB) WITHOUT ROWID",
    3: "CREATE TABLE measures (image TEXT, recipe TEXT, row BLOB, PRIMARY KEY (image, recipe)) "
    "WITHOUT ROWID",
}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of an image's bytes: its id ("" if never hashed) and its size in pixels as
    seen.
    """

    id: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a stage makes. source: the id of the image it is made from; origin: where that
    image lies.
    """

    path: Path
    source: str
    recipe: str
    origin: Path


def caption_hash(caption: Caption) -> str:
    """Hash a caption by its tags in order, so that line ends and marks of an editor do not
    matter.
    """
    return hashlib.sha256(caption.text().encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Database(sqlite3.Connection):
    """A connection whose every failure is a StorageError, wherever it arises."""

    def execute(self, *args: Any) -> Any:
        return self.cursor(Cursor).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor(Cursor).executemany(*args)


class Cursor(sqlite3.Cursor):
    """A result that may turn out damaged in its middle."""

    def execute(self, *args: Any) -> Any:
        with translated(STORE):
            return super().execute(*args)

    def executemany(self, *args: Any) -> Any:
        with translated(STORE):
            return super().executemany(*args)

    def fetchone(self) -> Any:
        with translated(STORE):
            return super().fetchone()

    def fetchall(self) -> Any:
        with translated(STORE):
            return super().fetchall()

    def __next__(self) -> Any:
        with translated(STORE):
            return super().__next__()


class Store:
    """One project's memory. Use it from one thread, as a context manager; every sqlite failure is a
    StorageError.
    """

    def __init__(self, root: Path, database: sqlite3.Connection) -> None:
        self.root = root
        self.database = database

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open or create the store of the project at `root`."""
        folder = root / PROJECT
        path = root / STORE
        refuse_link(folder)
        refuse_link(path)
        with writing(folder):
            folder.mkdir(exist_ok=True)
        with translated(path):
            database = sqlite3.connect(path, timeout=30, isolation_level=None, factory=Database)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            store = cls(root, database)
            store._create()
        except BaseException:
            database.close()
            raise
        return store

    @classmethod
    def open_copy(cls, root: Path) -> Store:
        """Open a copy in memory of what the store holds: for a dry run, which must change nothing
        on disk.
        """
        path = root / STORE
        database = sqlite3.connect(":memory:", isolation_level=None)
        if path.is_file():
            # Even a reader makes `-shm` and `-wal` files beside a database in WAL mode, unless told
            # that it is at rest.
            at_rest = not path.with_name(path.name + "-wal").exists()
            mode = "immutable=1" if at_rest else "mode=ro"
            with translated(path):
                source = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=30)
                try:
                    source.backup(database)
                finally:
                    source.close()
        store = cls(root, database)
        store._create()
        return store

    def _create(self) -> None:
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{display(self.root / PROJECT)} was written by a newer datasetkit",
                hint="upgrade: pip install -U datasetkit",
            )
        with self.transaction():
            version = self.database.execute("PRAGMA user_version").fetchone()[0]
            statements = list(filter(str.strip, _SCHEMA.split(";"))) if version == 0 else []
            for statement in (*statements, *(added for n, added in _ADDED.items() if n > version)):
                self.database.execute(statement)
            self.database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements that take effect together, durably, or not at all."""
        with translated(self.root / PROJECT):
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise
            self.database.execute("COMMIT")

    # ---- paths
    # ----------------------------------------------------------------------------------------------

    def key(self, path: Path) -> bytes:
        """Return how a path is stored: relative to the root where it lies below it, else
        absolute.
        """
        plain, root = os.path.abspath(path), f"{self.root}{os.sep}"
        if plain.startswith(root):  # nearly always, and several times as fast as what pathlib does
            return os.fsencode(plain[len(root) :].replace(os.sep, "/"))
        absolute = Path(plain)
        try:
            return os.fsencode(absolute.relative_to(self.root).as_posix())
        except ValueError:
            return os.fsencode(absolute)

    def path(self, key: bytes) -> Path:
        """Return the path that `key` made a key of."""
        return self.root / os.fsdecode(key)

    # ---- files
    # ----------------------------------------------------------------------------------------------

    def facts(self, path: Path, info: os.stat_result) -> FileFacts | None:
        """Return what is known of an image, if the file is the one that was looked at (same size
        and time).
        """
        row = self.database.execute(
            "SELECT id, width, height FROM files WHERE path = ? AND size = ? AND mtime_ns = ?",
            (self.key(path), info.st_size, info.st_mtime_ns),
        ).fetchone()
        return FileFacts(*row) if row else None

    def all_facts(self) -> dict[tuple[bytes, int, int], FileFacts]:
        """Return what `facts` knows of every file, by key, size and time: one question for a whole
        folder.
        """
        rows = self.database.execute("SELECT path, size, mtime_ns, id, width, height FROM files")
        return {(path, size, time): FileFacts(*known) for path, size, time, *known in rows}

    def remember(self, found: Iterable[tuple[Path, os.stat_result, FileFacts]]) -> None:
        """Keep what was learnt about images."""
        rows = [
            (self.key(p), i.st_size, i.st_mtime_ns, f.id, f.width, f.height) for p, i, f in found
        ]
        with self.transaction() as database:
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    # ---- scores
    # ----------------------------------------------------------------------------------------------

    def labels(self, model: str) -> list[list[str]] | None:
        """Return the `[name, category]` rows that a model's scores are in, or None."""
        row = self.database.execute("SELECT labels FROM models WHERE key = ?", (model,)).fetchone()
        labels: list[list[str]] | None = json.loads(zlib.decompress(row[0])) if row else None
        return labels

    def models(self) -> list[tuple[str, list[list[str]]]]:
        """Return (key, labels) of every model whose scores are kept, the one used last first."""
        keys = [
            row[0] for row in self.database.execute("SELECT key FROM models ORDER BY rowid DESC")
        ]
        return [(key, self.labels(key) or []) for key in keys]

    def put_labels(self, model: str, labels: Sequence[tuple[str, str]]) -> None:
        """Keep a model's labels, so that its scores can be read without the model."""
        blob = zlib.compress(json.dumps([list(row) for row in labels]).encode())
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, blob))

    def mark_used(self, model: str) -> None:
        """Make a model the one used last, as `models` orders them; nothing is written where it is
        already.
        """
        newest = self.database.execute(
            "SELECT key, rowid FROM models ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        if newest is not None and newest[0] != model:
            with self.transaction() as database:
                database.execute(
                    "UPDATE models SET rowid = ? WHERE key = ?", (newest[1] + 1, model)
                )

    def scores(self, image: str, model: str) -> bytes | None:
        """Return the packed scores of an image (by id) under a model, or None."""
        row = self.database.execute(
            "SELECT row FROM scores WHERE image = ? AND model = ?", (image, model)
        ).fetchone()
        return row[0] if row else None

    def scores_of(self, images: Sequence[str], model: str) -> dict[str, bytes]:
        """Return the packed scores of several images under a model, by image id; unknown ones
        are left out.
        """
        asked = json.dumps(list(images))
        return dict(
            self.database.execute(
                "SELECT image, row FROM scores WHERE model = ? AND image IN (SELECT value FROM "
                "json_each(?))",
                (model, asked),
            )
        )

    def scored(self, model: str) -> set[str]:
        """Return the ids of the images that a model has scored."""
        return {
            row[0]
            for row in self.database.execute("SELECT image FROM scores WHERE model = ?", (model,))
        }

    def put_scores(self, model: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Keep packed scores by image id."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", [(i, model, b) for i, b in rows]
            )

    # ---- looks
    # ----------------------------------------------------------------------------------------------

    def looks(self) -> dict[str, bytes]:
        """Return what is remembered of how files look (datasetkit/images/near_duplicates.py), by a
        file's sign.
        """
        return dict(self.database.execute("SELECT file, look FROM looks"))

    def put_looks(self, looks: Iterable[tuple[str, bytes]]) -> None:
        """Remember how files look."""
        with self.transaction() as database:
            database.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?)", looks)

    # ---- measures
    # ---------------------------------------------------------------------------------------------

    def measures(self, recipe: str) -> dict[str, bytes]:
        """Return what was found out about images in one way, by image id."""
        return dict(
            self.database.execute("SELECT image, row FROM measures WHERE recipe = ?", (recipe,))
        )

    def put_measures(self, recipe: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Keep what was found out about images, by image id."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO measures VALUES (?, ?, ?)",
                [(i, recipe, b) for i, b in rows],
            )

    # ---- whose captions
    # ---------------------------------------------------------------------------------------

    def generated(self, captions: Iterable[Caption | None]) -> set[Caption]:
        """Return those of the captions that dsk itself wrote; any other was edited by a person."""
        hashes = {caption_hash(caption): caption for caption in captions if caption is not None}
        found = self.database.execute(
            "SELECT hash FROM written WHERE hash IN (SELECT value FROM json_each(?))",
            (json.dumps(list(hashes)),),
        )
        return {hashes[row[0]] for row in found}

    def is_generated(self, caption: Caption) -> bool:
        """Tell whether dsk wrote this very caption; any other was edited by a person."""
        row = self.database.execute(
            "SELECT 1 FROM written WHERE hash = ?", (caption_hash(caption),)
        ).fetchone()
        return row is not None

    # ---- outputs
    # ----------------------------------------------------------------------------------------------

    def is_current(self, output: Path, source: str, recipe: str) -> bool:
        """Tell whether an output was made from this source by this recipe and has not been touched
        since.
        """
        row = self.database.execute(
            "SELECT size, mtime_ns FROM made WHERE path = ? AND source = ? AND recipe = ?",
            (self.key(output), source, recipe),
        ).fetchone()
        return row is not None and row == _size_time(output)

    def is_ours(self, output: Path) -> bool:
        """Tell whether a file is an output that dsk made and nobody touched since."""
        row = self.database.execute(
            "SELECT size, mtime_ns FROM made WHERE path = ?", (self.key(output),)
        ).fetchone()
        return row is not None and (row[0] == _CLAIMED or row == _size_time(output))

    def is_claimed(self, output: Path) -> bool:
        """Tell whether a run was about to make an output, and was killed before it could note it as
        made.
        """
        row = self.database.execute(
            "SELECT size FROM made WHERE path = ?", (self.key(output),)
        ).fetchone()
        return row is not None and row[0] == _CLAIMED

    def source(self, output: Path) -> str | None:
        """Return what an output was made from, as `Output.source` says it; None where dsk made
        nothing there.
        """
        row = self.database.execute(
            "SELECT source FROM made WHERE path = ?", (self.key(output),)
        ).fetchone()
        return row[0] if row else None

    def claim(self, outputs: Iterable[Output]) -> None:
        """Note outputs before they are made: what a killed run leaves is known as dsk's own."""
        with self.transaction():
            self.insert_claims(outputs)

    def insert_claims(self, outputs: Iterable[Output]) -> None:
        """Claim outputs within a transaction that is open already."""
        self.database.executemany(
            f"INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, {_CLAIMED}, 0)",
            [self._made(o) for o in outputs],
        )

    def settle(self, outputs: Iterable[Output]) -> None:
        """Note finished outputs as they are now."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?, ?)",
                [self.made_row(o) for o in outputs],
            )

    def made_row(self, output: Output) -> tuple[object, ...]:
        """Return the row of `made` for a finished output as it is now."""
        return (*self._made(output), *(_size_time(output.path) or (_CLAIMED, 0)))

    def _made(self, output: Output) -> tuple[object, ...]:
        return self.key(output.path), output.source, output.recipe, self.key(output.origin)

    def is_current_in_place(self, path: Path, recipe: str) -> bool:
        """Tell whether an image is what this recipe made of an earlier one in its place, untouched
        since.
        """
        row = self.database.execute(
            "SELECT size, mtime_ns FROM made WHERE path = ? AND recipe = ?",
            (self.key(path), recipe),
        ).fetchone()
        return row is not None and row == _size_time(path)

    def outputs(self, kind: str) -> list[Output]:
        """Return every output whose recipe begins with `kind`."""
        rows = self.database.execute("SELECT path, source, recipe, origin FROM made ORDER BY path")
        return [
            Output(self.path(path), source, recipe, self.path(origin))
            for path, source, recipe, origin in rows
            if recipe.startswith(kind)
        ]


def _size_time(path: Path) -> tuple[int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn sqlite's errors into a StorageError that names the file and the next step."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"cannot write {display(path)}: {error}", hint="check the free space and permissions"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"{display(path)} is damaged: {error}",
            hint="delete .dsk/store.sqlite*: only cached scores and undo are lost",
        ) from error
