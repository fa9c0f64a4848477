"""The WD14 taggers: found in the hub's cache or a folder, refused if damaged or unsuitable, with
any batch size.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import pickle

import huggingface_hub
import numpy as np
import onnx
import pytest
from huggingface_hub import constants
from onnx import TensorProto, helper
from PIL import Image

from datasetkit import hub
from datasetkit.core.errors import ConfigError, Exit, MissingExtra, ModelFileError, StorageError
from datasetkit.core.install import install_command, replace_command
from taggers import models, onnx_file, sessions
from taggers.base import TaggerOptions, round_scores
from taggers.models import LABEL_FILE, MODEL_FILE, MODELS
from taggers.preprocess import PREPROCESS, to_square_bgr
from taggers.registry import open_tagger, resolve
from taggers.selection import select
from tests import fake_hub
from tests.taggers.tiny_models import (
    SMALL_COUNT,
    SMALL_LABELS,
    V3_COUNT,
    V3_LABELS,
    model_bytes,
    plant,
    small_folder,
)

CPU = TaggerOptions(provider="cpu", threads=1)
IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue", "grey", "teal")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache without a connection."""
    place = tmp_path / "hub"
    place.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return place


@pytest.fixture(scope="module")
def v3_model():
    return model_bytes(V3_COUNT)


def opened(folder, **options):
    return open_tagger(
        "auto", TaggerOptions(model_dir=folder, provider="cpu", threads=1, **options)
    )


def scored(tagger, images):
    return tagger.scores([tagger.prepare(image) for image in images])


# --- from the hub's cache


def test_cached_model_tags_an_image_with_the_real_labels(cache, v3_model):
    plant(cache, "wd-vit-v3", v3_model, V3_LABELS.read_bytes())
    tagger = open_tagger("wd-vit-v3", CPU)
    scores = scored(tagger, IMAGES[:2])
    assert scores.shape == (2, V3_COUNT)
    assert scores.dtype == np.float32
    assert np.array_equal(scores, round_scores(scores))
    assert not np.array_equal(scores[0], scores[1])
    tags = select(scores[0], tagger.labels, threshold=0.35, character_threshold=0.85)
    assert tags and all(tag.name in tagger.labels.names for tag in tags)
    assert tagger.identity.key() == f"wd-vit-v3@{MODELS['wd-vit-v3'].revision}+{PREPROCESS}"
    assert tagger.pr_threshold == 0.2614


def test_pinned_model_is_identified_without_its_files(cache):
    found = resolve("wd-vit-v2", CPU)
    assert found.identity.revision == MODELS["wd-vit-v2"].revision
    assert found.pr_threshold == 0.3537


def test_repository_name_means_the_pinned_model(cache):
    assert (
        resolve("SmilingWolf/wd-vit-tagger-v3", CPU).identity == resolve("wd-vit-v3", CPU).identity
    )
    revision = "a" * 40
    other = resolve(f"someone/some-tagger@{revision}", CPU).identity
    assert (other.name, other.revision) == (f"someone/some-tagger@{revision}", revision)


