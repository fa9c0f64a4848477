"""What goes where, how many wait, what is sent again and in which order results come back: the
driver on a Ray of this process, in which each worker dies when the test says so.
"""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.executors import ray_driver
from datasetkit.executors.ray_driver import AHEAD, IN_FLIGHT, LOSSES, Batch, RaySettings, plan_slots


def node(name: str, cpus: float, gpus: float = 0.0, alive: bool = True) -> Mapping[str, Any]:
    resources = {"CPU": cpus, "GPU": gpus}
    return {
        "NodeID": name, "NodeManagerAddress": name, "Alive": alive, "Resources": resources,
    }  # fmt: skip


def settings_of(actors: int = 0, cpus: float = 0.0, gpus: float = 0.0) -> RaySettings:
    return RaySettings("local", "", actors, cpus, gpus)


@pytest.mark.parametrize(
    ("nodes", "asked", "slots"),
    [
        ([("a", 8, 0), ("b", 4, 0)], settings_of(), [("a", 8), ("b", 4)]),
        ([("head", 0, 0), ("a", 2, 0)], settings_of(), [("a", 2)]),
        ([("a", 8, 0), ("b", 4, 0)], settings_of(cpus=4), [("a", 4), ("b", 4), ("a", 4)]),
        ([("a", 8, 2)], settings_of(gpus=0.5), [("a", 2)] * 4),
        ([("a", 8, 2)], settings_of(gpus=0.4), [("a", 2)] * 4),
        ([("a", 8, 2)], settings_of(gpus=0.75), [("a", 4)] * 2),
        ([("a", 8, 8)], settings_of(gpus=3), [("a", 4)] * 2),
        ([("a", 6, 2)], settings_of(gpus=1 / 3), [("a", 1)] * 6),
        ([("a", 2, 0)], settings_of(actors=3), [("a", 0.6666)] * 3),
        ([("a", 8, 2), ("b", 8, 0)], settings_of(gpus=1), [("a", 4)] * 2),
        ([("a", 8, 1)], settings_of(gpus=0.25, cpus=4), [("a", 4)] * 2),
        ([("a", 2, 0), ("b", 2, 0)], settings_of(actors=3), [("a", 1), ("b", 2), ("a", 1)]),
        ([("a", 2, 0)], settings_of(actors=4), [("a", 0.5)] * 4),
        ([("a", 2, 0)], settings_of(cpus=4), []),
        ([("a", 2, 0)], settings_of(gpus=1), []),
    ],
)
def test_actors_go_where_there_is_room(nodes, asked, slots):
    planned = plan_slots([node(*each) for each in nodes], asked)
    assert [(slot.node, slot.cpus) for slot in planned] == slots


@pytest.mark.parametrize(
    ("nodes", "asked", "said", "hint"),
    [
        ([], settings_of(), "no nodes with CPUs", "ray start --address"),
        ([("head", 0, 0)], settings_of(), "no nodes with CPUs", "ray start --address"),
        ([("head", 0, 0), ("a", 2, 1)], settings_of(cpus=4), "have 2 CPUs and 1 GPUs", "--cpus"),
        ([("a", 2, 0), ("b", 8, 0)], settings_of(gpus=1), "8 CPUs and 0 GPUs; 2 CPUs", "--gpus"),
    ],
)
def test_without_room_for_a_worker_the_run_ends_when_the_nodes_are_compared(
    nodes, asked, said, hint
):
    """Before anything is changed, and not when the workers are started."""

    class Nodes(Ray):
        def nodes(self) -> list[Mapping[str, Any]]:
            return [node(*each) for each in nodes]

    driver = Driver(Nodes(None, 0, ()), 0)
    driver._settings = asked
    with pytest.raises(ray_driver.ClusterProblem, match=said) as refused:
        driver.look(b"", [])
    assert hint in refused.value.hint


def test_no_actor_goes_to_a_dead_node():
    assert plan_slots([node("a", 8, alive=False)], settings_of()) == []


class _Died(Exception):
    pass


class Ray:
    """Ray of one process: a call is done when `wait` is asked, or its actor is dead."""

    class exceptions:  # noqa: N801
        RayError = _Died
        RayTaskError = ZeroDivisionError

    def __init__(self, dies: random.Random | None, rate: float, deadly: Sequence[bytes]) -> None:
        self._dies, self._rate, self._deadly = dies, rate, deadly
        self._deaths: dict[bytes, int] = {}
        self.most_in_flight = 0
        self.runs: dict[bytes, int] = {}

    def kill(self, actor: Actor) -> None:
        actor.is_dead = True

    def wait(self, refs: list[Call], num_returns: int, timeout: float) -> Any:
        actors = {id(ref.actor): ref.actor for ref in refs}
        for actor in actors.values():
            self.most_in_flight = max(self.most_in_flight, sum(ref.actor is actor for ref in refs))
        return refs[:1], refs[1:]

    def get(self, ref: Call) -> Any:
        first = ref.batch[0]
        at_random = (
            self._dies is not None
            and self._dies.random() < self._rate
            and self._deaths.get(first, 0) < LOSSES - 1  # more often, and it is the items' fault
        )
        self._deaths[first] = self._deaths.get(first, 0) + at_random
        if ref.actor.is_dead or at_random or set(ref.batch) & set(self._deadly):
            ref.actor.is_dead = True
            raise _Died
        for item in ref.batch:
            self.runs[item] = self.runs.get(item, 0) + 1
        return [b"done " + item for item in ref.batch]


