"""The script for a GPU runs its rows on the CPU, skips what is missing, and writes as it goes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.gpu import __main__ as script
from tests.gpu.rows import CORRECTNESS, REFERENCE, ROWS, SPEED, TAGGING, Row

MACHINE = {"torch": "2.11.0+cu128", "device": "a card", "providers": ["CPUExecutionProvider"]}
OK = {"status": "ok", "seconds": 1.0}


def named(part: str) -> Row:
    return next(row for row in ROWS if part in row.name)


def test_names_of_rows_are_different():
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_every_dsk_row_of_the_same_settings_has_a_plain_loop():
    plain = {row.name for row in ROWS if row.settings.get("plain")}
    for row in ROWS:
        if row.group == SPEED and "base_precision" not in row.settings:
            assert row.name.replace("dsk", "plain loop") in plain


def test_missing_package_is_named():
    row = Row("a", SPEED, needs=("json", "no_such_package"))
    assert script.missing(row, MACHINE, cpu=True) == "no_such_package is not installed"


def test_missing_provider_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert "onnxruntime-gpu" in script.missing(named("CUDA provider"), MACHINE, cpu=False)
    assert script.missing(named("CUDA provider"), MACHINE, cpu=True) == ""


def test_missing_module_skips_a_row_and_an_own_one_fails_it():
    line = "ModuleNotFoundError: No module named '{}'"
    skipped = {"status": "skipped", "note": "no_such_package is not installed"}
    assert script.failure(line.format("no_such_package.part")) == skipped
    assert script.failure(line.format("trainer.no_such_module"))["status"] == "failed"
    assert script.failure("OutOfMemoryError: full")["note"] == "OutOfMemoryError: full"


@pytest.mark.parametrize(
    ("change", "cpu", "message"),
    [
        ({}, False, ""),
        ({"torch": None}, True, "not installed"),
        ({"torch": "2.10.1"}, True, "older than 2.11"),
        ({"device": None}, False, "no CUDA device"),
        ({"device": None}, True, ""),
    ],
)
def test_machine_that_cannot_run_it_is_refused(change, cpu, message):
    reason = script.problem({**MACHINE, **change}, cpu=cpu)
    assert message in reason and bool(reason) == bool(message)


def test_each_result_is_written_at_once(tmp_path, capsys):
    table = script.Table(tmp_path, "a title")
    table.add(named("bf16"), {**OK, "loss": 0.25, "note": "a | b"})
    table.add(ROWS[0], {**OK, "loss": 0.5})
    lines = (tmp_path / "gpu.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["row"] for line in lines] == ["bf16", REFERENCE]
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.startswith("a title") and text.index(REFERENCE) < text.index("| bf16 |")
    assert "| bf16 | ok | 0.25 |  |  |  | a / b |" in text


def test_row_is_ended_at_its_limit(tmp_path):
    values = script.child("machine", tmp_path, 0.01, cpu=True)
    assert values["status"] == "failed" and values["note"].startswith("more than")


def test_row_that_fails_has_its_last_line(tmp_path):
    values = script.child("no such row", tmp_path, 60, cpu=True)
    assert values["status"] == "failed" and values["note"].startswith("ValueError")


def test_no_row_is_started_when_time_is_short(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "child", lambda *given, **others: pytest.fail("started"))
    table = script.Table(tmp_path, "")
    script.Run(table, MACHINE, tmp_path, 0.0, True).rows(ROWS, 1)
    skipped = {values["note"] for values in table.results.values()}
    assert len(table.results) == len(ROWS) and "no time left" in skipped


def test_rows_with_a_bound_bring_the_reference():
    assert {row.name for row in script.chosen("channels last")} >= {REFERENCE}
    assert REFERENCE not in {row.name for row in script.chosen("Z-Image")}
    assert script.chosen("") == list(ROWS)


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "parameters", "layers", "blocks"),
    [
        ("sd1", 859_520_964, 192, 24),
        ("sdxl", 2_567_463_684, 722, 20),
        ("z-image", 6_154_908_736, 210, 30),
    ],
)
def test_full_size_models_are_complete_and_take_their_text(family, parameters, layers, blocks):
    """On the meta device, which computes shapes only."""
    torch = pytest.importorskip("torch")
    from tests.gpu import models, speed
    from trainer.families import registry
    from trainer.families.base import Parts

    model, meta = models.FULL[family], torch.device("meta")
    denoiser = models.build(model, meta, torch.bfloat16)
    assert sum(p.numel() for p in denoiser.parameters()) == parameters
    channels = 16 if family == "z-image" else 4
    shape = (1, channels, model.size // 8, model.size // 8)
    latents = torch.empty(shape, dtype=torch.bfloat16, device=meta)
    text = model.conditioning(1, meta, torch.bfloat16)
    with torch.no_grad():
        predicted, target = speed._PLAIN[family](denoiser, latents, latents, text)
    assert predicted.shape == target.shape == latents.shape
    module = registry.family(family)
    parts = Parts(denoiser, None, {}, Path("random"), family, module.DENOISER)
    assert len(module.targets(parts, module.DENOISER)) == layers
    assert speed.count_blocks(module, parts) == blocks


@pytest.mark.slow
def test_rows_run_on_the_cpu(tmp_path: Path, capsys):
    pytest.importorskip("torch")
    rows = "6 blocks streamed;resumed;half of the blocks;Z-Image 1024, plain;CUDA"
    assert script.main([str(tmp_path), "--cpu", "--only", rows]) == 0
    lines = (tmp_path / "gpu.jsonl").read_text(encoding="utf-8").splitlines()
    results = {line["row"]: line for line in map(json.loads, lines)}
    assert len(results) == 9
    assert {line["group"] for line in results.values()} == {CORRECTNESS, SPEED, TAGGING}
    assert {line["status"] for line in results.values()} == {"ok"}
    resumed = results["resumed after half of the steps"]
    # Threads that are as busy as those of a test run may sum in another order.
    largest = re.search(r"largest difference of a weight (\S+)", resumed["note"])
    assert float(largest[1]) < 1e-6 if largest else resumed["note"].startswith("identical")
    speeds = [line for line in results.values() if line["group"] == SPEED]
    assert all(line["it/s"] > 0 and line["peak MB"] > 50 for line in speeds)
