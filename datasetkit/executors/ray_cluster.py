"""A Ray cluster as verbs use it: a connection, checked before anything is changed.

Ray itself is in another process (`ray_driver`). What is lost with a worker, a node or that process
is work that was not finished: the caller has the results before it, and stores them as it does
those of a local run.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Final

from datasetkit.core.cluster import ClusterNode, is_head
from datasetkit.core.errors import ClusterError, InputError, MissingExtra
from datasetkit.core.files import display, write_atomic
from datasetkit.core.install import install_command
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Done, Failed
from datasetkit.executors import parcels, ray_worker
from datasetkit.executors.batches import WorkerFacts
from datasetkit.executors.local import path_of
from datasetkit.executors.ray_driver import RaySettings

SCHEME: Final = "ray://"
CLIENT_PORT: Final = 10001
_AUTO: Final = "auto"  # Ray's name for the cluster that this machine is a node of
_DRIVER: Final = ("-m", "datasetkit.executors.ray_driver")
# Names the cluster that this machine is a node of, as Ray's own programs read it.
ADDRESS_VARIABLE: Final = "RAY_ADDRESS"
# Seconds until a head that does not answer counts as unreachable, and until the driver has ended.
_REACH, _END = 5.0, 20.0
# Seconds until what takes connections and does not answer is given up.
_CONNECT = 180.0
# What is left is divided into so many batches for each worker, so that all end at about the same
# time, but into none smaller than this part of a full batch.
_LAST_BATCHES: Final = 4
_SMALLEST: Final = 8
# A cluster that dsk starts listens on this machine only, asks for a token, and reports to nobody.
_OWN: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for "listen on loopback"
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",  # not 30: a busy machine takes minutes
}
_AGAIN: Final = "what is finished is kept: run the command again once the cluster is back"


def require_ray() -> None:
    """Raise MissingExtra without Ray."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("--executor ray needs Ray", hint=install_command("ray"))


def address_of(executor: str) -> str:
    """Return Ray's address for a value of --executor: "local" for a cluster that dsk starts. Raises
    ClusterError for a variable RAY_ADDRESS that is not an address.
    """
    named = os.environ.get(ADDRESS_VARIABLE, "").strip() or "local"
    address = executor if executor.startswith(SCHEME) else named
    if address in ("local", _AUTO):
        return address
    scheme = SCHEME if address.startswith(SCHEME) else ""
    head = address.removeprefix(SCHEME).rstrip("/")
    has_port = re.search(r":\d+$", head) is not None
    if scheme and not has_port:
        head += f":{CLIENT_PORT}"
    if not is_head(head) or not (scheme or has_port):
        raise ClusterError(
            f"the variable {ADDRESS_VARIABLE} is {display(address)}: that is not an address",
            hint=f"{ADDRESS_VARIABLE}=HEAD:6379 on a node of the cluster; without the variable, a "
            "cluster is started on this machine",
        )
    return scheme + head


