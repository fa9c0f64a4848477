"""A resumed run reads the files in which it recorded its steps; people edit and delete those, and a
full disk cuts a line off. What cannot be read is left out, and the run goes on.
"""

import json

import pytest

pytest.importorskip("torch")

from PIL import Image

from trainer.monitor import metrics, validation
from trainer.monitor.metrics import RecentLoss, read_rows
from trainer.monitor.preview_contact_sheet import PreviewContactSheet
from trainer.monitor.prompts import Prompt

STEP = {"step": 1, "epoch": 1, "loss": 0.5, "samples": 2, "lr/unet": 1e-3}
BEST = {"step": 3, "epoch": 1, "loss": 0.5, "change": -0.1, "error": None}
ODD = [
    b"",
    b"{",
    b'{"step": 2, "ep',
    b"[]",
    b"1",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"[" * 100_000,
    b"{}",
]


@pytest.mark.parametrize(
    "line",
    [*ODD,
     *(json.dumps({**STEP, key: value}).encode() for key, value in (
         ("step", "1"), ("step", None), ("step", 1.5), ("step", True), ("epoch", []),
         ("loss", "low"), ("loss", {}), ("samples", None), ("samples", 1.5), ("lr/unet", "x"),
     ))],
)  # fmt: skip
def test_a_line_of_metrics_that_the_run_did_not_write_is_left_out(tmp_path, line):
    path = tmp_path / "k-metrics.jsonl"
    whole = json.dumps(STEP).encode()
    path.write_bytes(b"\n".join([whole, line, json.dumps({**STEP, "step": 2}).encode()]))
    rows = read_rows(path)
    assert [row["step"] for row in rows] == [1, 2]
    RecentLoss(2, rows)


def test_a_loss_that_was_not_finite_is_no_number_to_average(tmp_path):
    path = tmp_path / "k-metrics.jsonl"
    path.write_text("".join(json.dumps({**STEP, "loss": n}) + "\n" for n in (None, 0.5)))
    rows = read_rows(path)
    assert len(rows) == 2 and metrics.mean_loss(RecentLoss(2, rows)._recent) == 0.5


@pytest.mark.parametrize(
    "text",
    [*ODD, b'{"step": 1}',
     *(json.dumps({**BEST, key: value}).encode() for key, value in (
         ("step", "3"), ("epoch", None), ("loss", "low"), ("loss", None), ("change", []),
         ("more", 1),
     ))],
)  # fmt: skip
def test_a_best_step_that_cannot_be_read_is_not_known(tmp_path, text):
    path = tmp_path / "k-best.json"
    assert validation._read_best(path) is None
    path.write_bytes(text)
    assert validation._read_best(path) is None
    path.write_text(json.dumps(BEST))
    best = validation._read_best(path)
    assert best is not None and best.step == 3


def test_a_validation_that_the_run_did_not_write_is_left_out(tmp_path):
    whole = {"step": 0, "epoch": 0, "held_out": [["a", [1.0] * validation.TIMESTEPS]]}
    whole["trained"] = whole["held_out"]
    odd: list[object] = [
        [["a"]],
        [["a", 1]],
        [["a", [1.0]]],
        [["a", ["x"] * 4]],
        [[7, [1.0] * 4]],
        None,
        7,
    ]
    rows = [whole, *({**whole, "held_out": losses} for losses in odd), {"step": 0, "epoch": 0}]
    path = tmp_path / "k-validation.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(path, validation._is_record) == [whole]


def test_an_image_that_somebody_replaced_is_left_out_of_the_contact_sheet(tmp_path):
    """The prompt has a line separator, which is not the end of a line of JSON."""
    prompt = Prompt(
        text="a girl\u2028with a hat",
        width=64,
        height=64,
        seed=1,
        sampler="ddim",
        steps=1,
        guidance=1.0,
    )
    sheet = PreviewContactSheet(tmp_path, "k")
    for step in (1, 2, 3):
        stem = f"step{step:08d}"
        sheet.add(step, 1, stem, [(prompt, Image.new("RGB", (64, 64), (9, 9, 9 * step)))])
    record = tmp_path / "sample" / "k.jsonl"
    with record.open("ab") as file:
        file.write(b"\n".join(ODD[:-1]) + b'\n{"step": 1, "epoch": 1, "file": 7, "place": 0}\n')
    (tmp_path / "sample" / "k-step00000001-00.png").write_bytes(b"mine")
    (tmp_path / "sample" / "k-step00000002-00.png").unlink()
    resumed = PreviewContactSheet(tmp_path, "k", start=3)
    resumed.add(4, 1, "step00000004", [(prompt, Image.new("RGB", (64, 64)))])
    assert [line["step"] for line in resumed._lines] == [3, 4]
    assert resumed.path.is_file()
