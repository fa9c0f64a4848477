"""`dsk tag` and `dsk scores` as typed, against models in a hub cache that have the real inputs,
outputs and labels.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit
from taggers import sessions
from taggers.labels import MAPPING_FILE, read_labels
from taggers.models import MODEL_FILE, MODELS
from taggers.registry import open_tagger
from taggers.selection import select
from tests.taggers.tiny_models import V3_COUNT, V3_LABELS, mapped_folder, model_bytes, plant

COLOURS = ("red", "green", "blue", "grey", "teal", "white")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache without a connection."""
    place = tmp_path / "hub"
    place.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return place


@pytest.fixture(scope="module")
def v3_models():
    small = model_bytes(V3_COUNT, size=64)
    return {"small": small, **{batch: model_bytes(V3_COUNT, batch=batch) for batch in ("batch", 1)}}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "imgs"
    place.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (60 + number, 40), colour).save(place / f"{number}.png")
    return place


@pytest.fixture
def planted(cache, v3_models):
    """A smaller model than the real ones, for tests that do not depend on its size."""
    plant(cache, "wd-vit-v3", v3_models["small"], V3_LABELS.read_bytes())


def captions(folder):
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


def result(capsys, *command):
    """Run a command that succeeds with --json and return its result."""
    capsys.readouterr()
    code = run([*map(str, command), "--json"])
    assert code == Exit.DONE
    return json.loads(capsys.readouterr().out)["result"]


def no_session(*_, **__):
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize(("name", "batch"), [("wd-vit-v3", "batch"), ("wd-vit-v2", 1)])
def test_captions_are_the_tags_of_the_model(cache, v3_models, folder, name, batch):
    plant(cache, name, v3_models[batch], V3_LABELS.read_bytes())
    assert (
        run(["tag", str(folder), "--tagger", name, "--provider", "cpu", "--trigger", "sks"])
        == Exit.DONE
    )
    tagger = open_tagger(name)
    written = captions(folder)
    assert len(written) == len(COLOURS)
    for stem, text in written.items():
        row = tagger.scores([tagger.prepare(Image.open(folder / f"{stem}.png"))])[0]
        tags = select(row, tagger.labels, threshold=0.35, character_threshold=0.85)
        assert text == ", ".join(["sks", *dict.fromkeys(tag.name for tag in tags)]) + "\n"


@pytest.mark.long
def test_auto_takes_the_cached_default_and_reports_the_device(cache, v3_models, folder, capsys):
    plant(cache, "wd-swinv2-v3", v3_models["batch"], V3_LABELS.read_bytes())
    assert run(["tag", str(folder)]) == Exit.DONE
    assert "(wd-swinv2-v3, cpu)" in capsys.readouterr().out


@pytest.mark.long
def test_captions_of_the_fallback_are_replaced_once_the_model_is_cached(
    cache, v3_models, folder, capsys
):
    assert run(["tag", str(folder), "--trigger", "sks"]) == Exit.DONE
    assert "tagging with the fallback basic" in capsys.readouterr().err
    fallback = captions(folder)
    plant(cache, "wd-swinv2-v3", v3_models["small"], V3_LABELS.read_bytes())
    assert run(["tag", str(folder), "--trigger", "sks"]) == Exit.DONE
    assert "(wd-swinv2-v3, cpu)" in capsys.readouterr().out
    assert len(captions(folder)) == len(fallback) and not set(captions(folder).items()) & set(
        fallback.items()
    )


def test_model_of_another_width_is_refused_before_anything_is_written(cache, folder, capsys):
    plant(cache, "wd-vit-v3", model_bytes(9083), V3_LABELS.read_bytes())
    assert run(["tag", str(folder), "--tagger", "wd-vit-v3"]) == Exit.MODEL
    assert "scores 9083 tags, its label file has 10861" in capsys.readouterr().err
    assert captions(folder) == {}