def test_missing_model_is_exit_12_with_the_command_that_downloads_it(cache):
    with pytest.raises(ModelFileError) as caught:
        resolve("wd-vit-v3", CPU).fetch()
    assert caught.value.exit_code == Exit.MODEL
    assert "dsk models download wd-vit-v3" in caught.value.hint
    with pytest.raises(ModelFileError, match="someone/other"):
        resolve("someone/other", CPU)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_weights_are_refused_at_load(cache, v3_model, damage):
    blob = plant(cache, "wd-vit-v3", v3_model, V3_LABELS.read_bytes())
    data = bytearray(v3_model)
    data[len(data) // 2] ^= 1
    blob.write_bytes({"flip": bytes(data), "truncate": v3_model[:-7], "empty": b""}[damage])
    with pytest.raises(ModelFileError, match="damaged or incomplete") as caught:
        open_tagger("wd-vit-v3", CPU)
    assert "dsk models download wd-vit-v3" in caught.value.hint


def test_changed_label_file_is_refused_at_load(cache, v3_model):
    blob = plant(cache, "wd-vit-v3", v3_model, V3_LABELS.read_bytes())
    snapshot = blob.parent.parent / "snapshots" / MODELS["wd-vit-v3"].revision
    labels = (snapshot / LABEL_FILE).resolve()
    labels.write_bytes(labels.read_bytes().replace(b"long_hair", b"lung_hair"))
    with pytest.raises(ModelFileError, match=r"selected_tags\.csv is damaged"):
        open_tagger("wd-vit-v3", CPU)


@pytest.mark.long
def test_cache_without_links_needs_the_recorded_hash(cache, v3_model):
    blob = plant(cache, "wd-vit-v3", v3_model, V3_LABELS.read_bytes())
    weights = blob.parent.parent / "snapshots" / MODELS["wd-vit-v3"].revision / MODEL_FILE
    weights.unlink()
    weights.write_bytes(v3_model)
    with pytest.raises(ModelFileError, match="cache has no hash of it"):
        open_tagger("wd-vit-v3", CPU)
    weights.with_name(MODEL_FILE + hub.ETAG_SUFFIX).write_text(
        hashlib.sha256(v3_model).hexdigest() + "\n"
    )
    open_tagger("wd-vit-v3", CPU).close()


def test_the_models_and_their_pins_are_these():
    """Each repository at a commit, with the threshold of its card: another commit has other
    tags.
    """
    lines = sorted(f"{m.name} {m.repo} {m.revision} {m.pr_threshold}" for m in MODELS.values())
    assert all(hub.COMMIT.fullmatch(m.revision) for m in MODELS.values())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "4e48514a01ed82999f76294c6834888a3861d4876838b02876260be039c6dec8", lines


def test_list_names_every_model_and_what_is_cached(cache, v3_model):
    plant(cache, "wd-vit-v3", v3_model, V3_LABELS.read_bytes())
    rows = models.list_models()
    assert len(rows) == 10
    assert rows[0].name == models.DEFAULT
    assert [row.name for row in rows if row.cached] == ["wd-vit-v3"]
    assert all(hub.COMMIT.fullmatch(row.revision) for row in rows)
    assert all((row.path is not None) == row.cached for row in rows)


# --- from a hub


@pytest.fixture
def served(cache, monkeypatch):
    """A hub on the loopback."""
    with fake_hub.serve(cache, monkeypatch) as fake:
        yield fake


def serve_small_model(served):
    served.files[MODEL_FILE] = model_bytes(SMALL_COUNT, size=32)
    served.files[LABEL_FILE] = SMALL_LABELS.encode()
    return served.files, served.requests


def test_download_fetches_once_and_a_damaged_file_again(served):
    files, requests = serve_small_model(served)
    found = models.download("wd-vit-v3")
    assert found.weights.read_bytes() == files[MODEL_FILE]
    assert len(requests) == 2
    models.download("wd-vit-v3")
    assert len(requests) == 2
    found.weights.resolve().write_bytes(files[MODEL_FILE][:-3])
    models.download("wd-vit-v3")
    assert len(requests) == 3
    assert found.weights.read_bytes() == files[MODEL_FILE]


@pytest.mark.parametrize("intact", [True, False])
def test_interrupted_download_resumes_unless_the_part_is_damaged(served, intact):
    files, requests = serve_small_model(served)
    weights = files[MODEL_FILE]
    half = len(weights) // 2
    part = served.plant_part(
        MODELS["wd-vit-v3"].repo, MODEL_FILE, weights[:half] if intact else bytes(half)
    )
    if intact:
        found = models.download("wd-vit-v3")
        assert requests == [f"{LABEL_FILE} from 0", f"{MODEL_FILE} from {half}"]
        assert found.weights.read_bytes() == weights
    else:
        with pytest.raises(ModelFileError, match="arrived damaged"):
            models.download("wd-vit-v3")
        assert models.download("wd-vit-v3").weights.read_bytes() == weights
    assert not part.exists()


def test_named_tagger_is_downloaded_if_there_is_a_connection(served):
    serve_small_model(served)
    tagger = open_tagger("wd-vit-v3", CPU)
    assert scored(tagger, IMAGES).shape == (5, SMALL_COUNT)


def test_branch_is_resolved_to_its_commit(served):
    serve_small_model(served)
    found = resolve("someone/some-tagger", CPU)
    assert found.identity.revision == "c" * 40
    assert f"someone/some-tagger@{'c' * 40}" in found.notice
    found.fetch()
    assert found.open().identity == found.identity


def test_hub_without_the_file_is_exit_12(served):
    with pytest.raises(ModelFileError, match="cannot fetch"):
        models.download("wd-vit-v3")


def test_full_disk_during_the_download_is_a_storage_error(served, monkeypatch):
    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "blobs/x")

    serve_small_model(served)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_room)
    with pytest.raises(StorageError, match="No space"):
        models.download("wd-vit-v3")


# --- from a folder


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_scores_do_not_depend_on_the_batch(tmp_path, batch):
    tagger = opened(small_folder(tmp_path, model_bytes(SMALL_COUNT, batch=batch, size=32)))
    together = scored(tagger, IMAGES)
    alone = np.concatenate([scored(tagger, [image]) for image in IMAGES])
    assert together.shape == (5, SMALL_COUNT)
    assert np.array_equal(together, alone)
    assert tagger.scores([]).shape == (0, SMALL_COUNT)
    assert tagger.batch_size == (1 if batch == "batch" else batch)


