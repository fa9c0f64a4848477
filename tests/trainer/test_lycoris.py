"""LyCORIS' own library reads what is trained here, and adds the same; what is not supported is so
for a reason that still holds.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.trainer.test_networks import attached, disturb, options_of
from tests.trainer.test_run import whole
from trainer.families import sd
from trainer.files import lora
from trainer.lora_files import lora_file

pytestmark = pytest.mark.long  # the library takes seconds to import

READ = ("full", "locon cp", "loha cp", "locon", "loha", "norms", "full norms")


@pytest.mark.parametrize("kind", ["full", "locon cp", "loha cp", "full norms"])
def test_a_run_trains_them_and_goes_on_from_its_file(data, model, tmp_path, kind):
    options = options_of(kind, model, tmp_path / "one", max_train_steps=2, save_every_n_epochs=0)
    first = whole(data, options).files[-1]
    more = replace(options, network_weights=str(first), output_dir=str(tmp_path / "two"))
    second = whole(data, replace(more, max_train_steps=1)).files[-1]
    before, after = (lora.deltas(load_file(path)) for path in (first, second))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    methods = {"full norms": {"full", "norm"}, "locon cp": {"lora"}}
    assert {layer.method for layer in lora_file.read(first).layers} == methods.get(
        kind, {kind.split()[0]}
    )


@pytest.fixture(scope="module")
def modules() -> Any:
    pytest.importorskip("lycoris")
    return pytest.importorskip("lycoris.modules")


@pytest.mark.parametrize("kind", READ)
def test_layers_of_the_library_compute_what_the_trained_ones_do(modules, model, tmp_path, kind):
    """Of all modules. (Its `get_diff_weight` multiplies LoHa's scale twice; its layers do not.)"""
    _, network = attached(options_of(kind, model, tmp_path))
    tensors = lora.kohya_tensors(disturb(network), torch.float32)
    plain = sd.load(str(model))
    shapes = set()
    for module in network.modules:
        layer: Any = plain.part(module.part).get_submodule(module.path)
        width = layer.weight.shape[-1] if layer.weight.ndim == 1 else layer.weight.shape[1]
        x = torch.randn(2, width, 6, 6) if layer.weight.ndim == 4 else torch.randn(2, width)
        if layer.weight.ndim == 1:
            x = torch.randn(2, len(layer.weight), 6, 6)
            x = x.movedim(1, -1) if isinstance(layer, nn.LayerNorm) else x
        method, values = modules.get_module(tensors, module.name)
        modules.make_module(method, values, module.name, layer).apply_to()
        with torch.no_grad():
            assert torch.allclose(layer(x), module.layer(x), rtol=1e-4, atol=1e-5), module.name
        shapes.add(tuple(sorted(module.tensors)))
    assert len(shapes) == (2 if "cp" in kind or "norms" in kind else 1)


def test_the_library_trains_the_same_norms_of_a_unet(modules, full_model):
    """It has none of the text encoder either: the blocks that it takes there have no norms.

    (Its preset `full` fails: it names the layers of the time embedding twice.)
    """
    from lycoris.kohya import create_network

    parts = sd.load(str(full_model))

    def of_preset(name: str) -> set[str]:
        library = create_network(
            1.0, 2, 1.0, None, parts.encoders["text_encoder"], parts.denoiser, preset=name,
            train_norm="True",
        )  # fmt: skip
        layers = (*library.unet_loras, *library.text_encoder_loras)
        return {layer.lora_name for layer in layers if layer.name == "norm"}

    attention = of_preset("attn-mlp")
    assert attention == sd.norms(parts, convolutional=False).keys()
    both = attention | of_preset("unet-convblock-only")
    assert both == sd.norms(parts, convolutional=True).keys()


# ---- what is refused, and why


def test_the_library_does_not_train_the_norms_of_transformers(modules):
    from diffusers.models.normalization import RMSNorm
    from lycoris.modules.norms import NormModule

    assert NormModule("x", RMSNorm(4, 1e-6)).not_supported


def test_the_library_cannot_read_its_own_ia3(modules):
    from lycoris.modules.ia3 import IA3Module

    state = {f"x.{k}": v for k, v in IA3Module("x", nn.Linear(4, 3)).state_dict().items()}
    method, values = modules.get_module(state, "x")
    with pytest.raises(TypeError):
        modules.make_module(method, values, "x", nn.Linear(4, 3))


def test_the_library_trains_dylora_at_another_strength_than_its_file_has(modules):
    from lycoris.modules.dylora import DyLoraModule

    trained = DyLoraModule("x", nn.Linear(4, 3), lora_dim=8, alpha=8, block_size=4)
    with torch.no_grad():
        for tensor in trained.up_list:
            tensor.normal_()
        state = {f"x.{key}": value for key, value in trained.custom_state_dict().items()}
        whole = trained.get_diff_weight(rank=4)[0]  # all blocks
        method, values = modules.get_module(state, "x")
        read = modules.make_module(method, values, "x", nn.Linear(4, 3)).get_diff_weight()[0]
    assert torch.allclose(whole, 4 * read, atol=1e-5)


def test_the_library_cannot_read_its_own_lokr_with_a_kernel_of_its_own(modules):
    from lycoris.modules.lokr import LokrModule

    layer = nn.Conv2d(12, 10, 3)
    trained = LokrModule("x", layer, lora_dim=2, alpha=1, use_tucker=True, factor=2)
    state = {f"x.{key}": value for key, value in trained.custom_state_dict().items()}
    method, values = modules.get_module(state, "x")
    with pytest.raises(AttributeError):
        modules.make_module(method, values, "x", nn.Conv2d(12, 10, 3))
