"""Training may be killed at any call while it saves: the files are complete, and the next run ends
as an uninterrupted one does.

Every file of a run is compared byte by byte: with SOURCE_DATE_EPOCH set, a resumed run writes
exactly the files of an uninterrupted run.
"""

import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peft  # noqa: F401 - loaded once, before the children part from this process
import pytest
import torch
from safetensors.torch import load_file

from datasetkit.core.errors import Exit, InputError
from datasetkit.core.files import TEMP_PREFIX, write_atomic
from tests.safety.harness import FULL, Ended, Strike, Watch, digest, in_child, kill, strays, tree
from tests.trainer import tiny
from tests.trainer.test_run import training_rows
from trainer import run, setup
from trainer.data import latent_cache
from trainer.data.latent_cache import LatentCache
from trainer.files import run_files, run_manifest, saved_states
from trainer.monitor import loss_plot
from trainer.plan.plan import find_subsets, make_plan

KILLS, FAULTS = 6, 2
NAME = "sks"
# Every step saves a LoRA and a state, so that old ones go as well; the last epoch is cut short.
OPTIONS = {
    "max_train_steps": 4, "train_batch_size": 2, "save_every_n_epochs": 0, "save_every_n_steps": 1,
    "save_last_n_steps": 2, "gradient_accumulation_steps": 2, "caption_dropout_rate": 0.3,
    "flip_aug": True, "network_dim": 1, "cache_latents_to_disk": True, "text_encoder_lr": 0.0,
    "lora_format": "both",
}  # fmt: skip


class Runs:
    """A dataset and a model in memory, runs of it in forked children, and the files of the whole
    run.
    """

    def __init__(self, workdir: Path) -> None:
        torch.set_num_threads(1)  # a forked child has no threads but its own
        self.root = workdir
        self.data = workdir / "data"
        tiny.save_images(
            self.data / "train" / "1_sks", [(64, 64), (64, 64), (96, 64), (64, 64), (64, 64)]
        )
        self.options = tiny.options(tiny.save_small(workdir / "model"), Path("out"), **OPTIONS)
        self.parts = setup.load_parts(self.options)
        self.plan = make_plan(find_subsets(self.data, self.options)[0], self.options)
        whole = self.fresh("whole")
        watch = Watch(whole)
        ended = self.start(whole, watch)
        assert ended.code == 0, ended.output
        self.points, self.calls = ended.points, ended.calls
        self.whole = contents(whole)
        self.lines = training_rows(whole / "out" / f"{NAME}-metrics.jsonl")

    def fresh(self, name: str) -> Path:
        root = self.root / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        return root

    def start(
        self,
        root: Path,
        watch: Watch | None = None,
        *,
        resume: bool = False,
        plant: Callable[[], None] | None = None,
    ) -> Ended:
        """Train in a child, in a folder. plant: a patch to apply in the child."""

        def before() -> None:
            os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
            vars(setup)["load_parts"] = lambda *_: self.parts
            # Checking the files and plotting would take longer than everything else.
            vars(run)["check_files"] = lambda *_: ()
            vars(loss_plot)["plot"] = lambda lines, path, **_: write_atomic(
                path, json.dumps([line["loss"] for line in lines]).encode()
            )
            if plant is not None:
                plant()

        def action(_: Path) -> None:
            run.train(replace(self.options, output_dir=str(root / "out")), self.plan, resume=resume)

        return in_child(action, root=root, watch=watch, before=before)

    def again(self, root: Path) -> Ended:
        """Start again as a person would: with --resume if there is a state, else from the start."""
        return self.start(root, resume=any((root / "out").glob(f"{NAME}-state-*")))

    def struck(self, at: int, strike: Strike) -> list[str]:
        """Kill a run at one call, check, resume, check; return what is wrong."""
        root = self.fresh("trial")
        ended = self.start(root, Watch(root, at=at, strike=strike))
        found = [] if ended.code in (None, Exit.DONE, Exit.STORAGE) else [ended.output]
        found += self.damage(root / "out")
        rerun = self.again(root)
        if rerun.code != 0:
            found.append(f"the next run ended with {rerun.code}: {rerun.output}")
        for previous in root.glob("out/previous/*"):  # killed before its first state
            found += self.damage(previous)
        now = {n: was for n, was in contents(root).items() if not n.startswith("out/previous")}
        found += [
            f"{n} is missing or differs" for n, was in self.whole.items() if now.get(n) != was
        ]
        found += [
            f"{n} should not be there" for n in [*(now.keys() - self.whole.keys()), *strays(root)]
        ]
        return [f"call {at}, ended with {ended.code}: {problem}" for problem in found]

    def damage(self, out: Path) -> list[str]:
        """Return the damaged files under final names: every file is one of the whole run's, every
        state complete.
        """
        found = []
        for path in sorted(out.glob("*")):
            if path.name.startswith(TEMP_PREFIX) or path.name in (".dsk", "previous"):
                continue
            if path.name == f"{NAME}-run.json":
                manifest = run_manifest.read(out, NAME)
                assert manifest is not None
                unlisted = run_manifest.unlisted(out, NAME, manifest.files)
                found += [f"{name} is not listed" for name in unlisted]
            elif path.name == latent_cache.FOLDER:
                LatentCache(path).refresh(found.append)
            elif path.is_dir():
                try:
                    saved_states.read(path)
                except InputError as error:
                    found.append(error.message)
            elif path.name == f"{NAME}-metrics.jsonl":
                lines = training_rows(path)
                cut = path.read_bytes().count(b"\n") != len(lines)
                found += (
                    ["metrics are in pieces"] if cut or lines != self.lines[: len(lines)] else []
                )
            elif not self.is_whole(path):
                found.append(f"{path.name} is in pieces")
        return found

    def is_whole(self, path: Path) -> bool:
        """Tell whether a file is one of the whole run's; a LoRA that the whole run has deleted can
        only be loaded.
        """
        was = self.whole.get(f"out/{path.name}")
        if was is not None:
            return was == content(path)
        try:
            load_file(path)
        except Exception:
            return False
        return True


