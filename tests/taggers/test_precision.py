"""Precisions: each has its own key, is used as given, and is refused if it is not supported."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from datasetkit.core.errors import ConfigError, Exit, MissingExtra
from datasetkit.core.install import package_command, replace_command
from taggers import precision, sessions
from taggers.base import TaggerOptions
from taggers.registry import open_tagger, resolve
from tests.taggers.tiny_models import small_folder

IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "teal")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasetkit"


def opened(folder, way, **options):
    return open_tagger("auto", TaggerOptions(model_dir=folder, threads=1, precision=way, **options))


def scored(tagger):
    return tagger.scores([tagger.prepare(image) for image in IMAGES])


@pytest.mark.parametrize("way", ["int8", "fp16"])
def test_copy_is_close_and_made_once_and_made_again_if_damaged(tmp_path, cache, monkeypatch, way):
    folder = small_folder(tmp_path / "model")
    exact, fast = scored(opened(folder, "float32")), scored(opened(folder, way, provider="cpu"))
    assert 0 < np.abs(exact - fast).max() < 0.05
    [copy] = cache.glob("*.onnx")
    before = copy.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(precision, "_convert", lambda *_: pytest.fail("made again"))
        assert np.array_equal(scored(opened(folder, way, provider="cpu")), fast)
    copy.write_bytes(before[:-5])
    assert np.array_equal(scored(opened(folder, way, provider="cpu")), fast)
    assert copy.read_bytes() == before
    assert not list(cache.glob(".dsk-*"))


def test_precisions_never_share_scores(tmp_path):
    folder = small_folder(tmp_path / "model")
    options = [
        TaggerOptions(model_dir=folder, precision=way)
        for way in ("float32", "int8", "bf16", "fp16")
    ]
    assert len({resolve("auto", one).identity.key() for one in options}) == 4


def test_int8_without_the_converter_names_what_to_install(tmp_path, monkeypatch):
    folder = small_folder(tmp_path / "model")
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else plain(name)
    )
    with pytest.raises(MissingExtra) as caught:
        opened(folder, "int8")
    assert caught.value.exit_code == Exit.MODEL
    assert caught.value.hint == package_command("onnx")


def test_bf16_needs_openvino(tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingExtra) as caught:
        opened(small_folder(tmp_path / "model"), "bf16")
    assert package_command("onnxruntime-openvino") in caught.value.hint


def test_half_precision_without_a_card_is_refused_and_not_run_on_the_cpu(tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingExtra) as caught:
        opened(small_folder(tmp_path / "model"), "fp16")
    assert (
        caught.value.exit_code == Exit.MODEL
        and replace_command(["onnxruntime"], "gpu") in caught.value.hint
    )


def test_bound_memory_gives_the_same_scores_for_every_batch(tmp_path, monkeypatch):
    folder = small_folder(tmp_path / "model")
    plain = opened(folder, "float32", provider="cpu", batch_size=2)
    monkeypatch.setattr(sessions, "BOUND", {"cpu": "cpu"})
    bound = opened(folder, "float32", provider="cpu", batch_size=2)
    assert isinstance(getattr(bound._run_session, "__self__", None), sessions._Bound)
    assert np.array_equal(scored(bound), scored(plain))
    assert np.array_equal(scored(bound), scored(plain))


@pytest.mark.parametrize(("way", "provider"), [("int8", "cuda"), ("bf16", "cpu")])
def test_provider_without_the_precision_is_a_usage_error(tmp_path, way, provider):
    with pytest.raises(ConfigError, match=f"{way} does not run on {provider}"):
        opened(small_folder(tmp_path / "model"), way, provider=provider)


@pytest.mark.parametrize(("way", "hint"), [("float32", "f32"), ("bf16", "bf16")])
def test_openvino_gets_the_precision_in_both_cases(way, hint):
    assert f'"INFERENCE_PRECISION_HINT": "{hint}"' in sessions._openvino(way, 0)["load_config"]


@pytest.mark.skipif(not sessions.has("openvino"), reason="needs onnxruntime-openvino")
def test_openvino_computes_in_the_given_precision(tmp_path):
    folder = small_folder(tmp_path / "model")
    exact = scored(opened(folder, "float32", provider="cpu"))
    assert np.abs(scored(opened(folder, "float32", provider="openvino")) - exact).max() < 1e-3
    half = opened(folder, "bf16")
    assert half.device == "openvino"
    assert np.abs(scored(half) - exact).max() < 0.1
