"""A stop is a pause: the first request saves a training state, and the run goes on bit by bit."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datasetkit.cli import interruption
from datasetkit.cli.main import run as run_dsk
from datasetkit.core.files import display
from datasetkit.core.stopping import Action, Request, RunPause, StopRequests, Terminated
from datasetkit.verbs import train as verb
from tests.trainer import tiny
from trainer import loop, run
from trainer.monitor import loss_plot, metrics
from trainer.plan.plan import find_subsets, make_plan

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_small(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny.save_images(folder / "train" / "2_sks", [(64, 64), (64, 64), (64, 64)])
    return folder


def short(model, out):
    """Return options for six steps, three in an epoch; nothing is saved before the end."""
    return tiny.options(
        model, out, resolution=64, max_bucket_reso=128, max_train_epochs=2, train_batch_size=2,
        save_every_n_epochs=0, network_dim=1, flip_aug=True, network_dropout=0.2,
    )  # fmt: skip


@pytest.fixture
def options(model, tmp_path):
    return short(model, tmp_path / "out")


@pytest.fixture(scope="module", autouse=True)
def only_steps():
    """Leave out what takes longer than all steps: the LoRA check and the plot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "check_files", lambda *_: ())
        patch.setattr(loss_plot, "plot", lambda *_, **__: None)
        yield


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


def after_step(monkeypatch, number, action):
    """Do something once, within a step, after its weights have changed."""
    real = loop._step

    def step(*args):
        log = real(*args)
        if log.step == number:
            action()
        return log

    monkeypatch.setattr(loop, "_step", step)


def train(data, options, stop=None, **more):
    with (stop or StopRequests()).listening():
        return run.train(options, planned(data, options), stop=stop, **more)


def paused(data, options, monkeypatch, *, at, signum=signal.SIGINT, **more):
    with monkeypatch.context() as patch, pytest.raises(RunPause) as pause:
        after_step(patch, at, lambda: os.kill(os.getpid(), signum))
        train(data, options, StopRequests(), **more)
    return pause.value


@pytest.fixture(scope="module")
def whole(data, model, tmp_path_factory):
    options = short(model, tmp_path_factory.mktemp("whole"))
    result = run.train(options, planned(data, options))
    return load_file(result.files[-1]), metrics.read_rows(result.metrics)


def states(options):
    return sorted(path.name for path in Path(options.output_dir).glob("sks-state-*"))


def losses(rows):
    return [row["loss"] for row in rows]


@pytest.mark.long
@needs_signals
@pytest.mark.parametrize("save_state", [True, False])
def test_a_run_that_is_paused_twice_equals_an_uninterrupted_one(
    data, options, whole, monkeypatch, save_state
):
    options = replace(options, save_state=save_state)
    pause = paused(data, options, monkeypatch, at=2)
    assert (pause.message, pause.exit_code) == (
        "stopped after step 2 of 6; the training state is saved", 130
    )  # fmt: skip
    assert states(options) == ["sks-state-pause-00000002"]
    again = paused(data, options, monkeypatch, at=5, signum=signal.SIGTERM, resume=True)
    assert again.exit_code == 143
    assert states(options) == ["sks-state-pause-00000005"]
    result = train(data, options, resume=True)
    assert result.start == 5
    tensors, rows = whole
    resumed = load_file(result.files[-1])
    assert all(torch.equal(value, resumed[key]) for key, value in tensors.items())
    assert losses(metrics.read_rows(result.metrics)) == losses(rows)
    assert states(options) == []  # the run has ended well


