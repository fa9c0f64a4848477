"""`dsk models` without a connection, and `dsk doctor`."""

import pytest

from datasetkit.verbs import doctor
from taggers import florence2_models, models
from tests.cli.conftest import images, snapshot


def test_the_list_has_every_tagger_and_whether_it_is_downloaded(dsk):
    ended = dsk("models", "list")
    assert ended.code == 0
    rows = {line.split()[0]: line.split() for line in ended.out.splitlines()}
    assert set(models.MODELS) | {"basic"} <= set(rows)
    assert rows["wd-swinv2-v3"][1:3] == ["SmilingWolf/wd-swinv2-tagger-v3", "805ca989"]
    assert rows["wd-swinv2-v3"][-1] == "-" and rows["basic"][-1] == "shipped"
    listed = [row["name"] for row in dsk("models", "list", "--json").result]
    assert listed == [*models.MODELS, *florence2_models.MODELS]


def test_where_names_the_folders(dsk):
    places = dsk("models", "where", "--json").result
    assert set(places) == {"is", "hub_cache", "shipped"}
    shown = dsk("models", "where").out
    assert places["shipped"] in shown and places["hub_cache"] in shown


def test_an_unknown_model_names_the_nearest(dsk):
    ended = dsk("models", "download", "wd-vit-v4")
    assert ended.code == 2 and "did you mean wd-vit-v" in ended.err


def test_a_complete_installation_is_healthy(dsk, here):
    images(here / "imgs", 1)
    before = {k: v[0] for k, v in snapshot(here).items()}
    ended = dsk("doctor", "imgs")
    assert ended.code == 0, ended.out
    assert "everything that dsk needs is installed" in ended.out and "writable" in ended.out
    assert {k: v[0] for k, v in snapshot(here).items()} == before
    findings = dsk("doctor", "--json").result["findings"]
    assert {f["state"] for f in findings} <= {"ok", "note"}
    assert {"datasetkit", "python", "onnxruntime", "folder"} <= {f["what"] for f in findings}
    assert all(f["fix"] for f in findings if f["state"] != "ok")


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (set(), "not installed: dsk tag cannot run"),
        ({"onnxruntime", "onnxruntime-gpu"}, "overwrite each other"),
    ],
)
def test_doctor_exits_12_with_the_command_that_fixes_the_runtime(
    dsk, monkeypatch, installed, message
):
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name in installed else "")
    ended = dsk("doctor")
    assert ended.code == 12 and message in ended.out and "pip" in ended.out
    assert "something is missing" in ended.out
