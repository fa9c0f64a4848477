"""What the batch executor promises: input order, one broken image costs itself, bounded memory, a
clean stop.
"""

from __future__ import annotations

import os
import pickle
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import DskError, InputError, ModelFileError, StorageError
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome
from datasetkit.executors import batches


def records(count: int) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{n}.png"), f"{n:016x}", n, 1) for n in range(count)]


@dataclass
class Bench:
    """A stage and its worker in one, that writes down what happens to it. width of a record = its
    number.
    """

    batch_size: int = 3
    name: str = "bench"
    broken: dict[int, Exception] = field(default_factory=dict)
    delay: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    prepared: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator[Bench]:
        self.events.append("open")
        try:
            yield self
        finally:
            self.events.append("close")

    def prepare(self, record: ImageRecord) -> object:
        with self.lock:
            self.alive += 1
            self.prepared += 1
            self.most_alive = max(self.most_alive, self.alive)
        time.sleep(random.Random(record.width).random() * self.delay)
        if record.width in self.broken:
            with self.lock:
                self.alive -= 1
            raise self.broken[record.width]
        return record.width * 10

    def process(self, batch: Sequence[tuple[ImageRecord, object]]) -> Sequence[Outcome[object]]:
        assert all(prepared == record.width * 10 for record, prepared in batch)
        self.batches.append([record.width for record, _ in batch])
        with self.lock:
            self.alive -= len(batch)
        return [Done(record, prepared) for record, prepared in batch]


class Counter:
    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def start(self, label: str, total: int) -> None:
        self.calls.append(("start", label, total))

    def advance(self, n: int = 1) -> None:
        self.calls.append(("advance", n))

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def phase(self, name: str) -> None:
        raise AssertionError(name)

    def finish(self) -> None:
        self.calls.append(("finish",))

    def warn(self, message: str) -> None:
        raise AssertionError(message)


def number(outcome: Outcome[object]) -> int:
    path = outcome.path if isinstance(outcome, Failed) else outcome.record.path
    return int(path.stem)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 30),
    broken=st.sets(st.integers(0, 29)),
    batch_size=st.integers(1, 7),
    workers=st.integers(1, 5),
)
def test_one_outcome_a_image_in_input_order(count, broken, batch_size, workers):
    stage = Bench(batch_size, broken={n: InputError("broken") for n in broken}, delay=0.002)
    outcomes = list(batches.run(stage, records(count), workers=workers))
    assert [number(o) for o in outcomes] == list(range(count))
    assert {number(o) for o in outcomes if isinstance(o, Failed)} == {
        n for n in broken if n < count
    }
    good = [n for n in range(count) if n not in broken]
    assert [n for batch in stage.batches for n in batch] == good
    assert [len(b) for b in stage.batches[:-1]] == [batch_size] * (len(stage.batches) - 1)


def test_a_failed_image_keeps_its_message_and_hint():
    stage = Bench(broken={1: InputError("is empty", hint="remove it"), 2: MemoryError()})
    outcomes = list(batches.run(stage, records(4)))
    assert outcomes[1] == Failed(Path("1.png"), "is empty", "remove it")
    assert isinstance(outcomes[2], Failed)
    assert "memory" in outcomes[2].error
    assert [type(outcomes[n]) for n in (0, 3)] == [Done, Done]


@pytest.mark.parametrize(
    "error", [StorageError("disk full"), ModelFileError("damaged"), KeyError("bug")]
)
def test_what_is_not_the_images_fault_stops_the_run(error):
    stage = Bench(broken={5: error}, batch_size=1)
    got: list[Outcome[object]] = []
    with pytest.raises(type(error)):
        got.extend(batches.run(stage, records(1000), workers=2))
    assert stage.prepared < 20
    assert stage.events == ["open", "close"]


def test_an_error_of_the_setup_comes_before_any_image():
    class Missing(Bench):
        def open(self):
            raise ModelFileError("not there")

    stage = Missing()
    with pytest.raises(DskError, match="not there"):
        next(batches.run(stage, records(3)))
    assert stage.prepared == 0


def test_an_error_of_a_batch_stops_the_run():
    class Torn(Bench):
        def process(self, batch):
            raise ZeroDivisionError

    stage = Torn()
    with pytest.raises(ZeroDivisionError):
        list(batches.run(stage, records(100), workers=1))
    assert stage.prepared < 20


