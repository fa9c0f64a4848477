"""The scores of a grid: paired differences, which file they suggest and why, which cells they
need.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasetkit.verbs.shared import grid_scores
from datasetkit.vision import similarity
from tests.grid.test_axes import LAYER, prompt, run  # noqa: F401 - a fixture
from tests.grid.test_cells import made
from tests.lora_files.files import pair, save
from trainer.grid import loras, page, score_page, scores
from trainer.grid.axes import GridContent
from trainer.grid.scores import GridScores, VariantMeasures
from trainer.paired import difference

IMAGES = 8
# The mean losses and distances of the finished tiny example at epochs 2 to 10, as measured there.
LOSSES = (0.085, 0.0556, 0.0448, 0.0398, 0.0378)
DISTANCES = (0.701, 0.701, 0.488, 0.430, 0.458)
EPOCHS = ("epoch 2", "epoch 4", "epoch 6", "epoch 8", "epoch 10")


def measures(loss, distance, *, noise=0.0, seed=0):
    """Return measures with that mean: images differ more from each other than files do."""
    rng = np.random.default_rng(seed)
    images = np.linspace(-0.02, 0.02, IMAGES)[:, None] + np.zeros((IMAGES, 4))
    jitter = rng.standard_normal((IMAGES, 4)) * noise
    jitter -= jitter.mean()
    return VariantMeasures(
        held_out=loss + images + jitter,
        trained=loss + images,
        to_held_out=distance + np.linspace(-0.1, 0.1, 4),
        to_trained=distance + np.linspace(-0.1, 0.1, 4),
    )


def variants(losses=LOSSES, distances=DISTANCES, noise=0.0005):
    return [
        (label, f"k-{n}", measures(loss, distance, noise=noise, seed=n))
        for n, (label, loss, distance) in enumerate(zip(EPOCHS, losses, distances, strict=False))
    ]


BASE = measures(0.508, 0.789)


def test_a_difference_is_paired_and_its_error_is_over_images():
    before = np.arange(32.0).reshape(8, 4)
    steady = difference(before - 0.5, before)
    assert steady.mean == pytest.approx(-0.5) and steady.error == pytest.approx(0)
    assert steady.is_fall
    noisy = difference(before + np.array([[1.0], [-1.0]] * 4), before)
    assert noisy.error == pytest.approx(np.std([1, -1] * 4, ddof=1) / np.sqrt(8))
    assert not noisy.is_fall
    assert difference(before[:1], before[:1]).error is None


def test_the_loss_alone_does_not_pick_the_epoch():
    # The loss has most of its fall by epoch 2; the images get there by epoch 8.
    suggestion = scores.suggest(variants(), BASE)
    assert suggestion.label == "epoch 8" and suggestion.lora == "k-3"
    loss, distance = suggestion.reasons
    assert "-0.0020" in loss and "epoch 10" in loss and "hardly falls" in loss
    assert "+0.0280" in distance
    early = scores.suggest(variants(distances=(0.43,) * 5), BASE)
    assert early.label in ("epoch 6", "epoch 8")


def test_a_fall_within_chance_does_not_count():
    # The same means, but each image's loss moves at random by ten times the fall.
    wild = scores.suggest(variants((0.05, 0.049, 0.048, 0.047, 0.046), (0.43,) * 5, 0.05), BASE)
    assert wild.label == "epoch 2"


def test_the_last_file_is_suggested_with_what_that_means():
    falling = scores.suggest(variants((0.4, 0.3, 0.2, 0.1, 0.05), (0.7, 0.6, 0.5, 0.4, 0.3)), BASE)
    assert falling.label == "epoch 10"
    assert any("longer training" in remark for remark in falling.remarks)


def test_overfitting_and_copies_are_remarked():
    rising = variants((0.05, 0.04, 0.06, 0.08, 0.1), (0.43,) * 5)
    suggestion = scores.suggest(rising, BASE)
    assert suggestion.label == "epoch 4"
    assert any("overfits" in remark for remark in suggestion.remarks)
    copied = [
        (label, name, replace(m, to_trained=m.to_held_out - 0.2)) for label, name, m in rising
    ]
    assert any("copies" in remark for remark in scores.suggest(copied, BASE).remarks)


def test_without_held_out_images_or_with_one_file_there_is_no_suggestion():
    assert scores.suggest(variants()[:1], BASE).label == ""
    none = scores.suggest(variants(), replace(BASE, held_out=None))
    assert none.label == "" and "held-out" in none.reasons[0]


def test_distances_are_those_of_features():
    rng = np.random.default_rng(0)
    usual = rng.standard_normal(1000).astype(np.float32)
    rows = rng.standard_normal((3, 1000)).astype(np.float32)
    features = similarity.features(rows, usual)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    assert similarity.to_nearest(features, features) == pytest.approx(0, abs=1e-6)
    assert similarity.to_nearest(-features[:1], features[:1])[0] == pytest.approx(2)
    assert similarity.pairwise(features, features[::-1])[1] == pytest.approx(0, abs=1e-6)


def test_the_shipped_network_sees_a_copy_as_nearest():
    model = similarity.SimilarityModel()
    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "white")]
    rows = model.scores([*images, images[1]])
    features = similarity.features(rows, similarity.mean_scores([rows]))
    assert similarity.to_nearest(features[3:], features[:3])[0] == pytest.approx(0, abs=1e-5)
    assert similarity.pairwise(features[:1], features[1:2])[0] > 0.1


def test_the_diversity_is_the_mean_distance_over_the_seeds_of_a_prompt(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("kitsu, 1girl"),))
    cells = grid_scores.cells_to_score(made(("epoch=2", "seed=1-3", ""), content), ("kitsu",))
    assert len(cells.with_trigger) == 6  # with those of the base
    axes = np.eye(6, dtype=np.float32)[:, None]
    files = sorted({cell.file for pair in cells.with_trigger.values() for cell in pair})
    features = dict(zip(files, axes, strict=False))  # all at right angles
    values = grid_scores.diversity(cells.with_trigger, features)
    assert len(values) == 2  # the LoRA and the base
    assert all(value.tolist() == [pytest.approx(1.0)] for value in values.values())
    same = dict.fromkeys(files, axes[0])
    assert all(
        v == pytest.approx(0) for v in grid_scores.diversity(cells.with_trigger, same).values()
    )


def test_one_seed_has_no_diversity(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("kitsu, 1girl"), prompt("kitsu, smile")))
    cells = grid_scores.cells_to_score(made(("epoch=2", "", ""), content), ("kitsu",))
    files = {cell.file for pair in cells.with_trigger.values() for cell in pair}
    features = dict.fromkeys(files, np.ones((1, 4), np.float32))
    assert grid_scores.diversity(cells.with_trigger, features) == {}


def test_images_that_hardly_change_with_the_seed_are_remarked():
    base = replace(BASE, diversity=np.asarray([0.8, 0.6]))
    for value, remarked in ((0.1, True), (0.6, False)):
        alike = [
            (label, name, replace(m, diversity=np.asarray([value, value])))
            for label, name, m in variants()
        ]
        remarks = scores.suggest(alike, base).remarks
        assert any("from seed to seed" in remark for remark in remarks) == remarked


# ---- which cells


def test_prompts_without_the_trigger_show_the_drift(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("kitsu, 1girl"), prompt("1girl, kitsune")))
    cells = grid_scores.cells_to_score(made(("epoch=2,4", "", ""), content), ("kitsu",))
    assert {c.request.prompt.text for c, _ in cells.with_trigger.values()} == {"kitsu, 1girl"}
    assert {c.request.prompt.text for c, _ in cells.without.values()} == {"1girl, kitsune"}
    assert cells.extra == {}


def test_where_every_prompt_has_the_trigger_each_is_also_drawn_without_it(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("kitsu, 1girl, smile"),))
    grid = made(("epoch=2,4", "", ""), content)
    cells = grid_scores.cells_to_score(grid, ("kitsu",))
    assert {c.request.prompt.text for c in cells.extra.values()} == {"1girl, smile"}
    assert len(cells.extra) == 3 and all(base.lora is None for _, base in cells.without.values())
    # a prompt that is nothing but the trigger cannot be drawn without it
    only = GridContent(content.loras, (prompt("kitsu"),))
    assert not grid_scores.cells_to_score(made(("epoch", "", ""), only), ("kitsu",)).without


def test_the_base_is_drawn_for_the_scores_where_the_grid_leaves_it_out(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("1girl"),))
    grid = made(("epoch=2,4", "", ""), content, compare_base=False)
    cells = grid_scores.cells_to_score(grid, ("kitsu",))
    assert [c.lora for c in cells.extra.values()] == [None]


def test_values_of_two_loras_are_in_one_order(run):  # noqa: F811
    texts = ("b", "c", "a")
    content = GridContent(loras.read([run]), tuple(prompt(text) for text in texts))
    grid = made(("epoch=2,4", "", ""), content)
    pairs = grid_scores.cells_to_score(grid, ()).with_trigger
    number = {text: n for n, text in enumerate(texts)}
    values = grid_scores._by_variant(
        pairs, lambda cell, _: np.asarray([float(number[cell.request.prompt.text])])
    )
    assert len(values) == 3
    first, *others = values.values()
    assert all((other == first).all() for other in others) and sorted(first) == [0, 1, 2]


# ---- how they are shown


@pytest.fixture
def scored(run):  # noqa: F811
    content = GridContent(loras.read([run]), (prompt("kitsu"),))
    grid = made(("epoch=2,4", "", ""), content)
    rows = [scores.score("without", "", (0, 0), BASE, None)]
    for (_, _, m), epoch in zip(variants()[:2], (2, 4), strict=True):
        m = replace(m, diversity=np.asarray([0.5]))
        rows.append(scores.score(f"epoch {epoch}", f"k-{epoch:06d}", (1, 1), m, BASE))
    suggestion = scores.FileSuggestion("epoch 4", "k-000004", ("because <b>",))
    return grid, GridScores(tuple(rows), suggestion, "basic", 8, 8, ("note",))


def test_the_page_has_the_suggestion_its_reason_and_every_column(scored):
    grid, all_scores = scored
    text = page.html(grid, "t", "s", "p", all_scores)
    assert "Suggestion: epoch 4" in text and "because &lt;b&gt;" in text
    for title in score_page.COLUMNS:
        assert f">{title}</th>" in text
    assert '<th scope="col" class="best"><span>epoch 4</span>' in text
    assert "-0.4524 ± " in text.replace("\u2212", "-")


def test_a_grid_of_one_seed_has_no_column_for_the_diversity(scored):
    _, all_scores = scored
    assert "diversity" in score_page.columns(all_scores)
    one_seed = replace(all_scores, rows=tuple(replace(r, diversity=None) for r in all_scores.rows))
    assert list(score_page.columns(one_seed)) == list(score_page.COLUMNS)[:-1]


def test_labels_of_a_contact_sheet_have_the_numbers(scored):
    grid, all_scores = scored
    facts = score_page.facts(grid, all_scores)
    assert list(facts) == [0]
    assert facts[0][0] == ["loss 0.5080", "distance 0.789"]
    assert score_page.facts(grid, None) == {}


def test_a_name_with_a_comma_has_its_numbers_beside_its_label(tmp_path):
    for seed, name in enumerate(("a, b", "a = b")):
        save(tmp_path / f"{name}.safetensors", pair(LAYER, 8, 8, 2, seed=seed))
    named = [tmp_path / f"{name}.safetensors" for name in ("a, b", "a = b")]
    grid = made(("lora", "", ""), GridContent(loras.read(named), (prompt("kitsu"),)))
    rows = [scores.score("without", "", (0, 0), BASE, None)]
    rows += [
        scores.score(name, name, (1, 1), m, BASE)
        for (_, _, m), name in zip(variants()[:2], ("a, b", "a = b"), strict=True)
    ]
    suggestion = scores.FileSuggestion("", "", ())
    facts = score_page.facts(grid, GridScores(tuple(rows), suggestion, "basic", 8, 8, ()))
    assert sorted(facts[0]) == [0, 1, 2]
