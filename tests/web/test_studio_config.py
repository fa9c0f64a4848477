"""dsk.toml from the page: comments stay, nothing that somebody else wrote is lost, and the page
cannot set what may run code or write elsewhere.
"""

from __future__ import annotations

import json
import threading
import tomllib

import pytest

from datasetkit import api
from datasetkit.options import presets
from datasetkit.verbs.studio import config_file
from tests.web.client import studio

TEXT = """# my project
[tag]
trigger = ["sks"]  # her name

[train]   # numbers
network_dim = 8  # small
learning_rate = 1e-4

[[concept]]  # the subject
folder = "."
"""


@pytest.fixture
def page(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (folder / "dsk.toml").write_text(TEXT)
    with studio(folder) as browser:
        yield browser


def put(page, name="config", *, status=200, **body):
    if name == "config":
        body = {"hash": page.get("config")["hash"], **body}
    response = page.ask("PUT", f"/api/{name}", json.dumps(body).encode(), page.headers)
    assert response.status == status, response.body
    return response.json


def text(page):
    return (page.folder / "dsk.toml").read_text()


def test_what_is_read(page):
    config = page.get("config")
    assert config["text"] == TEXT and config["exists"] and config["problem"] is None
    assert config["tables"]["train"] == {"network_dim": 8, "learning_rate": 1e-4}
    assert config["concepts"] == [{"folder": "."}] and config["layers"] == []
    (page.folder / "dsk.toml").write_text("[train\n")
    broken = page.get("config")
    assert "not valid TOML" in broken["problem"]["error"] and broken["tables"] == {}
    (page.folder / "dsk.toml").write_text("[train]\nnetwork_dmi = 8\n")
    assert "network_dmi" in page.get("config")["problem"]["error"]
    (page.folder / "dsk.toml").unlink()
    assert page.get("config")["exists"] is False


def test_a_change_keeps_comments_and_is_undone(page, monkeypatch):
    monkeypatch.setattr(config_file, "SECONDS_OF_BURST", 0)  # time passes between the changes
    config = put(page, set={"train": {"network_dim": 16}, "tag": {"threshold": 0.5}})
    expected = TEXT.replace("network_dim = 8  #", "network_dim = 16  #").replace(
        "# her name\n", "# her name\nthreshold = 0.5\n"
    )
    assert text(page) == config["text"] == expected
    put(page, unset={"train": ["network_dim", "learning_rate"]})
    assert "network_dim = 32  # small" in text(page) and "learning_rate" not in text(page)
    assert [entry.verb for entry in api.history(page.folder)][:2] == ["config", "config"]
    api.undo(page.folder)
    api.undo(page.folder)
    assert text(page) == TEXT


def test_edits_in_a_row_are_one_entry_and_undone_at_once(page):
    for number in range(2, 12):
        put(page, set={"train": {"network_dim": number}})
    put(page, set={"train": {"unet_lr": 1e-4}, "tag": {"threshold": 0.5}})
    (entry,) = api.history(page.folder)
    assert entry.title == "set train.network_dim, train.unet_lr, tag.threshold"
    put(page, set={"train": {"max_train_epochs": 3}})
    (entry,) = api.history(page.folder)
    assert entry.title == "set train.network_dim, train.unet_lr, tag.threshold and more"
    api.undo(page.folder)
    assert text(page) == TEXT


def test_what_comes_between_two_edits_ends_a_row(page, monkeypatch):
    def entries():
        return [entry.verb for entry in api.history(page.folder)]

    put(page, set={"train": {"network_dim": 2}})
    api.rules(page.folder, api.RulesOptions(exclude=("hat",)))  # another command
    put(page, set={"train": {"network_dim": 3}})
    assert entries() == ["config", "rules", "config"]
    (page.folder / "dsk.toml").write_text(text(page) + "# by hand\n")
    put(page, set={"train": {"network_dim": 4}})
    assert entries() == ["config", "config", "rules", "config"]
    api.undo(page.folder)
    assert "network_dim = 3 " in text(page) and "# by hand" in text(page)
    put(page, set={"train": {"network_dim": 5}})  # an undo was the last one
    assert entries()[0] == "config" and len(entries()) == 6
    monkeypatch.setattr(config_file, "SECONDS_OF_BURST", 0)
    put(page, set={"train": {"network_dim": 6}})
    assert len(entries()) == 7


def test_a_file_that_a_row_of_edits_made_is_gone_after_one_undo(page):
    (page.folder / "dsk.toml").unlink()
    for number in (4, 8):
        put(page, set={"train": {"network_dim": number}})
    assert len(api.history(page.folder)) == 1
    api.undo(page.folder)
    assert not (page.folder / "dsk.toml").exists()


def test_a_file_is_made_where_there_is_none(page):
    (page.folder / "dsk.toml").unlink()
    put(page, set={"train": {"network_dim": 4}}, concepts=[{"add": {"folder": "."}}])
    assert tomllib.loads(text(page)) == {
        "train": {"network_dim": 4},
        "concept": [{"folder": "."}],
    }


def test_concepts_are_changed_by_their_number(page):
    put(page, concepts=[{"at": 0, "set": {"repeats": 3}}, {"add": {"folder": "more"}}])
    assert tomllib.loads(text(page))["concept"] == [
        {"folder": ".", "repeats": 3},
        {"folder": "more"},
    ]
    assert "[[concept]]  # the subject" in text(page)
    put(page, concepts=[{"remove": 0}])
    assert tomllib.loads(text(page))["concept"] == [{"folder": "more"}]
    for wrong in ({"at": 7, "set": {}}, {"remove": -1}, {"add": 3}, {}, {"at": 0, "x": 1}):
        put(page, concepts=[wrong], status=400)
    problems = put(page, concepts=[{"at": 0, "set": {"repeats": "x"}}], status=400)["problems"]
    assert list(problems) == ["concept.0"]


def test_a_dry_run_writes_nothing(page):
    planned = put(page, set={"train": {"network_dim": 4}}, dry_run=True)
    assert "network_dim = 4" in planned["text"] and text(page) == TEXT


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"train": {"network_dim": "x"}}, "train.network_dim"),
        ({"train": {"network_dim": -1}}, "train.network_dim"),
        ({"train": {"network_dim": None}}, "train.network_dim"),
        ({"train": {"network_dmi": 8}}, "train.network_dmi"),
        ({"train": {"output_dir": "/etc"}}, "train.output_dir"),
        ({"train": {"output_dir": "../x"}}, "train.output_dir"),
        ({"train": {"preset": "nonsense"}}, "train"),
        ({"tag": {"threshold": [1]}}, "tag.threshold"),
        ({"train": {"blocks_to_swap": 3}}, "train"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_written(page, values, key):
    answer = put(page, set={**values, "layout": {"repeats": 3}}, status=400)
    assert key in answer["problems"] and answer["problems"][key]["error"]
    assert text(page) == TEXT


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"train": {"optimizer_type": "evil.module.Class"}}, 403),
        ({"train": {"optimizer_type": "torch.optim.SGD"}}, 403),
        ({"train": {"lr_scheduler_type": "evil:Class"}}, 403),
        ({"train": {"optimizer_type": "AdamX"}}, 400),
        ({"review": {"host": "0.0.0.0"}}, 400),
        ({"review": {"allow_import": True}}, 400),
        ({"review": {"root": ["/"]}}, 400),
        ({"nonsense": {"a": 1}}, 400),
        ({"train": 3}, 400),
    ],
)
def test_what_only_a_person_may_set(page, values, status):
    put(page, set=values, status=status)
    assert text(page) == TEXT


