"""A command that had nothing to do reads no caption and no image in its next run, as long as
nothing has changed; any change is seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.core.records import LazyItems
from datasetkit.images import folder_state
from datasetkit.images.folder_state import FolderState, state_of_folders
from datasetkit.project.session import RunContext
from datasetkit.project.store import Store
from datasetkit.verbs.shared import kept_results
from datasetkit.verbs.shared.packing import pack, unpack
from tests.benchmarks import scale

IMAGES = 12
VERBS: dict[str, Callable[..., Any]] = {
    "rules": lambda folder, **_: api.rules(
        folder, api.RulesOptions(additional=("best quality",), exclude=("zebra",))
    ),
    "report": lambda folder, **_: api.report(folder, api.ReportOptions(plot=False)),
    "check": lambda folder, **_: api.check(folder, api.CheckOptions(skip=scale._OF_PIXELS)),
    "layout": lambda folder, **_: api.layout(
        (f"2_x={folder}",), api.LayoutOptions(out=f"{folder}-out")
    ),
    "resize": lambda folder, **_: api.resize(
        folder, folder.with_name("small"), api.ResizeOptions(max=48)
    ),
    "tag": lambda folder, **_: scale._tag(folder),
}
every_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of images with captions, which is older than a tick of the clock."""
    monkeypatch.chdir(tmp_path)
    scale.make(tmp_path / "imgs", IMAGES)
    settle()
    return tmp_path / "imgs"


def settle():
    time.sleep(folder_state._TICKS_NS / 1e9 + 0.02)


def settled(verb, folder):
    """Run a verb until it has nothing to do and has kept that; return its result then."""
    for _ in range(3):
        settle()
        result = VERBS[verb](folder)
    return result


@pytest.fixture
def kept(monkeypatch):
    """Whether each run used a kept result."""
    used = []
    real = kept_results.RunInputs.kept

    def spied(self, kind):
        result = real(self, kind)
        used.append(result is not None)
        return result

    monkeypatch.setattr(kept_results.RunInputs, "kept", spied)
    return used


