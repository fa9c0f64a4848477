"""What `local.each` promises: input order, one broken image costs itself, bounded memory, a clean
stop.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import InputError, ModelFileError, StorageError
from datasetkit.core.records import Failed, ImageRecord
from datasetkit.executors import local
from tests.executors.test_batches import Counter, records


@dataclass
class Work:
    """A function over images that counts its calls; the width of a record is its number."""

    broken: dict[int, Exception] = field(default_factory=dict)
    delay: float = 0.0
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, record: ImageRecord) -> int:
        with self.lock:
            self.calls += 1
        time.sleep(random.Random(record.width).random() * self.delay)
        if record.width in self.broken:
            raise self.broken[record.width]
        return record.width


def run(work, count, **options):
    return local.each(work, records(count), name="work", **options)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.sets(st.integers(0, 29)), st.integers(1, 5))
def test_results_come_in_input_order_and_failures_in_their_place(count, broken, workers):
    work = Work({n: InputError("is empty", hint="remove it") for n in broken}, delay=0.002)
    assert list(run(work, count, workers=workers)) == [
        Failed(Path(f"{n}.png"), "is empty", "remove it") if n in broken else n
        for n in range(count)
    ]


def test_an_image_that_does_not_fit_in_memory_costs_itself():
    first, second, third = run(Work({1: MemoryError()}), 3)
    assert (first, third) == (0, 2)
    assert isinstance(second, Failed) and "memory" in second.error


def test_paths_are_items_too():
    def name(path: Path) -> str:
        if path.name == "b":
            raise InputError("broken")
        return path.name

    items = [Path("a"), Path("b")]
    assert list(local.each(name, items, name="work")) == ["a", Failed(Path("b"), "broken")]


@pytest.mark.parametrize(
    "error", [StorageError("disk full"), ModelFileError("damaged"), KeyError("bug")]
)
def test_an_error_of_the_set_up_stops_the_run(error):
    work = Work({5: error})
    with pytest.raises(type(error)):
        list(run(work, 1000, workers=2))
    assert work.calls < 20


def test_no_more_results_wait_than_the_window():
    work = Work()
    running = run(work, 300, workers=2)
    for n in range(300):
        next(running)
        time.sleep(0.0005)  # a slow reader must not let the threads run ahead
        assert work.calls <= n + 1 + 3 * 2


def test_images_are_worked_on_side_by_side():
    meeting = threading.Barrier(3, timeout=10)

    def meet(record: ImageRecord) -> int:
        return meeting.wait()  # breaks unless three are in hand at once

    assert len(list(run(meet, 6, workers=3))) == 6


def test_closing_early_drops_the_images_that_have_not_begun():
    work, reporter = Work(delay=0.01), Counter()
    running = run(work, 1000, workers=2, reporter=reporter)
    next(running)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 2
    assert work.calls < 20
    assert reporter.calls[-1] == ("finish",)
    assert not [t for t in threading.enumerate() if t.name.startswith("dsk-work")]


def test_ctrl_c_stops_the_threads_and_passes_on():
    work = Work({3: KeyboardInterrupt()})  # type: ignore[dict-item]
    with pytest.raises(KeyboardInterrupt):
        list(run(work, 500, workers=2))
    assert work.calls < 30


def test_progress_counts_every_image_failed_ones_too():
    reporter = Counter()
    list(run(Work({2: InputError("broken")}), 7, reporter=reporter))
    assert reporter.calls == [("start", "work", 7), *[("advance", 1)] * 7, ("finish",)]


def test_no_images_are_no_work():
    reporter = Counter()
    assert list(run(Work(), 0, reporter=reporter)) == [] and reporter.calls == []