def test_fixed_batch_overrides_the_option(tmp_path):
    fixed = small_folder(tmp_path / "fixed", model_bytes(SMALL_COUNT, batch=1, size=32))
    assert opened(fixed, batch_size=8).batch_size == 1
    assert opened(small_folder(tmp_path / "dynamic"), batch_size=8).batch_size == 8


def test_a_model_on_the_cpu_reports_whether_it_leaves_a_core_idle(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    fills = {
        n: open_tagger(
            "auto", TaggerOptions(small_folder(tmp_path / str(n)), "cpu", threads=n)
        ).fills_cores
        for n in (0, 3, 4)
    }
    assert fills == {0: True, 3: False, 4: True}


def test_scores_are_those_of_the_formula(tmp_path):
    data = model_bytes(SMALL_COUNT, size=32)
    tagger = opened(small_folder(tmp_path, data))
    weights, bias = (
        onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer[1:]
    )
    mean = to_square_bgr(IMAGES[4], 32).mean(axis=(0, 1)) / 255
    expected = 1 / (1 + np.exp(-(mean @ weights + bias)))
    assert np.abs(scored(tagger, [IMAGES[4]])[0] - expected).max() < 2e-4


def test_input_size_is_read_from_the_model(tmp_path):
    tagger = opened(small_folder(tmp_path))
    assert np.shape(tagger.prepare(IMAGES[0])) == (32, 32, 3)


def test_label_file_of_another_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="scores 9 tags, its label file has 7"):
        opened(small_folder(tmp_path, model_bytes(9, size=32)))


def test_label_file_of_another_model_is_refused_at_the_first_run_if_the_width_is_symbolic(
    tmp_path,
):
    model = onnx.load_from_string(model_bytes(9, size=32))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(9, bool), "all"))
    model.graph.node.append(helper.make_node("Compress", ["output", "all"], ["some"], axis=1))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("some", TensorProto.FLOAT, ["batch", "tags"])
    )
    tagger = opened(small_folder(tmp_path, model.SerializeToString()))
    with pytest.raises(ModelFileError, match="scores 9 tags, its label file has 7"):
        scored(tagger, IMAGES[:1])


def test_logits_are_refused(tmp_path):
    tagger = opened(small_folder(tmp_path, model_bytes(SMALL_COUNT, size=32, sigmoid=False)))
    with pytest.raises(ModelFileError, match="is not probabilities"):
        scored(tagger, IMAGES)


def test_channels_first_model_is_refused(tmp_path):
    model = onnx.load_from_string(model_bytes(SMALL_COUNT, size=32))
    shape = model.graph.input[0].type.tensor_type.shape.dim
    shape[1].dim_value, shape[3].dim_value = 3, 32
    next(a for a in model.graph.node[0].attribute if a.name == "axes").ints[:] = [2, 3]
    with pytest.raises(ModelFileError, match=r"batch, size, size, 3"):
        opened(small_folder(tmp_path, model.SerializeToString()))


def test_folder_is_identified_by_its_content_not_its_path(tmp_path):
    one, same = small_folder(tmp_path / "one"), small_folder(tmp_path / "same")
    other = small_folder(tmp_path / "other", model_bytes(SMALL_COUNT, size=32, seed=1))
    keys = [opened(folder).identity.key() for folder in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]
    assert str(tmp_path) not in keys[0]


def test_checksum_beside_the_weights_is_checked(tmp_path):
    folder = small_folder(tmp_path)
    right = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    (folder / "model.onnx.sha256").write_text(f"{right}  model.onnx\n")
    opened(folder).close()
    (folder / "model.onnx.sha256").write_text(f"{'0' * 64}  model.onnx\n")
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        opened(folder)


