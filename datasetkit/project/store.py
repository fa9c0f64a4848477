"""The store: what dsk records about a project, in `.dsk/store.sqlite`, which may be deleted.

Its tables:

  files          id and size of each image, so that none is hashed twice
  models         the labels of each tagger, so that its scores can be read without it
  scores         a tagger's scores of each image, so that none is tagged twice
  generated      hashes of the captions that dsk wrote; a person wrote or edited all others
  outputs        which image and settings each output was made from, so that it is not made twice
  fingerprints   what near-duplicates are found by
  measurements   detected faces and text, and descriptions by models, so that no model runs twice
  trigger_words  the trigger of each folder, with the journal entry that set it
  journal        each command (project/journal.py), with its operations in `ops`, folders in `dirs`
  kept_results   what commands found that had nothing to do (verbs/shared/kept_results.py)

Paths are bytes relative to the project root, so that a moved project and any file name work. The
store may come from somebody else: a path in it that leads out of the project counts only where the
entry of the journal is signed (project/signature.py).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datasetkit.core.errors import InputError, StorageError
from datasetkit.core.file_stamp import state_of
from datasetkit.core.files import (
    PROJECT,
    display,
    make_project_folder,
    refuse_link,
    share_with_group,
)
from datasetkit.core.install import upgrade_command
from datasetkit.core.records import Caption

SCHEMA_VERSION = 8
STORE = Path(PROJECT, "store.sqlite")
# The vocabulary of the largest tagger takes half a megabyte.
_MOST_LABEL_BYTES = 16_000_000
# Rows that a query asks for at once: a call for each takes longer than the row. SQLite before 3.32
# takes no more than 999.
_ROWS = 900
# The size of a pending output: a run is about to make it, or made it and was killed.
_PENDING = -1
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
# What each version added to the one before, or renamed in it. _SCHEMA is version 1.
_ADDED = {
    2: "CREATE TABLE looks (file TEXT PRIMARY KEY, look BLOB) WITHOUT ROWID",
    3: "CREATE TABLE measures (image TEXT, recipe TEXT, row BLOB, PRIMARY KEY (image, recipe)) "
    "WITHOUT ROWID",
    4: "ALTER TABLE files ADD COLUMN stamp TEXT",
    5: "ALTER TABLE journal ADD COLUMN signature BLOB",
    6: "CREATE TABLE trigger_words (id INTEGER PRIMARY KEY, folder BLOB, words TEXT, "
    "entry INTEGER)",
    7: "ALTER TABLE made RENAME TO outputs; ALTER TABLE written RENAME TO generated; "
    "ALTER TABLE looks RENAME TO fingerprints; "
    "ALTER TABLE fingerprints RENAME COLUMN look TO fingerprint; "
    "ALTER TABLE measures RENAME TO measurements; ALTER TABLE ops RENAME COLUMN sign TO stamp",
    8: "CREATE TABLE kept_results (key TEXT PRIMARY KEY, state TEXT, result BLOB) WITHOUT ROWID",
}
_TABLES = (
    "files", "models", "scores", "generated", "outputs", "fingerprints", "measurements",
    "trigger_words", "journal", "ops", "dirs", "kept_results",
)  # fmt: skip
# Scores that dsk can have written; an image with others in a store from elsewhere is scored again.
_PACKED = "typeof(row) = 'blob'"
# How the rollback journal of sqlite ends when it names another file, which sqlite would delete.
_NAMES_A_FILE = bytes.fromhex("d9d505f920a163d7")


class FileFacts(NamedTuple):
    """What is recorded of an image file: its id ("" if it was not hashed), and its size in pixels
    after the EXIF turn.
    """

    id: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a stage makes.

    source: the id of the image that it is made from. origin: the path of that image. recipe: the
    settings that it is made with; other settings make another file.
    """

    path: Path
    source: str
    recipe: str
    origin: Path


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output as the store lists it. size, mtime_ns: of the file when it was finished.
    is_pending: a run is about to make it, or made it and was killed.
    """

    output: Output
    size: int
    mtime_ns: int
    is_pending: bool


def caption_hash(caption: Caption) -> str:
    """Hash a caption's tags in order: line ends and byte order marks of editors do not count."""
    return hashlib.sha256(caption.text().encode("utf-8", "surrogatepass")).hexdigest()[:32]