@pytest.mark.long
def test_a_run_that_saves_and_draws_when_asked_trains_the_same(
    data, options, whole, monkeypatch, tmp_path
):
    """The files are those of the step, and a resumed run goes on from its state."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sks --w 64 --h 64 --s 2\n", encoding="utf-8")
    options = replace(options, sample_prompts=str(prompts))
    asked: list[frozenset[Action]] = [frozenset({"save", "preview"}), frozenset()]
    seen = []
    after_step(monkeypatch, 5, lambda: seen.extend(states(options)))
    result = train(data, options, StopRequests(take=lambda: asked.pop() if asked else frozenset()))
    tensors, rows = whole
    assert losses(metrics.read_rows(result.metrics)) == losses(rows)
    last = load_file(result.files[-1])
    assert all(torch.equal(value, last[key]) for key, value in tensors.items())
    assert seen == states(options) == ["sks-state-00000002"]
    names = {path.name for path in Path(options.output_dir).rglob("*step00000002*")}
    assert {name.rpartition(".")[2] for name in names} >= {"safetensors", "png"}


@pytest.mark.long
def test_a_stop_after_the_last_step_lets_the_run_end(data, options, monkeypatch):
    after_step(monkeypatch, 6, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train(data, options, StopRequests()).files[-1].is_file()


@pytest.mark.long
def test_a_second_signal_ends_at_once(data, options, monkeypatch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    after_step(monkeypatch, 2, twice)
    with pytest.raises(KeyboardInterrupt):
        train(data, options, StopRequests())
    assert states(options) == []


def test_while_nothing_can_be_saved_the_first_signal_ends_at_once(data, options, monkeypatch):
    monkeypatch.setattr(run, "_encode", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    stop = StopRequests()
    with pytest.raises(Terminated):
        train(data, options, stop)
    assert not stop.could_save and states(options) == []


# Where the interrupt meets a callback of the garbage collector Python only reports it; the loop
# then reads the request and saves.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_in_a_thread_stops_for_a_request(data, options):
    """There a program has no signals: the request is read, and also raised while nothing runs."""
    outcomes = []

    def work(stop):
        try:
            train(data, options, stop)
        except BaseException as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=work, args=(StopRequests(read=lambda: "save"),))
    thread.start()
    thread.join()
    assert outcomes and outcomes[0] in (RunPause, KeyboardInterrupt)


@pytest.mark.parametrize("how", ["now", "save"])
def test_a_request_while_loading_interrupts(how):
    stop = StopRequests(read=lambda: how)
    with pytest.raises(KeyboardInterrupt), stop.listening():
        for _ in range(500):
            time.sleep(0.01)


def test_a_request_to_save_is_reported_once_and_a_request_for_now_ends():
    answers: list[Request] = ["save"]
    reports: list[int] = []
    stop = StopRequests(read=lambda: answers[0], tell=lambda: reports.append(1))
    with pytest.raises(KeyboardInterrupt), stop.listening(), stop.saving():
        for n in range(500):
            time.sleep(0.01)
            if n == 60:
                assert stop.is_asked() and reports == [1]
                answers[0] = "now"
    assert reports == [1]


@needs_signals
@pytest.mark.parametrize("signum", SIGNALS)
def test_handlers_are_restored_and_ignored_signals_stay_ignored(signum):
    before = signal.getsignal(signum)
    with StopRequests().listening():
        assert signal.getsignal(signum) != before
    assert signal.getsignal(signum) == before
    signal.signal(signum, signal.SIG_IGN)
    try:
        stop = StopRequests()
        with stop.listening():
            os.kill(os.getpid(), signum)
            assert signal.getsignal(signum) == signal.SIG_IGN and not stop.is_asked()
    finally:
        signal.signal(signum, before)


@pytest.mark.long
def test_states_are_saved_by_the_clock_and_only_the_newest_is_kept(data, options, monkeypatch):
    options = replace(options, save_state_every_minutes=1e-9, save_state=False)
    seen = []
    for step in (2, 4):
        after_step(monkeypatch, step, lambda: seen.append(states(options)))
    train(data, options)
    assert seen == [["sks-state-pause-00000001"], ["sks-state-pause-00000003"]]
    assert states(options) == []


@pytest.mark.long
def test_no_states_are_saved_by_the_clock_with_0(data, options, monkeypatch):
    seen = []
    after_step(monkeypatch, 5, lambda: seen.append(states(options)))
    hours = itertools.count(step=3600)
    monkeypatch.setattr(time, "monotonic", lambda: next(hours))
    train(data, replace(options, save_state_every_minutes=0))
    assert seen == [[]]


@pytest.mark.long
def test_the_state_of_a_saved_lora_replaces_that_of_the_clock(data, options, monkeypatch):
    options = replace(options, save_state_every_minutes=1e-9, save_every_n_steps=3)
    seen = []
    after_step(monkeypatch, 4, lambda: seen.append(states(options)))
    train(data, options)
    assert seen == [["sks-state-00000003"]]
    assert states(options) == ["sks-state-00000003"]


def command(model, *more):
    pairs = [
        "resolution=64", "min_bucket_reso=64", "max_bucket_reso=128", "optimizer_type=AdamW",
        "mixed_precision=no", "network_dim=1", "max_train_steps=4", "output_name=sks",
        f"pretrained_model_name_or_path={model}", *more,
    ]  # fmt: skip
    return ["train", "my data", *(word for pair in pairs for word in ("--set", pair))]


@pytest.fixture
def here(data, tmp_path, monkeypatch):
    tiny.copy_folder(data, tmp_path / "my data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
@needs_signals
def test_the_command_prints_the_one_that_goes_on(here, model, monkeypatch, capsys):
    arguments = command(model, "save_every_n_epochs=0", "save_state=false")
    with monkeypatch.context() as patch:
        after_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert run_dsk(arguments) == 130
    err = capsys.readouterr().err
    assert "stopped after step 3 of 4; the training state is saved" in err and "error" not in err
    line = next(line for line in err.splitlines() if line.startswith("to continue: "))
    typed = shlex.split(line.removeprefix("to continue: "))
    assert typed == ["dsk", *arguments, "--resume"]
    # What a fresh start, and a dry run of each, say of it.
    assert run_dsk([*arguments, "--dry-run"]) == 0
    assert "training state of step 3: --resume would go on from it" in capsys.readouterr().err
    assert run_dsk([*typed[1:], "--dry-run"]) == 0
    assert "resumed after step 3" in capsys.readouterr().out
    assert run_dsk(typed[1:]) == 0
    assert "trained 1 step" in capsys.readouterr().out
    assert run_dsk([*typed[1:], "--dry-run"]) == 2
    assert "has no training state of sks" in capsys.readouterr().err


@pytest.mark.long
def test_a_full_disk_names_what_goes_on(here, model, monkeypatch, capsys):
    from datasetkit.core.files import storage_error

    arguments = command(model, "save_every_n_steps=1", "save_every_n_epochs=0")

    def fail(*_):
        raise storage_error(Path("output/sks.safetensors"), OSError(28, "No space left"))

    with monkeypatch.context() as patch:
        after_step(patch, 3, fail)
        assert run_dsk(arguments) == 13
    err = capsys.readouterr().err
    assert "free some disk space; the newest training state is of step 2" in err
    assert f"to continue: {shlex.join(['dsk', *arguments, '--resume'])}" in err
    with monkeypatch.context() as patch:
        after_step(patch, 1, fail)
        assert run_dsk([*arguments, "--set", "output_name=other"]) == 13
    err = capsys.readouterr().err
    assert "no training state was saved: the same command starts again" in err
    assert "to continue" not in err


def test_a_stop_while_loading_says_that_there_is_nothing_to_save(here, model, monkeypatch, capsys):
    monkeypatch.setattr(run, "_encode", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert run_dsk(command(model)) == 130
    err = capsys.readouterr().err
    assert verb._NOTHING_TO_SAVE in err and "starts again at step 1" in err


CHILD = """
import os, signal, sys, time
from datasetkit.core.stopping import RunPause, StopRequests
stop = StopRequests()
with stop.listening(), stop.saving():
    print("ready", flush=True)
    while not stop.is_asked():
        time.sleep(0.01)
    print("not lost")  # to a terminal that is gone
    sys.stdout.flush()