@pytest.mark.parametrize(
    "command", [["--tagger", "wd-vit-v3"], ["--tagger", "wd-vit-v3", "--provider", "cuda"]]
)
def test_a_named_tagger_that_is_not_available_is_exit_12(cache, folder, command):
    assert run(["tag", str(folder), *command]) == Exit.MODEL
    assert captions(folder) == {}


@pytest.mark.parametrize(
    "command",
    [
        ["--provider", "gpu"],
        ["--precision", "int4"],
        ["--precision", "int8", "--provider", "cuda"],
        ["--tagger", "basic", "--fast-decode"],
        ["--tagger", "basic,basic"],
        ["--tagger", "wd-vit-v3,basic", "--threshold", "pr"],
        ["--tagger", "basic", "--threshold", "pr"],
        ["--threshold", "pr"],
        ["--tagger", "wd-vit-v3,basic", "--model-dir", "x"],
        ["--batch-size", "-1"],
    ],
)
def test_impossible_options_are_a_usage_error(planted, folder, command):
    assert run(["tag", str(folder), *command]) == Exit.USAGE


@pytest.mark.long
@pytest.mark.parametrize(
    "later",
    [
        ["--threshold", "0.6"],
        ["--threshold", "pr"],
        ["--mcut"],
        ["--trigger", "sks", "--exclude", "@hair"],
        [],
    ],
)
def test_another_threshold_or_rule_loads_no_model(planted, folder, capsys, monkeypatch, later):
    assert run(["tag", str(folder), "--tagger", "wd-vit-v3"]) == Exit.DONE
    monkeypatch.setattr(sessions, "open_session", no_session)
    before = captions(folder)
    again = result(capsys, "tag", folder, "--tagger", "wd-vit-v3", *later)
    assert again["inferred"] == 0
    assert (captions(folder) == before) == (later == [])
    assert len(again["changes"]) == (0 if later == [] else len(COLOURS))


@pytest.mark.long
def test_interrupted_run_resumes_where_it_stopped(planted, folder, capsys, monkeypatch):
    import taggers.wd14

    plain = taggers.wd14.Wd14Tagger.scores
    seen: list[int] = []

    def interrupted(self, batch):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(len(batch))
        return plain(self, batch)

    monkeypatch.setattr(taggers.wd14.Wd14Tagger, "scores", interrupted)
    assert run(["tag", str(folder), "--tagger", "wd-vit-v3"]) == Exit.INTERRUPTED
    assert captions(folder) == {}
    monkeypatch.setattr(taggers.wd14.Wd14Tagger, "scores", plain)
    assert result(capsys, "tag", folder, "--tagger", "wd-vit-v3")["inferred"] == len(COLOURS) - 4
    assert len(captions(folder)) == len(COLOURS)


def test_rating_is_written_first_or_last(planted, folder):
    ratings = {label.name for label in read_labels(V3_LABELS).items if label.category == "rating"}
    for place, at in (("first", 0), ("last", -1)):
        assert run(["tag", str(folder), "--tagger", "wd-vit-v3", "--rating", place]) == Exit.DONE
        assert all(text.strip().split(", ")[at] in ratings for text in captions(folder).values())


@pytest.mark.long
def test_fast_options_store_separate_scores_and_report_what_they_change(planted, folder, capsys):
    exact = result(capsys, "tag", folder, "--tagger", "wd-vit-v3")
    assert exact["drift"] == []
    for option in (["--precision", "int8"], ["--fast-decode"]):
        other = result(capsys, "tag", folder, "--tagger", "wd-vit-v3", *option)
        assert other["tagger"] != exact["tagger"]
        assert other["inferred"] == len(COLOURS)
        [drift] = other["drift"]
        assert drift["images"] == 3 and drift["tags"] > 0
        # The exact scores of the sample do not count as the ones used last.
        assert result(capsys, "scores", folder / "0.png")["taggers"] == [other["tagger"]]
        # Images that are not reduced are decoded as usual.
        assert option != ["--fast-decode"] or (drift["lost"], drift["gained"]) == (0, 0)
    assert result(capsys, "tag", folder, "--tagger", "wd-vit-v3")["inferred"] == 0
    assert result(capsys, "scores", folder / "0.png")["taggers"] == [exact["tagger"]]


