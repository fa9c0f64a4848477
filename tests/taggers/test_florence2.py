"""Florence-2: the same tokens as the transformers library generates, from files that were checked.

`florence2_tiny/` is a random model with the real inputs, outputs and file names
(make_florence2_tiny.py).
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from datasetkit.core.errors import ConfigError, ModelFileError
from taggers import florence2_models as models
from taggers.beam_search import BeamSearch, SearchSettings, _repeating
from taggers.captioner import CaptionerOptions, Description, NoDescription
from taggers.captioners import resolve
from taggers.florence2 import Florence2Captioner
from tests import fake_hub

TINY = Path(__file__).parent / "florence2_tiny"
GENERATED = json.loads((TINY / "generated.json").read_text())
COLOURS = {"red": (200, 20, 30), "green": (10, 180, 40), "blue": (20, 40, 220)}
IMAGES = {name: Image.new("RGB", (90, 60), colour) for name, colour in COLOURS.items()}
PAD, END = 1, 2


def captioner(**options):
    settings = CaptionerOptions(provider="cpu", threads=1, max_tokens=32, **options)
    return Florence2Captioner(models.in_folder(TINY), settings)


@pytest.fixture(scope="module")
def by_beams():
    return {beams: captioner(beams=beams) for beams in (1, 3)}


@pytest.mark.parametrize("row", GENERATED, ids=lambda r: f"{r['image']}-{r['prompt']}-{r['beams']}")
def test_tokens_are_those_of_transformers(row, by_beams):
    tokens = by_beams[row["beams"]].tokens_of(IMAGES[row["image"]], row["prompt"])
    expected = row["tokens"]
    while expected[-1] == PAD:
        expected = expected[:-1]
    assert tokens == expected


def test_reference_has_short_and_long_texts_and_one_that_is_cut_off():
    lengths = {len([t for t in row["tokens"] if t != PAD]) for row in GENERATED}
    assert len(lengths) > 4
    assert any(END not in row["tokens"] for row in GENERATED)


def test_images_of_a_batch_get_what_they_get_alone(by_beams):
    model = by_beams[3]
    prompts = ["caption", "paragraph", "caption", "detailed", "paragraph", "paragraph"]
    images = [IMAGES[name] for name in ("red", "green", "blue", "red", "red", "blue")]
    prepared = [(model.prepare(image), p) for image, p in zip(images, prompts, strict=True)]
    together = model.describe(prepared)
    alone = [model.describe([each])[0] for each in prepared]
    assert together == alone
    assert len(set(together)) > 2


def test_task_in_angle_brackets_is_the_question_of_its_preset(by_beams):
    model = by_beams[1]
    image = IMAGES["green"]
    assert model.tokens_of(image, "<MORE_DETAILED_CAPTION>") == model.tokens_of(image, "paragraph")
    assert model.tokens_of(image, "<CAPTION>") != model.tokens_of(image, "paragraph")


def test_description_is_plain_text_and_a_long_one_is_cut(by_beams):
    model = by_beams[1]
    (short,) = model.describe([(model.prepare(IMAGES["red"]), "detailed")])
    assert short == Description("gggogg")
    (cut,) = model.describe([(model.prepare(IMAGES["green"]), "paragraph")])
    assert isinstance(cut, NoDescription)  # 32 tokens without a full stop
    assert "--max-tokens" in cut.hint


def test_input_is_squeezed_to_a_square_and_normalised(by_beams):
    prepared = by_beams[1].prepare(Image.new("L", (10, 200), 255))
    assert prepared.shape == (3, 64, 64)
    assert prepared.dtype == np.float32
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(prepared[:, 0, 0], expected, atol=1e-5)


# ---- the search


def test_no_sequence_occurs_twice():
    assert _repeating([5, 6, 7, 5, 6], 3) == [7]
    assert _repeating([5, 6, 7, 5, 6], 0) == []
    assert _repeating([5], 3) == []
    assert _repeating([5, 5, 5], 1) == [5, 5, 5]


def test_search_prefers_the_text_that_is_likelier_as_a_whole():
    """The likeliest next token leads to a poor end; two beams see it."""
    settings = {"max_tokens": 4, "start": 0, "first": 1, "end": 2, "no_repeat": 0}

    def logits(texts):
        rows = np.full((len(texts), 5), -20.0, np.float32)
        for row, text in zip(rows, texts.tolist(), strict=True):
            if text[-1] == 1:
                row[3], row[4] = np.log(0.6), np.log(0.4)
            elif text[-1] == 3:
                row[:] = np.log(0.2)
            else:
                row[2] = 0.0
        return rows

    def best(beams):
        search = BeamSearch(SearchSettings(beams=beams, **settings))
        while not search.done:
            search.advance(logits(search.tokens))
        return search.best()

    assert best(1)[:2] == [1, 3]
    assert best(2) == [1, 4, 2]


# ---- which models


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("microsoft/Florence-2-large-ft", "does not run", "florence2-large"),
        ("microsoft/Florence-2-base", "does not run", "florence2-base"),
        ("MiaoshouAI/Florence-2-base-PromptGen-v2.0", "does not run", "--engine server"),
        ("florence-community/Florence-2-base", "no ONNX graphs", "florence2-base"),
        ("florence", "unknown engine", "did you mean florence2"),
        ("a b/c", "unknown model", "known:"),
    ],
)
def test_models_that_cannot_be_run_are_refused_with_the_way_out(name, said, hint):
    with pytest.raises(ConfigError) as refused:
        resolve(name)
    assert said in refused.value.message
    assert hint in refused.value.hint


def test_short_names_have_hashes_for_every_large_file():
    assert models.find("florence2").name == "florence2-base"
    assert models.find("onnx-community/Florence-2-base").name == "florence2-base"
    for model in models.MODELS.values():
        assert set(models.FILES) - set(model.sha256) == {models.PREPROCESSOR}
        assert all(len(digest) == 64 for digest in model.sha256.values())
    contents = {model.content for model in models.MODELS.values()}
    assert len(contents) == len(models.MODELS)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that serves the tiny model under any name."""
    with fake_hub.serve(tmp_path / "hub", monkeypatch) as running:
        for name in models.FILES:
            running.files[name] = (TINY / Path(name).name).read_bytes()
        yield running