class GeneratedCaptions:
    """Captions that dsk wrote, of those that it was asked about. Only their hashes are kept."""

    def __init__(self) -> None:
        self._hashes: set[str] = set()

    def add_from(self, store: Store, captions: Iterable[Caption | None]) -> None:
        """Add those of some captions that dsk wrote."""
        self._hashes |= store.generated_hashes(captions)

    def __contains__(self, caption: object) -> bool:
        return isinstance(caption, Caption) and caption_hash(caption) in self._hashes


class Database(sqlite3.Connection):
    """A connection whose failures are all raised as StorageError."""

    def execute(self, *args: Any) -> Any:
        return self.cursor(Cursor).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor(Cursor).executemany(*args)


class Cursor(sqlite3.Cursor):
    """A cursor with the same errors: a damaged file may show only while rows are read."""

    def execute(self, *args: Any) -> Any:
        with storage_errors(STORE):
            return super().execute(*args)

    def executemany(self, *args: Any) -> Any:
        with storage_errors(STORE):
            return super().executemany(*args)

    def fetchone(self) -> Any:
        with storage_errors(STORE):
            return super().fetchone()

    def fetchmany(self, *args: Any) -> Any:
        with storage_errors(STORE):
            return super().fetchmany(*args)

    def fetchall(self) -> Any:
        with storage_errors(STORE):
            return super().fetchall()

    def __next__(self) -> Any:
        with storage_errors(STORE):
            return super().__next__()


