"""Models with a `tag_mapping.json`: recognised by that file, channels first, with logits as
output.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from huggingface_hub import constants
from PIL import Image

from datasetkit.core.errors import ModelFileError
from taggers import models
from taggers.base import TaggerOptions, round_scores
from taggers.kinds import MAPPED, WD14
from taggers.labels import MAPPING_FILE, parse_mapping
from taggers.models import MODEL_FILE
from taggers.preprocess import to_square_bgr
from taggers.registry import open_tagger, resolve
from taggers.selection import select
from tests.taggers.tiny_models import (
    MAPPING,
    SMALL_LABELS,
    mapped_folder,
    model_bytes,
    plant,
    small_folder,
)

IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue", "grey", "teal")]


def opened(folder, **options):
    return open_tagger(
        "auto", TaggerOptions(model_dir=folder, provider="cpu", threads=1, **options)
    )


@pytest.mark.parametrize("batch", ["batch", 1])
def test_scores_are_the_sigmoid_of_what_the_model_gives_for_a_square_from_minus_one_to_one(
    tmp_path, batch
):
    data = model_bytes(6, batch=batch, size=32, sigmoid=False, channels_first=True)
    tagger = opened(mapped_folder(tmp_path, data))
    weights, bias = (
        onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer[1:]
    )
    found = tagger.scores([tagger.prepare(image) for image in IMAGES])
    for image, row in zip(IMAGES, found, strict=True):
        mean = (to_square_bgr(image, 32) / 127.5 - 1).mean(axis=(0, 1), dtype=np.float64)
        assert np.abs(row - 1 / (1 + np.exp(-(mean @ weights + bias)))).max() < 2e-4
    assert np.array_equal(found, round_scores(found))


def test_input_is_channels_first_and_blue_first():
    square = to_square_bgr(Image.new("RGB", (8, 8), (255, 0, 0)), 8)
    assert MAPPED.tensor(square).shape == (3, 8, 8)
    assert MAPPED.tensor(square)[:, 0, 0].tolist() == [-1, -1, 1]
    assert WD14.tensor(square) is square


def test_sigmoid_does_not_overflow():
    found = MAPPED.probabilities(np.array([-1e30, -20, 0, 20, 1e30], np.float32))
    assert found.tolist()[::2] == [0, 0.5, 1]
    assert 0 < found[1] < 1e-8


def test_artists_copyrights_and_qualities_are_scored_and_never_written(tmp_path):
    labels = opened(mapped_folder(tmp_path)).labels
    assert labels.names == (
        "general",
        "1girl",
        "long hair",
        "hatsune miku",
        "vocaloid",
        "best quality",
    )
    chosen = select(
        np.full(6, 0.9), labels, threshold=0.35, character_threshold=0.85, rating="first"
    )
    assert [tag.name for tag in chosen] == ["general", "hatsune miku", "1girl", "long hair"]


def test_both_forms_of_the_mapping_mean_the_same():
    other = {
        "idx_to_tag": {n: entry["tag"] for n, entry in MAPPING.items()},
        "tag_to_category": {entry["tag"]: entry["category"] for entry in MAPPING.values()},
    }
    assert parse_mapping(json.dumps(other), "x") == parse_mapping(json.dumps(MAPPING), "x")


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        [],
        {"a": {"tag": "x", "category": "General"}},
        {"1": {"tag": "x", "category": "General"}},
        {"0": {"tag": "x"}},
        {"0": {"tag": "", "category": "General"}},
        {"0": {"tag": "x", "category": "Species"}},
        {"0": {"tag": "x", "category": "General"}, "1": {"tag": "x", "category": "General"}},
        {"idx_to_tag": {"0": "x"}, "tag_to_category": {}},
    ],
)
def test_mapping_that_would_shift_or_rename_tags_is_refused(mapping):
    with pytest.raises(ModelFileError, match="there"):
        parse_mapping(json.dumps(mapping), "there")


def test_mapping_of_another_model_is_refused(tmp_path):
    data = model_bytes(7, size=32, sigmoid=False, channels_first=True)
    with pytest.raises(ModelFileError, match="scores 7 tags, its label file has 6"):
        opened(mapped_folder(tmp_path, data))


def test_label_file_of_the_other_kind_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"batch, 3, size, size"):
        opened(mapped_folder(tmp_path / "a", model_bytes(6, size=32)))
    with pytest.raises(ModelFileError, match=r"batch, size, size, 3"):
        opened(small_folder(tmp_path / "b", model_bytes(7, size=32, channels_first=True)))


def test_folder_with_both_label_files_is_refused(tmp_path):
    small_folder(mapped_folder(tmp_path))
    with pytest.raises(ModelFileError, match=r"has selected_tags\.csv and tag_mapping\.json"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["someone/mapped", "someone/mapped/v1_02"])
def test_repository_is_searched_for_either_label_file_also_in_a_folder_of_it(
    tmp_path, monkeypatch, name
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pinned = f"{name}@{'b' * 40}"
    folder = mapped_folder(tmp_path / "made")
    data, mapping = (folder / MODEL_FILE).read_bytes(), (folder / MAPPING_FILE).read_bytes()
    blob = plant(tmp_path, pinned, data, mapping, label_file=MAPPING_FILE)
    found = resolve(pinned, TaggerOptions(provider="cpu", threads=1))
    found.fetch()
    tagger = found.open()
    assert tagger.identity.name == pinned
    assert tagger.scores([tagger.prepare(IMAGES[0])]).shape == (1, 6)
    assert models.download(pinned).labels.name == MAPPING_FILE
    blob.write_bytes(data[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        found.open()


def test_small_labels_of_the_first_kind_stay_readable(tmp_path):
    assert len(opened(small_folder(tmp_path)).labels) == len(SMALL_LABELS.splitlines()) - 1