def pinned_to_tiny(monkeypatch):
    """Let florence2-base be the tiny model."""
    base = models.MODELS["florence2-base"]
    hashes = {
        name: hashlib.sha256((TINY / Path(name).name).read_bytes()).hexdigest()
        for name in base.sha256
    }
    tiny = models.Florence2Model(base.name, base.repo, base.revision, hashes)
    monkeypatch.setitem(models.MODELS, "florence2-base", tiny)


def test_model_of_the_hub_is_fetched_once_checked_and_used(hub, monkeypatch):
    pinned_to_tiny(monkeypatch)
    options = CaptionerOptions(provider="cpu", threads=1, max_tokens=32)
    found = resolve("florence2", options)
    assert hub.requests == []
    found.fetch()
    fetched = {request.partition(" ")[0] for request in hub.requests}
    assert fetched == set(models.FILES)
    model = found.open()
    (answer,) = model.describe([(model.prepare(IMAGES["red"]), "caption")])
    assert isinstance(answer, Description)
    count = len(hub.requests)
    resolve("florence2", options).open().close()
    assert len(hub.requests) == count


def test_files_that_are_not_those_that_were_pinned_are_refused(hub):
    found = resolve("florence2")
    found.fetch()
    with pytest.raises(ModelFileError, match="its sha256 differs") as refused:
        found.open()
    assert "dsk models download florence2-base" in refused.value.hint


