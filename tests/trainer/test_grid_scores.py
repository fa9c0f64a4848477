"""`dsk grid --score` on a trained run: the losses are those that the training validated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError, DatasetError
from tests.trainer import tiny
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

TOML = """
[train]
pretrained_model_name_or_path = "{model}"
resolution = 128
min_bucket_reso = 64
max_bucket_reso = 256
train_batch_size = 4
mixed_precision = "no"
validation_split = 0.4
[layout]
out = "{data}"
"""


@pytest.fixture(scope="module")
def project(model, data, tmp_path_factory):
    """A run with two saved epochs and validation, and the dsk.toml above it."""
    folder = tmp_path_factory.mktemp("project")
    text = TOML.format(model=model, data=data)
    (folder / "dsk.toml").write_text(text, encoding="utf-8")
    options = tiny.options(
        model, folder / "output", validation_split=0.4, output_name="sks", save_every_n_epochs=1,
    )  # fmt: skip
    train(options, make_plan(find_subsets(data, options)[0], options))
    return folder


def options(**given):
    base: dict[str, Any] = {
        "score": True, "prompt": ("sks, red", "sks, blue"), "steps": 2, "size": (64, 64),
        "cfg": 1.0, "trigger": ("sks",), "tagger": "basic",
    }  # fmt: skip
    return api.GridOptions(**base | given)


@pytest.mark.long
def test_the_losses_are_those_that_the_training_validated(project):
    result = api.grid(project / "output", options())
    record = (project / "output" / "sks-validation.jsonl").read_text(encoding="utf-8")
    validated = [json.loads(line) for line in record.splitlines()]
    assert result.scores is not None
    rows = {row.label: row for row in result.scores.rows}
    assert list(rows) == ["without", "epoch 1", "epoch 2 = best"]
    for line, label in zip(validated, rows, strict=True):
        losses = [loss for _, each in line["held_out"] for loss in each]
        assert rows[label].held_out_loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert rows["epoch 2 = best"].change is not None and rows["epoch 2 = best"].drift is not None
    assert rows["without"].change is None
    # each prompt is drawn without the trigger, too; the page does not show these
    assert result.images == 12 and len(result.page.read_text("utf-8").split('class="cell"')) == 9
    again = api.grid(project / "output", options())
    assert not again.changed and again.scores == result.scores
    stored = json.loads((project / "output/grid/scores.json").read_text(encoding="utf-8"))
    assert len(stored["losses"]) == 3


@pytest.mark.long
def test_images_of_a_folder_are_held_out_only_if_they_were_not_trained(project, data, tmp_path):
    (trained,) = (data / "train").iterdir()
    with pytest.raises(ConfigError, match="is a training image"):
        api.grid(project / "output", options(held_out=str(trained)))
    with pytest.raises(ConfigError, match="is not a folder"):
        api.grid(project / "output", options(held_out=str(tmp_path / "none")))
    tiny.save_images(tmp_path / "held", [(100, 128), (128, 96)])
    result = api.grid(
        project / "output", options(held_out=str(tmp_path / "held"), out=str(tmp_path / "g"))
    )
    assert result.scores is not None
    assert result.scores.held_out_images == result.scores.trained_images == 2


@pytest.mark.long
def test_scores_need_the_dataset(project, tmp_path):
    (source,) = (project / "output").glob("sks.safetensors")
    (tmp_path / "sks.safetensors").write_bytes(source.read_bytes())
    with pytest.raises(DatasetError, match="needs the dataset") as raised:
        api.grid(tmp_path / "sks.safetensors", options(base="tiny"))
    assert "--data" in raised.value.hint
