"""dsk on a real Ray cluster of several raylets, in a network namespace: the outcome is that of a
local run, whatever is killed meanwhile. Counts: `.ci/run` prints how many of these ran.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.executors import raylets
from tests.executors.raylets import ROOT, Namespace, Raylets

WHY_NOT = raylets.missing()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "Ray is here"),
]


def slow(verb: str) -> Any:
    """Return a command that is tried among the slow tests: each takes most of a minute."""
    return pytest.param(verb, marks=pytest.mark.slow)


TOY = "import sys; from tests.executors.toy_work import main; main(*sys.argv[1:])"
# A batch of toy work takes ten times this: kills come while batches are at work.
SECONDS = 0.05
VERBS = {
    "resize": ["resize", "imgs", "small", "--max", "200"],
    "tag": ["tag", "imgs", "--tagger", "basic", "--trigger", "sks"],
    "check": ["check", "imgs", "--csv", "found.csv"],
    "faces": ["faces", "crop", "imgs", "faces", "--min-size", "16"],
    "erase": ["faces", "erase", "imgs", "erased", "--text"],
    "cutout": ["cutout", "imgs", "cut"],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    """A head, and four nodes of one CPU each."""
    with raylets.started(4) as started:
        yield started


@pytest.fixture
def own_cluster() -> Iterator[Raylets]:
    """A cluster for a test that kills its nodes: three of them."""
    with raylets.started(3) as started:
        yield started


def project(folder: Path, images: int = 8) -> Path:
    """Copy some of the quickstart's images, so that each is another file."""
    (folder / "imgs").mkdir(parents=True)
    sources = sorted((ROOT / "examples" / "quickstart" / "images").glob("*.jpg"))
    for n in range(images):
        data = sources[n % len(sources)].read_bytes()
        comment = f"{n:06d}".encode()
        mark = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / "imgs" / f"{n:04d}.jpg").write_bytes(data[:2] + mark + data[2:])
    return folder


def outcome(folder: Path) -> dict[str, bytes]:
    """Return all files of a project but its store."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dsk" not in path.parts
    }


# What a store holds of the outcome: all but times and inodes.
STORED = {
    "scores": "image, model, row",
    "measurements": "image, recipe, row",
    "outputs": "path, source, recipe, origin, size",
    "journal": "id, verb, title, state",
    "ops": "entry, n, kind, src, dst",
}


def stored(folder: Path) -> dict[str, list[tuple]]:
    """Return what the stores of a project hold: scores, measures, outputs and history."""
    rows: dict[str, list[tuple]] = {}
    for path in sorted(folder.rglob("store.sqlite")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            for table, columns in STORED.items():
                found = store.execute(f"SELECT {columns} FROM {table}").fetchall()
                name = f"{path.relative_to(folder)} {table}"
                rows[name] = sorted(
                    tuple(str(value).replace(str(folder), "") for value in row) for row in found
                )
    return rows


def locally(folder: Path, command: list[str]) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "datasetkit", *command, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert ended.returncode in (0, 3), ended.stderr
    return ended.stdout


def dsk(
    cluster: Raylets, folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    address = {"RAY_ADDRESS": cluster.address}
    return cluster.python(
        "-m", "datasetkit", *command, cwd=folder, environment={**address, **(environment or {})}
    )


def finished(process: subprocess.Popen[str], codes: tuple[int, ...] = (0, 3)) -> tuple[str, str]:
    out, err = process.communicate(timeout=1800)
    assert process.returncode in codes, err
    return out, err


@contextmanager
def reading(process: subprocess.Popen[str]) -> Iterator[Future[tuple[str, str]]]:
    """Read what a process prints while the test watches it: a full pipe would stop it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(finished, process, (0,))


@pytest.mark.parametrize("verb", ["resize", *map(slow, ("tag", "check", "faces", "cutout"))])
def test_the_outcome_is_that_of_a_local_run_for_one_two_and_four_workers(cluster, tmp_path, verb):
    here = project(tmp_path / "local" / "p")
    said = locally(here, VERBS[verb])
    assert len(outcome(here)) > 8 or verb == "check"
    for workers in (1, 2, 4):
        there = project(tmp_path / str(workers) / "p")
        extra = ("--json", "--executor", "ray", "--actors", str(workers), "--batch-images", "2")
        out, _ = finished(dsk(cluster, there, *VERBS[verb], *extra))
        assert out == said
        assert outcome(there) == outcome(here)
        assert stored(there) == stored(here)