def test_damaged_files_are_downloaded_again(hub, monkeypatch):
    pinned_to_tiny(monkeypatch)
    files = models.download("florence2")
    Path(files[models.ENCODER]).resolve().write_bytes(b"damaged")
    with pytest.raises(ModelFileError):
        models.require_intact(models.find("florence2"), files)
    again = models.download("florence2")
    assert Path(again[models.ENCODER]).read_bytes() == (TINY / "encoder_model.onnx").read_bytes()


def test_other_repository_is_pinned_to_its_commit(hub):
    found = resolve("somebody/Florence-2-anime")
    commit = fake_hub.BRANCH_COMMIT
    assert found.identity.revision == commit
    assert f"somebody/Florence-2-anime@{commit}" in found.notice
    assert resolve(f"somebody/Florence-2-anime@{commit}").notice == ""


def test_offline_error_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFileError, match="florence2-large is not on this machine") as refused:
        resolve("florence2-large").fetch()
    assert "dsk models download florence2-large" in refused.value.hint


# ---- a folder


def test_folder_may_hold_the_graphs_flat_or_in_onnx(tmp_path):
    nested = tmp_path / "nested"
    for name in models.FILES:
        (nested / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TINY / Path(name).name, nested / name)
    flat = resolve("florence2", CaptionerOptions(model_dir=TINY, provider="cpu", threads=1))
    deep = resolve("florence2", CaptionerOptions(model_dir=nested, provider="cpu", threads=1))
    assert flat.identity == deep.identity
    deep.open().close()


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("preprocessor_config.json", b"{}", "cannot be used"),
        ("preprocessor_config.json", b'{"size": {"height": 64, "width": 32}}', "cannot be used"),
        ("preprocessor_config.json", b"[" * 5000, "cannot be used"),
        ("tokenizer.json", b"{}", "is not a tokenizer"),
        ("encoder_model.onnx", b"\x00" * 100, "ONNX model"),
        ("decoder_model_merged.onnx", None, "is missing"),
    ],
)
def test_file_that_does_not_fit_is_named(tmp_path, file, data, said):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    (folder / file).unlink()
    if data is not None:
        (folder / file).write_bytes(data)
    with pytest.raises(ModelFileError, match=said) as refused:
        resolve("florence2", CaptionerOptions(model_dir=folder, provider="cpu")).open()
    assert file in refused.value.message


def test_decoder_without_a_cache_is_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    shutil.copy(TINY / "encoder_model.onnx", folder / "decoder_model_merged.onnx")
    with pytest.raises(ModelFileError, match="is not a decoder"):
        resolve("florence2", CaptionerOptions(model_dir=folder, provider="cpu")).open()


def test_recipe_depends_on_model_settings_and_prompt():
    def recipe(prompt="caption", name="florence2-base", **options):
        return resolve(name, CaptionerOptions(**options)).identity.recipe(prompt)

    different = {
        recipe(), recipe("detailed"), recipe(name="florence2-large"), recipe(beams=1),
        recipe(max_tokens=20),
    }  # fmt: skip
    assert len(different) == 5
    assert recipe() == recipe(provider="cpu", batch_size=3)


def test_model_that_is_pinned_by_its_hashes_alone_is_fetched_from_the_branch(hub, monkeypatch):
    large = models.MODELS["florence2-large"]
    hashes = {
        name: hashlib.sha256((TINY / Path(name).name).read_bytes()).hexdigest()
        for name in large.sha256
    }
    tiny = models.Florence2Model(large.name, large.repo, large.revision, hashes)
    monkeypatch.setitem(models.MODELS, "florence2-large", tiny)
    options = CaptionerOptions(provider="cpu", threads=1)
    found = resolve("florence2-large", options)
    found.fetch()
    found.open().close()
    count = len(hub.requests)
    assert count == len(models.FILES)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = resolve("florence2-large", options)
    again.open().close()
    assert len(hub.requests) == count
    assert again.identity == found.identity
    assert again.notice == ""
