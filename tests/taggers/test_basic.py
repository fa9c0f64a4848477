"""The basic tagger: its table, its calibration, and its precision on a small set of images with
known attributes.
"""

import dataclasses
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from datasetkit.captions import vocabulary
from datasetkit.core.errors import ConfigError, MissingExtra, ModelFileError
from datasetkit.core.install import install_command
from datasetkit.vision import colours, faces, medium, models, nouns
from taggers import registry
from taggers.base import round_scores
from taggers.basic import ENOUGH, BasicTagger, calibrated, table
from taggers.evidence import gather
from tests.taggers.measure_basic import ASSETS, Tally, basic_tags, measure, samples, shades

COLOURS = list(colours.named_shades())
BASIC = cache(BasicTagger)
TAGS_OF = cache(basic_tags)
LEAST_FOUND = 5  # a tag with fewer images has no meaningful precision


def photo(name: str) -> Image.Image:
    return Image.open(ASSETS / "photos" / name).convert("RGB")


def evidence_of(image: Image.Image) -> dict[str, float]:
    return gather(BASIC()._observe(BASIC().prepare(image)), table().nouns)


# --- the table


def test_every_label_is_a_general_tag_of_the_vocabulary_in_its_order():
    names = BASIC().labels.names
    known = vocabulary.load()
    assert [known.category(name) for name in names] == ["general"] * len(names)
    assert [known.spelling(name) for name in names] == list(names)
    ranks = [known.rank(name) for name in names]
    assert ranks == sorted(ranks, key=lambda rank: rank or 0)
    assert len(names) > 25


def test_every_evidence_named_in_the_table_is_gathered_and_has_a_cut():
    found = evidence_of(Image.new("RGB", (64, 48), "white"))
    for needed in table().tags.values():
        for name in needed:
            assert 0.0 <= found[name] <= 1.0
            assert 0.0 <= calibrated(name, found[name]) <= 1.0


def test_every_noun_of_the_table_has_all_its_classes():
    assert table().nouns["cat"] == (281, 282, 283, 284, 285)
    assert table().nouns["rocket"] == (657, 744, 812)
    assert all(table().nouns.values())
    assert len(nouns.nouns()) == 1000


# --- scores


@given(st.sampled_from(sorted(table().cuts)), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_more_evidence_never_lowers_the_score(name, one, other):
    low, high = sorted((one, other))
    assert calibrated(name, low) <= calibrated(name, high)


@pytest.mark.parametrize("name", sorted(table().cuts))
def test_the_cut_of_each_evidence_becomes_the_default_threshold(name):
    assert calibrated(name, table().cuts[name]) == ENOUGH
    assert calibrated(name, 0.0) == 0.0
    assert calibrated(name, 1.0) == pytest.approx(1.0)


def test_scores_are_rounded_and_a_batch_changes_none():
    tagger = BASIC()
    prepared = [tagger.prepare(photo(name)) for name in ("coffee.png", "astronaut.png")]
    together = tagger.scores(prepared)
    assert together.dtype == np.float32
    assert together.shape == (2, len(tagger.labels))
    assert np.array_equal(together, round_scores(together))
    assert np.array_equal(together, np.concatenate([tagger.scores([one]) for one in prepared]))
    assert tagger.scores([]).shape == (0, len(tagger.labels))


def test_inputs_that_prepare_did_not_return_are_refused():
    with pytest.raises(TypeError):
        BASIC().scores([np.zeros(3)])


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2000, 3), (17, 64)])
def test_odd_sizes_are_scored(size):
    assert np.isfinite(BASIC().scores([BASIC().prepare(Image.new("RGB", size, "red"))])).all()


def test_registry_opens_it_with_the_notice_that_it_is_a_fallback():
    found = registry.resolve("basic")
    assert found.identity == BasicTagger.identity
    assert "fallback" in found.notice


def test_a_closed_tagger_cannot_score():
    tagger = BasicTagger()
    prepared = tagger.prepare(Image.new("RGB", (32, 32)))
    tagger.close()
    with pytest.raises(AttributeError):
        tagger.scores([prepared])


# --- images


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chelsea.png", {"cat"}),
        ("coffee.png", {"coffee", "cup", "realistic"}),
        ("rocket.jpg", {"rocket", "no humans"}),
        ("astronaut.png", {"solo", "upper body", "realistic"}),
    ],
)
def test_photos_get_their_tags(name, expected):
    assert expected <= TAGS_OF()(photo(name))


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg"])
def test_false_faces_on_things_and_animals_are_not_persons(name):
    people = {"solo", "portrait", "upper body", "close-up", "cowboy shot"}
    assert not people & TAGS_OF()(photo(name))


@pytest.mark.long
@pytest.mark.parametrize(
    ("drawn", "tags"), [(False, 15), pytest.param(True, 20, marks=pytest.mark.slow)]
)
def test_each_kept_tag_is_precise_on_images_with_known_attributes(drawn, tags):
    found = measure(TAGS_OF(), samples("measure", rounds=1, drawn=drawn))
    kept = {
        tag: tally
        for tag, tally in found.items()
        if tag in table().tags and tally.right + tally.wrong
    }
    often = {tag for tag, tally in kept.items() if tally.right + tally.wrong >= LEAST_FOUND}
    common = {"solo", "upper body", "cowboy shot", "simple background", "greyscale"}
    assert common | ({"white background"} if drawn else set()) <= often
    assert len(kept) >= tags
    assert {tag: kept[tag] for tag in often if kept[tag].precision < 0.8} == {}
    assert {tag: tally for tag, tally in kept.items() if tag not in often and tally.wrong > 1} == {}


