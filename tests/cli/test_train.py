"""`dsk train`: the plan without torch, the run, and the exit codes."""

import json
import shlex
import subprocess
import sys
import time
from io import StringIO

import pytest
import torch
from huggingface_hub import constants
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file

from datasetkit.cli import console
from tests.dataset.test_exports import CONFIG_TOML, DATASET_TOML
from tests.trainer import tiny

SMALL = [
    "resolution=128", "min_bucket_reso=64", "max_bucket_reso=256", "optimizer_type=AdamW",
    "mixed_precision=no", "network_dim=4", "max_train_epochs=1", "train_batch_size=2",
    "pretrained_model_name_or_path=tiny", "save_report=false",
]  # fmt: skip


def given(*more):
    return [word for pair in (*SMALL, *more) for word in ("--set", pair)]


@pytest.fixture
def data(here):
    tiny.save_images(here / "ds" / "train" / "2_sks", [(128, 128), (192, 128)])
    return here / "ds"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_small(tmp_path_factory.mktemp("model"))


def test_dry_run_prints_the_plan_and_makes_nothing(dsk, data, here):
    ended = dsk("train", "ds", "--dry-run", *given())
    assert ended.code == 0
    assert "2 steps of AdamW, cosine: unet 0.0001, text_encoder 5e-05" in ended.out
    assert "2_sks" in ended.out and not (here / "output").exists()


@pytest.mark.parametrize(
    ("folder", "line"),
    [("logs", "tensorboard --logdir logs\n"), ("a b", "tensorboard --logdir 'a b'\n"), ("", "")],
)
def test_the_plan_says_how_tensorboard_is_opened_if_it_is_written(dsk, data, folder, line):
    ended = dsk("train", "ds", "--dry-run", *given(f"logging_dir={folder}"))
    assert ended.code == 0
    assert line in ended.out and ("tensorboard" in ended.out) is bool(line)


def test_dry_run_as_json_has_the_plan_and_no_training(dsk, data, here):
    (data / "train" / "2_sks" / "1.png").write_bytes(b"broken")
    ended = dsk("train", "ds", "--dry-run", "--json", *given("random_crop=true"))
    printed = json.loads(ended.out)
    assert ended.code == 3 and printed["dry_run"] is True
    assert [item["path"][-5:] for item in printed["failed"]] == ["1.png"]
    assert printed["result"]["training"] is None
    plan = printed["result"]["plan"]
    assert plan["options"]["network_dim"] == 4 and plan["rates"]["unet"] == 0.0001
    assert sum(bucket["images"] for bucket in plan["buckets"]) == 1
    assert not (here / "output").exists()


def test_dry_run_is_quick_and_loads_no_torch(data, here):
    code = (
        "import sys; from datasetkit.cli.main import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'diffusers', 'transformers', 'peft', 'pandas'} & "
        "set(sys.modules); sys.exit(code)"
    )
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code, "train", "ds", "--dry-run", *given()],
        cwd=here,
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - started < 10  # about 1 s; machines under test are busy


def test_plan_of_train_is_the_plan_of_plan_repeats(dsk, data, here):
    (here / "dsk.toml").write_text(
        "[train]\nresolution = 128\nmin_bucket_reso = 64\npretrained_model_name_or_path = 'tiny'\n",
        encoding="utf-8",
    )
    trained = json.loads(dsk("train", "ds", "--dry-run", "--json").out)["result"]["plan"]
    planned = json.loads(dsk("plan-repeats", "ds", "--steps", "40", "--json").out)["result"]["plan"]
    assert trained["totals"] == planned["total"]


@pytest.mark.long
def test_training_writes_a_lora_and_json(dsk, data, here, model):
    ended = dsk(
        "train", "ds", "--json", *given(f"pretrained_model_name_or_path={model}", "output_name=x")
    )
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert (printed["verb"], printed["dry_run"], printed["failed"]) == ("train", False, [])
    training = printed["result"]["training"]
    assert training["steps"] == printed["result"]["plan"]["steps"] == 2
    assert training["modules"] == 60
    assert len(load_file(here / "output" / "x.safetensors")) == 60 * 3