def content(path: Path) -> str:
    """Return a hash of a file's bytes. Of a manifest: how the run ended, and its files. Of metrics:
    what does not differ between equal runs.
    """
    if path.name == f"{NAME}-metrics.jsonl":
        return json.dumps(training_rows(path))
    if path.name == f"{NAME}-run.json":
        record = json.loads(path.read_bytes())
        rows = sorted((row["name"], row["step"]) for row in record["files"])
        return json.dumps([record["status"], rows])
    return digest(path)


def contents(root: Path) -> dict[str, str]:
    """Return the visible files below a folder with their hashes."""
    return {
        name: content(root / name) if was != "folder" else was for name, was in tree(root).items()
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield Runs(tmp_path_factory.mktemp("runs"))
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="dsk-tests-") as folder:
        yield Runs(Path(folder))


def spread(points: int, n: int) -> list[int]:
    """Choose n calls of a run, one in each n-th of it."""
    draw = random.Random(points)
    return sorted({1 + int((i + draw.random()) * points / n) for i in range(n)})


@pytest.mark.long
def test_the_harness_reaches_the_calls_that_save(runs):
    assert {"open", "write", "fsync", "replace", "rename", "mkdir", "unlink"} <= runs.calls


@pytest.mark.long
def test_a_killed_run_leaves_complete_files_and_resumes_bit_exactly(runs):
    assert [p for at in spread(runs.points, KILLS) for p in runs.struck(at, kill)] == []


@pytest.mark.long
def test_a_failing_call_ends_the_run_as_a_full_disk_does_and_the_next_run_resumes(runs):
    assert [p for at in spread(runs.points, FAULTS) for p in runs.struck(at, FULL)] == []


def die_while_writing_plainly() -> None:
    """Patch in a writer that fills files under their final names, and a kill in the middle of the
    first.
    """

    def write(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    vars(run_files)["write_atomic"] = write


def die_while_filling_a_state_in_sight() -> None:
    """Patch in a writer of states without a rename, and a kill before the manifest."""

    def write(folder: Path, target: Path, contents: dict[str, bytes]) -> None:
        target.mkdir()
        for name, data in list(contents.items())[:-1]:
            (target / name).write_bytes(data)
        os.kill(os.getpid(), signal.SIGKILL)

    vars(saved_states)["_write"] = write


@pytest.mark.long
@pytest.mark.parametrize("plant", [die_while_writing_plainly, die_while_filling_a_state_in_sight])
def test_the_check_fails_for_plain_writing(runs, plant):
    root = runs.fresh("trial")
    assert runs.start(root, plant=plant).code is None
    assert runs.damage(root / "out") != []


@pytest.mark.slow
@pytest.mark.parametrize("strike", [kill, FULL], ids=["kill", "ENOSPC"])
def test_a_kill_at_every_single_call_loses_nothing(runs, strike):
    assert [p for at in range(1, runs.points + 1) for p in runs.struck(at, strike)] == []