class Store:
    """The store of one project. Use it from one thread, as a context manager; every sqlite failure
    is a StorageError.
    """

    def __init__(self, root: Path, database: sqlite3.Connection) -> None:
        self.root = root
        self.database = database

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open or create the store of the project at `root`."""
        make_project_folder(root)
        path = root / STORE
        _refuse_foreign_journal(path)
        with storage_errors(path):
            database = sqlite3.connect(path, timeout=30, isolation_level=None, factory=Database)
        share_with_group(path)
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
        """Open a copy of the store in memory, for a dry run, which changes nothing on disk."""
        database = sqlite3.connect(":memory:", isolation_level=None)
        if has_store(root):
            with _reading(root) as source:
                source.backup(database)
        store = cls(root, database)
        store._create()
        return store

    @staticmethod
    def has_open_entry(root: Path) -> bool:
        """Tell whether a plan is half done, by a killed command or by one that runs now; nothing is
        written, and the store is not copied.
        """
        with _reading(root) as source:
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'journal'"
            if source.execute(tables).fetchone() is None:  # a run was killed at its beginning
                return False
            query = "SELECT 1 FROM journal WHERE state = 'open' LIMIT 1"
            return source.execute(query).fetchone() is not None

    @staticmethod
    def kept_result(root: Path, key: str) -> tuple[str, bytes] | None:
        """Return the state of the files that a result was computed from, and the result.

        Reads the store on disk, also one that is open, and copies nothing.
        """
        with _reading(root) as source:
            if source.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                return None
            row = source.execute(
                "SELECT state, result FROM kept_results WHERE key = ? AND typeof(result) = 'blob'",
                (key,),
            ).fetchone()
        return None if row is None else (str(row[0]), row[1])

    def put_kept_result(self, key: str, state: str, result: bytes) -> None:
        """Record a result, until another command changes what the store holds."""
        with self.transaction(keeps_results=True) as database:
            database.execute(
                "INSERT OR REPLACE INTO kept_results VALUES (?, ?, ?)", (key, state, result)
            )

    def _create(self) -> None:
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{display(self.root / PROJECT)} was written by a newer datasetkit",
                hint=f"upgrade: {upgrade_command()}",
            )
        query = "SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')"
        if self.database.execute(query).fetchone() is not None:  # it would change what dsk writes
            raise self._foreign("it has a trigger or a view")
        if version < SCHEMA_VERSION:
            with self.transaction(keeps_results=True):
                version = self.database.execute("PRAGMA user_version").fetchone()[0]
                for statement in _statements(version):
                    self.database.execute(statement)
                self.database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        # Without the schema of dsk, the number of an entry could be a path, and values could change
        # once they are written.
        if _schema(self.database) != _expected_schema():
            raise self._foreign("its tables are others")

    def _foreign(self, why: str) -> InputError:
        return InputError(
            f"{display(self.root / STORE)} was not written by dsk: {why}",
            hint=f"the folder may come from somebody else: remove its {PROJECT}",
        )

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self, *, keeps_results: bool = False) -> Iterator[sqlite3.Connection]:
        """Run statements that are committed together, durably, or not at all.

        keeps_results: no result of a command depends on them; the others forget all results.
        """
        with storage_errors(self.root / PROJECT):
            self.database.execute("BEGIN IMMEDIATE")
            try:
                if not keeps_results:
                    self.database.execute("DELETE FROM kept_results")
                yield self.database
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise
            self.database.execute("COMMIT")

    # ---- paths

    def key(self, path: Path) -> bytes:
        """Return a path as it is stored: relative to the root if it lies below it, else
        absolute.
        """
        plain, root = os.path.abspath(path), f"{self.root}{os.sep}"
        if plain.startswith(root):  # nearly always, and several times as fast as pathlib
            return os.fsencode(plain[len(root) :].replace(os.sep, "/"))
        absolute = Path(plain)
        try:
            return os.fsencode(absolute.relative_to(self.root).as_posix())
        except ValueError:
            return os.fsencode(absolute)

    def keys(self, paths: Iterable[Path]) -> Iterator[bytes]:
        """Yield the key of each path. The folder of several is looked at once."""
        prefixes: dict[str, bytes] = {}
        for path in paths:
            folder, separator, name = str(path).rpartition(os.sep)
            if name in ("", "..", self.root.name):  # not below the folder, or the root itself
                yield self.key(path)
                continue
            folder += separator  # "/" is a folder, and "" is the current one
            prefix = prefixes.get(folder)
            if prefix is None:
                prefix = prefixes[folder] = self.key(Path(f"{folder}x"))[:-1]
            yield prefix + os.fsencode(name)

    def path(self, key: bytes, *, signed: bool = False) -> Path:
        """Return the path of a stored key.

        Raises InputError for one that leads out of the project, unless it is in a signed entry.
        """
        path = stored_path(key)
        if path is None or (path.anchor and not signed):
            raise InputError(
                f"{display(self.root / STORE)} names a path outside of the project: "
                f"{display(os.fsdecode(key) if isinstance(key, bytes) else repr(key))}",
                hint=f"the folder may come from somebody else: remove its {PROJECT}",
            )
        return self.root / path

    # ---- files

    def facts(self, path: Path, info: os.stat_result) -> FileFacts | None:
        """Return what is recorded of an image, None if the file has changed since."""
        row = self.database.execute(
            "SELECT id, width, height FROM files WHERE path = ? AND stamp = ?",
            (self.key(path), state_of(info)),
        ).fetchone()
        return FileFacts(*row) if row else None

    def facts_of(self, keys: Sequence[bytes]) -> dict[bytes, tuple[str, FileFacts]]:
        """Return `state_of` and `facts` of files by key, without those that are not recorded."""
        facts: dict[bytes, tuple[str, FileFacts]] = {}
        for at in range(0, len(keys), _ROWS):
            chunk = keys[at : at + _ROWS]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT path, stamp, id, width, height FROM files WHERE path IN ({marks})"
            for path, stamp, image, width, height in self.database.execute(query, chunk).fetchall():
                facts[path] = stamp, FileFacts(image, width, height)
        return facts

    @staticmethod
    def stored_files(
        root: Path, folder: Path, recipe: str
    ) -> Iterator[tuple[str, str, str, int, int, int]]:
        """Yield name, `state_of`, id, width and height of each recorded file directly in a folder,
        and 1 if it has a measurement, else 0.

        Reads the store on disk and copies nothing. Yields nothing of an earlier version.
        """
        if not has_store(root):
            return
        with _reading(root) as source:
            prefix = Store(root, source).key(folder / "x")[:-1]
            if source.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                return
            rows = source.execute(
                "SELECT path, stamp, id, width, height, EXISTS (SELECT 1 FROM measurements "
                "WHERE image = files.id AND recipe = ?) FROM files WHERE path >= ? AND path < ? "
                "AND typeof(stamp) = 'text' AND typeof(id) = 'text' "
                "AND typeof(width) = 'integer' AND typeof(height) = 'integer' AND width > 0 "
                "AND height > 0",
                (recipe, prefix, prefix[:-1] + b"0"),  # "0" comes after "/"
            )
            for chunk in iter(lambda: rows.fetchmany(_ROWS), []):
                for path, *facts in chunk:
                    name = path[len(prefix) :]
                    if b"/" not in name:
                        yield os.fsdecode(name), *facts

    def put_facts(self, facts: Sequence[tuple[Path, os.stat_result, FileFacts]]) -> None:
        """Record the facts of image files."""
        rows = [
            (key, i.st_size, i.st_mtime_ns, f.id, f.width, f.height, state_of(i))
            for key, (_, i, f) in zip(self.keys(p for p, _, _ in facts), facts, strict=True)
        ]
        with self.transaction(keeps_results=True) as database:
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    # ---- scores

    def labels(self, model: str) -> list[list[str]] | None:
        """Return the `[name, category]` of each score of a model, or None."""
        row = self.database.execute("SELECT labels FROM models WHERE key = ?", (model,)).fetchone()
        return _unpacked_labels(row[0]) if row else None

    def models(self) -> list[tuple[str, list[list[str]]]]:
        """Return (key, labels) of every model with stored scores, the one used last first."""
        keys = [
            row[0] for row in self.database.execute("SELECT key FROM models ORDER BY rowid DESC")
        ]
        return [(key, self.labels(key) or []) for key in keys]

    def put_labels(self, model: str, labels: Sequence[tuple[str, str]]) -> None:
        """Store a model's labels, so that its scores can be read without the model."""
        blob = zlib.compress(json.dumps([list(row) for row in labels]).encode())
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, blob))

    def mark_used(self, model: str) -> None:
        """Make a model the first that `models` returns; write nothing if it is."""
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
            f"SELECT row FROM scores WHERE image = ? AND model = ? AND {_PACKED}", (image, model)
        ).fetchone()
        return row[0] if row else None

    def scores_of(self, images: Sequence[str], model: str) -> dict[str, bytes]:
        """Return the packed scores of several images under a model, by image id, without the images
        that have none.
        """
        ids = json.dumps(list(images))
        return dict(
            self.database.execute(
                f"SELECT image, row FROM scores WHERE model = ? AND {_PACKED} AND image IN (SELECT "
                "value FROM json_each(?))",
                (model, ids),
            )
        )

    def scored(self, model: str) -> set[str]:
        """Return the ids of the images that a model has scored."""
        return {
            row[0]
            for row in self.database.execute(
                f"SELECT image FROM scores WHERE model = ? AND {_PACKED}", (model,)
            )
        }

    def put_scores(self, model: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Store packed scores by image id."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", [(i, model, b) for i, b in rows]
            )

    # ---- near-duplicates

    def fingerprints(self) -> dict[str, bytes]:
        """Return the fingerprints of files (images/near_duplicates.py), by `FileStamp.key`."""
        return dict(self.database.execute("SELECT file, fingerprint FROM fingerprints"))

    def put_fingerprints(self, fingerprints: Iterable[tuple[str, bytes]]) -> None:
        """Store fingerprints of files."""
        with self.transaction() as database:
            database.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", fingerprints)

    # ---- measurements

    def measurements(self, recipe: str) -> dict[str, bytes]:
        """Return the results of one measurement, e.g. a face detector with its settings, by image
        id.
        """
        return dict(
            self.database.execute("SELECT image, row FROM measurements WHERE recipe = ?", (recipe,))
        )

    def measurement(self, image: str, recipe: str) -> bytes | None:
        """Return one result of a measurement, None if there is none."""
        row = self.database.execute(
            "SELECT row FROM measurements WHERE image = ? AND recipe = ? AND typeof(row) = 'blob'",
            (image, recipe),
        ).fetchone()
        return row[0] if row else None

    def put_descriptions(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Store what models wrote about images: (image id, recipe, text) each."""
        with self.transaction() as database:
            database.executemany("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?)", rows)

    def put_measurements(self, recipe: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Store the results of one measurement by image id."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO measurements VALUES (?, ?, ?)",
                [(i, recipe, b) for i, b in rows],
            )

    # ---- captions

    def generated(self, captions: Iterable[Caption | None]) -> set[Caption]:
        """Return the captions that dsk wrote; a person wrote or edited the others."""
        return {caption for _, caption in self._generated(captions)}

    def generated_hashes(self, captions: Iterable[Caption | None]) -> set[str]:
        """Return the hashes of the captions that dsk wrote: a caption takes fifty times as much
        memory.
        """
        return {number for number, _ in self._generated(captions)}

    def _generated(self, captions: Iterable[Caption | None]) -> Iterator[tuple[str, Caption]]:
        remaining = (caption for caption in captions if caption is not None)
        while hashes := {caption_hash(c): c for c in islice(remaining, _ROWS)}:
            marks = ",".join("?" * len(hashes))
            query = f"SELECT hash FROM generated WHERE hash IN ({marks})"
            rows = self.database.execute(query, list(hashes)).fetchall()
            yield from ((number, hashes[number]) for (number,) in rows)

    # ---- triggers

    def insert_triggers(
        self, triggers: Mapping[Path, Sequence[str]], entry: int | None = None
    ) -> None:
        """Record the triggers of folders, within a transaction that is open.

        entry: the command that wrote them to captions; once it is undone they do not count.
        """
        rows = [
            (self.key(folder), json.dumps(list(words)), entry) for folder, words in triggers.items()
        ]
        self.database.executemany(
            "INSERT INTO trigger_words (folder, words, entry) VALUES (?, ?, ?)", rows
        )

    def put_triggers(self, triggers: Mapping[Path, Sequence[str]]) -> None:
        """Record triggers that all captions have already, so that no command wrote them."""
        stored = self.stored_triggers(self.root)
        new = {
            folder: words
            for folder, words in triggers.items()
            if stored.get(self.key(folder), ("",))[-1] != json.dumps(list(words))
        }
        if new:
            with self.transaction():
                self.insert_triggers(new)

    def put_earlier_triggers(self, triggers: Mapping[Path, Sequence[str]]) -> None:
        """Record words that captions of folders may have of earlier triggers; those that are
        stored stay the triggers of the folders.
        """
        if not triggers:
            return
        with self.transaction() as database:
            for folder, words in triggers.items():
                key = self.key(folder)
                query = "SELECT 1 FROM trigger_words WHERE folder = ?"
                if database.execute(query, (key,)).fetchone() is None:
                    self.insert_triggers({folder: ()})
                database.execute(
                    "INSERT INTO trigger_words (id, folder, words) "
                    "SELECT min(id) - 1, ?, ? FROM trigger_words",
                    (key, json.dumps(list(words))),
                )

    def triggers_of(self, entry: int) -> dict[Path, list[str]]:
        """Return the triggers that an entry of the journal set, to set them again."""
        rows = self.database.execute(
            "SELECT folder, words FROM trigger_words WHERE entry = ?", (entry,)
        )
        return {self.path(folder): _trigger_words(words) for folder, words in rows}

    @staticmethod
    def stored_triggers(root: Path) -> dict[bytes, tuple[str, ...]]:
        """Return the JSON lists of trigger words that were stored for each folder by its key, each
        once, the last one last; they are as somebody stored them.

        Reads the store on disk, also one that is open, and copies nothing.
        """
        if not has_store(root):
            return {}
        with _reading(root) as source:
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'trigger_words'"
            if source.execute(tables).fetchone() is None:  # of an earlier version
                return {}
            rows = source.execute(
                "SELECT folder, words FROM trigger_words LEFT JOIN journal ON "
                "journal.id = trigger_words.entry WHERE entry IS NULL OR state IN ('open', 'done') "
                "GROUP BY folder, words ORDER BY max(trigger_words.id)"
            )
            stored: dict[bytes, tuple[str, ...]] = {}
            for folder, words in rows:
                stored[folder] = (*stored.get(folder, ()), words)
            return stored

    # ---- outputs

    def put_pending(self, outputs: Iterable[Output]) -> None:
        """Record outputs before they are made, so that those of a killed run count as dsk's own."""
        with self.transaction():
            self.insert_pending(outputs)

    def insert_pending(self, outputs: Iterable[Output]) -> None:
        """Do `put_pending` within a transaction that is open already."""
        self.database.executemany(
            f"INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, {_PENDING}, 0)",
            [self._output_key(o) for o in outputs],
        )

    def put_finished(self, outputs: Iterable[Output]) -> None:
        """Record finished outputs as they are on disk now."""
        with self.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?)",
                [self.output_row(o) for o in outputs],
            )

    def output_row(self, output: Output) -> tuple[object, ...]:
        """Return the row of `outputs` for a finished output as it is on disk now."""
        return (*self._output_key(output), *(_size_time(output.path) or (_PENDING, 0)))

    def _output_key(self, output: Output) -> tuple[object, ...]:
        return self.key(output.path), output.source, output.recipe, self.key(output.origin)

    def is_current_in_place(self, path: Path, recipe: str) -> bool:
        """Tell whether this recipe replaced an image by what it made of it, unchanged since."""
        row = self.database.execute(
            "SELECT size, mtime_ns FROM outputs WHERE path = ? AND recipe = ?",
            (self.key(path), recipe),
        ).fetchone()
        return row is not None and row == _size_time(path)

    def stored_outputs(self) -> list[StoredOutput]:
        """Return every output, by path."""
        return list(self.each_output())

    def each_output(self) -> Iterator[StoredOutput]:
        """Yield every output, by path."""
        rows = self.database.execute(
            "SELECT path, source, recipe, origin, size, mtime_ns FROM outputs ORDER BY path"
        )
        for path, source, recipe, origin, size, mtime_ns in rows:
            if is_inside(path) and (origin_path := stored_path(origin)) is not None:
                yield StoredOutput(
                    Output(self.path(path), source, recipe, self.root / origin_path),
                    size,
                    mtime_ns,
                    is_pending=size == _PENDING,
                )


