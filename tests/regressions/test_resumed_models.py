"""On resume a model that another one has replaced under the same name is noticed, and the same
model is the same wherever it is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from datasetkit.core.errors import ConfigError
from tests.regressions.test_resume_differences import data as data
from tests.regressions.test_resume_differences import planned, point, refusal, write_state
from tests.trainer import tiny
from trainer.plan import model_fingerprint

UNET = "unet/diffusion_pytorch_model.safetensors"
LARGE = 256 * 16 * 1024


@pytest.fixture
def base(tmp_path):
    """A folder with the files of a model, without tensors: they are only compared."""
    folder = tmp_path / "base"
    for name, content in {
        UNET: b"unet", "unet/config.json": b"{}", "text_encoder/model.safetensors": b"text",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"unet of 16 bits",
        "vae/diffusion_pytorch_model.safetensors": b"vae",
        "scheduler/scheduler_config.json": b'{"prediction_type": "epsilon"}',
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def options(tmp_path, base):
    return tiny.options(
        base, tmp_path / "out", resolution=64, max_bucket_reso=128, max_train_epochs=3,
        train_batch_size=2,
    )  # fmt: skip


@pytest.fixture
def state(data, options):
    return write_state(options, planned(data, options))


@pytest.mark.parametrize(
    "file", [UNET, "text_encoder/model.safetensors", "scheduler/scheduler_config.json"]
)
def test_a_changed_file_of_the_base_is_named(data, options, base, state, file):
    (base / file).write_bytes(b"other")
    message = refusal(data, options).message
    assert message.endswith(
        f" cannot be resumed: the base model {base} is not the one of the state ({file})"
    )


def test_an_added_and_a_removed_file_are_a_difference(data, options, base, state):
    shutil.copy(base / UNET, base / "unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    assert "-00001-of-00002.safetensors)" in refusal(data, options).message
    (base / UNET).unlink()
    assert "unet/diffusion_pytorch_model.safetensors and 1 more)" in refusal(data, options).message


def test_what_is_not_loaded_may_change(data, options, base, state):
    (base / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"other")
    (base / "safety_checker").mkdir()
    (base / "safety_checker/model.safetensors").write_bytes(b"new")
    (base / "model_index.json").write_text("{}")
    os.utime(base / UNET, (1, 1))
    assert point(data, options).state.step == 5


def test_a_replaced_file_a_replaced_vae_and_a_link_to_another_model(data, options, tmp_path):
    first, second, vae = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "vae"))
    for file in (first, second, vae):
        file.write_bytes(file.name.encode())
    link = tmp_path / "model.safetensors"
    link.symlink_to(first)
    options = replace(options, pretrained_model_name_or_path=str(link), vae=str(vae))
    write_state(options, planned(data, options))
    vae.write_bytes(b"other")
    assert refusal(data, options).message.endswith(
        f"cannot be resumed: the VAE {vae} is not the one of the state"
    )
    link.unlink()
    link.symlink_to(second)
    assert f"the base model {link} is not the one of the state; the VAE" in (
        refusal(data, options).message
    )


def test_the_same_model_may_have_moved(data, options, base, state, tmp_path):
    shutil.move(base, tmp_path / "models")
    moved = replace(options, pretrained_model_name_or_path=str(tmp_path / "models"))
    assert point(data, moved).state.step == 5


def test_another_model_under_another_name_is_named_as_an_option(data, options, base, tmp_path):
    write_state(options, planned(data, options))
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / UNET).write_bytes(b"other")
    options = replace(options, pretrained_model_name_or_path=str(other))
    message = refusal(data, options).message
    assert "pretrained_model_name_or_path was " in message and "is not the one" not in message


def test_where_a_model_is_not_on_this_machine_its_name_decides(data, options, state):
    for name in ("owner/name@" + "a" * 40, "no such base"):
        hub = replace(options, pretrained_model_name_or_path=name)
        assert "pretrained_model_name_or_path was " in refusal(data, hub).message
        write_state(hub, planned(data, hub))
        assert point(data, hub).state.step == 5
        with pytest.raises(ConfigError, match="pretrained_model_name_or_path was "):
            point(data, options)


@pytest.mark.parametrize("at", [0, LARGE // 2, 2 * LARGE, 3 * LARGE - 1])
def test_of_a_large_file_samples_are_hashed_from_its_start_to_its_end(tmp_path, at):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(3 * LARGE)
    before = model_fingerprint._fingerprint(path)
    with path.open("r+b") as file:
        file.seek(at - at % 16384 if at < LARGE else at)
        file.write(b"x" * (64 * 1024 if at < 3 * LARGE - 1 else 1))
    assert path.stat().st_size < 3 * LARGE + 64 * 1024
    assert model_fingerprint._fingerprint(path) != before
