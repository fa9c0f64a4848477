"""The process that talks to Ray: `python -m datasetkit.executors.ray_driver`, started by
`ray_cluster`, which sends it requests on stdin and reads its answers from stdout, both pickled.

It is a process of its own since Ray ends the process that it is loaded in when it loses its node,
with any exit code, 0 among them. What is pickled by value (`_Actor`, `_look`) must import nothing
of dsk at its top: a node may have no dsk.

Ray only places work. Which batch goes where, how many wait, what is sent again and in which order
results come back is decided here, in `_Dispatch`.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

# Batches that an actor has at the same time: one at work, one that waits for it.
IN_FLIGHT: Final = 2
# So many batches for each actor may wait for an earlier one, so that order costs a bounded memory.
AHEAD: Final = 4
# A batch whose worker dies so often is split into its items; an item, given up.
LOSSES: Final = 3
# A worker that dies so often while it loads the model is not started again on that node.
STARTS: Final = 3
# Seconds: between looks at the nodes, at the head, until a silent head is lost, and until a cluster
# without a node is given up.
LOOK, WATCH, SILENCE, GRACE = 2.0, 2.0, 10.0, 60.0
# A proxy of `ray://` may not be ready at once.
_CONNECTS: Final = 3


@dataclass(frozen=True, slots=True)
class RaySettings:
    """How to connect, and what an actor reserves. address: "local" starts a cluster; one with
    `ray://` goes to the client port of a head, any other to the cluster that this machine is a node
    of. folder: for a cluster that is started. actors, cpus: 0 for what suits the nodes.
    """

    address: str
    folder: str
    actors: int
    cpus: float
    gpus: float


class ClusterProblem(Exception):
    """Why nothing can go on: what ClusterError says."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(slots=True)
class Slot:
    """Room for one actor on a node. starts: actors in a row that died while they loaded."""

    node: str
    address: str
    cpus: float
    gpus: float
    actor: Any = None
    opening: Any = None
    starts: int = 0
    batches: deque[tuple[Any, Batch]] = field(default_factory=deque)

    @property
    def is_ready(self) -> bool:
        return self.actor is not None and self.opening is None


@dataclass(slots=True)
class Batch:
    """Some pickled items in a row. results: None until they are there; one of them is None where
    its item was given up.
    """

    items: list[bytes]
    losses: int = 0
    results: list[bytes | None] | None = None

    def split(self) -> list[Batch]:
        return [Batch([item]) for item in self.items]


def plan_slots(nodes: Iterable[Mapping[str, Any]], settings: RaySettings) -> list[Slot]:
    """Return where actors go: with GPUs as many a node as they have shares of GPUs, else as many as
    have `cpus` CPUs, or one a node. actors: so many in all, dealt out to the nodes in turn.
    """
    rooms: list[list[Slot]] = []
    for node in nodes:
        resources = node["Resources"]
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        if not node["Alive"] or cpus <= 0:
            continue
        limits = [_gpu_shares(gpus, settings.gpus)] if settings.gpus else []
        limits += [int(cpus / settings.cpus + 1e-9)] if settings.cpus else []
        count = min(limits) if limits else settings.actors or 1
        rooms.append(
            [Slot(node["NodeID"], node["NodeManagerAddress"], cpus, settings.gpus)] * count
        )
    chosen = _in_turn(rooms, settings.actors)
    slots = []
    for slot in chosen:
        share = settings.cpus or _share(slot.cpus, sum(s.node == slot.node for s in chosen))
        slots.append(Slot(slot.node, slot.address, share, slot.gpus))
    return slots


def _in_turn(rooms: Sequence[list[Slot]], most: int) -> list[Slot]:
    longest = max(map(len, rooms), default=0)
    dealt = [room[n] for n in range(longest) for room in rooms if n < len(room)]
    return dealt[:most] if most else dealt


def _gpu_shares(gpus: float, share: float) -> int:
    """Return how many actors the GPUs of a node have room for: a share is of one GPU, so that 0.4
    fits twice on each, and five times on none.
    """
    if share >= 1:
        return int(gpus / share + 1e-9)
    return int(gpus) * int(1 / share + 1e-9)


def _share(cpus: float, actors: int) -> float:
    """Return the CPUs of each actor of a node: whole ones, or a part of one in the four digits that
    Ray counts, rounded down: 0.66667 would be 0.6667, and the last actor would have no room.
    """
    share = cpus / actors
    return float(int(share)) if share >= 1 else int(share * 10_000) / 10_000