def _statements(version: int) -> list[str]:
    """Return the statements that turn a store of a version, 0 for a new one, into the newest."""
    changes = [_SCHEMA] if version == 0 else []
    changes += [added for n, added in _ADDED.items() if n > version]
    return list(filter(str.strip, ";".join(changes).split(";")))


def _schema(database: sqlite3.Connection) -> dict[str, object]:
    """Return the columns and the indexes of each table; names alone for what is not dsk's.

    A number that is the key of a table, and nothing else, has no index: it cannot be a text.
    """
    names = database.execute("SELECT name FROM sqlite_master WHERE type != 'index'").fetchall()
    schema: dict[str, object] = {}
    for (name,) in names:
        columns = indexes = []
        if name in _TABLES:
            columns = database.execute(f"PRAGMA table_xinfo({name})").fetchall()
            indexes = database.execute(f"PRAGMA index_list({name})").fetchall()
        schema[name] = (columns, [(unique, origin) for _, _, unique, origin, _ in indexes])
    return schema


@functools.cache
def _expected_schema() -> dict[str, object]:
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in _statements(0):
            database.execute(statement)
        return _schema(database)


def stored_path(key: object) -> Path | None:
    """Return the path of a key, relative or absolute; None for what dsk never stores, e.g. `..`."""
    if not isinstance(key, bytes) or b"\0" in key:
        return None
    path = Path(os.fsdecode(key))
    return None if ".." in path.parts or (path.anchor and not path.is_absolute()) else path