@pytest.mark.parametrize("verb", ["resize", *map(slow, ("tag", "erase"))])
def test_shipped_images_give_the_same_by_a_connection_to_the_head(cluster, tmp_path, verb):
    here = project(tmp_path / "local" / "p")
    said = locally(here, VERBS[verb])
    there = project(tmp_path / "ray" / "p")
    extra = ("--json", "--executor", cluster.client, "--ship-images")
    out, _ = finished(dsk(cluster, there, *VERBS[verb], *extra))
    assert (out, outcome(there)) == (said, outcome(here))


def test_a_broken_image_is_one_failure(cluster, tmp_path):
    here, there = (project(tmp_path / name / "p") for name in ("local", "ray"))
    for folder in (here, there):
        path = folder / "imgs" / "0003.jpg"
        path.write_bytes(path.read_bytes()[:2000])
    said = locally(here, VERBS["resize"])
    out, _ = finished(dsk(cluster, there, *VERBS["resize"], "--json", "--executor", "ray"), (3,))
    assert out == said and outcome(there) == outcome(here)


# ---- shares of GPUs


def spans(
    cluster: Raylets, gpus: float, workers: int = 0
) -> dict[str, list[tuple[str, float, float]]]:
    """Run work with a share of a GPU each; return of each worker its GPU, and when it worked.
    workers: that are ready first, 0 for what there is room for.
    """
    process = cluster.python(
        "-c", TOY, "ray", "on_gpu", "8", "0.2", str(workers), "1", str(gpus),
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    out, _ = finished(process)
    by_worker: dict[str, list[tuple[str, float, float]]] = {}
    for line in out.splitlines()[:-1]:
        _, pid, gpu, begun, ended = line.split()
        by_worker.setdefault(pid, []).append((gpu, float(begun), float(ended)))
    return by_worker


def test_two_workers_with_half_a_gpu_each_are_at_work_at_once_and_whole_ones_alone():
    """The node only says that it has a GPU; Ray deals it out as it would a real one."""
    with raylets.started(1, cpus=2, gpus=1) as cluster:
        first, second = spans(cluster, 0.5, workers=2).values()
        assert {gpu for gpu, *_ in first + second} == {"0"}
        assert any(a[1] < b[2] and b[1] < a[2] for a in first for b in second)
        [alone] = spans(cluster, 1).values()
        assert {gpu for gpu, *_ in alone} == {"0"}
        [without] = spans(cluster, 0).values()
        assert {gpu for gpu, *_ in without} == {"none"}


# ---- kills


def toy(cluster: Raylets, items: int, executor: str = "ray") -> subprocess.Popen[str]:
    """Run toy work on numbered items, ten a batch."""
    return cluster.python(
        "-c", TOY, executor, "waiting", str(items), str(SECONDS), "0", "10",
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip


def with_kills(cluster: Raylets, kills: int, items: int, kill: Callable[[int], bool]) -> list[str]:
    """Run toy work while `kill` is called, as often as it kills; return the warnings."""
    process = toy(cluster, items)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # the first result: from here on
        for n in range(kills):
            while not kill(n):
                time.sleep(0.1)
                if process.poll() is not None:
                    assert process.stderr is not None
                    pytest.fail(f"ended after {n} of {kills} kills: {process.stderr.read()}")
        # Not communicate(): it passes over what readline() has read ahead.
        lines += process.stdout.readlines()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    assert process.returncode == 0, err
    *results, last = lines
    assert [line.split()[0] for line in results] == [str(n) for n in range(items)]
    warnings: list[str] = json.loads(last)["warnings"]
    return warnings


def kill_workers(cluster: Raylets, kills: int, pause: float = 0.5) -> list[str]:
    """Kill workers, one after the other. pause: seconds before each."""
    killed: list[int] = []

    def kill(n: int) -> bool:
        time.sleep(pause)
        # A node whose worker dies three times while it loads gets no other one, and on a busy
        # machine loading takes longer than the time between two kills.
        alive = [pid for pid in cluster.actors_at_work() if pid not in killed]
        if not alive:
            return False
        killed.append(alive[n % len(alive)])
        os.kill(killed[-1], signal.SIGKILL)
        return True

    warnings = with_kills(cluster, kills, round(300 * pause) * kills, kill)
    assert len(set(killed)) == kills
    return warnings


def kill_nodes(cluster: Raylets, kills: int) -> list[str]:
    def kill(n: int) -> bool:
        cluster.order("kill", 0)
        time.sleep(1)
        cluster.order("add")
        return True

    return with_kills(cluster, kills, 500 * kills, kill)


def test_ten_workers_are_killed_and_nothing_is_lost_and_nothing_comes_twice(cluster):
    warnings = kill_workers(cluster, 10)
    assert warnings and all("was lost: its" in line for line in warnings)


@pytest.mark.slow
def test_ten_nodes_are_killed_and_nothing_is_lost_and_nothing_comes_twice(own_cluster):
    warnings = kill_nodes(own_cluster, 10)
    assert warnings and all("was lost: its" in line for line in warnings)


@pytest.mark.slow
def test_fifty_workers_are_killed(cluster):
    # A batch takes half a second, and goes to another worker at once. With a pause of as long, one
    # that is hit four times in a row is likely among fifty kills, and then its image is given up.
    assert kill_workers(cluster, 50, pause=1.5)


@pytest.mark.slow
def test_fifty_nodes_are_killed(own_cluster):
    assert kill_nodes(own_cluster, 50)


@pytest.mark.slow
def test_a_resize_whose_workers_and_node_are_killed_is_that_of_a_local_run(own_cluster, tmp_path):
    here = project(tmp_path / "local" / "p", images=300)
    said = locally(here, VERBS["resize"])
    there = project(tmp_path / "ray" / "p", images=300)
    extra = ("--json", "--executor", "ray", "--batch-images", "4")
    process = dsk(own_cluster, there, *VERBS["resize"], *extra)
    small, kills = there / "small", 0
    with reading(process) as ended:
        while not ended.done():
            done = len(list(small.glob("*.jpg"))) if small.is_dir() else 0
            if done > 40 * (kills + 1) and kills < 3:
                kills += 1
                if kills == 2:
                    own_cluster.order("kill", 0)
                else:
                    os.kill(own_cluster.actors()[0], signal.SIGKILL)
            time.sleep(0.05)
    out, _ = ended.result()
    assert kills == 3
    assert outcome(there) == outcome(here) and stored(there) == stored(here)
    assert json.loads(out)["result"] == json.loads(said)["result"]


@pytest.mark.slow
def test_a_lost_head_ends_in_order_and_the_next_run_continues(tmp_path):
    folder = project(tmp_path / "p", images=400)
    with raylets.started(2) as first:
        extra = ("--executor", "ray", "--batch-images", "4")
        process = dsk(first, folder, *VERBS["resize"], *extra)
        while len(list(folder.glob("small/*.jpg"))) < 40:
            time.sleep(0.1)
            assert process.poll() is None
        first.order("behead")
        _, err = finished(process, (14,))
    assert "error: the head of the cluster was lost" in err or "connection" in err, err
    assert "what is finished is kept" in err
    kept = len(list(folder.glob("small/*.jpg")))
    assert 40 <= kept < 400
    said = json.loads(locally(folder, VERBS["resize"]))
    kinds = Counter("reason" in outcome for outcome in said["result"]["report"]["outcomes"])
    assert kinds[True] >= 40 and len(list(folder.glob("small/*.jpg"))) == 400
    here = project(tmp_path / "local" / "p", images=400)
    locally(here, VERBS["resize"])
    assert outcome(folder) == outcome(here)


@pytest.mark.slow
def test_an_image_that_ends_each_worker_costs_itself(cluster):
    process = cluster.python(
        "-c", TOY, "ray", "deadly", "40", "0", "0", "10",
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    out, _ = finished(process)
    results = out.splitlines()[:-1]
    assert [n for n, line in enumerate(results) if line != str(n)] == [13]
    assert "ended each worker that it was given to" in results[13]


# ---- what cannot work


def one_error(err: str) -> tuple[str, str]:
    """Return the error and its hint: each one line, and no traceback."""
    assert "Traceback" not in err
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    [hint] = [line for line in err.splitlines() if line.startswith("hint: ")]
    return error, hint


@pytest.mark.slow
def test_an_error_of_the_set_up_on_a_worker_ends_the_run_once(cluster):
    process = cluster.python(
        "-c", TOY, "ray", "missing", "40", "0", "0", "10",
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    out, err = finished(process, (1,))
    assert out == "" and err.rstrip().endswith("ModelFileError: the model toy is missing")


@pytest.mark.slow
def test_a_token_that_is_wrong_is_refused(cluster, tmp_path):
    folder = project(tmp_path / "p")
    before = outcome(folder)
    command = (*VERBS["resize"], "--executor", "ray")
    wrong = {"RAY_AUTH_TOKEN": "x" * 40}
    _, err = finished(dsk(cluster, folder, *command, environment=wrong), (14,))
    error, hint = one_error(err)
    assert "does not let this machine in" in error and "RAY_AUTH_TOKEN_PATH" in hint
    assert outcome(folder) == before and not (folder / "small").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ray", "ray://"])
def test_another_version_of_ray_is_refused(cluster, tmp_path, scheme):
    """This machine's Ray says that it is another one."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.50.0'\n")
    path = {"PYTHONPATH": f"{tmp_path / 'other'}{os.pathsep}{ROOT}"}
    folder = project(tmp_path / "p")
    before = outcome(folder)
    executor = cluster.client if scheme == "ray://" else "ray"
    command = (*VERBS["resize"], "--executor", executor)
    _, err = finished(dsk(cluster, folder, *command, environment=path), (14,))
    error, hint = one_error(err)
    assert "runs another version of Ray or Python" in error and "2.50.0" in error
    assert "the same versions of Python and Ray" in hint
    assert outcome(folder) == before and not (folder / ".dsk").exists()


@pytest.mark.slow
def test_a_node_with_other_packages_is_refused_and_doctor_names_it(cluster, tmp_path):
    """This machine seems to have another Pillow: as seen from it, the nodes differ."""
    other = tmp_path / "other" / "pillow-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 1.0\n")
    path = {"PYTHONPATH": f"{other.parent}{os.pathsep}{ROOT}"}
    folder = project(tmp_path / "p")
    command = (*VERBS["resize"], "--executor", "ray")
    _, err = finished(dsk(cluster, folder, *command, environment=path), (14,))
    error, hint = one_error(err)
    assert "has pillow" in error and "this machine 1.0" in error and "same versions" in hint
    assert not (folder / "small").exists() and not (folder / ".dsk").exists()
    out, _ = finished(dsk(cluster, folder, "doctor", "--executor", "ray", environment=path), (12,))
    assert "node 127.0.0.1" in out and "pillow" in out


def test_doctor_shows_the_nodes(cluster, tmp_path):
    out, _ = finished(dsk(cluster, tmp_path, "doctor", "--executor", cluster.client), (0, 12))
    assert out.count("node 127.0.0.1") == 4 and "1 CPUs, 0 GPUs, the same versions" in out
    assert "no token" not in out


@pytest.mark.slow
def test_a_path_that_the_workers_do_not_see_is_one_line_with_the_next_step(tmp_path):
    """The cluster is in a mount namespace in which the images' folder is empty."""
    if os.geteuid() != 0:
        pytest.skip("a mount in another namespace needs root")
    folder = project(tmp_path / "p")
    with raylets.started(1, hidden=folder / "imgs") as cluster:
        for verb in ("resize", "tag", "check"):
            before = outcome(folder)
            command = (*VERBS[verb], "--executor", "ray")
            _, err = finished(dsk(cluster, folder, *command), (14,))
            error, hint = one_error(err)
            assert f"does not see {folder / 'imgs' / '0000.jpg'}" in error
            assert "--ship-images" in hint
            assert outcome(folder) == before and not (folder / "small").exists()
        finished(dsk(cluster, folder, *VERBS["resize"], "--executor", "ray", "--ship-images"))
        assert len(list((folder / "small").glob("*.jpg"))) == 8


# ---- a cluster of dsk's own


@pytest.mark.slow
def test_a_cluster_that_dsk_starts_listens_on_loopback_alone_and_ends_with_it(tmp_path):
    """The namespace has a second address, by which Ray would be reached outside of one."""
    if os.geteuid() != 0:
        pytest.skip("a second address needs root")
    space = Namespace.make("addr add 10.9.8.7/32 dev lo", "route add default dev lo src 10.9.8.7")
    here, there = (project(tmp_path / name / "p", images=60) for name in ("local", "ray"))
    try:
        process = space.popen(
            [sys.executable, "-m", "datasetkit", *VERBS["resize"], "--json", "--executor", "ray",
             "--actors", "2"],
            cwd=there, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        listening: set[str] = set()
        with reading(process) as ended:
            while not ended.done():
                with suppress(OSError):
                    for table in ("tcp", "tcp6"):
                        path = Path(f"/proc/{space.holder.pid}/net/{table}")
                        rows = [row.split() for row in path.read_text().splitlines()[1:]]
                        listening |= {row[1] for row in rows if row[3] == "0A"}
                time.sleep(0.1)
        out, _ = ended.result()
        assert space.processes("raylet") == space.processes("gcs_server") == []
    finally:
        space.close()
    hosts = {address.split(":")[0] for address in listening}
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert hosts and hosts <= loopback
    assert out == locally(here, VERBS["resize"]) and outcome(there) == outcome(here)
    assert not list(Path("/tmp").glob("dsk-ray-*/session_*"))


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(cluster, tmp_path):
    folder = project(tmp_path / "p", images=300)
    process = dsk(cluster, folder, *VERBS["resize"], "--executor", "ray", "--batch-images", "2")
    while len(list(folder.glob("small/*.jpg"))) < 20:
        time.sleep(0.1)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    finished(process, (130,))
    until = time.monotonic() + 60
    while cluster.actors() and time.monotonic() < until:
        time.sleep(0.1)
    assert cluster.actors() == []
    locally(folder, VERBS["resize"])
    here = project(tmp_path / "local" / "p", images=300)
    locally(here, VERBS["resize"])
    assert outcome(folder) == outcome(here)
