"""A Ray cluster of several raylets on this machine, in a network namespace of its own.

Outside of a namespace Ray listens on the machine's interfaces. In one there is only loopback, which
nobody else reaches. `Namespace` makes it; `python -m tests.executors.raylets` runs in it, starts
the cluster, and takes orders on stdin: one line each, answered by a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "for-tests-" + "0" * 32
CLIENT_PORT = 10001
# How the tests' clusters are started, and how programs reach them.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A node that starts is waited for on a busy machine, too; one that has died meanwhile is not
    # noticed, and ends the wait with it.
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_niceness": "0",  # else other work on the machine goes before
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def missing() -> str:
    """Return why Ray tests cannot run here, "" if they can. As root nothing is an excuse: a
    namespace that cannot be made is then an error of the tests.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        return "Ray is not installed: pip install 'datasetkit[ray]'"
    if sys.platform != "linux":
        return "network namespaces are of Linux"
    made = subprocess.run(
        [*_unshare(), "true"], capture_output=True, text=True, check=False, timeout=60
    )
    if made.returncode and os.geteuid() != 0:
        return f"a network namespace cannot be made: {made.stderr.strip()[:100]}"
    return ""


def _unshare() -> list[str]:
    return ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]


@dataclass
class Namespace:
    """A network namespace with loopback alone, held by a process that sleeps."""

    holder: subprocess.Popen[bytes]
    name: str  # of the namespace, as /proc has it

    @classmethod
    def make(cls, *commands: str) -> Namespace:
        """Make one. commands: of `ip`, to run in it first."""
        up = " && ".join(["ip link set lo up", *(f"ip {each}" for each in commands)])
        holder = subprocess.Popen(
            [*_unshare(), "sh", "-c", f"{up} && echo ready && exec sleep 100000"],
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        is_ready = holder.stdout.readline() == b"ready\n"
        holder.stdout.close()
        if not is_ready:
            holder.kill()
            holder.wait()
            pytest.fail("a network namespace could not be made")
        return cls(holder, str(Path(f"/proc/{holder.pid}/ns/net").readlink()))

    def popen(self, command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
        """Start a program in the namespace."""
        enter = ["nsenter", "-t", str(self.holder.pid), "-n"]
        if os.geteuid() != 0:
            enter += ["-U", "--preserve-credentials"]
        return subprocess.Popen([*enter, *command], cwd=how.pop("cwd", ROOT), **how)

    def processes(self, name: str) -> list[int]:
        """Return the processes in the namespace whose command line has a text."""
        pids = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if name in words and str((entry / "ns" / "net").readlink()) == self.name:
                    pids.append(int(entry.name))
        return sorted(pids)

    def close(self) -> None:
        """Kill all that runs in it."""
        for _ in range(3):
            for pid in self.processes(""):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        self.holder.wait()


@dataclass
class Raylets:
    """A cluster at work. address: of its head, for programs on its nodes."""

    namespace: Namespace
    server: subprocess.Popen[str]
    address: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> str:
        """Its value of --executor."""
        return f"ray://127.0.0.1:{CLIENT_PORT}"

    def order(self, *words: object) -> Any:
        """Give an order; return its answer."""
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(" ".join(map(str, words)) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def actors(self) -> list[int]:
        """Return the processes of dsk's workers."""
        return self.namespace.processes("ray::_Actor")

    def actors_at_work(self) -> list[int]:
        """Return the processes of dsk's workers that run a batch, not those that still load."""
        return self.namespace.processes("ray::_Actor.run")

    def python(
        self, *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start Python in the namespace, with the cluster's token."""
        return self.namespace.popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, **self.environment, **(environment or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@contextmanager
def started(
    nodes: int, cpus: float = 1, gpus: int = 0, hidden: Path | None = None
) -> Iterator[Raylets]:
    """Start a head without CPUs and some nodes. gpus: that each node says it has. hidden: a folder
    that they do not see.
    """
    namespace = Namespace.make()
    env = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.executors.raylets"]
    command += map(str, (nodes, cpus, gpus))
    if hidden is not None:
        hide = f"mount -t tmpfs none '{hidden}' && exec \"$@\""
        command = ["unshare", "-m", "sh", "-c", hide, "sh", *command]
    printed = os.memfd_create("printed")  # not a pipe: nobody reads while it runs
    server = namespace.popen(
        command,
        env={**os.environ, **env},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
    )
    raylets = Raylets(namespace, server, environment=env)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            text = os.pread(printed, 1_000_000, 0).decode(errors="replace")
            pytest.fail(f"the cluster did not start: {text[-2000:]}")
        raylets.address = json.loads(line)
        yield raylets
    finally:
        for pipe in (server.stdin, server.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        server.kill()
        server.wait()
        namespace.close()
        os.close(printed)


def _serve(nodes: int, cpus: float, gpus: int) -> None:
    """Start the cluster; obey until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints to stdout
    from ray.cluster_utils import Cluster

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    # Nobody reads its logs, and nothing is scaled: two processes fewer that poll.
    small = {"object_store_memory": 100_000_000, "include_log_monitor": False, "no_monitor": True}
    room = {"num_cpus": cpus, "num_gpus": gpus, **small}
    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "ray_client_server_port": CLIENT_PORT,
        # A node that is killed is noticed in about 3 s, not in 25.
        "_system_config": {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 1000,
            "health_check_failure_threshold": 3,
        },
        **small,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers = [cluster.add_node(**room) for _ in range(nodes)]
    answer(cluster.address)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "add":
            workers.append(cluster.add_node(**room))
        elif word == "kill":
            node = workers.pop(int(rest[0]))
            os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        elif word == "behead":
            os.kill(cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
        answer(len(workers))


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