def is_inside(key: object) -> bool:
    """Tell whether a key is of a path below the project root."""
    path = stored_path(key)
    return path is not None and not path.anchor


def _unpacked_labels(blob: object) -> list[list[str]]:
    """Return the labels that `put_labels` stored. Raises StorageError for anything else, and for
    more than `_MOST_LABEL_BYTES`.
    """
    try:
        if not isinstance(blob, bytes):
            raise ValueError("not packed")
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(blob, _MOST_LABEL_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"more than {_MOST_LABEL_BYTES:,} bytes")
        labels = json.loads(text)
        if not isinstance(labels, list) or not all(map(_is_label, labels)):
            raise ValueError("not a list of names and categories")
    except (ValueError, zlib.error, RecursionError) as error:
        raise StorageError(
            f"the labels of a tagger in {display(STORE)} are damaged: {error}",
            hint="delete .dsk/store.sqlite*: only cached scores and undo are lost",
        ) from error
    return labels


def _trigger_words(text: object) -> list[str]:
    """Return the words that `insert_triggers` stored. Raises StorageError for anything else."""
    try:
        words = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise StorageError(
            f"the triggers of a folder in {display(STORE)} are damaged",
            hint="delete .dsk/store.sqlite*: only cached scores and undo are lost",
        )
    return words


