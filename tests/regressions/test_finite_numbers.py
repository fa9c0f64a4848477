"""An infinite gradient stops a run before it reaches the weights; no file, state or metrics row has
a value that is not finite; --resume goes on from the last state.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from datasetkit.options.train import TrainOptions  # noqa: E402
from tests.trainer import tiny  # noqa: E402
from trainer import finite, loop, setup  # noqa: E402
from trainer.errors import LossDiverged  # noqa: E402
from trainer.plan.plan import find_subsets, make_plan  # noqa: E402
from trainer.run import train  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_small(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path):
    return tiny.save_images(tmp_path / "data" / "train" / "2_sks", [(64, 64)] * 3).parents[1]


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


def chosen(model, out, **others):
    given = {"resolution": 64, "max_train_steps": 6, "save_every_n_steps": 2, "train_batch_size": 1,
             "save_every_n_epochs": 0, "network_train_text_encoder_only": True}  # fmt: skip
    return tiny.options(model, out, **{**given, **others})


def infinite_gradient(monkeypatch, at, value=math.inf):
    """Let one element of one gradient be infinite in a step, with a finite loss."""
    gradients = loop.gradients

    def poisoned(run, work):
        result = gradients(run, work)
        if work.number + 1 == at:
            run.lora.parameters()[-1].grad.view(-1)[0] = value
        return result

    monkeypatch.setattr(loop, "gradients", poisoned)


def all_finite(folder: Path) -> bool:
    files = list(folder.rglob("*.safetensors"))
    return bool(files) and all(
        bool(torch.isfinite(tensor).all())
        for file in files
        for tensor in load_file(file).values()
        if tensor.is_floating_point()
    )


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.long
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_run_stops_before_the_step_and_resumes_from_the_state_before(
    data, model, tmp_path, monkeypatch, value
):
    options = chosen(model, tmp_path / "out")
    with monkeypatch.context() as patched:
        infinite_gradient(patched, at=4, value=value)
        with pytest.raises(LossDiverged, match="the gradient of step 4 is not finite") as caught:
            train(options, planned(data, options))
    assert caught.value.exit_code == 21
    assert "lower the learning rate, such as to 0.001" in caught.value.hint
    assert "bf16" not in caught.value.hint, "the run was in float32"
    assert all_finite(tmp_path / "out")
    assert (tmp_path / "out" / "sks-state-00000002").is_dir()
    rows = (tmp_path / "out" / "sks-metrics.jsonl").read_text().splitlines()
    assert [json.loads(row, parse_constant=refuse_constant)["step"] for row in rows] == [1, 2, 3]
    resumed = train(options, planned(data, options), resume=True)
    assert (resumed.start, resumed.steps) == (2, 6) and all_finite(tmp_path / "out")


@pytest.mark.long
def test_weights_stay_good_when_the_gradient_is_not(data, model, tmp_path, monkeypatch):
    options = chosen(model, tmp_path / "out")
    run = setup.assemble(options, planned(data, options), setup.load_parts(options))
    before = [parameter.detach().clone() for parameter in run.lora.parameters()]
    infinite_gradient(monkeypatch, at=1)
    with pytest.raises(LossDiverged, match="the gradient of step 1"):
        list(loop.steps(run))
    after = run.lora.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("broken", ["weight", "optimizer", "fp16"])
def test_nothing_that_is_not_finite_is_written(data, model, tmp_path, monkeypatch, broken):
    """A step with finite gradients can overflow as well."""
    options = chosen(model, tmp_path / "out", save_precision="fp16")
    steps = loop._step

    def overflowing(run, *rest):
        log = steps(run, *rest)
        if log.step == 4:
            weight = run.lora.parameters()[-1]
            values = {"weight": weight, "fp16": weight}.get(broken)
            values = run.optimizer.state[weight]["exp_avg_sq"] if values is None else values
            with torch.no_grad():
                values.view(-1)[0] = 1e6 if broken == "fp16" else math.inf
        return log

    monkeypatch.setattr(loop, "_step", overflowing)
    with pytest.raises(LossDiverged) as caught:
        train(options, planned(data, options))
    assert "after step 4 is" in caught.value.message
    assert ("save_precision" in caught.value.hint) == (broken == "fp16")
    assert all_finite(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("sks-state-*")] == ["sks-state-00000002"]


def test_row_of_numbers_is_json_also_where_one_is_not_finite():
    row = finite.row({"gradient": math.inf, "loss": 0.5, "norm": math.nan, "step": 3})
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "gradient": None, "loss": 0.5, "norm": None, "step": 3,
    }  # fmt: skip


HINTS = [
    ({}, 5, "float32", "lower the learning rate, such as to 1e-05", "bf16"),
    ({"unet_lr": 100.0}, 5, "bfloat16", "such as to 1e+01", "bf16"),
    ({"mixed_precision": "fp16"}, 5, "float16", "bf16 or float32", "d_coef"),
    ({"max_grad_norm": 0}, 5, "float32", "max_grad_norm = 1", "d_coef"),
    ({"optimizer_args": ("weight_decay=1e30",)}, 5, "float32", "leave out optimizer_args", "bf16"),
    ({"network_train_unet_only": True}, 1, "float32", "the base model and its VAE", "rate"),
    ({"optimizer_type": "Prodigy", "learning_rate": 1.0}, 5, "float32", "d_coef=0.5", "such as"),
    ({"optimizer_type": "Prodigy", "learning_rate": 5.0}, 5, "float32", "to 1", "d_coef"),
    ({"optimizer_type": "DAdaptAdam", "learning_rate": 1.0}, 5, "float32", "growth_rate", "d_coef"),
    ({"optimizer_type": "DAdaptLion", "learning_rate": 1.0}, 5, "float32", "to 0.5", "growth_rate"),
    ({"optimizer_type": "DAdaptAdam", "learning_rate": 1.0, "optimizer_args": ("d0=1e10",)}, 5,
     "float32", "lower d0 in optimizer_args", "growth_rate"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "step", "dtype", "words", "unfit"), HINTS)
def test_hint_fits_optimizer_and_precision(options, step, dtype, words, unfit):
    error = finite.diverged(
        "the loss", step, TrainOptions(text_encoder_lr=0.0, **options), getattr(torch, dtype)
    )
    assert words in error.hint and unfit not in error.hint


def test_weights_beyond_the_precision_of_a_file_hint_at_the_rate_first():
    """They are thousands of times those of a LoRA that works."""
    options = TrainOptions(optimizer_type="DAdaptAdam", learning_rate=1.0, text_encoder_lr=0.0)
    with pytest.raises(LossDiverged) as caught:
        finite.require_in_range({"a": torch.tensor([math.inf])}, torch.float16, 1, options)
    assert caught.value.message == "a after step 1 is beyond the range of float16"
    assert caught.value.hint.startswith("let the estimated rate grow slower")
    assert 'save_precision = "bf16"' in caught.value.hint
