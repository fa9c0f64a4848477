"""Very many records and paths in little memory, as if they were a tuple."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from datasetkit.core import packed
from datasetkit.core.packed import PackedList
from datasetkit.core.path_list import EVERY_PATH, PathList, PathSet, folders_of
from datasetkit.core.records import Caption, Done, ImageRecord
from datasetkit.project.plans import Link, Plan, WriteText


@pytest.fixture
def small_packs(monkeypatch):
    monkeypatch.setattr(packed, "_AT_ONCE", 4)
    monkeypatch.setattr(packed, "_PACKS_AT_FIRST", 1)


def record(n):
    caption = Caption(("sks", f"tag {n}"), ((1, " ||| "),), source=f"sks ||| tag {n}")
    return ImageRecord(Path(f"set/{n}\udcff.jpg"), f"{n:016x}", 64, n, caption, b"sks\xff")


@pytest.mark.parametrize("number", [0, 1, 4, 5, 8, 23])
def test_a_packed_sequence_is_like_a_tuple(small_packs, number):
    items = tuple(Done(record(n), record(n).caption) for n in range(number))
    sequence = PackedList(items)
    assert len(sequence) == number and bool(sequence) == bool(items)
    assert sequence == items and items == sequence and tuple(sequence) == items
    assert sequence == PackedList(items) and hash(sequence) == hash(items)
    assert sequence != (*items, 1)
    assert number < 2 or sequence != items[1:] + items[:1]
    assert [sequence[n] for n in range(-number, number)] == [*items, *items]
    for part in (slice(2, 9), slice(None, None, 3), slice(None, None, -1), slice(3, 1)):
        assert tuple(sequence[part]) == items[part]
    assert tuple(reversed(sequence)) == items[::-1]
    with pytest.raises(IndexError):
        sequence[number]


def test_all_that_a_record_holds_comes_back(small_packs):
    mine = next(iter(PackedList([record(7)] * 9)))
    assert mine.caption.source == record(7).caption.source
    assert mine.caption.marks == record(7).caption.marks and mine.caption_data == b"sks\xff"


def test_two_loops_over_a_packed_sequence_do_not_disturb_each_other(small_packs):
    sequence = PackedList(range(30))
    assert [(a, b) for a in sequence for b in sequence if a == b] == [(n, n) for n in range(30)]
    assert list(zip(sequence, reversed(sequence), strict=True))[3] == (3, 26)


def test_an_item_that_is_added_later_comes_last(small_packs):
    sequence = PackedList("abcdefg")
    sequence.append("h")
    sequence.extend("ij")
    assert "".join(sequence) == "abcdefghij"


@pytest.mark.parametrize("number", [11, 12, 13, 16, 17, 29])
def test_the_first_packs_are_made_when_there_is_enough_for_several(monkeypatch, number):
    monkeypatch.setattr(packed, "_AT_ONCE", 4)
    monkeypatch.setattr(packed, "_PACKS_AT_FIRST", 3)
    sequence = PackedList(range(number))
    # All but the last one to four items, once there were more than twelve.
    assert len(sequence._packs) == (0 if number <= 12 else (number - 1) // 4)
    assert len(sequence) == number and list(sequence) == list(range(number))
    assert [sequence[n] for n in range(-number, number)] == [*range(number), *range(number)]


@pytest.mark.long
def test_records_of_images_take_less_memory(monkeypatch):
    monkeypatch.setattr(packed, "_AT_ONCE", 1024)
    monkeypatch.setattr(packed, "_PACKS_AT_FIRST", 1)

    def bytes_each(kind):
        kind(captioned(n) for n in range(1100))  # what is made once
        tracemalloc.start()
        items = kind(captioned(n) for n in range(4096))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(items) == 4096
        return taken / 4096

    assert bytes_each(PackedList) < bytes_each(tuple) / 2  # the last quarter is not packed


def captioned(n):
    tags = tuple(f"tag number {(n * 31 + k * 7) % 2000}" for k in range(20))
    text = ", ".join(tags)
    return ImageRecord(Path(f"set/{n:07}.jpg"), f"{n:016x}", 64, 64, Caption(tags), text.encode())


def test_a_plan_joins_another_one_in_order(small_packs):
    first = [Link(Path(f"{n}"), Path(f"to {n}")) for n in range(6)]
    second = [WriteText(Path(f"{n}.txt"), f"{n}", None) for n in range(7)]
    assert (Plan.of(first) + Plan.of(second)).ops == (*first, *second)
    assert (Plan() + Plan.of(second)).ops == tuple(second) and not Plan() + Plan()
    assert Plan.of(first) == Plan(tuple(first))


@pytest.mark.parametrize("texts", [[], ["a/1.jpg"], ["a/1.jpg", "a/2.jpg", "b/1.jpg", "a/3.jpg"]])
def test_a_list_of_paths_is_like_a_tuple(texts):
    paths = tuple(map(Path, texts))
    listed = PathList(paths)
    assert listed == paths and paths == listed and hash(listed) == hash(paths)
    assert [listed[n] for n in range(-len(paths), len(paths))] == [*paths, *paths]
    assert tuple(listed[1:3]) == paths[1:3] and tuple(listed[::-1]) == paths[::-1]
    assert listed != (*paths, Path("c")) and Path("c") not in listed


def test_a_set_of_paths_has_what_was_added():
    paths = PathSet([Path("a/1.jpg")])
    paths.add(Path("a/2.jpg"))
    assert Path("a/1.jpg") in paths and Path("a/2.jpg") in paths and Path("2.jpg") not in paths
    assert len(paths) == 2 and Path("anything") in EVERY_PATH


def test_the_paths_of_a_folder_are_one_group_however_they_were_made():
    paths = [Path("set") / f"{n}.jpg" for n in range(3)]
    paths += [Path("other/1.jpg"), Path("set/9.jpg"), Path("here.jpg")]
    made = PathList(Path(str(path)) for path in paths)
    assert tuple(made) == tuple(paths)
    names = [(str(folder), list(names)) for folder, names in made.by_folder()]
    assert names == [("set", ["0.jpg", "1.jpg", "2.jpg"]), ("other", ["1.jpg"]), ("set", ["9.jpg"]),
                     (".", ["here.jpg"])]  # fmt: skip
    assert folders_of(paths) == [Path("set"), Path("other"), Path()]


@pytest.mark.parametrize(
    "text", ["/", ".", "a", "/a", "a/..", "../b", "/a/b.jpg", "a/b/c d.txt", "/a/b/", "x/é\udc80"]
)
def test_packed_paths_are_the_same_paths(small_packs, text):
    """A path is packed as its folder and its name: also of one that is packed as a folder too."""
    path = Path(text)
    paths = [path, path.parent, path / "child", path, path.parent]
    unpacked = list(PackedList(paths * 3))
    assert unpacked == paths * 3
    for mine, theirs in zip(unpacked, paths * 3, strict=True):
        assert (str(mine), mine.parts, mine.name, mine.parent, hash(mine)) == (
            str(theirs), theirs.parts, theirs.name, theirs.parent, hash(theirs),
        )  # fmt: skip
        assert mine / "x" == theirs / "x"