def test_measuring_counts_right_wrong_and_missed_and_leaves_out_unknown():
    first = next(samples("measure", rounds=1))
    image = dataclasses.replace(first, true=frozenset({"a", "b"}), unknown=frozenset({"c"}))
    found = measure(lambda _: frozenset({"a", "c", "d"}), iter([image]))
    assert found == {"a": Tally(right=1), "b": Tally(missed=1), "d": Tally(wrong=1)}
    assert (found["a"].precision, found["d"].precision, found["b"].recall) == (1.0, 0.0, 0.0)


def test_the_halves_share_no_shade():
    for name, kept_back in shades("measure").items():
        assert not set(kept_back) & set(shades("calibrate")[name])


# --- datasetkit.vision


def test_a_face_is_found_where_it_is_in_pixels_of_the_image():
    (face,) = faces.FaceFinder().find(photo("astronaut.png"), threshold=0.7)
    assert 150 < face.left < face.right < 300
    assert 50 < face.top < face.bottom < 200
    wide = ImageOps.expand(photo("astronaut.png"), (300, 0, 0, 0), "white")
    (moved,) = faces.FaceFinder().find(wide, threshold=0.7)
    assert moved.centre[0] - face.centre[0] == pytest.approx(300, abs=15)


def test_a_face_in_the_mirror_image_too_keeps_its_score_and_one_side_halves_it():
    there, gone = faces.Face(10, 10, 30, 30, 0.8), faces.Face(60, 60, 80, 80, 0.6)
    mirrored = faces.Face(100 - 30, 10, 100 - 10, 30, 0.6)
    kept, halved = faces.join_mirrored([there, gone], [mirrored], 100)
    assert dataclasses.astuple(kept) == pytest.approx((10, 10, 30, 30, 0.7))
    assert dataclasses.astuple(halved) == pytest.approx((60, 60, 80, 80, 0.3))


def test_the_best_of_overlapping_boxes_is_kept():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], np.float32)
    assert faces.non_maximum_suppression(boxes, np.array([0.5, 0.9, 0.4], np.float32)) == [1, 2]


def test_anchors_are_in_the_middle_of_their_cells():
    centres = faces.anchors()
    assert centres.shape == (896, 2)
    assert centres[:3].tolist() == [[8, 8], [8, 8], [24, 8]]
    assert centres[512].tolist() == centres[517].tolist() == [16, 16]


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [((255, 255, 255), (1, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (0.628, 0.225, 0.126))],
)
def test_oklab_has_the_values_of_its_author(rgb, lab):
    assert colours.oklab(np.array(rgb, np.uint8)).tolist() == pytest.approx(lab, abs=1e-3)


@given(st.sampled_from(COLOURS), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_a_named_shade_has_its_own_name(name, number):
    own = colours.named_shades()[name]
    shares = colours.name_shares(tuple(own[number % len(own)].tolist()))
    assert max(shares, key=lambda other: shares[other]) == name
    assert all(0.0 <= share <= 1.0 for share in shares.values())


def test_background_is_read_from_the_border_without_its_bottom():
    image = Image.new("RGB", (100, 100), "blue")
    image.paste("white", (20, 30, 80, 100))
    found = colours.background(colours.sample(image))
    assert found.plainness == 1.0
    assert found.area == pytest.approx(0.58, abs=0.03)
    assert found.colour == pytest.approx(
        colours.oklab(np.array((0, 0, 255), np.uint8)).tolist(), abs=1e-3
    )


def test_flat_fills_have_no_texture_and_a_photo_has_much():
    assert medium.texture(Image.new("RGB", (50, 50), "red")) == 0.0
    assert medium.texture(photo("coffee.png")) > 0.5


def test_damaged_weights_are_refused_before_they_are_loaded(monkeypatch):
    monkeypatch.setitem(
        models.MODELS, "faces", models.PackagedModel("blazeface_back_256.onnx", "0" * 64)
    )
    with pytest.raises(ModelFileError, match="sha256"):
        models.open_model("faces")


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setitem(models.MODELS, "faces", models.PackagedModel("gone.onnx", "0" * 64))
    with pytest.raises(ModelFileError, match=r"gone\.onnx"):
        models.open_model("faces")


def test_an_unknown_model_name_lists_the_known_ones():
    with pytest.raises(ConfigError) as raised:
        models.open_model("feces")
    assert "faces" in raised.value.hint


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as raised:
        models.open_model("faces")
    assert raised.value.hint == install_command("cpu")


def test_every_packaged_model_is_in_the_notice():
    notice = (
        Path(models.__file__).with_name("weights").joinpath("NOTICE").read_text(encoding="utf-8")
    )
    for model in models.MODELS.values():
        assert model.file in notice
        assert model.sha256 in notice