@pytest.mark.long
def test_several_taggers_are_named_and_combined(planted, cache, folder, capsys, tmp_path):
    mapped = mapped_folder(tmp_path / "mapped")
    data, mapping = (mapped / MODEL_FILE).read_bytes(), (mapped / MAPPING_FILE).read_bytes()
    other = f"someone/mapped@{'b' * 40}"
    plant(cache, other, data, mapping, label_file=MAPPING_FILE)
    sizes = {}
    for context in ("union", "intersection", "mean"):
        found = result(
            capsys,
            "tag",
            folder,
            "--tagger",
            f"wd-vit-v3,{other}",
            "--combine",
            context,
            "--threshold",
            "0.3",
        )
        assert [used["name"] for used in found["taggers"]] == ["wd-vit-v3", other]
        assert found["inferred"] == (2 * len(COLOURS) if context == "union" else 0)
        sizes[context] = sum(text.count(",") for text in captions(folder).values())
    assert sizes["union"] >= sizes["mean"] >= sizes["intersection"]


@pytest.mark.long
def test_scores_shows_selected_tags_and_those_just_below(planted, folder, capsys, monkeypatch):
    assert run(["tag", str(folder), "--tagger", "wd-vit-v3"]) == Exit.DONE
    monkeypatch.setattr(sessions, "open_session", no_session)
    before = captions(folder)
    shown = result(capsys, "scores", folder / "1.png", "--threshold", "0.5")["rows"]
    tags = [row for row in shown if row["category"] == "general"]
    assert all(row["chosen"] == (row["score"] >= 0.5) for row in tags)
    assert min(row["score"] for row in tags) >= 0.4
    assert {row["tag"] for row in tags} <= set(read_labels(V3_LABELS).names)
    assert captions(folder) == before
    assert run(["scores", str(folder / "1.png")]) == Exit.DONE
    assert "wd-vit-v3" in capsys.readouterr().out


def test_scores_of_an_untagged_image_names_the_command(cache, folder, capsys):
    assert run(["scores", str(folder / "1.png")]) == Exit.USAGE
    assert "dsk tag" in capsys.readouterr().err
    assert not (folder / ".dsk").exists()


@pytest.mark.long
def test_scores_of_a_copy_are_those_of_the_image(planted, folder, capsys):
    assert run(["tag", str(folder), "--tagger", "wd-vit-v3"]) == Exit.DONE
    one = result(capsys, "scores", folder / "1.png")["rows"]
    shutil.copy(folder / "1.png", folder / "copy.png")
    assert result(capsys, "scores", folder / "copy.png")["rows"] == one


@pytest.mark.long
def test_images_of_every_mode_are_tagged_alike_from_file_and_memory(planted, tmp_path, capsys):
    rng = np.random.default_rng(5)
    place = tmp_path / "modes"
    place.mkdir()
    made = {}
    for mode in ("RGB", "RGBA", "LA", "L", "P", "1", "I;16"):
        pixels = rng.integers(0, 256, (30, 50, 4), dtype=np.uint8)
        grey = Image.fromarray(rng.integers(0, 65536, (30, 50), dtype=np.uint16))
        made[mode] = grey if mode == "I;16" else Image.fromarray(pixels).convert(mode)
        made[mode].save(place / f"{len(made)}.png")
    assert len(result(capsys, "tag", place, "--tagger", "wd-vit-v3")["changes"]) == len(made)
    tagger = open_tagger("wd-vit-v3")
    for number, image in enumerate(made.values(), 1):
        row = tagger.scores([tagger.prepare(image)])[0]
        names = [
            tag.name for tag in select(row, tagger.labels, threshold=0.35, character_threshold=0.85)
        ]
        assert (place / f"{number}.txt").read_text("utf-8").strip().split(", ") == names
    assert (
        MODELS["wd-vit-v3"].revision
        in result(capsys, "tag", place, "--tagger", "wd-vit-v3")["tagger"]
    )
