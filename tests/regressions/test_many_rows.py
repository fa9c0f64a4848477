"""The store answers questions about more rows than a statement of SQLite takes at once."""

import os

from datasetkit.core.records import Caption
from datasetkit.project.journal import Journal
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.store import FileFacts, Store, caption_hash

ROWS = 2_100


def test_facts_of_many_files(tmp_path):
    info = os.stat(tmp_path)  # noqa: PTH116
    paths = [tmp_path / f"{n}.png" for n in range(ROWS)]
    with Store.open(tmp_path) as store:
        store.put_facts([(path, info, FileFacts("", n, 1)) for n, path in enumerate(paths)])
        facts = store.facts_of([*store.keys(paths), b"none.png"])
    assert len(facts) == ROWS
    assert [facts[b"%d.png" % n][1].width for n in (0, 900, ROWS - 1)] == [0, 900, ROWS - 1]


def test_many_captions_that_dsk_wrote(tmp_path):
    captions = [Caption((f"tag {n}",)) for n in range(ROWS)]
    with Store.open(tmp_path) as store:
        with store.transaction() as database:
            rows = ((caption_hash(caption),) for caption in captions[1:])
            database.executemany("INSERT INTO generated VALUES (?)", rows)
        assert store.generated([None, *captions]) == set(captions[1:])


def test_an_entry_of_many_operations_is_signed_and_undone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "imgs"
    folder.mkdir()
    number = 1_010  # more than are read at once
    plan = Plan(tuple(WriteText(folder / f"{n}.txt", "hat\n", None) for n in range(number)))
    with Store.open(folder) as store:
        journal = Journal(store)
        entry = journal.apply(plan, "rules")
        assert entry is not None and journal.is_signed(entry)
        assert len(journal.operations(entry)) == number
        journal.undo()
    assert not list(folder.glob("*.txt"))
