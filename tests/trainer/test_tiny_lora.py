"""A LoRA learns on the tiny base: the trigger generates the concept, other prompts do not, and a
kept tag stays separate.

The thresholds lie between the base's values and those of three seeds; docs/tiny-base.md has the
numbers.
"""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit
from tests.benchmarks import tiny_lora as lora
from tests.benchmarks.tiny_lora import Drawn, Numbers
from trainer.tools.tinybase import draw


@dataclass(frozen=True)
class Base:
    """What the base draws of some scenes, and its numbers."""

    scenes: tuple[str, ...]
    drawn: Drawn
    numbers: Numbers


def base(scenes) -> Base:
    with lora.with_lora(None) as parts:
        drawn = lora.drawn_by(parts, scenes=scenes)
        return Base(scenes, drawn, lora.measured(parts, drawn, drawn))


def trained(folder: Path, before: Base, variant="with reg set", **others) -> Numbers:
    data = lora.data_set(folder / "data", **lora.VARIANTS[variant])
    made = lora.learn(data, lora.recipe(folder / "out", **others))
    with lora.with_lora(made.files[-1]) as parts:
        numbers = lora.measured(parts, lora.drawn_by(parts, scenes=before.scenes), before.drawn)
    print(variant, numbers)
    return numbers


@pytest.mark.long
def test_measure_distinguishes_the_character_from_others():
    hers, others = (lora.read(lora.images(name)) for name in ("held-out", "girls"))
    assert lora.distance(hers) < 0.2 < 0.7 < lora.distance(others)
    assert lora.shaded(hers) == 1.0 > 0.3 > lora.shaded(others)


@pytest.mark.long
def test_the_script_makes_the_committed_images(tmp_path):
    pytest.importorskip("dicebear")
    pytest.importorskip("dicebear_styles")
    pytest.importorskip("resvg_py")
    lora.make_images(tmp_path)
    for name in ("faces", "held-out", "girls"):
        built, committed = sorted((tmp_path / name).glob("*.png")), lora.images(name)
        assert [p.name for p in built] == [p.name for p in committed]
        assert [p.with_suffix(".txt").read_bytes() for p in built] == [
            p.with_suffix(".txt").read_bytes() for p in committed
        ]
        assert np.abs(lora.read(built).astype(int) - lora.read(committed)).mean() < 2.0


def test_commands_of_the_recipe_lay_out_the_measured_dataset(tmp_path, monkeypatch):
    project = tmp_path / "tiny"
    shutil.copytree(lora.EXAMPLE, project)
    monkeypatch.chdir(project)
    readme = (project / "README.md").read_text(encoding="utf-8")
    block, *after = re.findall(r"^```(?:sh|console)\n(.*?)^```", readme, re.M | re.S)
    assert any("dsk lora" in each for each in after)
    commands = [shlex.split(line) for line in block.splitlines() if line.startswith("dsk ")]
    assert commands.pop() == ["dsk", "train", "."]
    for command in commands:
        assert run(command[1:]) == Exit.DONE
    assert _files(project / "dataset") == _files(lora.data_set(tmp_path / "measured"))


def _files(folder: Path) -> dict[str, bytes]:
    found = [p for name in ("train", "reg") for p in (folder / name).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes().strip() for p in found}


@pytest.mark.slow
def test_short_run_moves_images_towards_the_concept(tmp_path):
    texts = lora.prompts(lora.TRIGGER, scenes=lora.SCENES[::4])

    def numbers(file):
        with lora.with_lora(file) as parts:
            drawn = draw.draw(parts, texts, seed=lora.SEED, steps=12)
            return lora.loss_on(parts, lora.images("held-out"), every=100), lora.distance(drawn)

    data = lora.data_set(tmp_path / "data", reg=False)
    made = lora.learn(data, lora.recipe(tmp_path / "out", max_train_epochs=4))
    (loss, distance), (loss_before, distance_before) = numbers(made.files[-1]), numbers(None)
    assert loss < 0.4 * loss_before
    assert distance < distance_before - 0.12


@pytest.mark.slow
def test_trigger_generates_the_concept_and_the_reg_set_limits_drift(tmp_path):
    before = base(lora.SCENES[::2])
    held = trained(tmp_path / "reg", before)
    free = trained(tmp_path / "free", before, "without reg set")
    kept = trained(tmp_path / "kept", before, "sunglasses kept")
    assert held.held_out_loss < 0.2 * before.numbers.held_out_loss
    assert held.with_trigger < before.numbers.with_trigger - 0.15
    assert held.with_trigger < held.without_trigger - 0.2
    assert held.drift < free.drift - 0.1
    assert free.with_trigger > free.without_trigger - 0.1  # without the reg set everybody is her
    assert kept.shades_alone < held.shades_alone - 0.3
    assert kept.shades_asked > 0.8
