"""The library as a program or a notebook calls it: frozen results, silent, errors raised with
nothing changed.
"""

import dataclasses
import pickle
import sys
from typing import Any

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import ConfigError, DatasetError, MissingExtra
from datasetkit.core.install import install_command
from datasetkit.core.records import Done, Failed
from taggers import registry


@pytest.fixture
def imgs(tmp_path, monkeypatch):
    """Three images in a folder of the current one, and a tagger that needs no files."""
    monkeypatch.setitem(registry.TAGGERS, registry.BASIC, "tests.cli.toy:Toy")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "imgs"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", (64, 48), (n, n, n)).save(folder / f"a{n}.png")
    return folder


class Recorder:
    """A reporter that records its calls."""

    def __init__(self):
        self.calls = []

    def start(self, label, total):
        self.calls.append((label, total))

    def advance(self, n=1):
        self.calls.append(n)

    def note(self, text):
        self.calls.append(text)

    def phase(self, name):
        self.calls.append(name)

    def finish(self):
        self.calls.append("end")

    def warn(self, message):
        self.calls.append(message)


def test_the_example_of_the_module_works_and_prints_nothing(imgs, capsys):
    options = api.TagOptions(trigger=("MikamiYua",), exclude=("lips", "nose"), tagger="basic")
    result = api.tag(imgs, options)
    texts = {done.record.path.name: done.value.text() for done in result.report.done}
    assert set(texts) == {"a0.png", "a1.png", "a2.png"}
    assert all(
        text.startswith("MikamiYua, 1girl") and "lips" not in text for text in texts.values()
    )
    assert capsys.readouterr() == ("", "")


def test_a_reporter_receives_progress_and_warnings(imgs):
    recorder = Recorder()
    api.tag(imgs, api.TagOptions(tagger="basic"), api.RunContext(reporter=recorder))
    assert "tags come from the toy" in recorder.calls and ("tag", 3) in recorder.calls
    assert recorder.calls.count(1) >= 3 and recorder.calls[-1] == "end"


def test_results_are_frozen_and_can_be_sent_to_another_process(imgs):
    results: list[Any] = [
        api.tag(imgs, api.TagOptions(tagger="basic")),
        api.rules(imgs, api.RulesOptions(exclude=("lips",))),
        api.layout(["imgs"], api.LayoutOptions()),
        api.plan_repeats(imgs, api.PlanRepeatsOptions()),
        api.report(imgs, api.ReportOptions()),
        api.export(imgs, api.ExportOptions()),
        api.rename(imgs, api.RenameOptions(prefix="x")),
        api.resize(imgs, None, api.ResizeOptions()),
        api.undo(imgs),
    ]
    for result in results:
        assert pickle.loads(pickle.dumps(result)) == result
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, dataclasses.fields(result)[0].name, None)


def test_a_dry_run_returns_what_would_be_done(imgs):
    before = sorted(imgs.rglob("*"))
    planned = api.tag(imgs, api.TagOptions(tagger="basic"), api.RunContext(dry_run=True))
    assert len(planned.changes) == 3 and planned.entry is None
    assert sorted(imgs.rglob("*")) == before


def test_a_failed_image_is_data_and_a_wrong_setup_is_raised(imgs):
    (imgs / "broken.png").write_bytes(b"nothing")
    outcomes = api.tag(imgs, api.TagOptions(tagger="basic")).report.outcomes
    assert [type(o) for o in outcomes] == [Done, Done, Done, Failed]
    with pytest.raises(DatasetError):
        api.tag(imgs / "none", api.TagOptions())
    with pytest.raises(ConfigError):
        api.tag(imgs, api.TagOptions(trigger=("lips",), exclude=("lips",)))


def test_a_whole_run_returns_its_steps_and_calls_back(imgs, tmp_path):
    api.init(tmp_path, "imgs", "sks")
    seen = []
    ran = api.run(tmp_path / "dsk.toml", each=lambda step: seen.append(step.step))
    assert seen == ["resize", "tag", "layout", "report", "export"] == [s.step for s in ran.steps]
    assert ran.failed == () and api.find_config(imgs).concepts[0].name == "sks"
    assert [entry.verb for entry in api.history(tmp_path)][-1] == "init"


def test_training_is_planned_from_settings_or_from_options(imgs, tmp_path):
    api.tag(imgs, api.TagOptions(tagger="basic"))
    api.layout(["5_sks=imgs"], api.LayoutOptions(repeats=5))
    settings = {
        "max_train_epochs": 2,
        "train_batch_size": 1,
        "pretrained_model_name_or_path": "tiny",
    }
    plan = api.plan_training(tmp_path / "dataset", settings=settings)
    assert (plan.steps, plan.epochs, plan.failed) == (30, 2, ())
    options = api.TrainOptions(
        max_train_epochs=2, train_batch_size=1, pretrained_model_name_or_path="tiny"
    )
    again = api.plan_training(tmp_path / "dataset", options)
    assert dataclasses.replace(again, disk=plan.disk) == plan  # the free space changes all the time
    with pytest.raises(ConfigError, match="options are complete"):
        api.plan_training(tmp_path / "dataset", options, settings=settings)
    result = api.train(plan, api.RunContext(dry_run=True))
    assert result.plan is plan and result.training is None
    assert not (tmp_path / "output").exists()


def test_a_missing_extra_is_named(imgs, monkeypatch):
    monkeypatch.delitem(sys.modules, "datasetkit.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match="needs the package uvicorn") as raised:
        api.review(imgs, api.ReviewOptions())
    assert install_command("web") in raised.value.hint
    api.layout(["5_sks=imgs"], api.LayoutOptions(repeats=5))
    plan = api.plan_training(imgs.parent / "dataset", api.TrainOptions())
    for name in [name for name in sys.modules if name.startswith("trainer.run")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("trainer.run", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="needs the package torch") as raised:
        api.train(plan)
    assert install_command("train") in raised.value.hint