def _is_label(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(part, str) for part in row)


def _refuse_foreign_journal(path: Path) -> None:
    """Raise InputError for a rollback journal that dsk cannot have left: sqlite deletes the file
    that its last bytes name.
    """
    journal = path.with_name(path.name + "-journal")
    with suppress(FileNotFoundError), open(journal, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_NAMES_A_FILE)))
        if file.read() == _NAMES_A_FILE:
            raise InputError(f"{display(journal)} was not written by dsk", hint="remove it")


def _size_time(path: Path) -> tuple[int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


@contextmanager
def _reading(root: Path) -> Iterator[sqlite3.Connection]:
    """Open the store of a project without changing anything on disk."""
    path = root / STORE
    for suffix in ("", "-wal", "-shm"):  # sqlite may write to the last two even here
        refuse_link(path.with_name(path.name + suffix))
    # Even a reader creates `-shm` and `-wal` files beside a database in WAL mode, unless it is
    # opened as immutable, which it is while no `-wal` file is there.
    in_use = path.with_name(path.name + "-wal").exists()
    mode = "mode=ro" if in_use else "immutable=1"
    with storage_errors(path):
        source = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=30)
        try:
            yield source
        finally:
            source.close()


def has_store(root: Path) -> bool:
    """Tell whether a project has a store that this user can read."""
    return os.access(root / PROJECT, os.R_OK | os.X_OK) and (root / STORE).is_file()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn sqlite's errors into StorageErrors that name the file and the next step."""
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