class _Actor:
    """An actor of Ray; it is pickled by value."""

    def open(self, work: bytes, threads: int, sees_gpus: bool) -> Any:
        import os

        if not sees_gpus:  # Ray shows all GPUs to an actor that reserves none
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = ""
        from datasetkit.executors import parcels, ray_worker

        opened = ray_worker.opened(work, threads)
        if isinstance(opened, ray_worker.WorkerError):
            return "error", parcels.dumps(opened)
        self.worker = opened
        return "facts", opened.facts

    def run(self, batch: list[bytes]) -> Any:
        from datasetkit.executors import ray_worker

        return ray_worker.outcome(self.worker, batch)


def _look(read: bytes, written: list[str]) -> tuple[dict[str, str], str]:
    """Run on a node: return its versions, and what it does not see. It is pickled by value."""
    import pickle

    try:
        from datasetkit.executors import ray_worker
    except ImportError:
        return {}, ""
    return ray_worker.versions(), ray_worker.unseen(pickle.loads(read), written)


class Driver:
    """A connection to a cluster, and the work that is open on it."""

    def __init__(self, settings: RaySettings, answers: BinaryIO) -> None:
        self._settings, self._answers = settings, answers
        self._writing = threading.Lock()
        self._work, self._threads = b"", 0
        self._slots: list[Slot] = []
        self._looked = 0.0
        self._without_node: float | None = None
        self.ray = self._connect()
        threading.Thread(target=self._watch, args=self._head(), daemon=True).start()

    def answer(self, *message: Any) -> None:
        """Send a message to the parent."""
        with self._writing:
            pickle.dump(message, self._answers, 5)
            self._answers.flush()

    # ---- connecting

    def _connect(self) -> Any:
        import logging

        import ray

        common = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self._settings.address == "local":
            ray.init(
                address="local",
                include_dashboard=False,
                _temp_dir=self._settings.folder,
                **({"num_gpus": 0} if not self._settings.gpus else {}),
                **common,
            )
            if not all(_is_loopback(node["NodeManagerAddress"]) for node in ray.nodes()):
                ray.shutdown()
                raise ClusterProblem(
                    "Ray would listen beyond this machine", "name a head: ray://HEAD"
                )
            return ray
        for last in range(_CONNECTS):
            try:
                ray.init(address=self._settings.address, **common)
                return ray
            except ConnectionAbortedError:
                ray.shutdown()
                if last == _CONNECTS - 1:
                    raise
                time.sleep(1)
        raise AssertionError

    def _head(self) -> tuple[str, int]:
        address = self._settings.address
        if address == "local" or "://" not in address:
            address = self.ray.get_runtime_context().gcs_address
        host, _, port = address.removeprefix("ray://").rpartition(":")
        return host.strip("[]"), int(port)

    def _watch(self, host: str, port: int) -> None:
        """End this process once the head has been silent for a while; Ray would wait for minutes,
        in calls that do not return. Also once the parent is gone.
        """
        silent_since: float | None = None
        parent = os.getppid()
        while True:
            time.sleep(WATCH)
            if os.getppid() != parent:
                with suppress(Exception):
                    self.ray.shutdown()
                os._exit(1)
            try:
                socket.create_connection((host, port), timeout=WATCH).close()
                silent_since = None
            except OSError:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > SILENCE:
                    self.answer("problem", "the head of the cluster was lost", "")
                    os._exit(1)

    # ---- nodes

    def _alive(self) -> list[Mapping[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def look(self, read: bytes, written: list[str]) -> list[tuple[Any, ...]]:
        """Return of each node with CPUs: address, CPUs, GPUs, versions, what it does not see.

        Raises ClusterProblem without room for a worker: now, when nothing is changed yet.
        """
        if not plan_slots(self.ray.nodes(), self._settings):
            raise self._no_room()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self.ray.remote(num_cpus=0)(_look)
        asked = [
            (node, task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(read, written))
            for node in self._alive()
            if node["Resources"].get("CPU", 0) > 0
        ]  # fmt: skip
        seen = []
        for node, answer in asked:
            looked = self._answer_of(node, answer)
            if looked is not None:
                cpus, gpus = node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)
                seen.append((node["NodeManagerAddress"], cpus, gpus, *looked))
        return seen

    def _answer_of(self, node: Mapping[str, Any], answer: Any) -> Any:
        """Wait for the answer of a node, however busy it is; return None once the node is gone."""
        while not self.ray.wait([answer], timeout=LOOK)[0]:
            if node["NodeID"] not in {other["NodeID"] for other in self._alive()}:
                return None
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            raise ClusterProblem(*_broken(node["NodeManagerAddress"], error)) from None
        except self.ray.exceptions.RayError:
            return None

    # ---- work

    def open(self, work: bytes, threads: int) -> None:
        """Start the actors, and answer with the facts of the first that has loaded the work."""
        self._work, self._threads = work, threads
        self._slots = plan_slots(self.ray.nodes(), self._settings)
        if not self._slots:
            raise self._no_room()
        self._looked, self._without_node = time.monotonic(), None
        facts: bytes | None = None
        while facts is None:
            for kind, value in self.keep_open(timeout=1.0):
                if kind == "error":
                    self.answer("error", value)
                    return
                facts = value
        self.answer("opened", facts, len(self._slots))

    def _no_room(self) -> ClusterProblem:
        resources = [node["Resources"] for node in self._alive()]
        rooms = {(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources}
        rooms = {(cpus, gpus) for cpus, gpus in rooms if cpus > 0}
        if not rooms:
            return ClusterProblem(
                "the cluster has no nodes with CPUs",
                "start some: `ray start --address HEAD:6379` on each machine that is to work",
            )
        offered = "; ".join(_room(*room) for room in sorted(rooms, reverse=True)[:3])
        return ClusterProblem(
            f"no node has room for a worker with {_room(self._settings.cpus, self._settings.gpus)}:"
            f" the largest have {offered}",
            "smaller --cpus and --gpus; without them a worker takes what its node has",
        )

    def keep_open(self, timeout: float) -> Iterator[tuple[str, bytes]]:
        """Start an actor in each empty slot; yield facts or the error of those that have opened."""
        self._renew_slots()
        for slot in self._slots:
            if slot.actor is None and slot.starts < STARTS:
                self._start(slot)
        opening = [slot.opening for slot in self._slots if slot.opening is not None]
        if not opening:
            if timeout and not any(slot.is_ready for slot in self._slots):
                time.sleep(timeout)
            return
        done, _ = self.ray.wait(opening, num_returns=len(opening), timeout=timeout)
        for slot in self._slots:
            if slot.opening is None or slot.opening not in done:
                continue
            try:
                result = self.ray.get(slot.opening)
            except self.ray.exceptions.RayTaskError as error:
                raise ClusterProblem(*_broken(slot.address, error)) from None
            except self.ray.exceptions.RayError:
                slot.starts += 1
                self.drop(slot)
                continue
            slot.opening, slot.starts = None, 0
            yield result

    def _start(self, slot: Slot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": slot.cpus,
            "num_gpus": slot.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(slot.node, soft=False),
        }
        slot.actor = self.ray.remote(_Actor).options(**options).remote()
        threads = self._threads or max(1, int(slot.cpus))
        slot.opening = slot.actor.open.remote(self._work, threads, slot.gpus > 0)

    def _renew_slots(self) -> None:
        """Take up nodes that have joined, and drop those that have left."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        alive = self._alive()
        names = {node["NodeID"] for node in alive}
        have = {slot.node for slot in self._slots}
        kept = [slot for slot in self._slots if slot.node in names or slot.batches]
        new = plan_slots([node for node in alive if node["NodeID"] not in have], self._settings)
        if self._settings.actors:
            new = new[: max(0, self._settings.actors - len(kept))]
        self._slots = [*kept, *new]
        usable = any(s.node in names and s.starts < STARTS for s in self._slots)
        if usable:
            self._without_node = None
            return
        self._without_node = self._without_node or time.monotonic()
        if any(slot.node in names for slot in self._slots):
            raise ClusterProblem(
                "every worker of the cluster died while it loaded the model",
                "more memory a worker: fewer --actors, larger --cpus; or run it here",
            )
        if time.monotonic() - self._without_node > GRACE:
            raise ClusterProblem("the cluster has no worker nodes left", "")

    def drop(self, slot: Slot) -> list[Batch]:
        """Empty a slot; return the batches that its actor had."""
        if slot.actor is not None:
            with suppress(Exception):
                self.ray.kill(slot.actor)
        slot.actor = slot.opening = None
        lost = [batch for _, batch in slot.batches]
        slot.batches.clear()
        return lost

    def close_work(self) -> None:
        """End all actors."""
        for slot in self._slots:
            self.drop(slot)
        self._slots = []

    @property
    def slots(self) -> Sequence[Slot]:
        return self._slots


class _Dispatch:
    """One run of the open work: batches in, results out in their order."""

    def __init__(self, driver: Driver, requests: BinaryIO) -> None:
        self._driver, self._requests, self._ray = driver, requests, driver.ray
        self._order: deque[Batch] = deque()
        self._again: deque[Batch] = deque()
        self._has_more = True

    def work(self) -> None:
        """Run until the parent has no more items and all results are sent."""
        while self._has_more or self._order:
            for kind, value in self._driver.keep_open(timeout=0.0 if self._is_busy else 1.0):
                if kind == "error":
                    self._driver.answer("error", value)
                    return
            self._give_out()
            self._collect()
            self._send()
        self._driver.answer("end")

    @property
    def _is_busy(self) -> bool:
        return any(slot.batches for slot in self._driver.slots)

    def _give_out(self) -> None:
        """Give each actor a batch, then each a second one."""
        for depth in range(1, IN_FLIGHT + 1):
            for slot in self._driver.slots:
                if slot.is_ready and len(slot.batches) < depth:
                    batch = self._next()
                    if batch is None:
                        return
                    slot.batches.append((slot.actor.run.remote(batch.items), batch))

    def _next(self) -> Batch | None:
        if self._again:
            return self._again.popleft()
        if not self._has_more or len(self._order) >= AHEAD * max(1, len(self._driver.slots)):
            return None
        self._driver.answer("more")
        items = pickle.load(self._requests)
        if items is None:
            self._has_more = False
            return None
        batch = Batch(items)
        self._order.append(batch)
        return batch

    def _collect(self) -> None:
        """Wait until some batch is done, and take the results of all that are."""
        flying = {ref: slot for slot in self._driver.slots for ref, _ in slot.batches}
        if not flying:
            return
        done, _ = self._ray.wait(list(flying), num_returns=1, timeout=1.0)
        for ref in done:
            slot = flying[ref]
            batch = next((batch for other, batch in slot.batches if other == ref), None)
            if batch is None:
                continue  # its actor was lost with an earlier batch
            try:
                results = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise ClusterProblem(*_broken(slot.address, error)) from None
            except self._ray.exceptions.RayError:
                self._lose(slot)
                continue
            if isinstance(results, bytes):
                self._driver.answer("error", results)
                raise SystemExit(0)
            batch.results = results
            slot.batches = deque(pair for pair in slot.batches if pair[1] is not batch)

    def _lose(self, slot: Slot) -> None:
        """Put the batches of a lost actor in front of the others. Only the first was at work."""
        lost = self._driver.drop(slot)
        lost[0].losses += 1
        again: list[Batch] = []
        for batch in lost:
            if batch.losses < LOSSES:
                again.append(batch)
            elif len(batch.items) == 1:
                batch.results = [None]
            else:
                parts = batch.split()
                at = self._order.index(batch)
                del self._order[at]
                for n, part in enumerate(parts):
                    self._order.insert(at + n, part)
                again += parts
        self._again.extendleft(reversed(again))
        self._driver.answer("lost", slot.address, len(lost))

    def _send(self) -> None:
        while self._order and self._order[0].results is not None:
            self._driver.answer("results", self._order.popleft().results)


def _room(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


def _broken(address: str, error: Exception) -> tuple[str, str]:
    """Return what to say of an error that is none of dsk's: the node's packages do not fit."""
    last = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
    reason = " ".join(last)[:300]
    return (
        f"a worker on {address} failed: {reason}",
        "install the same version of datasetkit on every node",
    )


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _connected(settings: RaySettings, answers: BinaryIO) -> Driver | None:
    try:
        return Driver(settings, answers)
    except ClusterProblem as problem:
        pickle.dump(("problem", problem.message, problem.hint), answers, 5)
    except Exception as error:
        pickle.dump(("refused", f"{type(error).__name__}: {error}"), answers, 5)
    answers.flush()
    return None


def _serve(driver: Driver, requests: BinaryIO) -> None:
    """Answer requests until the parent closes the pipe."""
    # Ray also sets the variable itself, where it finds a token.
    driver.answer("connected", os.environ.get("RAY_AUTH_MODE", "").lower() == "token")
    while True:
        try:
            kind, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            if kind == "look":
                driver.answer("looked", driver.look(*arguments))
            elif kind == "open":
                driver.open(*arguments)
            elif kind == "run":
                _Dispatch(driver, requests).work()
            else:
                driver.close_work()
                driver.answer("closed")
        except ClusterProblem as problem:
            driver.answer("problem", problem.message, problem.hint)
            return
        except (BrokenPipeError, EOFError):
            raise  # the parent has ended
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            driver.answer("problem", f"Ray failed: {reason[:300]}", "")
            return


def main() -> None:
    """Connect as the first request says, then serve."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Ray prints must not come between the answers
    driver = _connected(pickle.load(requests), answers)
    if driver is None:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the parent does not wait for batches
    try:
        _serve(driver, requests)
    except (BrokenPipeError, EOFError):
        pass  # the parent has ended
    finally:
        driver.close_work()
        driver.ray.shutdown()


if __name__ == "__main__":
    main()
