"""The chooser of a base model: files and folders inside the roots, and names of the hub's cache."""

from __future__ import annotations

import pytest

from datasetkit.verbs.studio import models
from tests.web.client import studio

COMMIT = "a" * 40


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "project"
    for name in ("models/sdxl.safetensors", "models/flux/model_index.json", "models/notes.txt",
                 "models/.hidden.safetensors", "models/deep/other.safetensors"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    (folder / "models" / "link.safetensors").symlink_to(folder / "models" / "sdxl.safetensors")
    monkeypatch.setattr(models, "_hub_cache", lambda: tmp_path / "hub")
    with studio(folder) as browser:
        yield browser


@pytest.mark.parametrize("path", ["models", "models/sdxl.safetensors", "models/flux"])
def test_the_models_beside_a_path_are_listed_with_the_text_for_dsk_toml(page, path):
    listed = page.post("models", path=path)
    assert listed["models"] == [
        {"name": "flux", "value": "models/flux", "size": None},
        {"name": "sdxl.safetensors", "value": "models/sdxl.safetensors", "size": 5},
    ]
    assert [folder["name"] for folder in listed["folders"]] == ["deep", "flux"]
    assert listed["known"] == [{"value": "tiny", "size": None}]


@pytest.mark.parametrize("path", ["/etc", "../../.."])
def test_outside_of_the_roots_nothing_is_listed(page, path):
    page.post("models", path=path, status=403)


def test_the_cache_of_the_hub_is_named_with_its_commits(page, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_LEAST", 4)
    snapshots = {
        "models--a--sdxl": ("model_index.json", "unet/model.safetensors"),
        "models--b--anima": ("split/anima.safetensors", "split/model-00001-of-00002.safetensors"),
        "models--c--tagger": ("model.onnx",),
        "datasets--d--set": ("model_index.json",),
    }
    for repo, files in snapshots.items():
        for name in files:
            path = tmp_path / "hub" / repo / "snapshots" / COMMIT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
    known = page.post("models", path="")["known"]
    assert [model["value"] for model in known] == [
        "tiny", f"a/sdxl@{COMMIT}", f"b/anima/split/anima.safetensors@{COMMIT}",
    ]  # fmt: skip
