"""From a name to a tagger: auto falls back with a notice, a named tagger never does, an unknown one
gets the nearest name as a hint.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from huggingface_hub import constants

from datasetkit.core.errors import ConfigError, ModelFileError
from taggers import registry
from taggers.base import Identity, Label, Labels, TaggerOptions
from taggers.models import DEFAULT
from taggers.registry import open_tagger, resolve
from tests.taggers.tiny_models import V3_COUNT, V3_LABELS, model_bytes, plant, small_folder

CPU = TaggerOptions(provider="cpu", threads=1)


class Fallback:
    """The least that the registry needs of a tagger without files."""

    identity = Identity("basic", "1", "basic-1")
    labels = Labels((Label("solo", "general"),))
    batch_size = 1
    pr_threshold = None
    fills_cores = False
    notice = "basic is a fallback"

    def prepare(self, image):
        return image

    def scores(self, batch):
        return np.zeros((len(batch), 1), np.float32)

    def close(self):
        pass


class Heard:
    """A reporter that keeps its warnings."""

    def __init__(self):
        self.warnings = []

    def start(self, label, total):
        pass

    def advance(self, n=1):
        pass

    def note(self, text):
        pass

    def phase(self, name):
        pass

    def finish(self):
        pass

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setitem(registry.TAGGERS, "basic", f"{__name__}:Fallback")
    return tmp_path / "hub"


def test_auto_is_the_default_model_if_it_is_cached(cache):
    plant(cache, DEFAULT, model_bytes(V3_COUNT), V3_LABELS.read_bytes())
    found = resolve("auto", CPU)
    assert found.identity.name == DEFAULT
    assert found.notice == ""


def test_auto_without_a_connection_is_basic_with_the_reason_and_the_fix(cache):
    found = resolve("auto", CPU)
    assert found.identity.name == "basic"
    assert f"{DEFAULT} is not on this machine" in found.fallback
    assert f"dsk models download {DEFAULT}" in found.fallback
    assert "fallback" in found.notice
    heard = Heard()
    open_tagger("auto", CPU, heard)
    assert heard.warnings == [found.notice, found.fallback]


def test_auto_does_not_take_damaged_weights_for_missing_ones(cache):
    blob = plant(cache, DEFAULT, model_bytes(V3_COUNT), V3_LABELS.read_bytes())
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        open_tagger("auto", CPU)


def test_auto_with_a_folder_takes_the_folder(cache, tmp_path):
    folder = small_folder(tmp_path / "model")
    found = resolve("auto", TaggerOptions(model_dir=folder, provider="cpu"))
    assert found.identity.name == "local"
    assert found.notice == ""
    named = resolve("wd-vit-v3", TaggerOptions(model_dir=folder, provider="cpu"))
    assert (named.identity.name, named.pr_threshold) == ("wd-vit-v3", 0.2614)


@pytest.mark.parametrize("name", [DEFAULT, "wd-vit-v3", "SmilingWolf/wd-vit-tagger-v3"])
def test_named_tagger_never_falls_back(cache, name):
    with pytest.raises(ModelFileError):
        open_tagger(name, CPU)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("wd-vit-3", "wd-vit-v3"), ("basik", "basic"), ("xyzzy", None), ("a/b@c/d", None), ("", None)],
)
def test_unknown_name_is_a_usage_error_with_the_nearest(cache, name, nearest):
    with pytest.raises(ConfigError) as caught:
        resolve(name, CPU)
    if nearest is not None:
        assert f"did you mean {nearest}?" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["../x", "a/../../b", "a/b@../c", "/etc/passwd", "a/b@x/y", "-/\n"]
)
def test_paths_are_not_repository_names(cache, name):
    with pytest.raises(ConfigError):
        resolve(name, CPU)


def test_basic_takes_no_folder(cache, tmp_path):
    with pytest.raises(ConfigError):
        resolve("basic", TaggerOptions(model_dir=tmp_path))


def test_listing_the_taggers_loads_no_runtime():
    code = (
        "import sys, taggers.registry as r; r.names(); print({'onnxruntime', "
        "'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