@pytest.mark.long
def test_a_run_says_what_it_does_before_the_first_step(dsk, data, here, model, monkeypatch):
    seen = []
    for name in ("phase", "start"):
        real = getattr(console.Bars, name)

        def spy(self, *arguments, real=real):
            seen.append(" ".join(map(str, arguments)))
            real(self, *arguments)

        monkeypatch.setattr(console.Bars, name, spy)
    ended = dsk(
        "train",
        "ds",
        *given(f"pretrained_model_name_or_path={model}", "output_name=x", "logging_dir=my logs"),
    )
    assert ended.code == 0, ended.err
    next_steps = ended.out.partition("next:\n")[2].splitlines()
    assert next_steps == [
        f"  dsk grid output --x weight=0.6,0.8,1 --base {model} --prompt sks",
        "  dsk lora check output/x.safetensors", "  tensorboard --logdir 'my logs'"
    ]  # fmt: skip
    assert seen == [
        "reading the dataset",
        "reading images 2",
        "loading PyTorch",
        "loading the base model",
        "loading diffusers and transformers",
        "loading the base model: unet",
        "loading the base model: text_encoder",
        "loading the base model: vae",
        "preparing the network and the optimizer",
        "encoding images 2",
        "reading the base model's hash",
        "training 2",
        "first step",
        "saving",
        "plotting the loss",
        "checking the LoRA",
    ]
    lines = ended.out.splitlines()
    last = next(n for n, line in enumerate(lines) if line.startswith("trained ")) - 1
    assert lines[last].startswith("2 steps of AdamW, cosine: ")
    [memory] = [line for line in lines if "memory" in line]
    assert memory.startswith("memory: about ") and "--dry-run lists the parts" in memory
    for line in next_steps[:2]:
        ended = dsk(*shlex.split(line)[1:], *(["--dry-run"] if "grid" in line else []))
        assert ended.code == 0, ended.err


@pytest.mark.long
def test_sd_scripts_files_train_unchanged(dsk, here, model):
    """Only the path of the base is another, and the run is short."""
    pytest.importorskip("bitsandbytes")  # their optimizer is AdamW8bit
    text = CONFIG_TOML.replace("majicmixRealistic_v6.safetensors", str(model))
    (here / "config.toml").write_text(text, encoding="utf-8")
    (here / "dataset.toml").write_text(DATASET_TOML, encoding="utf-8")
    tiny.save_images(here / "dataset", [(128, 128), (192, 128), (128, 200)])
    tiny.save_images(here / "regularization", [(128, 128)] * 2, captions=False)
    files = ["--config-file", "config.toml", "--dataset-config", "dataset.toml"]
    short = ["max_train_steps=3", "lr_warmup_steps=1", "save_every_n_steps=2"]
    ended = dsk("train", *files, *(word for pair in short for word in ("--set", pair)))
    assert ended.code == 0, ended.err
    assert (
        "3 steps of AdamW8bit, cosine_with_restarts: unet 0.0005, text_encoder 0.0001" in ended.out
    )
    assert "xformers has no effect: " in ended.out
    with safe_open(here / "output" / "MikamiYua.safetensors", "pt") as file:
        message, first = file.metadata(), file.get_tensor(next(iter(file.keys())))
    assert (message["ss_network_dim"], message["ss_network_alpha"], message["ss_clip_skip"]) == (
        "64",
        "32.0",
        "2",
    )
    assert (
        message["ss_num_train_images"],
        message["ss_num_reg_images"],
        message["ss_max_train_steps"],
    ) == (
        "60",
        "60",
        "3",
    )
    assert torch.isfinite(first).all()
    assert sorted(path.name for path in (here / "output").glob("*.safetensors")) == [
        "MikamiYua-step00000002.safetensors", "MikamiYua.safetensors",
    ]  # fmt: skip
    assert list((here / "logs").glob("events.*"))


def test_a_named_dataset_counts_beside_a_config_file_that_names_none(dsk, data, here):
    short = CONFIG_TOML.replace("lr_warmup_steps = 82", "lr_warmup_steps = 8")
    text = short.replace("AdamW8bit", "AdamW").replace("majicmixRealistic_v6.safetensors", "tiny")
    (here / "config.toml").write_text(text, encoding="utf-8")
    tiny.save_images(data / "reg" / "1_girl", [(128, 128)])
    ended = dsk("train", data, "--config-file", "config.toml", "--dry-run")
    assert ended.code == 0 and "cosine_with_restarts" in ended.out
    assert "2_sks" in ended.out and "1_girl" in ended.out
    ended = dsk("train", "nowhere", "--config-file", "config.toml", "--dry-run")
    assert ended.code == 10 and "nowhere does not exist" in ended.err
    ended = dsk("train", "--config-file", "config.toml", "--dry-run")
    assert ended.code == 2 and "no dataset is given" in ended.err


