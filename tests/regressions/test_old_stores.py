"""A store that an earlier version wrote is brought up to date with all that is in it."""

import sqlite3

import pytest

from datasetkit.captions.caption import parse
from datasetkit.project.journal import Journal
from datasetkit.project.store import SCHEMA_VERSION, Store, caption_hash
from tests.old_stores import make_store

ROWS = """
INSERT INTO written VALUES ('{hash}');
INSERT INTO made VALUES (x'6f75742f612e706e67', 's', 'resize-1', x'612e706e67', 7, 9);
INSERT INTO journal (verb, title, started, state, phase) VALUES ('rules', 'imgs', 5.0, 'done', '');
INSERT INTO ops VALUES (1, 0, 'write', NULL, x'612e747874', NULL, x'78', 'the stamp', NULL);
"""


def tables(store):
    rows = store.database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_store_of_an_earlier_version_keeps_its_rows(version, tmp_path):
    caption = parse("sks, hat")
    database = sqlite3.connect(make_store(tmp_path, version))
    fingerprints, measurements = (
        ("fingerprints", "measurements") if version >= 7 else ("looks", "measures")
    )
    rows = ROWS.format(hash=caption_hash(caption))
    if version >= 7:
        rows = rows.replace("INTO written", "INTO generated").replace("INTO made", "INTO outputs")
    database.executescript(rows)
    if version >= 2:
        database.execute(f"INSERT INTO {fingerprints} VALUES ('f', x'01')")
    if version >= 3:
        database.execute(f"INSERT INTO {measurements} VALUES ('i', 'r', x'02')")
    database.commit()
    database.close()
    with Store.open_copy(tmp_path) as copy, Store.open(tmp_path) as store:
        for each in (copy, store):
            assert each.generated([caption]) == {caption}
            (output,) = each.stored_outputs()
            assert (output.output.recipe, output.size, output.mtime_ns) == ("resize-1", 7, 9)
            (operation,) = Journal(each).operations(1)
            assert (operation.after, operation.stamp) == (b"x", "the stamp")
            assert each.fingerprints() == ({"f": b"\x01"} if version >= 2 else {})
            assert each.measurements("r") == ({"i": b"\x02"} if version >= 3 else {})


def test_the_tables_have_the_names_of_the_code(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    make_store(tmp_path / "old", 1)
    with Store.open(tmp_path / "old") as old, Store.open(tmp_path / "new") as new:
        assert tables(old) == tables(new)
        assert {"outputs", "generated", "fingerprints", "measurements"} <= tables(new)
        assert not {"made", "written", "looks", "measures"} & tables(new)
