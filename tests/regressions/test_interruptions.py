"""Ctrl-C says what the command that was stopped has left, and the exact command that goes on."""

from __future__ import annotations

import os
import shlex

import pytest

from datasetkit.cli import interruption
from datasetkit.cli.main import commands
from datasetkit.core.errors import Exit
from datasetkit.core.stopping import Terminated
from tests.cli.conftest import images, snapshot
from tests.trainer import tiny

SMALL = [
    "resolution=64", "min_bucket_reso=64", "max_bucket_reso=128", "optimizer_type=AdamW",
    "mixed_precision=no", "network_dim=4", "max_train_steps=3", "save_every_n_steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_small(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def no_earlier_command():
    interruption.forget()


@pytest.fixture
def train(here, model):
    """A command line that trains six steps, without `dsk`."""
    tiny.save_images(here / "my data" / "train" / "2_sks", [(64, 64), (64, 64)])

    def command(*more: str) -> list[str]:
        pairs = [*SMALL, f"pretrained_model_name_or_path={model}", *more]
        return ["train", "my data", *(word for pair in pairs for word in ("--set", pair))]

    return command


def stop_at(monkeypatch, step, error: type[BaseException] = KeyboardInterrupt):
    """Stop the training before it takes a step."""
    from trainer import loop

    calls = []
    real = loop.add_noise

    def add_noise(*args, **named):
        calls.append(1)
        if len(calls) == step:
            raise error
        return real(*args, **named)

    monkeypatch.setattr(loop, "add_noise", add_noise)


def hint(ended) -> str:
    words: list[str] = ended.err.rsplit("hint: ", 1)[1].split()
    return " ".join(words)


def command_to_continue(ended) -> list[str]:
    """Return the words of the command that a stopped training prints on a line of its own."""
    line = next(line for line in ended.err.splitlines() if line.startswith("to continue: "))
    return shlex.split(line.removeprefix("to continue: "))


@pytest.mark.long
def test_a_stopped_training_names_the_command_that_goes_on_from_its_state(
    dsk, here, train, monkeypatch
):
    command = train("save_state=true")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        ended = dsk(*command)
    assert ended.code == Exit.INTERRUPTED
    typed = command_to_continue(ended)
    assert typed == ["dsk", *command, "--resume"]
    assert "state is of step 2" in hint(ended)
    assert [p.name[-1] for p in sorted((here / "output").glob("*-state-*"))][-1] == "2"
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        again = dsk(*command)
        assert "training state of step 2" in again.err
        assert "this run starts at step 1" in again.err
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        # A run with another seed cannot resume the state, and no hint says so.
        other = dsk(*train("save_state=true", "seed=2"))
        assert "--resume" not in hint(other) and "training state" not in other.err.split("hint")[0]
    with monkeypatch.context() as patch:
        stop_at(patch, 1, Terminated)
        resumed = dsk(*typed[1:])
        assert resumed.code == Exit.TERMINATED
        assert hint(resumed) == hint(ended)
    assert dsk(*typed[1:]).code == Exit.DONE


@pytest.mark.long
def test_without_a_state_the_same_command_starts_again(dsk, here, train, monkeypatch):
    stop_at(monkeypatch, 3)
    ended = dsk(*train("save_state=false"))
    assert not list((here / "output").glob("*-state-*"))
    assert "starts again at step 1" in hint(ended) and "--resume" not in hint(ended)


@pytest.mark.parametrize("name", commands())
def test_every_command_has_its_own_words(name):
    assert name in interruption._AFTER
    said = interruption.next_step([*name.split(), "somewhere"], commands()).hint
    assert "same command" in said or "dsk history" in said


def test_a_dry_run_has_changed_nothing():
    said = interruption.next_step(["resize", "imgs", "--dry-run"], commands()).hint
    assert said.startswith("nothing was changed")


def test_a_second_undo_is_never_advised():
    said = interruption.next_step(["undo"], commands()).hint
    assert "the same command" not in said and "dsk history" in said


@pytest.mark.parametrize("verb", ["resize", "tag", "layout", "rules", "report", "export"])
def test_the_same_command_again_gives_what_an_uninterrupted_one_gives(verb, dsk, here, monkeypatch):
    """The command is stopped at its first rename of a file, then run again, as the hint says."""
    arguments = {
        "resize": ["imgs", "small", "--max", "32"],
        "tag": ["imgs"],
        "layout": ["5_x=imgs"],
        "rules": ["imgs", "--trigger", "sks"],
        "report": ["imgs", "--out", "tables"],
        "export": ["imgs"],
    }[verb]
    for root in ("one", "two"):
        images(here / root / "imgs", 3)
        if verb in ("rules", "report", "export", "layout"):
            for n in range(1, 4):
                (here / root / "imgs" / f"a{n}.txt").write_text("solo, smile\n")
    monkeypatch.chdir(here / "one")
    assert dsk(verb, *arguments).code == Exit.DONE
    monkeypatch.chdir(here / "two")
    with monkeypatch.context() as patch:
        calls = []
        real = os.replace

        def stop(*args, **named):
            calls.append(args)
            if len(calls) == 2 or verb in ("report", "export"):
                raise KeyboardInterrupt
            return real(*args, **named)

        patch.setattr(os, "replace", stop)
        ended = dsk(verb, *arguments)
    assert ended.code == Exit.INTERRUPTED and hint(ended) == interruption._AFTER[verb]
    assert dsk(verb, *arguments).code == Exit.DONE
    one, two = (
        {k: v[0] for k, v in snapshot(here / r, all_of_it=False).items()} for r in ("one", "two")
    )
    assert one == two