@pytest.mark.parametrize("missing", [MODEL_FILE, LABEL_FILE])
def test_folder_with_a_missing_file_is_refused(tmp_path, missing):
    folder = small_folder(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(ModelFileError, match=f"{missing} is missing"):
        opened(folder)


def test_files_that_change_between_finding_and_opening_are_refused(tmp_path):
    found = resolve("auto", TaggerOptions(model_dir=small_folder(tmp_path), provider="cpu"))
    small_folder(tmp_path, model_bytes(SMALL_COUNT, size=32, seed=1))
    with pytest.raises(ModelFileError, match="changed during the run"):
        found.open()


def test_found_tagger_can_be_sent_to_another_process(tmp_path):
    found = pickle.loads(
        pickle.dumps(
            resolve("auto", TaggerOptions(model_dir=small_folder(tmp_path), provider="cpu"))
        )
    )
    assert scored(found.open(), IMAGES).shape == (5, SMALL_COUNT)


# --- the file itself


def test_every_truncation_is_refused_before_a_session_is_opened(tmp_path):
    data = model_bytes(SMALL_COUNT, size=32)
    path = tmp_path / MODEL_FILE
    whole = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            onnx_file.check(path)
            whole += 1
        except ModelFileError:
            pass
    # A cut just behind the graph leaves a well-formed file, which only its hash refuses.
    assert whole <= 2
    path.write_bytes(data)
    assert onnx_file.check(path) == ()


@pytest.mark.parametrize(
    "data", [b"", b"<!doctype html>", bytes(100), b"PK\x03\x04", bytes(range(256))], ids=len
)
def test_bytes_that_are_not_a_model_are_refused(tmp_path, data):
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        opened(small_folder(tmp_path, data))


def test_git_lfs_pointer_is_named_as_such(tmp_path):
    with pytest.raises(ModelFileError, match="Git LFS pointer"):
        opened(
            small_folder(
                tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
            )
        )


def external(location: str) -> bytes:
    """Return a small model whose matrix is in another file."""
    model = onnx.load_from_string(model_bytes(SMALL_COUNT, size=32))
    tensor = model.graph.initializer[1]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def test_external_weights_beside_the_model_are_read_and_belong_to_its_identity(tmp_path):
    weights = onnx.load_from_string(model_bytes(SMALL_COUNT, size=32)).graph.initializer[1].raw_data
    folder = small_folder(tmp_path / "external", external("weights.data"))
    (folder / "weights.data").write_bytes(weights)
    tagger = opened(folder)
    assert np.array_equal(
        scored(tagger, IMAGES), scored(opened(small_folder(tmp_path / "plain")), IMAGES)
    )
    (folder / "weights.data").write_bytes(bytes(len(weights)))
    assert opened(folder).identity != tagger.identity


@pytest.mark.parametrize(
    "location", ["../weights.data", "sub/weights.data", "weights.link", "..", "", "absent.data"]
)
def test_external_weights_elsewhere_are_refused(tmp_path, location):
    (tmp_path / "weights.data").write_bytes(bytes(1000))
    folder = small_folder(tmp_path / "model", external(location))
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.data").write_bytes(bytes(1000))
    (folder / "weights.link").symlink_to(tmp_path / "weights.data")
    with pytest.raises(ModelFileError, match="not a regular file in the same folder"):
        opened(folder)
    (folder / MODEL_FILE).write_bytes(external(str(tmp_path / "weights.data")))
    with pytest.raises(ModelFileError, match="not a regular file in the same folder"):
        opened(folder)


def test_external_weights_within_a_branch_are_found(tmp_path):
    tensor = onnx.load_from_string(external("../away.data")).graph.initializer[1]
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["w"], value=tensor)], "branch", [], []
    )
    node = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    path = tmp_path / MODEL_FILE
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())
    with pytest.raises(ModelFileError, match="away"):
        onnx_file.check(path)


# --- sessions


def test_provider_that_is_not_installed_is_refused_and_never_replaced(tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingExtra) as caught:
        open_tagger("auto", TaggerOptions(model_dir=small_folder(tmp_path), provider="cuda"))
    assert caught.value.exit_code == Exit.MODEL
    assert replace_command(["onnxruntime"], "gpu") in caught.value.hint


def test_provider_that_does_not_start_is_refused_if_named_and_a_warning_with_auto(
    tmp_path, monkeypatch
):
    import onnxruntime

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    plain = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, *_, **__: plain(path, providers=both[1:])
    )
    folder = small_folder(tmp_path)
    with pytest.raises(ModelFileError, match="cuda is installed but does not start"):
        open_tagger("auto", TaggerOptions(model_dir=folder, provider="cuda"))
    tagger = open_tagger("auto", TaggerOptions(model_dir=folder))
    assert tagger.batch_size == 1, "the CPU's"
    assert "cuda does not start" in tagger.notice
    assert opened(folder).notice == ""


def test_unknown_provider_is_a_usage_error(tmp_path):
    with pytest.raises(ConfigError, match="gpu"):
        open_tagger("auto", TaggerOptions(model_dir=small_folder(tmp_path), provider="gpu"))


def test_missing_onnxruntime_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        opened(small_folder(tmp_path))
    assert install_command("cpu") in caught.value.hint


def test_two_builds_of_onnxruntime_are_a_warning(monkeypatch):
    monkeypatch.setattr(sessions, "_installed", lambda name: True)
    assert "overwrite each other" in sessions.double_install()
    monkeypatch.setattr(sessions, "_installed", lambda name: name == "onnxruntime")
    assert sessions.double_install() == ""