def test_a_value_cannot_leave_its_line(page):
    value = 'x"\n[review]\nhost = "0.0.0.0'
    put(page, set={"train": {"output_name": value}, "tag": {"trigger": [value]}})
    data = tomllib.loads(text(page))
    assert data["tag"]["trigger"] == [data["train"]["output_name"]] == [value]
    assert set(data) == {"tag", "train", "concept"}


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(page):
    seen = page.get("config")["hash"]
    by_hand = TEXT.replace("network_dim = 8", "network_dim = 64")
    (page.folder / "dsk.toml").write_text(by_hand)
    answer = put(page, hash=seen, set={"train": {"network_dim": 16}}, status=409)
    assert answer["differences"] == [
        {"table": "train", "key": "network_dim", "yours": 16, "theirs": 64}
    ]
    assert answer["config"]["text"] == text(page) == by_hand
    put(page, hash=answer["config"]["hash"], set={"train": {"network_dim": 16}})
    assert "network_dim = 16  # small" in text(page)


def test_two_pages_and_a_hand_at_once_lose_nothing(page):
    """Each writes its own keys until it succeeds: all of them are there, with the comments."""

    def write(table, keys):
        for key, value in keys:
            while True:
                config = page.get("config")
                body = {"hash": config["hash"], "set": {table: {key: value}}}
                data = json.dumps(body).encode()
                status = page.ask("PUT", "/api/config", data, page.headers).status
                assert status in (200, 409, 423)
                if status == 200:
                    break

    writers = [
        threading.Thread(target=write, args=("train", [("network_dim", n) for n in (4, 16)])),
        threading.Thread(target=write, args=("layout", [("repeats", n) for n in (2, 3)])),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    data = tomllib.loads(text(page))
    assert (data["train"]["network_dim"], data["layout"]["repeats"]) == (16, 3)
    assert all(comment in text(page) for comment in ("# my project", "# her name", "# small"))


# ---- presets


def test_the_shipped_presets_and_their_layers(page):
    listed = page.get("presets")
    assert {"sd1", "sdxl", "z-image"} <= {row["name"] for row in listed["families"]}
    assert [row["name"] for row in listed["memory"]] == ["roomy", "tight", "tightest"]
    preset = page.get("presets/sdxl-character-tight")
    assert preset["name"] == "sdxl-character-tight@1"
    assert preset["tables"]["train"]["base_precision"] == "int8"
    assert preset["tables"]["plan-repeats"] == {"kind": "character"}
    put(page, set={"train": {"preset": "sdxl-character@1"}})
    config = page.get("config")
    assert [row["layer"] for row in config["layers"]] == ["family", "goal", "goal"]
    missing = page.ask("GET", "/api/presets/none", headers={"Cookie": page.cookie})
    assert missing.status == 404


def test_a_preset_of_the_user_is_saved_replaced_and_removed(page, tmp_path):
    tables = {"train": {"network_dim": 4, "output_dir": "elsewhere"}}
    saved = put(page, "presets/mine", title="Mine", tables=tables)
    assert saved["tables"] == {"train": {"network_dim": 4}} and saved["title"] == "Mine"
    put(page, "presets/mine", title="x", tables={}, status=409)
    put(page, "presets/mine", title="Other", tables={"train": {"network_dim": 2}}, replace=True)
    assert [row["title"] for row in page.get("presets")["own"]] == ["Other"]
    (tmp_path / "config/datasetkit/presets/odd.toml").write_text(
        "[train]\nnetwork_dmi = 8\nnetwork_dim = 2\nlearning_rate = 'x'\n[tag]\nthreshold = 1\n"
    )
    odd = page.get("presets/odd")
    assert odd["tables"] == {"train": {"network_dim": 2}} and len(odd["warnings"]) == 3
    for name in ("../x", "A", ".hidden", "x" * 65, "a%2fb"):
        assert page.ask("PUT", f"/api/presets/{name}", b'{"tables": {}}', page.headers).status in (
            400,
            404,
            405,
        )
    put(page, "presets/bad", tables={"train": {"network_dim": "x"}}, status=400)
    put(page, "presets/bad", tables={"run": {}}, status=400)
    answer = page.ask("DELETE", "/api/presets/mine", None, page.headers)
    assert answer.status == 200 and [row["name"] for row in answer.json["own"]] == ["odd"]
    assert page.ask("DELETE", "/api/presets/mine", None, page.headers).status == 404
    assert presets.own_folder() == tmp_path / "config" / "datasetkit" / "presets"
