"""The real calls of the system come in the right order: bytes are synced before a file gets its
name, names before the journal relies on them, the journal before anything of the user changes. And
where one of them fails, files are old or new, and the next command completes what was begun.
"""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import images
from tests.safety import system_calls
from tests.safety.system_calls import Call, faults, logged

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        sys.platform != "linux" or system_calls.COMPILER is None, reason="needs Linux and cc"
    ),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return system_calls.compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
def root(tmp_path):
    for image in images(tmp_path / "root" / "imgs", 3):
        image.with_suffix(".txt").write_text(f"sks, {image.stem}, solo\n")
    return tmp_path / "root"


def dsk(*arguments: str) -> list[str]:
    return ["-m", "datasetkit", *arguments]


ATOMIC = "from pathlib import Path; from datasetkit.core.files import write_atomic; "
ATOMIC += "write_atomic(Path('imgs/new.json'), b'{}' * 10_000)"
STATE = "from pathlib import Path; from trainer.files.saved_states import _write; "
STATE += (
    "_write(Path('imgs'), Path('imgs/x-state-00000001'), {'lora': b'x' * 10_000, 'state': b'{}'})"
)
COMMANDS = {
    "write": dsk("rules", "imgs", "--exclude", "solo"),
    "copy": dsk("layout", "2_sks=imgs"),
    "link": dsk("layout", "2_sks=imgs", "--link"),
    "move": dsk("rename", "imgs", "sks"),
    "export": dsk("export", "imgs"),
    "atomic": ["-c", ATOMIC],
    "training state": ["-c", STATE],
}
UNSYNCED = "import os; open('imgs/t', 'w').write('x'); os.replace('imgs/t', 'imgs/new')"


@pytest.mark.parametrize("name", COMMANDS)
def test_bytes_names_and_journal_are_synced_in_order(name, library, root):
    ended, calls = logged(library, root, COMMANDS[name])
    assert ended.returncode == 0, ended.stderr
    assert faults(calls) == []
    changes = [n for n, call in enumerate(calls) if call.name in ("rename", "link")]
    assert changes, "nothing was changed"
    if name not in (
        "atomic",
        "training state",
    ):  # the journal is on the disk before the first file changes
        begun = [n for n, c in enumerate(calls) if c.is_store and c.name == "fsync"]
        first = next(n for n in changes if ".dsk" not in calls[n].path.parts)
        assert begun and begun[0] < first


def test_a_name_before_the_bytes_is_found(library, root):
    _, calls = logged(library, root, ["-c", UNSYNCED])
    assert "before its bytes are synced" in faults(calls)[0]


def test_many_copies_are_synced_by_one_call(library, root):
    images(root / "many", 20)
    ended, calls = logged(library, root, dsk("layout", "2_sks=many"))
    assert ended.returncode == 0 and faults(calls) == []
    assert any(call.name == "syncfs" for call in calls)


def test_undo_syncs_as_well(library, root):
    for arguments in (dsk("rules", "imgs", "--exclude", "solo"), dsk("undo", "imgs")):
        ended, calls = logged(library, root, arguments)
        assert ended.returncode == 0 and faults(calls) == []
        assert any(call.name == "rename" for call in calls)


@pytest.mark.parametrize("failing", ["fsync", "write", "rename", "link"])
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_a_call_that_fails_leaves_old_or_new_files(failing, at, library, root):
    name = "link" if failing == "link" else "write"
    before = {path: path.read_bytes() for path in (root / "imgs").glob("*.*")}
    ended, calls = logged(library, root, COMMANDS[name], fail=f"{failing} {at}")
    if not any(call.failed for call in calls):
        pytest.skip(f"the command has fewer than {at} calls of {failing}")
    assert ended.returncode in (0, 13) and "Traceback" not in ended.stderr, ended.stderr
    after = {path: path.read_bytes() for path in before}
    assert all(after[p] in (before[p], before[p].replace(b", solo", b"")) for p in before)
    again, _ = logged(library, root, COMMANDS[name])
    assert again.returncode == 0, again.stderr
    if name == "write":
        assert not any(b", solo" in path.read_bytes() for path in (root / "imgs").glob("*.txt"))


def test_the_rules_of_the_log_find_what_they_are_for(tmp_path):
    temp, final = tmp_path / "a.tmp", tmp_path / "a"
    store = tmp_path / ".dsk" / "store.sqlite-wal"
    write, sync = Call("write", temp, None), Call("fsync", temp, None)
    rename, folder = Call("rename", temp, final), Call("fsync", tmp_path, None)
    assert faults([write, sync, rename, folder, Call("write", store, None)]) == []
    assert faults([write, rename, folder]) != []
    assert faults([sync, write, rename, folder]) != []
    assert faults([write, sync, rename]) != []
    assert faults([write, sync, rename, Call("write", store, None), folder]) != []
    assert faults([write, Call("syncfs", tmp_path, None), rename, folder]) == []
