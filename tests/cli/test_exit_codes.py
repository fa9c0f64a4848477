"""Exit codes are frozen, and are found in the order ranges, dataset, model; every error is a line
and a hint.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core import errors
from datasetkit.core.errors import Exit
from datasetkit.core.stopping import Terminated
from datasetkit.project.locks import lock
from tests.cli.conftest import images

ROOT = Path(__file__).parents[2]


def test_the_codes_are_frozen():
    assert {code.name: int(code) for code in Exit} == {
        "DONE": 0,
        "INTERNAL": 1,
        "USAGE": 2,
        "SOME_FAILED": 3,
        "DATASET": 10,
        "LOCKED": 11,
        "MODEL": 12,
        "STORAGE": 13,
        "CLUSTER": 14,
        "CHECK_FOUND": 20,
        "LORA_CHECK_FAILED": 21,
        "HUNG_UP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_the_code_of_every_error_is_frozen():
    subclasses = (
        cls for cls in errors.DskError.__subclasses__() if cls.__module__ == errors.__name__
    )
    codes = {cls.__name__: int(cls.exit_code) for cls in subclasses}
    assert codes == {
        "InputError": 2,
        "ConfigError": 2,
        "HalfDone": 2,
        "UnsignedEntry": 2,
        "PlanConflict": 2,
        "DatasetError": 10,
        "Locked": 11,
        "ModelFileError": 12,
        "MissingExtra": 12,
        "StorageError": 13,
        "ClusterError": 14,
    }


@pytest.mark.parametrize("cls", errors.DskError.__subclasses__(), ids=lambda cls: cls.__name__)
def test_an_error_is_one_line_and_a_hint_on_stderr(dsk, monkeypatch, cls):
    def fail():
        raise cls("it did not work", hint="do this [bold]next[/x]")

    monkeypatch.setattr(api, "groups", fail)
    ended = dsk("rules", "groups", "--json")
    assert (ended.code, ended.out) == (cls.exit_code, "")
    assert ended.err == "error: it did not work\nhint: do this [bold]next[/x]\n"


def test_control_characters_of_a_name_do_not_reach_the_terminal(dsk):
    ended = dsk("tag", "evil\x1b[31m\u202e")
    assert ended.code == 10 and "\x1b" not in ended.err and "\u202e" not in ended.err
    assert "\\x1b[31m" in ended.err


ORDER = [
    (("tag", "nowhere", "--threshold", "7", "--tagger", "wd-vit-v3"), 2),
    (("tag", "nowhere", "--tagger", "wd-vit-large-v3", "--threshold", "pr"), 2),
    (("tag", "nowhere", "--tagger", "wd-vit-v3"), 10),
    (("tag", "empty", "--tagger", "wd-vit-v3"), 10),
    (("tag", "imgs", "--tagger", "wd-vit-v3"), 12),
    (("resize", "nowhere", "--max", "1"), 2),
    (("resize", "nowhere"), 10),
    (("resize", "empty"), 10),
    (("rules", "empty", "--exclude", "@nonsense"), 2),
    (("rules", "empty", "--exclude", "lips"), 10),
    (("rename", "empty"), 2),
    (("rename", "empty", "x"), 10),
    (("plan-repeats", "empty", "--steps", "0"), 2),
    (("plan-repeats", "empty"), 10),
    (("plan-repeats", "nowhere"), 10),
    (("layout", "x=empty"), 10),
    (("layout", "x=nowhere"), 10),
    (("layout",), 10),
    (("layout", "x=imgs", "x=imgs"), 2),
    (("reg", "imgs"), 2),
    (("reg", "imgs", "--class", "1girl"), 10),
    (("report", "imgs"), 10),
    (("report", "empty"), 10),
    (("export", "empty"), 10),
    (("import", "empty"), 10),
    (("import", "imgs", "--from", "meta"), 2),
    (("import", "imgs", "--meta", "nowhere.json"), 2),
    (("doctor", "nowhere"), 10),
    (("history", "nowhere"), 10),
    (("history", "imgs"), 2),
    (("undo", "imgs"), 2),
    (("run", "nowhere.toml"), 2),
    (("run",), 2),
    (("models", "download", "wd-vti-v3"), 2),
    (("models", "download", "wd-vit-v3"), 12),
]


@pytest.mark.parametrize(
    ("arguments", "code"), ORDER, ids=lambda value: " ".join(value) if type(value) is tuple else ""
)
def test_options_are_checked_before_the_dataset_and_the_dataset_before_the_model(
    dsk, here, arguments, code
):
    images(here / "imgs", 1)
    (here / "empty").mkdir()
    before = sorted(here.rglob("*"))
    ended = dsk(*arguments)
    assert (ended.code, ended.out) == (code, "")
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-2:-1]
    assert lines[-1].startswith("hint: ")
    assert sorted(here.rglob("*")) == before or code == 12


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("tga",), "error: No such command 'tga'. Did you mean 'tag'?\nhint: see dsk --help\n"),
        (("tag", "x", "--treshold", "1"), "error: No such option: --treshold"),
        (("tag",), "error: Missing argument 'DIR'.\nhint: see dsk tag --help\n"),
        (
            ("tag", "x", "--threshold", "high"),
            "error: Invalid value: --threshold high is neither a number nor pr\n",
        ),
        (
            ("tag", "x", "--existing", "keep"),
            "error: Invalid value for '--existing': 'keep' is not one of ",
        ),
        (("resize", "x", "--max", "big"), "error: Invalid value for '--max'"),
        (
            ("models", "lst"),
            "error: No such command 'lst'. Did you mean 'list'?\nhint: see dsk models --help\n",
        ),
    ],
)
def test_a_usage_error_is_printed_like_every_other_error(dsk, arguments, error):
    ended = dsk(*arguments)
    assert (ended.code, ended.out) == (2, "") and ended.err.startswith(error)


@pytest.mark.parametrize("verb", ["tag", "rules", "check", "report", "export", "review", "import"])
def test_a_folder_that_does_not_exist_is_named_alike(dsk, verb):
    ended = dsk(verb, "nowhere", *(["--exclude", "x"] if verb == "rules" else []))
    assert (ended.code, ended.err.splitlines()[0]) == (10, "error: nowhere does not exist")
    assert "error: no.png does not exist" in dsk("scores", "no.png").err


def test_no_arguments_print_the_help_and_exit_2(dsk):
    for arguments in ((), ("models",)):
        ended = dsk(*arguments)
        assert (
            ended.code == 2 and "Usage: dsk" in ended.out + ended.err and "error" not in ended.err
        )


def test_the_version_is_printed(dsk):
    assert dsk("--version").out == "dsk 0.1.0\n"


def test_a_project_that_another_run_holds_exits_11(dsk, here):
    images(here / "imgs", 1)
    with lock(here / "imgs"):
        ended = dsk("tag", "imgs")
    assert ended.code == 11 and "hint: wait for it to end, or add --wait" in ended.err


def test_a_broken_store_exits_13(dsk, monkeypatch):
    def fail():
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(api, "groups", fail)
    ended = dsk("rules", "groups")
    assert ended.code == 13 and "disk I/O error" in ended.err


def test_a_damaged_store_exits_13_with_a_hint(dsk, here):
    images(here / "imgs", 1)
    (here / "imgs" / ".dsk").mkdir()
    (here / "imgs" / ".dsk" / "store.sqlite").write_bytes(b"this is no database, not at all" * 100)
    ended = dsk("tag", "imgs")
    assert ended.code == 13 and "hint: delete .dsk/store.sqlite" in ended.err


def test_ctrl_c_exits_130_without_a_traceback(dsk, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "groups", interrupt)
    ended = dsk("rules", "groups")
    assert (ended.code, ended.out) == (130, "") and ended.err.startswith(
        "error: interrupted\nhint: "
    )


def test_termination_exits_143(dsk, monkeypatch):
    def terminate():
        raise Terminated

    monkeypatch.setattr(api, "groups", terminate)
    assert dsk("rules", "groups").code == 143


def test_a_bug_shows_its_traceback(dsk, monkeypatch):
    def bug():
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(api, "groups", bug)
    with pytest.raises(ZeroDivisionError):
        dsk("rules", "groups")


def program(body: str) -> list[str]:
    """Run the real entry point with a verb that was replaced by `body`."""
    return [
        sys.executable,
        "-c",
        f"import sys, time\nfrom datasetkit import api\ndef groups():\n    {body}\napi.groups "
        "= groups\n"
        "sys.argv = ['dsk', 'rules', 'groups']\nfrom datasetkit.__main__ import main\nmain()",
    ]


def test_the_process_of_a_bug_exits_1_with_a_traceback():
    ended = subprocess.run(program("1 / 0"), capture_output=True, text=True, cwd=ROOT)
    assert (
        ended.returncode == 1
        and "Traceback" in ended.stderr
        and "ZeroDivisionError" in ended.stderr
    )


@pytest.mark.long
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_receives_a_signal_exits_with_its_code(sent, code):
    body = "print('at work', file=sys.stderr, flush=True); time.sleep(60)"
    process = subprocess.Popen(
        program(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None and process.stderr.readline() == "at work\n"
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert err.startswith("error: ") and "Traceback" not in err


def test_a_closed_pipe_is_not_an_error():
    read, write = os.pipe()
    body = "print('ready', file=sys.stderr, flush=True); time.sleep(0.3); return api_groups()"
    command = program(body)
    command[2] = command[2].replace("def groups", "api_groups = api.groups\ndef groups")
    process = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    os.close(read)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_the_module_runs_as_a_process(tmp_path):
    images(tmp_path, 2)
    begun = time.perf_counter()
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "datasetkit",
            "plan-repeats",
            str(tmp_path),
            "--steps",
            "1000",
            "--epochs",
            "10",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    print(f"plan-repeats on 2 images: {time.perf_counter() - begun:.2f} s")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1,000 optimizer steps in total" in ended.stdout
