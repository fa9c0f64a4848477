"""Z-Image: text, latents and predictions as diffusers' pipeline computes them."""

import json
import shutil
from typing import Any

import pytest
import torch
from diffusers import ZImagePipeline
from safetensors.torch import save_file

from datasetkit.core.errors import ConfigError, ModelFileError
from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
from tests.trainer import tiny
from tests.trainer.test_dit_files import original_z_image
from trainer.families import option_checks, registry
from trainer.families.detect import DetectedModel, detect
from trainer.setup import load_parts

z_image: Any = registry.family("z-image")

CAPTIONS = ["1girl, solo", "a fox girl with orange hair, who smiles", "a", ""]


@pytest.fixture(scope="module")
def parts(dit_base):
    return z_image.load(str(dit_base("z-image")))


def encode(parts, captions):
    with torch.no_grad():
        return z_image.encode_text(parts, captions, clip_skip=1, max_tokens=75)


@pytest.fixture(scope="module")
def pipeline(dit_base) -> Any:
    made: Any = ZImagePipeline.from_pretrained(dit_base("z-image"), local_files_only=True)
    made.set_progress_bar_config(disable=True)
    return made


def test_text_equals_diffusers(parts, pipeline):
    with torch.no_grad():
        theirs = pipeline._encode_prompt(list(CAPTIONS), device="cpu")
    for row, states in zip(encode(parts, CAPTIONS).rows(), theirs, strict=True):
        torch.testing.assert_close(row.states[0], states)


def test_prediction_is_the_velocity_of_diffusers_pipeline(parts, pipeline):
    noisy = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([0.25, 0.9])
    text = encode(parts, CAPTIONS[:2])
    rows = [row.states[0] for row in text.rows()]
    with torch.no_grad():
        theirs = pipeline.transformer(list(noisy.unsqueeze(2)), 1 - times, rows, return_dict=False)[
            0
        ]
        mine = z_image.predict(parts, noisy, times, text)
    torch.testing.assert_close(mine, -torch.stack(theirs).squeeze(2))


def test_latents_are_shifted_and_scaled(parts):
    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(z_image.normalise(parts.vae, latents), (latents - 0.1159) * 0.3611)


def test_a_caption_is_counted_with_the_chat_around_it(dit_base, parts):
    count = z_image.token_counter(dit_base("z-image"))
    assert count("a cat") == encode(parts, ["a cat"]).states.shape[1] > len("a cat")


@pytest.mark.parametrize(
    ("name", "shift", "distilled"),
    [
        ("Z-Image", 6.0, False), ("Z-Image-Turbo", 6.0, True), ("mine", 3.0, True),
        ("Z-Image-De-Turbo", 3.0, False),
    ],
)  # fmt: skip
def test_turbo_is_known_by_its_name_or_its_scheduler(dit_base, tmp_path, name, shift, distilled):
    folder = shutil.copytree(dit_base("z-image"), tmp_path / name)
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config), "utf-8")
    model = detect(folder)
    assert model == DetectedModel("z-image", "flow", "Tongyi-MAI/Z-Image" if distilled else "")
    if distilled:
        options = tiny.flow_options(folder, tmp_path)
        with pytest.raises(ConfigError, match="distilled") as refused:
            option_checks.check(options, model)
        assert "Tongyi-MAI/Z-Image" in refused.value.hint
        option_checks.check(tiny.flow_options(folder, tmp_path, base_is_distilled=True), model)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformers_file_takes_the_other_parts_from_a_folder(dit_base, parts, tmp_path, prefix):
    path = tmp_path / "z.safetensors"
    tensors = original_z_image(parts.denoiser)
    save_file({f"{prefix}{name}": tensor for name, tensor in tensors.items()}, path)
    model = detect(path)
    assert (model.family, model.distilled) == ("z-image", "") and "Tongyi-MAI" in model.note
    with pytest.raises(ModelFileError, match="transformer alone") as alone:
        load_parts(tiny.flow_options(path, tmp_path))
    assert "base_folder" in alone.value.hint
    loaded = load_parts(tiny.flow_options(path, tmp_path, base_folder=str(dit_base("z-image"))))
    for name, model_part in parts.models.items():
        for key, value in model_part.state_dict().items():
            assert torch.equal(loaded.models[name].state_dict()[key], value)


def test_a_distilled_base_is_planned_where_the_command_says_so(dit_base, tmp_path, dsk):
    base = shutil.copytree(dit_base("z-image"), tmp_path / "Z-Image-Turbo")
    tiny.save_images(tmp_path / "ds" / "train" / "1_sks", [(128, 128)])
    command = (
        "train", "ds", "--dry-run", "--set", "resolution=128",
        "--set", "min_bucket_reso=64", "--set", f"pretrained_model_name_or_path={base}",
    )  # fmt: skip
    refused = dsk(*command)
    assert refused.code == 2 and "--base-is-distilled" in refused.err
    planned = dsk(*command, "--base-is-distilled")
    assert planned.code == 0 and "tokens: none over 512" in planned.out
    assert "Z-Image, predicts" in planned.out and "CLIP" not in planned.out
