"""`--executor` with what cannot work: one line with the next step, the right exit code, and nothing
is changed. None of these needs a cluster.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

import pytest

from datasetkit.core.errors import ClusterError, ConfigError
from datasetkit.executors import ray_cluster
from datasetkit.options.executor import ExecutorOptions
from tests.cli.conftest import images, snapshot

COMMANDS = [
    ("tag", "imgs", "--tagger", "basic"),
    ("caption", "imgs"),
    ("resize", "imgs", "out"),
    ("cutout", "imgs", "out"),
    ("faces", "list", "imgs"),
    ("faces", "crop", "imgs", "out"),
    ("faces", "erase", "imgs", "out"),
    ("check", "imgs"),
]


@pytest.fixture
def has_ray(monkeypatch):
    """As if Ray were installed: these end before it is used."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find("json") if name == "ray" else find(name)
    )


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_head_that_cannot_be_reached_changes_nothing(dsk, here, has_ray, closed_port, command):
    images(here / "imgs")
    before = snapshot(here)
    ended = dsk(*command, "--executor", f"ray://127.0.0.1:{closed_port}")
    assert ended.code == 14, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith(("error:", "hint:"))]
    assert f"the head 127.0.0.1:{closed_port} cannot be reached" in lines[0]
    assert "ray start --head" in lines[1]
    assert snapshot(here) == before


def test_local_needs_no_ray(dsk, here, monkeypatch):
    images(here / "imgs")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ended = dsk("resize", "imgs", "small", "--max", "32", "--executor", "local")
    assert ended.code == 0, ended.err
    assert len(list(Path("small").iterdir())) >= len(list(Path("imgs").iterdir()))


def test_doctor_names_a_head_that_cannot_be_reached(dsk, here, has_ray, closed_port):
    ended = dsk("doctor", "--executor", f"ray://127.0.0.1:{closed_port}")
    assert ended.code == 12 and f"the head 127.0.0.1:{closed_port} cannot be reached" in ended.out
    assert "ray start --head" in ended.out


def test_a_head_of_the_variable_that_cannot_be_reached_is_corrected_there(
    dsk, here, has_ray, monkeypatch, closed_port
):
    images(here / "imgs")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    ended = dsk("check", "imgs", "--executor", "ray")
    assert ended.code == 14 and "correct RAY_ADDRESS=HEAD:6379" in ended.err


def test_a_cluster_of_this_machine_that_never_answers_is_not_called_a_head(
    dsk, here, has_ray, monkeypatch
):
    """Ray finds the address of a cluster that has ended without a word."""
    images(here / "imgs")
    monkeypatch.setattr(ray_cluster, "_DRIVER", ("-c", "import time; time.sleep(100)"))
    monkeypatch.setattr(ray_cluster, "_CONNECT", 0.2)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    ended = dsk("check", "imgs", "--executor", "ray")
    assert ended.code == 14 and "the cluster of this machine did not answer" in ended.err
    assert "RAY_ADDRESS=HEAD:6379" in ended.err


@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_what_takes_connections_and_never_answers_is_given_up(
    dsk, here, has_ray, monkeypatch, scheme
):
    """Ray would try for a quarter of an hour: here its process waits as long."""
    images(here / "imgs")
    before = snapshot(here)
    monkeypatch.setattr(ray_cluster, "_DRIVER", ("-c", "import time; time.sleep(100)"))
    monkeypatch.setattr(ray_cluster, "_CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        ended = dsk(
            "resize", "imgs", "out", "--executor", "ray" if not scheme else scheme + address
        )
    assert ended.code == 14
    assert f"{address} takes connections, but did not answer" in ended.err
    assert "10001" in ended.err and "6379" in ended.err
    assert snapshot(here) == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_ray_the_extra_is_named(dsk, here, monkeypatch, command):
    images(here / "imgs")
    before = snapshot(here)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else find(name)
    )
    ended = dsk(*command, "--executor", "ray")
    assert ended.code == 12 and "--executor ray needs Ray" in ended.err and "[ray]" in ended.err
    assert snapshot(here) == before


