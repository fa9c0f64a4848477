"""`dsk doctor` about graphics cards, and about modules of other packages with our names."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datasetkit.verbs import doctor as verb
from datasetkit.verbs.shared import cards, foreign_modules
from datasetkit.verbs.shared.cards import Card
from trainer import precision
from trainer.families import registry
from trainer.plan import card_needs

ROOT = Path(__file__).parents[2]


def findings(dsk, what: str) -> list[dict]:
    return [f for f in dsk("doctor", "--json").result["findings"] if f["what"].startswith(what)]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put an nvidia-smi on the PATH that lists these cards."""

    def install(*rows: str, code: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        text = "\n".join(rows)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.long
def test_a_card_is_named_with_driver_memory_bf16_and_what_it_can_train(
    here, dsk, driver, monkeypatch
):
    driver("NVIDIA GeForce RTX 3060, 580.12, 12288, 8.6")
    monkeypatch.setattr(verb, "torch_cuda", lambda: "13.0")
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    monkeypatch.setattr(verb, "torch_card", lambda: Card("RTX 3060", 12 * 2**30, bf16=True))
    [gpu] = findings(dsk, "gpu")
    assert gpu["detail"] == "NVIDIA GeForce RTX 3060, 12 GiB, driver 580.12, computes bf16"
    [torch] = findings(dsk, "torch")
    assert torch["state"] == "ok" and "for CUDA 13.0, uses the card" in torch["detail"]
    trains = [f["detail"] for f in findings(dsk, "trains")]
    assert trains[0] == "Stable Diffusion 1 at 512"
    assert trains[2] == "Stable Diffusion XL at 1024 with gradient_checkpointing"
    [tagging] = findings(dsk, "tagging")
    assert "tagging uses the CPU" in tagging["detail"] and "uninstall" in tagging["fix"]


@pytest.mark.long
def test_old_small_and_several_cards(here, dsk, driver, monkeypatch):
    driver("Tesla T4, 470.1, 15360, 7.5", "Quadro, 470.1, 4096, 6.1", "odd row")
    monkeypatch.setattr(verb, "torch_cuda", lambda: None)
    one, two = findings(dsk, "gpu")
    assert "15 GiB" in one["detail"] and "computes fp16, not bf16" in one["detail"]
    assert two["what"] == "gpu 1" and findings(dsk, "torch") == []
    driver("Quadro, 470.1, 4096, 6.1")
    states = [f["state"] for f in findings(dsk, "trains")]
    assert states[:3] == ["ok", "ok", "note"]  # not Stable Diffusion XL


@pytest.mark.long
@pytest.mark.parametrize("cuda, part", [("", "is built for the CPU"), ("13.0", "cannot use the")])
def test_a_torch_that_cannot_use_the_card_has_a_next_step(
    here, dsk, driver, monkeypatch, cuda, part
):
    driver("NVIDIA A100, 450.1, 40960, 8.0")
    monkeypatch.setattr(verb, "torch_cuda", lambda: cuda)
    monkeypatch.setattr(verb, "torch_card", lambda: None)
    [torch] = findings(dsk, "torch")
    assert torch["state"] == "note" and part in torch["detail"] and torch["fix"]
    assert dsk("doctor").code == 0


def test_without_a_card_or_with_a_broken_driver_doctor_says_so(here, dsk, driver, monkeypatch):
    driver("NVIDIA-SMI has failed", code=9)
    monkeypatch.setattr(verb, "torch_card", lambda: None)
    assert cards.nvidia_cards() == ()
    [gpu] = findings(dsk, "gpu")
    assert gpu["state"] == "note" and "use the CPU" in gpu["detail"]


@pytest.mark.long
def test_the_cuda_of_torch_is_read_without_importing_it():
    pytest.importorskip("torch")
    code = (
        "import sys; from datasetkit.verbs.shared import cards; cuda = cards.torch_cuda();"
        "assert 'torch' not in sys.modules; import torch; assert cuda == (torch.version.cuda or '')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_needs_grow_with_the_model_and_fall_with_the_options():
    sizes = json.loads(card_needs.FILE.read_text(encoding="utf-8"))
    for row in sizes.values():
        assert row == sorted(row, reverse=True) and len(row) == len(card_needs.CHANGES)
    assert list(card_needs.trainable(250e9).values()) == [""] * len(sizes)
    assert card_needs.trainable(1e9) == {}


def test_every_family_is_counted():
    titles = " ".join(card_needs.titles())
    assert all(family.TITLE in titles for family in registry.families())


@pytest.mark.long
def test_the_needs_are_those_of_the_formula():
    pytest.importorskip("torch")
    from trainer.tools import card_needs as tool

    assert tool.needs() == json.loads(card_needs.FILE.read_text(encoding="utf-8")), (
        "run python -m trainer.tools.card_needs"
    )


def test_another_packages_module_in_the_way_is_a_problem(tmp_path):
    """Its folder comes first on the path, as after another installation."""
    other = tmp_path / "site"
    (other / "trainer").mkdir(parents=True)
    (other / "trainer" / "__init__.py").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import datasetkit\n"
        f"sys.path.insert(0, {str(other)!r})\n"
        "from datasetkit.verbs.shared import foreign_modules\n"
        "print(foreign_modules.in_the_way())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(other / "trainer" / "__init__.py") in done.stdout and "taggers" not in done.stdout
    assert foreign_modules.in_the_way() == {}


def test_what_doctor_says_of_modules_with_our_names(here, dsk, monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "packages_distributions", lambda: {"taggers": ["other", "datasetkit"]}
    )
    [note] = findings(dsk, "module taggers")
    assert note["state"] == "note" and note["detail"].startswith("other installs")
    assert "uv tool install" in note["fix"] and dsk("doctor").code == 0
    monkeypatch.setattr(foreign_modules, "in_the_way", lambda: {"taggers": "/x/taggers.py"})
    [problem] = findings(dsk, "module taggers")
    assert problem["state"] == "problem" and "/x/taggers.py" in problem["detail"]
    assert dsk("doctor").code == 12
