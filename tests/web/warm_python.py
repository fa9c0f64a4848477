"""Start Python processes that have imported dsk, or also torch and the trainer, already.

A test that kills thirty jobs would spend most of its time importing. `WarmPython` imports
once, and each process is forked from it: a real process, with its own pid, folder, environment and
output. What a test starts is a small client, which ends as the forked process does: with its exit
code, or by its signal.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
CLIENT = """
import json, os, signal, socket, sys
path, code, *arguments = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
request = {"code": code, "arguments": arguments, "folder": os.getcwd(), "environ": dict(os.environ)}
data = json.dumps(request).encode()
socket.send_fds(connection, [len(data).to_bytes(8, "big")], [1, 2])
connection.sendall(data)
status = int(connection.makefile().readline() or "-9")
if status < 0:
    if -status != signal.SIGKILL:  # which has no handler
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class WarmPython:
    """A process to fork from. socket: where it listens."""

    def __init__(self, path: Path) -> None:
        self.socket = path

    def command(self, code: str, *arguments: str) -> list[str]:
        """Return a command line that runs code, as `python -c` would."""
        return [sys.executable, "-S", "-E", "-c", CLIENT, str(self.socket), code, *arguments]


@contextmanager
def warm_python(folder: Path, *, trainer: bool) -> Iterator[WarmPython]:
    """Import, then listen below a folder until the block ends. trainer: import it too."""
    path = folder / ("warm-trainer" if trainer else "warm")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.web.warm_python", str(path), *(["trainer"] * trainer)],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield WarmPython(path)
    finally:
        process.communicate()


def import_dsk() -> None:
    """Import what commands and servers import on their way."""
    for name in (
        "PIL.Image", "datasetkit.api", "datasetkit.cli.job", "datasetkit.cli.main",
        "datasetkit.verbs.check", "datasetkit.verbs.keep", "datasetkit.verbs.layout",
        "datasetkit.verbs.rules", "datasetkit.verbs.studio", "datasetkit.verbs.tag",
        "datasetkit.web.server", "tests.web.kill_points",
    ):  # fmt: skip
        importlib.import_module(name)


def import_trainer() -> None:
    """Import what trainings import on their way."""
    for name in ("datasetkit.verbs.train", "datasetkit.verbs.grid", "trainer.run"):
        importlib.import_module(name)
    # Both import their classes when they are asked for.
    for package, names in {
        "diffusers": ("AutoencoderKL", "UNet2DConditionModel", "DDPMScheduler"),
        "transformers": ("CLIPTextModel", "CLIPTokenizer"),
    }.items():
        for name in names:
            getattr(importlib.import_module(package), name)


def serve(path: str) -> NoReturn:
    """Fork a process for each request until the standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes the waiting processes away
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            os._exit(0)  # the end of an interpreter with torch takes a second
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _answer(connection)
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Be the parent of the process of a request, and tell the client how it ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who reads it waits for its end
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
    with connection.makefile("rb") as file:
        request = json.loads(file.read(int.from_bytes(head, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        os._exit(_run(request, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    _, status = os.waitpid(child, 0)
    try:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    except OSError:
        return  # the client was killed


def _run(request: dict[str, Any], descriptors: list[int]) -> int:
    """Run the code of a request in this process; return its exit code."""
    os.setsid()
    for descriptor, target in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = ["dsk", *request["arguments"]]
    code = 0
    try:
        exec(request["code"], {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    return code


if __name__ == "__main__":
    import_dsk()
    if "trainer" in sys.argv[2:]:
        import_trainer()
    serve(sys.argv[1])