class RayCluster:
    """A connection to a Ray cluster. See `core.cluster.Cluster`.

    A cluster of somebody else is connected at once, and its nodes' versions are compared; one that
    dsk starts on this machine is started with the first work.
    """

    def __init__(
        self,
        executor: str,
        *,
        actors: int = 0,
        cpus: float = 0.0,
        gpus: float = 0.0,
        batch_images: int = 32,
        ship_images: bool = False,
        same_versions: bool = True,
    ) -> None:
        require_ray()
        self.address = address_of(executor)
        self._shape = actors, cpus, gpus
        self._batch, self._ship = batch_images, ship_images
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._reporter: Reporter = SILENT
        self._slots = 1
        self._is_running = False
        self.sends_token = False
        if self.is_own:
            return
        self._start()
        if same_versions:
            self._require_same_versions()

    @property
    def is_own(self) -> bool:
        """Tell whether dsk starts the cluster."""
        return self.address == "local"

    # ---- what verbs call

    def require_visible(self, read: Sequence[Path], written: Sequence[Path]) -> None:
        if self.is_own and any(self._shape[1:]):
            self._look([], [])  # whether this machine has room for a worker
        if self.is_own or self._ship:
            return
        probes = [ray_worker.probe(path) for path in read]
        folders = [str(path.absolute()) for path in written]
        for address, _, _, _, unseen in self._look(probes, folders):
            if unseen:
                raise ClusterError(
                    f"the worker {address} {display(unseen)}",
                    hint="mount the same storage at the same path on every node, or add "
                    "--ship-images",
                )

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Return the nodes that have CPUs."""
        return tuple(ClusterNode(*node[:4]) for node in self._look([], []))

    def open(self, work: object, workers: int, reporter: Reporter) -> WorkerFacts:
        self._reporter = reporter
        reporter.phase("starting workers")
        kind, *answer = self._ask("open", parcels.dumps_absolute(work), workers)
        if kind == "error":
            raise _raised(answer[0])
        facts, self._slots = parcels.loads(answer[0]), answer[1]
        assert isinstance(facts, WorkerFacts)
        return facts

    def run(
        self, items: Iterable[Any], count: int, missing: Callable[[Any], Any]
    ) -> Generator[Any, None, None]:
        remaining, to_send = iter(items), count
        # Items on their way, with None, or the failure of one that was never sent.
        waiting: deque[tuple[Any, Failed | None]] = deque()
        self._is_running = True
        try:
            kind, *answer = self._ask("run")
            while kind != "end":
                if kind == "more":
                    size = batch_size(to_send, count, self._slots, self._batch)
                    to_send -= size
                    kind, *answer = self._ask_with(self._batch_of(remaining, size, waiting))
                    continue
                if kind == "results":
                    yield from self._taken(answer[0], waiting, missing)
                elif kind == "lost":
                    self._reporter.warn(_lost_line(*answer))
                elif kind == "error":
                    raise _raised(answer[0])
                kind, *answer = self._read()
            yield from _unsent(waiting)
            self._is_running = False
        finally:
            if self._is_running:
                self.close()

    def close_work(self) -> None:
        if self._is_running:  # the caller met an error between two results
            self.close()
        if self._process is not None:
            self._ask("close")

    def close(self) -> None:
        """Disconnect, and end a cluster that dsk started."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._is_running:
            self._is_running = False
            process.terminate()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            _kill(process)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- items and results

    def _batch_of(
        self, items: Iterator[Any], size: int, waiting: deque[tuple[Any, Failed | None]]
    ) -> list[bytes] | None:
        """Pickle the next items, None without any; those that cannot be read are not sent."""
        batch: list[bytes] = []
        for item in islice(items, size):
            try:
                batch.append(parcels.packed(item, ship=self._ship))
                waiting.append((item, None))
            except InputError as error:
                waiting.append((item, Failed(path_of(item), error.message, error.hint)))
        if not batch and waiting and waiting[-1][1] is not None:
            return self._batch_of(items, size, waiting)
        return batch or None

    def _taken(
        self,
        results: Sequence[bytes | None],
        waiting: deque[tuple[Any, Failed | None]],
        missing: Callable[[Any], Any],
    ) -> Iterator[Any]:
        for data in results:
            yield from _unsent(waiting)
            item, _ = waiting.popleft()
            if data is None:
                yield missing(item)
                continue
            result, written = parcels.result_of(data, item)
            for path, content in written.items():
                write_atomic(path, content)
            if isinstance(result, Done) and not self._ship:
                _require_seen(parcels.ItemPaths.of(item).outputs[:1])
            yield result

    # ---- the driver

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        environment = dict(os.environ)
        if self.is_own:
            # Not in a folder that others can write to; and short, since sockets lie in it.
            self._folder = tempfile.mkdtemp(
                prefix="dsk-", dir="/tmp" if os.name == "posix" else None
            )
            environment |= _OWN
            environment.pop("RAY_AUTH_TOKEN_PATH", None)
            environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        else:
            _require_reachable(self.address)
        environment.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        self._process = subprocess.Popen(
            [sys.executable, *_DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for dsk, which ends it in order
        )
        self._write(RaySettings(self.address, self._folder, *self._shape))
        kind, *answer = self._connected(self._process)
        if kind == "refused":
            self.close()
            raise _refused(self.address, answer[0])
        self.sends_token = answer[0]
        return self._process

    def _connected(self, process: subprocess.Popen[bytes]) -> Any:
        """Return the driver's first answer. Ray tries for a quarter of an hour to talk to what
        takes connections and is not a head.
        """
        if self.is_own:
            return self._read()
        limit = threading.Timer(_CONNECT, process.kill)
        limit.start()
        try:
            return self._read()
        except ClusterError as error:
            if limit.is_alive():
                raise
            if self.address == _AUTO:
                raise ClusterError(
                    f"the cluster of this machine did not answer within {_CONNECT:.0f} s",
                    hint=f"name its head: {ADDRESS_VARIABLE}=HEAD:6379",
                ) from error
            raise ClusterError(
                f"the head {_shown(self.address)} takes connections, but did "
                f"not answer as a Ray cluster within {_CONNECT:.0f} s",
                hint="the port of RAY_ADDRESS is that of `ray start --head --port`, 6379 by "
                f"default, that of ray:// is {CLIENT_PORT}; where they are right, the head is "
                "busy: try again",
            ) from error
        finally:
            limit.cancel()

    def _require_same_versions(self) -> None:
        here = ray_worker.versions()
        for node in self.nodes():
            if "datasetkit" not in node.versions:
                self.close()
                raise ClusterError(
                    f"dsk is not installed on the worker {node.address}",
                    hint="install the same version of datasetkit on every node",
                )
            for name in sorted({*here, *node.versions} - {"python"}):
                if here.get(name) != node.versions.get(name):
                    self.close()
                    raise ClusterError(
                        f"the worker {node.address} has {name} "
                        f"{node.versions.get(name, 'not at all')}, this machine "
                        f"{here.get(name, 'not at all')}: results would differ",
                        hint="install the same versions of datasetkit and its packages everywhere",
                    )

    def _look(
        self, probes: Sequence[ray_worker.FileProbe], folders: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        _, seen = self._ask("look", pickle.dumps(list(probes)), list(folders))
        return list(seen)

    def _ask(self, *request: Any) -> Any:
        self._start()
        return self._ask_with(request)

    def _ask_with(self, request: Any) -> Any:
        self._write(request)
        return self._read()

    def _write(self, request: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading says why
            pickle.dump(request, self._process.stdin, 5)
            self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        try:
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            raise ClusterError("the connection to the cluster was lost", hint=_AGAIN) from None
        if answer[0] == "problem":
            self.close()
            raise ClusterError(answer[1], hint=answer[2] or _AGAIN)
        return answer


def batch_size(to_send: int, count: int, workers: int, largest: int) -> int:
    """Return how many of the images to send go into the next batch. count: of all images."""
    divided_by = _LAST_BATCHES * workers
    full = min(largest, ceil(count / divided_by))
    return max(1, full // _SMALLEST, min(full, ceil(to_send / divided_by)))


@contextmanager
def connected(executor: str, **shape: Any) -> Iterator[RayCluster]:
    """Connect to a cluster; disconnect at the end. Raises ClusterError, MissingExtra."""
    cluster = RayCluster(executor, **shape)
    try:
        yield cluster
    finally:
        cluster.close()


def _require_seen(outputs: Sequence[Path]) -> None:
    """Raise ClusterError unless this machine sees what a worker wrote."""
    for path in outputs:
        if os.path.lexists(path):
            continue
        list(path.parent.iterdir())  # makes a network drive look again
        if not os.path.lexists(path):
            raise ClusterError(
                f"a worker wrote {display(path)}, but this machine does not see it",
                hint="mount the same storage at the same path on every node, or add --ship-images",
            )


def _unsent(waiting: deque[tuple[Any, Failed | None]]) -> Iterator[Failed]:
    """Yield the failures that come before the next item that was sent."""
    while waiting and (failure := waiting[0][1]) is not None:
        waiting.popleft()
        yield failure


def _lost_line(address: str, batches: int) -> str:
    again = "its batch goes" if batches == 1 else f"its {batches} batches go"
    return f"a worker on {address} was lost: {again} to another one"


def _raised(data: bytes) -> Exception:
    """Return the error that a worker met, as a local run would raise it."""
    error: ray_worker.WorkerError = parcels.loads(data)
    if error.error is not None:
        return error.error
    return RuntimeError(f"a worker failed: {error.kind}\n{error.trace}")


def _require_reachable(address: str) -> None:
    host, _, port = address.removeprefix(SCHEME).rpartition(":")
    if not host:
        return  # "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except OSError as error:
        reason = error.strerror or str(error)
        named = "--executor ray://HEAD:PORT"
        if not address.startswith(SCHEME):
            named = f"{ADDRESS_VARIABLE}=HEAD:6379"
        raise ClusterError(
            f"the head {display(host)}:{port} cannot be reached: {reason}",
            hint=f"start it with `ray start --head`, or correct {named}",
        ) from None


def _shown(address: str) -> str:
    return "of this machine" if address == _AUTO else display(address.removeprefix(SCHEME))


def _refused(address: str, reason: str) -> ClusterError:
    """Return why Ray did not connect, in one line."""
    text = " ".join(reason.split())
    if address == "local":
        return ClusterError(
            f"Ray could not be started on this machine: {text[:300]}",
            hint="try again when the machine is less busy, or --executor local, which needs no Ray",
        )
    shown = _shown(address)
    if text.startswith("AuthenticationError"):
        problem = text.partition(": ")[2].partition(". ")[0]
        return ClusterError(
            f"this machine has no token for the cluster {shown}: {problem[:300]}",
            hint="RAY_AUTH_TOKEN_PATH names a file with the token of the head",
        )
    if "version" in text.lower() and ("mismatch" in text.lower() or "differ" in text.lower()):
        return ClusterError(
            f"the cluster {shown} runs another version of Ray or Python: {text[:300]}",
            hint="install the same versions of Python and Ray on this machine and on every node",
        )
    if "find any running Ray instance" in text:
        return ClusterError(
            "no Ray cluster runs on this machine",
            hint=f"start its node with `ray start`, or unset {ADDRESS_VARIABLE}: a "
            "cluster of its own is started then",
        )
    if text.startswith(("ConnectionError", "ConnectionAbortedError", "ConnectionRefusedError")):
        return ClusterError(
            f"the head {shown} does not let this machine in",
            hint="RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as on the head; ray:// takes the "
            f"port of Ray's client, {CLIENT_PORT} by default",
        )
    return ClusterError(
        f"Ray cannot use the cluster {shown}: {text[:300]}",
        hint="`ray status` on the head says how it is",
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