@pytest.mark.parametrize(
    "address",
    [
        "",
        "Ray",
        "ray:",
        "ray://",
        "ray://a b",
        "ray://h:port",
        "http://h",
        "10.0.0.1",
        "ray://h:65536",
    ],
)
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ConfigError, match=r"the executor address .* is not known"):
        ExecutorOptions(address=address)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"gpus": 1.5}, "1.5 GPUs a worker are not possible"),
        ({"gpus": 0.00001}, "1e-05 GPUs a worker are too few"),
        ({"cpus": 0.0001}, "0.0001 CPUs a worker are too few"),
    ],
)
def test_a_share_that_ray_cannot_give_is_refused(shares, said):
    with pytest.raises(ConfigError, match=said) as refused:
        ExecutorOptions(address="ray", **shares)
    assert "--" in refused.value.hint


@pytest.mark.parametrize(
    ("executor", "variable", "address"),
    [
        ("ray", "", "local"),
        ("ray", "10.0.0.1:6379", "10.0.0.1:6379"),
        ("ray://head", "ignored", "ray://head:10001"),
        ("ray://head:7000", "", "ray://head:7000"),
        ("ray", "auto", "auto"),
        ("ray", "[::1]:6379", "[::1]:6379"),
        ("ray", "ray://head", "ray://head:10001"),
        ("ray://[::1]", "", "ray://[::1]:10001"),
        ("ray://[::1]:7000/", "", "ray://[::1]:7000"),
    ],
)
def test_which_cluster_is_meant(monkeypatch, executor, variable, address):
    ExecutorOptions(address=executor)
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert ray_cluster.address_of(executor) == address


@pytest.mark.parametrize(
    "variable",
    ["head", "http://head:6379", "head:port", "a b:1", ":6379", "h:65536", "ray://a b", "ray://"],
)
def test_a_variable_that_is_no_address_is_refused(dsk, here, has_ray, monkeypatch, variable):
    images(here / "imgs")
    before = snapshot(here)
    monkeypatch.setenv("RAY_ADDRESS", variable)
    ended = dsk("resize", "imgs", "out", "--executor", "ray")
    assert ended.code == 14 and "RAY_ADDRESS is" in ended.err and "HEAD:6379" in ended.err
    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("reason", "said", "hint"),
    [
        (
            "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n"
            "    Python: 3.11.7\nThis process on node 10.0.0.2 was started with:\n    Ray: 2.52.0",
            "another version of Ray or Python: RuntimeError: Version mismatch",
            "the same versions",
        ),
        (
            "RuntimeError: Python minor versions differ between client and server",
            "another version of Ray or Python",
            "the same versions",
        ),
        (
            "ConnectionError: Could not find any running Ray instance. Please specify the one",
            "no Ray cluster runs on this machine",
            "unset RAY_ADDRESS",
        ),
        (
            "AuthenticationError: RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is "
            "empty: /etc/token. Ensure that the token is available",
            "no token for the cluster head:10001: RAY_AUTH_TOKEN_PATH is set but file cannot be "
            "opened or is empty: /etc/token",
            "RAY_AUTH_TOKEN_PATH names a file",
        ),
        ("ConnectionError: ray client connection timeout", "does not let", "RAY_AUTH_TOKEN_PATH"),
        ("ValueError: what is this", "cannot use the cluster head:10001: ValueError", "status"),
    ],
)
def test_what_ray_says_becomes_one_line(reason, said, hint):
    error = ray_cluster._refused("ray://head:10001", reason)
    assert isinstance(error, ClusterError) and error.exit_code == 14
    assert said in error.message and "\n" not in error.message and hint in error.hint


def test_a_found_dsk_toml_does_not_decide_where_images_are_sent(dsk, here, has_ray):
    folder = here / "downloaded"
    images(folder)
    (folder / "dsk.toml").write_text('[executor]\naddress = "ray://evil.example"\n')
    ended = dsk("tag", "downloaded", "--tagger", "basic")
    assert ended.code == 2 and "--executor ray://evil.example" in ended.err
    tried = dsk("doctor", "downloaded")
    assert "names a cluster" in tried.err and "cluster" not in tried.out


def test_own_clusters_listen_on_loopback_ask_for_a_token_and_report_to_nobody():
    assert ray_cluster._OWN == {
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300",
    }


def test_a_named_dsk_toml_decides_for_a_run(dsk, here, has_ray, closed_port):
    images(here / "imgs")
    text = f'[executor]\naddress = "ray://127.0.0.1:{closed_port}"\n[[concept]]\nfolder = "imgs"\n'
    Path("dsk.toml").write_text(text)
    before = snapshot(here)
    ended = dsk("run", "dsk.toml")
    assert ended.code == 14 and "cannot be reached" in ended.err, ended.err
    assert snapshot(here) == before
