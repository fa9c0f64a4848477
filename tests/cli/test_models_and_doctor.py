"""`dsk models` without a connection, and `dsk doctor`."""

import pytest

from datasetkit.verbs import doctor
from taggers import florence2_models, models
from tests import chat_server
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


# ---- the server of [caption]


def server_line(dsk, here, *settings):
    (here / "dsk.toml").write_text("[caption]\n" + "\n".join(settings) + "\n", "utf-8")
    findings = dsk("doctor", "--json").result["findings"]
    return [(f["state"], f["detail"], f["fix"]) for f in findings if "caption" in f["what"]]


@pytest.mark.long
def test_a_caption_server_is_asked_whether_it_answers(dsk, here):
    with chat_server.serve() as server:
        server.models = ["joycaption"]
        address = f'endpoint = "{server.address}"'
        line = server_line(dsk, here, 'engine = "server"', address)
        assert line == [("ok", "answers, model joycaption", "")]
        server.models = []
        [(state, detail, fix)] = server_line(dsk, here, 'engine = "server"', address)
        assert state == "note" and detail.endswith("has no model") and fix
        assert server_line(dsk, here, 'engine = "server"', address, 'model = "x"')[0][0] == "ok"
    [(state, detail, fix)] = server_line(dsk, here, 'engine = "server"', address)
    assert state == "note" and "cannot be reached" in detail and "start the server" in fix


def test_only_a_server_that_is_configured_is_asked(dsk, here):
    assert server_line(dsk, here, 'engine = "florence2"') == []
    remote = 'endpoint = "http://192.0.2.1/v1"'
    [(state, detail, _)] = server_line(dsk, here, 'engine = "server"', remote)
    assert state == "problem" and "another machine" in detail