class Call:
    def __init__(self, actor: Actor, batch: list[bytes]) -> None:
        self.actor, self.batch = actor, batch


class Actor:
    is_dead = False

    def __init__(self) -> None:
        self.run = self

    def remote(self, batch: list[bytes]) -> Call:
        return Call(self, batch)


class Driver(ray_driver.Driver):
    """A driver whose actors are at once ready, and are replaced at once."""

    def __init__(self, ray: Ray, workers: int) -> None:
        self.ray = ray
        self.sent: list[tuple[Any, ...]] = []
        self._slots = [ray_driver.Slot(str(n), str(n), 1, 0) for n in range(workers)]

    def answer(self, *message: Any) -> None:
        self.sent.append(message)

    def keep_open(self, timeout: float) -> Any:
        for slot in self._slots:
            slot.actor = slot.actor or Actor()
        return ()


def run(ray: Ray, workers: int, batches: Sequence[list[bytes]]) -> Driver:
    driver = Driver(ray, workers)
    requests = io.BytesIO(b"".join(pickle.dumps(each) for each in (*batches, None)))
    ray_driver._Dispatch(driver, requests).work()
    return driver


def results(driver: Driver) -> list[bytes | None]:
    return [item for kind, *rest in driver.sent if kind == "results" for item in rest[0]]


def cut(count: int, size: int) -> list[list[bytes]]:
    items = [str(n).encode() for n in range(count)]
    return [items[at : at + size] for at in range(0, count, size)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 5), st.integers(), st.floats(0, 1))
def test_whatever_dies_nothing_is_lost_and_nothing_comes_twice(count, size, workers, seed, rate):
    ray = Ray(random.Random(seed), rate, ())
    came = results(run(ray, workers, cut(count, size)))
    assert came == [b"done " + str(n).encode() for n in range(count)]


def test_without_losses_each_item_runs_once_with_two_batches_in_flight():
    ray = Ray(None, 0, ())
    driver = run(ray, 3, cut(100, 5))
    assert results(driver) == [b"done " + str(n).encode() for n in range(100)]
    assert set(ray.runs.values()) == {1} and ray.most_in_flight == IN_FLIGHT


def test_an_item_that_ends_each_worker_is_given_up_alone():
    ray = Ray(None, 0, [b"7"])
    driver = run(ray, 2, cut(20, 5))
    assert [n for n, result in enumerate(results(driver)) if result is None] == [7]
    assert sum(kind == "lost" for kind, *_ in driver.sent) == 2 * LOSSES


def test_order_costs_a_bounded_number_of_batches():
    """The first batch never ends: so many are asked for and no more."""

    class Stuck(Ray):
        waits = 0

        def wait(self, refs: list[Call], num_returns: int, timeout: float) -> Any:
            self.waits += 1
            if self.waits > 100:
                raise InterruptedError
            others = [ref for ref in refs if ref.batch != [b"0"]]
            return others[:1], []

    driver = Driver(Stuck(None, 0, ()), 3)
    requests = io.BytesIO(b"".join(pickle.dumps(each) for each in cut(1000, 1)))
    with pytest.raises(InterruptedError):
        ray_driver._Dispatch(driver, requests).work()
    assert sum(kind == "more" for kind, *_ in driver.sent) == AHEAD * 3
    assert results(driver) == []


def test_a_batch_is_split_into_its_items():
    assert [part.items for part in Batch([b"a", b"b"], losses=LOSSES).split()] == [[b"a"], [b"b"]]


class _Answering(Ray):
    """Ray whose node answers at a later look, or leaves, or fails."""

    def __init__(self, looks: int, leaves: bool = False, error: Exception | None = None) -> None:
        super().__init__(None, 0, ())
        self.looks, self._leaves, self._error = looks, leaves, error

    def wait(self, refs: list[Any], num_returns: int = 1, timeout: float = 0) -> Any:
        self.looks -= 1
        return ([], refs) if self.looks >= 0 else (refs, [])

    def nodes(self) -> list[Mapping[str, Any]]:
        return [] if self._leaves and self.looks == 0 else [node("a", 1)]

    def get(self, ref: Any) -> Any:
        if self._error is not None:
            raise self._error
        return {"datasetkit": "1"}, ""


def test_a_busy_node_is_waited_for_and_never_passed_over():
    ray = _Answering(looks=100)
    assert Driver(ray, 1)._answer_of(node("a", 1), None) == ({"datasetkit": "1"}, "")
    assert ray.looks < 0


def test_a_node_that_leaves_or_dies_is_passed_over():
    assert Driver(_Answering(3, leaves=True), 1)._answer_of(node("a", 1), None) is None
    assert Driver(_Answering(0, error=_Died()), 1)._answer_of(node("a", 1), None) is None


def test_a_node_whose_dsk_cannot_answer_ends_the_run_with_its_address():
    ray = _Answering(0, error=ZeroDivisionError("AttributeError: no FileProbe"))
    with pytest.raises(ray_driver.ClusterProblem, match=r"a worker on a failed: .*FileProbe"):
        Driver(ray, 1)._answer_of(node("a", 1), None)


def test_an_error_of_ray_itself_is_shown_and_not_called_a_lost_connection():
    driver = Driver(Ray(None, 0, ()), 0)
    requests = io.BytesIO(pickle.dumps(("look",)))  # without its arguments
    ray_driver._serve(driver, requests)
    [_, (kind, message, _)] = driver.sent
    assert kind == "problem" and message.startswith("Ray failed: TypeError")
