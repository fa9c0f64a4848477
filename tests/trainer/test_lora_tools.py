"""The commands for LoRA files against the trainer's own writers and readers."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasetkit import api
from trainer.families import sd
from trainer.files import lora
from trainer.lora_files import algebra, lora_file


@pytest.fixture(scope="module")
def trained(full_model):
    """A network on SD1's 264 layers, whose second factors are not zero."""
    parts = sd.load(str(full_model))
    network = lora.attach(
        sd, parts, ("unet", "text_encoder"), dim=4, alpha=2.0, dropout=0.0, seed=1
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator))
    return network


@pytest.fixture
def saved(trained, tmp_path):
    save_file(lora.kohya_tensors(trained, torch.float16), tmp_path / "kohya.safetensors")
    save_file(
        lora.diffusers_tensors(trained, torch.float16),
        tmp_path / "diffusers.safetensors",
        lora.diffusers_metadata(trained),
    )
    return tmp_path


def test_both_formats_are_converted_into_what_the_trainer_writes(saved):
    to_kohya = api.LoraConvertOptions(to="kohya")
    to_diffusers = api.LoraConvertOptions(to="diffusers")
    for to, source, options in (
        ("kohya", "diffusers", to_kohya),
        ("diffusers", "kohya", to_diffusers),
    ):
        out = api.lora_convert(saved / f"{source}.safetensors", options).out
        ours, theirs = load_file(out), load_file(saved / f"{to}.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        if to == "diffusers":
            changes = lora.diffusers_deltas(ours, lora_file.read(out).metadata)
            assert len(changes) == 264


def test_a_resized_file_goes_back_into_the_trainer(trained, saved):
    path = api.lora_resize(saved / "kohya.safetensors", api.LoraResizeOptions(rank=4)).out
    before = {module.name: module.delta().detach().double().numpy() for module in trained.modules}
    lora.load_kohya(trained, lora.read_kohya(str(path)), source="the file")
    for layer in lora_file.read(path).layers:
        assert np.allclose(algebra.delta(layer), before[layer.key], rtol=0.02, atol=0.02)
    for module in trained.modules:
        after = module.delta().detach().double().numpy()
        assert np.linalg.norm(after - before[module.name]) < 2e-3 * np.linalg.norm(after)
