"""`dsk train`: the plan without torch, the run, and the exit codes."""

import json
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from tests.trainer import tiny

SMALL = [
    "resolution=128", "min_bucket_reso=64", "max_bucket_reso=256", "optimizer_type=AdamW", "mixed_precision=no",
    "network_dim=4", "max_train_epochs=1", "train_batch_size=2",
]  # fmt: skip


def given(*more):
    return [word for pair in (*SMALL, *more) for word in ("--set", pair)]


@pytest.fixture
def data(here):
    tiny.save_pictures(here / "ds" / "train" / "2_sks", [(128, 128), (192, 128)])
    return here / "ds"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_pipeline(tmp_path_factory.mktemp("model"))


def test_dry_run_prints_the_plan_and_makes_nothing(dsk, data, here):
    ended = dsk("train", "ds", "--dry-run", *given())
    assert ended.code == 0
    assert "2 steps of AdamW, cosine: unet 0.0001, text_encoder 5e-05" in ended.out
    assert "2_sks" in ended.out and not (here / "output").exists()


def test_dry_run_is_quick_and_loads_no_torch(data, here):
    code = (
        "import sys; from datasetkit.cli.main import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'diffusers', 'transformers', 'peft', 'pandas'} & set(sys.modules); sys.exit(code)"
    )
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code, "train", "ds", "--dry-run"], cwd=here, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - started < 10  # about 1 s; machines under test are busy


def test_plan_of_train_is_the_plan_of_plan_repeats(dsk, data, here):
    (here / "dsk.toml").write_text("[train]\nresolution = 128\nmin_bucket_reso = 64\n", encoding="utf-8")
    trained = json.loads(dsk("train", "ds", "--dry-run", "--json").out)["plan"]
    planned = json.loads(dsk("plan-repeats", "ds", "--steps", "40", "--json").out)["result"]["plan"]
    assert trained["totals"] == planned["total"]


def test_training_writes_a_lora_and_json(dsk, data, here, model):
    ended = dsk("train", "ds", "--json", *given(f"pretrained_model_name_or_path={model}", "output_name=x"))
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)["result"]
    assert result["steps"] == 2 and result["modules"] == 264
    assert len(load_file(here / "output" / "x.safetensors")) == 264 * 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "none"], 10, "does not exist"),
        (["train", "ds", "--set", "netwerk_dim=4"], 2, "did you mean"),
        (["train", "ds", "--set", "network_dim=0"], 2, "out of range"),
        (["train", "ds", *given()], 2, "no model to train on"),
        (["train", "ds", *given("pretrained_model_name_or_path=none.safetensors")], 12, "does not exist"),
        (["train", "ds", *given("pretrained_model_name_or_path=x.ckpt")], 12, "pickle"),
        (["train", "ds", *given("optimizer_type=AdamX")], 2, "optimizer_type"),
        (["train", "ds", *given("optimizer_type=Prodigy", "learning_rate=1.0", "text_encoder_lr=0.5")], 2, "one step"),
    ],
)
def test_exit_codes(dsk, data, arguments, code, words):
    ended = dsk(*arguments)
    assert ended.code == code and words in ended.err


def test_broken_picture_is_listed_and_the_rest_is_trained(dsk, data):
    (data / "train" / "2_sks" / "1.png").write_bytes(b"broken")
    ended = dsk("train", "ds", "--dry-run", *given())
    assert ended.code == 3 and "1.png" in ended.err


def test_lora_that_learned_nothing_fails_the_gate(dsk, data, model):
    """Pictures of 64 pixels leave one place in the UNet's middle: its attention cannot learn where to look."""
    ended = dsk(
        "train", "ds",
        *given(f"pretrained_model_name_or_path={model}", "resolution=64", "max_bucket_reso=64"),
    )  # fmt: skip
    assert ended.code == 21 and "learned nothing" in ended.err