sys.exit(128 + stop.signum)
"""


@needs_signals
def test_a_terminal_that_is_gone_does_not_end_the_run_before_it_saves():
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    child.send_signal(signal.SIGHUP)
    assert child.wait(20) == 129


@needs_signals
def test_nohup_keeps_hang_ups_away():
    child = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, CHILD],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 143
    child.stdout.close()


@pytest.mark.parametrize(
    ("words", "program", "command"),
    [
        (["train", "my set"], "/usr/bin/dsk", "dsk train 'my set' --resume"),
        (["train", "ds", "--resume"], "/usr/bin/dsk", "dsk train ds --resume"),
        (["train", "--", "-ds"], "/usr/bin/dsk", "dsk train --resume -- -ds"),
        (["train", "--", "--resume"], "dsk", "dsk train --resume -- --resume"),
        (["train", "it's"], "/x/datasetkit/__main__.py",
         """python -m datasetkit train 'it'"'"'s' --resume"""),
        (["train", "ds"], "/x/pytest/__main__.py", "dsk train ds --resume"),
        (["train", "a\u3000b's"], "dsk", r"dsk train $'a\u3000b\'s' --resume"),
        (["train", "a\xa0b\\"], "dsk", r"dsk train $'a\u00a0b\\' --resume"),
        (["train", "a\udcffc\U000e0001"], "dsk", r"dsk train $'a\xffc\U000e0001' --resume"),
    ],
)  # fmt: skip
def test_the_command_to_continue_is_called_as_the_first_one_was(
    monkeypatch, words, program, command
):
    monkeypatch.setattr(sys, "argv", [program])
    assert interruption.typed(words, "--resume") == command


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_printed_command_gives_the_shell_the_same_words(tmp_path):
    words = ["it's", "a\u3000b", "\xa0", "x\u200d1", "e\u0301", "$HOME `x` \\", "", "\udcfff"]
    printed = display(interruption.shell_line(words))
    (tmp_path / "line.sh").write_text(f"printf '%s\\0' {printed}", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    ended = subprocess.run(
        ["bash", tmp_path / "line.sh"], capture_output=True, env=environment, check=True
    )
    assert [os.fsdecode(word) for word in ended.stdout.split(b"\0")[:-1]] == words
