"""The report of a run is one page: nothing is loaded from outside, and every text is escaped."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from datasetkit.core.errors import StorageError
from tests.trainer import tiny
from trainer.files.run_files import RunFiles
from trainer.files.run_manifest import RunFile
from trainer.lora_files import lora_file
from trainer.monitor import run_report
from trainer.monitor.run_report import ReportContent
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

EVIL = "<img src=x onerror=alert(1)>&\"'</style><script>"
FACTS = {
    "plan": {
        "images": 3, "samples": 6, "regularisation_images": 0, "regularisation_samples": 0,
        "held_out_images": 2, "samples_per_epoch": 6, "steps": 4, "steps_per_epoch": 2,
        "epochs": 2, "processes": 1, "buckets": {"64x64": 6}, "base": "/home/me/base.safetensors",
    },
    "versions": {"torch": EVIL},
}  # fmt: skip
ROWS = [
    {"step": 0, "epoch": 0, "validation/loss": 0.5, "validation/change": 0.0},
    *(
        {"step": n, "epoch": (n + 1) // 2, "loss": 0.4 / n, "samples": 2, "lr/unet": 1e-4}
        for n in (1, 2, 3, 4)
    ),
    {"step": 4, "epoch": 2, "validation/loss": 0.3, "validation/change": -0.2},
]


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, data):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(data.decode("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def png():
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def report(tmp_path):
    (tmp_path / "sheet.png").write_bytes(png())
    return ReportContent(
        name=EVIL,
        started="2026-01-02T03:04:05Z",
        options=tiny.options(tmp_path / "base", tmp_path / "out", training_comment=EVIL),
        facts=FACTS,
        rows=ROWS,
        plot=png(),
        heat_map=png(),
        no_heat_map="",
        samples=tmp_path / "sheet.png",
        remarks=[EVIL],
        files=[RunFile("sks.safetensors", "lora", 4, 2, 1234, "ab" * 32)],
        base_hash="cd" * 32,
        network="LoRA, rank 4, alpha 1",
    )


def test_every_text_is_escaped_and_nothing_is_loaded(report):
    page = Page(run_report.page(report))
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "b", "nav", "a",
        "table", "tr", "th", "td", "code", "img",
    }  # fmt: skip
    assert page.text.count(EVIL) >= 4  # name, comment, remark, version
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/", "#"))
    policy = dict(page.attributes)["content"]
    assert ("content", run_report._POLICY) in page.attributes and policy
    assert "default-src 'none'" in run_report._POLICY


def test_it_has_the_sections_the_numbers_and_no_folder_of_the_machine(report):
    text = Page(run_report.page(report)).text
    for heading in (
        "Loss and learning rates", "Validation", "Preview images", "Norms of the layers", "Plan",
        "Options that differ from the defaults", "Files and hashes",
    ):  # fmt: skip
        assert heading in text
    assert "ab" * 32 in text and "cd" * 32 in text and "base.safetensors" in text
    assert "/home/me" not in text and str(report.options.output_dir) not in text
    assert "0.3000" in text and "-0.2000" in text  # validation
    assert "training_comment" in text and "network_dropout" not in text


def test_a_run_without_validation_and_previews_has_no_such_sections(report):
    bare = replace(report, rows=ROWS[1:5], samples=None, heat_map=None, no_heat_map="not drawn")
    text = Page(run_report.page(bare)).text
    assert "Validation" not in text and "Preview images" not in text and "not drawn" in text


@pytest.mark.parametrize("epochs", [40, 41, 500])
def test_of_many_epochs_every_nth_is_shown(report, epochs):
    rows = [
        {"step": n, "epoch": n, "loss": 0.1, "samples": 1, "lr/unet": 1e-4}
        for n in range(1, epochs + 1)
    ]
    page = run_report._epochs(replace(report, rows=rows))
    assert page.count("<tr>") - 1 <= 41 and f">{epochs:,}</td>" in page


def test_a_wide_contact_sheet_becomes_smaller(report, tmp_path):
    Image.new("RGB", (5000, 300)).save(tmp_path / "sheet.png")
    encoded = run_report._samples(tmp_path / "sheet.png").partition("base64,")[2].rstrip('">')
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as small:
        assert (small.format, small.width) == ("JPEG", 1800)


@pytest.mark.long
def test_a_run_owns_its_report_and_a_failure_of_it_does_not_fail_the_run(
    data, model, tmp_path, monkeypatch
):
    options = tiny.options(model, tmp_path / "out", max_train_steps=1, save_report=True)
    plan = make_plan(find_subsets(data, options)[0], options)
    result = train(options, plan)
    path = tmp_path / "out" / "sks-report.html"
    assert result.report == path
    listed = json.loads((tmp_path / "out" / "sks-run.json").read_bytes())["files"]
    (row,) = [file for file in listed if file["kind"] == "report"]
    assert row["size"] == path.stat().st_size and len(row["sha256"]) == 64
    page = Page(path.read_bytes())
    assert page.tags.count("img") == 2  # the loss and the heat map

    def full(*_arguments, **_others):
        raise StorageError("the disk is full")

    monkeypatch.setattr(RunFiles, "write", _failing_for_reports(RunFiles.write, full))
    again = train(options, plan)
    assert again.report is None and again.files[-1].is_file()
    assert lora_file.read(again.files[-1]).layers


def _failing_for_reports(real, fail):
    def write(self, name, kind, data, **others):
        return fail() if kind == "report" else real(self, name, kind, data, **others)

    return write