def test_the_progress_line_shows_the_note_and_the_time_of_a_step(monkeypatch):
    screen = StringIO()
    monkeypatch.setattr(
        console, "_err", lambda: Console(file=screen, force_terminal=True, width=120)
    )
    with console.bars() as reporter:
        reporter.note("no bar yet")
        reporter.start("training", 3)
        for _ in range(2):
            time.sleep(0.01)
            reporter.advance()
        reporter.note("loss 0.1234, [4.8] GB")
    assert "loss 0.1234, [4.8] GB" in screen.getvalue() and "2/3" in screen.getvalue()
    assert "no bar yet" not in screen.getvalue()
    assert (console._pace(12.34), console._pace(0.4)) == ("12.3/s", "2.5 s each")


def test_wrong_prompts_are_reported_before_anything_is_done(dsk, data, here):
    (here / "prompts.txt").write_text("sks --w 512\nsks --width 512\n", encoding="utf-8")
    ended = dsk(
        "train",
        "ds",
        *given("sample_prompts=prompts.txt", "pretrained_model_name_or_path=none.safetensors"),
    )
    assert ended.code == 2 and "prompts.txt, line 2: unknown flag --width" in ended.err
    assert ended.out == "" and not (here / "output").exists()


def test_missing_model_of_the_hub_is_one_line(dsk, data, here, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ended = dsk("train", "ds", *given(f"pretrained_model_name_or_path=someone/none@{'0' * 40}"))
    assert ended.code == 12
    assert [line.split(" ")[0] for line in ended.err.splitlines()] == ["error:", "hint:"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "none"], 10, "does not exist"),
        (["train", "ds", "--set", "netwerk_dim=4"], 2, "did you mean"),
        (["train", "ds", "--set", "network_dim=0"], 2, "out of range"),
        (["train", "ds", *given("pretrained_model_name_or_path=")], 2, "no base model is given"),
        (
            ["train", "ds", *given("pretrained_model_name_or_path=none.safetensors")],
            12,
            "does not exist",
        ),
        (["train", "ds", *given("pretrained_model_name_or_path=x.ckpt")], 12, "pickle"),
        (["train", "ds", *given("optimizer_type=AdamX")], 2, "optimizer_type"),
        (
            [
                "train",
                "ds",
                *given("optimizer_type=Prodigy", "learning_rate=1.0", "text_encoder_lr=0.5"),
            ],
            2,
            "one learning rate",
        ),
    ],
)
def test_exit_codes(dsk, data, arguments, code, words):
    ended = dsk(*arguments)
    assert ended.code == code and words in ended.err


def test_broken_image_is_listed_and_the_rest_is_trained(dsk, data):
    (data / "train" / "2_sks" / "1.png").write_bytes(b"broken")
    ended = dsk("train", "ds", "--dry-run", *given())
    assert ended.code == 3 and "1.png" in ended.err


@pytest.mark.long
def test_lora_that_learned_nothing_fails_the_lora_check(dsk, data, tmp_path):
    """In the middle of the full UNet, images of 64 pixels have a single position, so attention
    cannot learn anything.
    """
    model = tiny.save_full(tmp_path / "full-model")
    ended = dsk(
        "train", "ds",
        *given(f"pretrained_model_name_or_path={model}", "resolution=64", "max_bucket_reso=64"),
    )  # fmt: skip
    assert ended.code == 21 and "learned nothing" in ended.err
    assert "kept as sks-failed-check.safetensors" in ended.err.replace("\n", " ")
    assert "raise the learning rate (unet 0.0001, text_encoder 5e-05)" in ended.err.replace(
        "\n", " "
    )
    assert "sks-metrics.jsonl and sks-loss.png" in ended.err.replace("\n", " ")
    output = data.parent / "output"
    assert not (output / "sks.safetensors").exists()
    assert load_file(output / "sks-failed-check.safetensors")
    record = json.loads((output / "sks-run.json").read_bytes())
    kinds = {file["name"]: file["kind"] for file in record["files"]}
    assert record["status"] == "failed" and "sks.safetensors" not in kinds
    assert kinds["sks-failed-check.safetensors"] == "failed lora"