def edit_unseen(path):
    """Change a byte of a file; its size and its time of modification stay."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[-3:-1] = b"qz"
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert path.stat().st_size == info.st_size
    assert path.stat().st_mtime_ns == info.st_mtime_ns


@every_verb
def test_a_run_with_nothing_to_do_is_kept(verb, folder, kept):
    settled(verb, folder)
    assert kept[-1]


@every_verb
def test_an_edit_of_one_caption_is_seen(verb, folder, kept):
    settled(verb, folder)
    edit_unseen(folder / "0000007.txt")
    VERBS[verb](folder)
    assert not kept[-1]


def state(folder, *, recursive=False, without=None) -> FolderState:
    found = state_of_folders([(folder, recursive)], without=without)
    assert found is not None
    return found


def other_times(path):
    os.utime(path, ns=(5, 5))


def rename(path):
    path.rename(path.with_name("other.jpg"))


def add(path):
    path.with_name("new.jpg").write_bytes(path.read_bytes())


def replace(path):
    """Put a file with the same bytes and times in the place of another one."""
    info = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(info.st_atime_ns, info.st_mtime_ns))
    new.replace(path)


def forbid(path):
    path.chmod(0o600)


@pytest.mark.parametrize(
    "change", [edit_unseen, other_times, rename, add, replace, forbid, Path.unlink]
)
@pytest.mark.parametrize("recursive", [False, True])
def test_every_change_of_a_file_is_another_state(change, recursive, folder):
    (folder / "below" / "deep").mkdir(parents=True)
    image = folder / "0000007.jpg"
    if recursive:
        image = image.rename(folder / "below" / "deep" / image.name)
    before = state(folder, recursive=recursive)
    assert state(folder, recursive=recursive).digest == before.digest
    change(image)
    assert state(folder, recursive=recursive).digest != before.digest


def test_a_change_of_a_linked_file_is_another_state(folder, tmp_path):
    linked = tmp_path / "linked.txt"
    linked.write_text("sks, hat\n")
    (folder / "more.txt").symlink_to(linked)
    before = state(folder)
    edit_unseen(linked)
    assert state(folder).digest != before.digest


def test_what_a_project_below_recorded_is_another_state(folder):
    scale.make(folder / "below", 1)
    VERBS["rules"](folder / "below")
    before = state(folder, recursive=True)
    api.undo(folder / "below")
    assert state(folder, recursive=True).digest != before.digest


def test_the_folder_that_a_command_writes_is_left_out(folder):
    out = folder / "report"
    out.mkdir()
    before = state(folder, recursive=True, without=out)
    (out / "tags.csv").write_text("1")
    assert state(folder, recursive=True, without=out).digest == before.digest


@every_verb
def test_what_dsk_toml_says_counts(verb, folder, kept):
    (folder / "dsk.toml").write_text("[train]\nresolution = 512\n")
    settled(verb, folder)
    assert kept[-1]
    (folder / "dsk.toml").write_text("[train]\nresolution = 768\n")
    VERBS[verb](folder)
    assert not kept[-1]


@pytest.mark.parametrize(
    ("verb", "written"),
    [
        ("report", "imgs/report/tags.csv"),
        ("layout", "imgs-out/train/2_x/0000003.txt"),
        ("layout", "imgs-out/train/2_x/0000003.jpg"),
        ("resize", "small/0000003.jpg"),
    ],
)
@pytest.mark.parametrize("change", [edit_unseen, Path.unlink])
def test_a_change_of_what_a_command_wrote_is_seen(verb, written, change, folder, kept, tmp_path):
    settled(verb, folder)
    assert kept[-1]
    change(tmp_path / written)
    VERBS[verb](folder)
    assert not kept[-1]


def test_a_command_that_changes_the_history_is_seen(folder, kept):
    settled("rules", folder)
    api.undo(folder)
    result = VERBS["rules"](folder)
    assert not kept[-1] and len(result.changes) == IMAGES


def test_other_options_are_another_run(folder, kept):
    settled("rules", folder)
    api.rules(folder, api.RulesOptions(exclude=("zebra",)))
    assert not kept[-1]


def test_a_subfolder_with_images_is_seen(folder, kept):
    settled("rules", folder)
    scale.make(folder / "more", 1)
    result = VERBS["rules"](folder)
    assert [item.kind for item in result.report.unused_files] == ["subfolder"]


def test_the_mask_of_an_image_is_seen(folder, kept):
    settled("layout", folder)
    (folder / "masks").mkdir()
    image = folder / "0000003.jpg"
    (folder / "masks" / "0000003.png").write_bytes(image.read_bytes())
    result = VERBS["layout"](folder)
    assert not kept[-1] and result.changes


def test_the_result_of_files_that_were_just_changed_is_not_kept(folder, kept):
    settled("rules", folder)
    later = time.time_ns() + 10**12  # as if it was changed after the folder was listed
    os.utime(folder / "0000003.txt", ns=(later, later))
    for _ in range(3):
        VERBS["rules"](folder)
    assert not any(kept[-3:])


def test_nothing_is_kept_where_the_file_system_has_no_time_of_change(folder, monkeypatch):
    listed = state(folder)
    (folder / ".dsk").mkdir()
    assert listed.is_settled(folder)
    monkeypatch.setattr(folder_state, "_COARSE_NS", 1)  # every time is a whole one
    assert not listed.is_settled(folder)


def test_the_outcomes_of_a_kept_result_are_those_of_a_run(folder, kept):
    settle()
    VERBS["rules"](folder)
    settle()
    full = VERBS["rules"](folder)
    lazy = VERBS["rules"](folder)
    assert not kept[-2] and kept[-1]
    assert isinstance(lazy.report.outcomes, LazyItems)
    assert len(lazy.report.outcomes) == IMAGES
    assert lazy.report.counts == full.report.counts
    assert lazy.report.outcomes == full.report.outcomes
    assert (lazy.hits, lazy.warnings) == (full.hits, full.warnings)


@every_verb
def test_a_kept_result_says_what_the_run_said(verb, folder, kept):
    settled(verb, folder)
    kept_result = VERBS[verb](folder)
    assert kept[-1]
    in_folder = verb in ("rules", "report", "check", "tag")
    with Store.open(folder if in_folder else root(verb)) as store, store.transaction():
        pass  # it forgets all results
    assert VERBS[verb](folder) == kept_result
    assert not kept[-1]


def root(verb):
    return Path("imgs-out" if verb == "layout" else "small")


def test_a_damaged_result_is_not_used(folder, kept):
    settled("rules", folder)
    with Store.open(folder) as store:
        store.database.execute("UPDATE kept_results SET result = x'5b315d'")
    result = VERBS["rules"](folder)
    assert not kept[-1] and result.report.counts.done == IMAGES


def test_a_dry_run_keeps_nothing(folder, kept):
    settle()
    options = api.RulesOptions(exclude=("zebra",))
    for _ in range(2):
        api.rules(folder, options, RunContext(dry_run=True))
    assert not any(kept)
    assert not (folder / ".dsk").exists()


def test_what_is_packed_is_the_same_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale.make(tmp_path / "imgs", 3)
    result = VERBS["report"](tmp_path / "imgs")
    assert unpack(type(result), pack(result)) == result
    for damaged in (b"[1]", b"{}", b"", pack(result).replace(b'["', b"[1,", 1)):
        with pytest.raises(ValueError):
            unpack(type(result), damaged)


@pytest.mark.slow
def test_one_of_ten_thousand_captions_is_seen(tmp_path, kept, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "imgs"
    scale.make(folder, 10_000)
    settled("rules", folder)
    assert kept[-1]
    (folder / "0004321.txt").write_text("sks, zebra, hat\n")
    result = VERBS["rules"](folder)
    assert [change.path.name for change in result.changes] == ["0004321.jpg"]


@pytest.mark.parametrize("verb", ["report", "check"])
def test_the_base_model_that_counts_tokens_is_seen(verb, folder, kept, tmp_path):
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"one")
    (folder / "dsk.toml").write_text(f"[train]\npretrained_model_name_or_path = '{base}'\n")
    settled(verb, folder)
    base.write_bytes(b"two")
    VERBS[verb](folder)
    assert not kept[-1]