def test_a_worker_that_loses_an_outcome_is_found_out():
    class Lossy(Bench):
        def process(self, batch):
            return super().process(batch)[1:]

    with pytest.raises(RuntimeError, match="2 outcomes for 3"):
        list(batches.run(Lossy(), records(5)))


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 4), (4, 1)])
def test_no_more_images_are_in_memory_than_the_window(workers, batch_size):
    stage = Bench(batch_size)
    for _ in batches.run(stage, records(200), workers=workers):
        time.sleep(0.0005)  # a slow reader must not let the threads run ahead
    assert stage.prepared == 200
    assert stage.most_alive <= 2 * workers + 2 * batch_size


@pytest.mark.parametrize("batch_size", [1, 4])
def test_in_turns_nothing_is_prepared_while_the_model_works(batch_size):
    class Alone(Bench):
        preparing = 0

        def prepare(self, record):
            with self.lock:
                self.preparing += 1
            time.sleep(0.001)
            try:
                return super().prepare(record)
            finally:
                with self.lock:
                    self.preparing -= 1

        def process(self, batch):
            before = self.prepared
            time.sleep(0.002)
            assert (self.preparing, self.prepared) == (0, before)
            return super().process(batch)

    stage, cores = Alone(batch_size), os.cpu_count() or 1
    with stage.open() as worker:
        done = list(batches.work(worker, stage, records(60), workers=cores, in_turns=True))
    assert [number(outcome) for outcome in done] == list(range(60))
    assert cores < stage.most_alive <= 4 * cores + 2 * batch_size


def test_fewer_workers_than_cores_stay_beside_the_model(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    ahead = []

    class Slow(Bench):
        def process(self, batch):
            time.sleep(0.01)
            ahead.append(self.prepared - batch[0][0].width)
            return super().process(batch)

    stage = Slow(batch_size=1)
    with stage.open() as worker:
        assert len(list(batches.work(worker, stage, records(30), workers=3, in_turns=True))) == 30
    assert min(ahead[5:20]) > 3, "the window is full again after each image"


def test_images_are_prepared_side_by_side():
    meeting = threading.Barrier(3, timeout=10)

    class Together(Bench):
        def prepare(self, record):
            meeting.wait()  # breaks unless three are in hand at once
            return super().prepare(record)

    assert len(list(batches.run(Together(), records(6), workers=3))) == 6


def test_outcomes_come_while_the_work_goes_on():
    stage = Bench(batch_size=2)
    running = batches.run(stage, records(100), workers=1)
    next(running)
    assert stage.prepared < 20
    running.close()


def test_closing_early_drops_what_has_not_begun_and_closes_the_stage():
    stage, reporter = Bench(batch_size=1, delay=0.01), Counter()
    running = batches.run(stage, records(1000), workers=2, reporter=reporter)
    next(running)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 2
    assert stage.prepared < 20
    assert stage.events == ["open", "close"]
    assert reporter.calls[-1] == ("finish",)
    assert not [t for t in threading.enumerate() if t.name.startswith("dsk-bench")]


def test_ctrl_c_closes_the_stage_and_passes_on():
    class Interrupted(Bench):
        def process(self, batch):
            if self.batches:
                raise KeyboardInterrupt
            return super().process(batch)

    stage = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        list(batches.run(stage, records(500), workers=2))
    assert stage.prepared < 30
    assert stage.events == ["open", "close"]


def test_progress_counts_every_image_failed_ones_too():
    reporter = Counter()
    list(batches.run(Bench(broken={2: InputError("broken")}), records(7), reporter=reporter))
    assert reporter.calls == [("start", "bench", 7), *[("advance", 1)] * 7, ("finish",)]


def test_nothing_is_opened_without_images():
    stage = Bench()
    assert list(batches.run(stage, [])) == []
    assert stage.events == []


def test_an_open_worker_can_be_used_for_several_lists():
    stage = Bench()
    with batches.opened(stage) as worker:
        first = list(batches.work(worker, stage, records(2)))
        second = list(batches.work(worker, stage, records(3)))
    assert (len(first), len(second), stage.events) == (2, 3, ["open", "close"])


def test_outcomes_travel_between_processes():
    failed = Failed(Path("a.png"), "broken", "remove it")
    assert pickle.loads(pickle.dumps(failed)) == failed
