"""A network on a diffusion transformer, written in each format, read back and loaded again."""

import copy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file

from datasetkit.core.errors import InputError
from trainer import random_dit
from trainer.families import dit_lora
from trainer.lora_files import dit_exports
from trainer.networks.base import ADAPTER

EXPORTS = {
    "z-image": (dit_exports.Z_IMAGE, "ZImageLoraLoaderMixin"),
    "anima": (dit_exports.ANIMA, "AnimaLoraLoaderMixin"),
    "flux2": (dit_exports.FLUX2, "Flux2LoraLoaderMixin"),
    "flux": (dit_exports.FLUX, "FluxLoraLoaderMixin"),
    "krea2": (dit_exports.KREA2, "Krea2LoraLoaderMixin"),
    "qwen": (dit_exports.QWEN, "QwenImageLoraLoaderMixin"),
    "sd3": (dit_exports.SD3, "SD3LoraLoaderMixin"),
}


@cache
def plain(family):
    return random_dit.build(family).models["transformer"]


def network(family, *, rank=3, alpha=2.0, trained=True) -> Any:
    """Return the transformer with a LoRA on it, as `lora.attach` builds one."""
    model, (exports, _) = copy.deepcopy(plain(family)), EXPORTS[family]
    paths = dit_lora.targets(model, exports)
    config: Any = LoraConfig(r=rank, lora_alpha=int(alpha), target_modules=list(paths.values()))
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    modules = []
    for name, path in paths.items():
        layer: Any = model.get_submodule(path)
        up, down = layer.lora_B[ADAPTER].weight, layer.lora_A[ADAPTER].weight
        if trained:
            torch.nn.init.normal_(up)
        size = SimpleNamespace(dim=rank, alpha=alpha)
        modules.append(
            SimpleNamespace(name=name, path=path, layer=layer, up=up, down=down, rank=size)
        )
    return SimpleNamespace(modules=modules)


def delta(layer, adapter):
    return layer.get_delta_weight(adapter).detach()


@pytest.mark.parametrize("family", EXPORTS)
def test_published_file_gives_each_layer_the_same_change_in_diffusers(tmp_path, family):
    exports, loader = EXPORTS[family]
    lora = network(family)
    tensors = dit_lora.export(lora, exports, torch.float32, exports.default)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    path: Path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    model = copy.deepcopy(plain(family))
    dit_lora.reload(loader, path, model, "loaded")
    for module in lora.modules:
        change = delta(module.layer, ADAPTER)
        loaded = delta(model.get_submodule(module.path), "loaded")
        assert (loaded - change).norm() < 1e-5 * change.norm(), module.path


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "new"])
@pytest.mark.parametrize("family", EXPORTS)
def test_restored_tensors_are_those_of_the_network(family, trained):
    exports, _ = EXPORTS[family]
    lora = network(family, trained=trained)
    for form in exports.formats:
        restored = dit_lora.restore(dit_lora.export(lora, exports, torch.float32, form), exports)
        assert len(restored) == 3 * len(lora.modules)
        for module in lora.modules:
            up = restored[f"{module.name}.lora_up.weight"]
            down = restored[f"{module.name}.lora_down.weight"]
            scale = float(restored[f"{module.name}.alpha"]) / len(down)
            assert torch.equal(down, module.down)
            torch.testing.assert_close(up * scale, module.up.detach() * 2.0 / 3.0)


def test_file_of_another_program_is_restored_whatever_its_prefix():
    exports, _ = EXPORTS["qwen"]
    down, up = torch.ones(2, 4), torch.ones(6, 2)
    restored = dit_lora.restore(
        {
            "transformer_blocks.0.attn.to_q.lora_down.weight": down,
            "transformer_blocks.0.attn.to_q.lora_up.weight": up,
            "transformer_blocks.0.attn.to_q.alpha": torch.tensor(1.0),
            "transformer_blocks.0.attn.to_k.lora_A.weight": down,
            "proj_out.lora_A.weight": down,
            "proj_out.lora_B.weight": up,
        },
        exports,
    )
    first = "lora_transformer_transformer_blocks_0_attn_to_"
    assert sorted(restored) == [
        f"{first}k.lora_down.weight",
        f"{first}q.alpha",
        f"{first}q.lora_down.weight",
        f"{first}q.lora_up.weight",
        "proj_out.lora_A.weight",
        "proj_out.lora_B.weight",
    ]


def test_half_precision_rounds_once():
    exports, _ = EXPORTS["krea2"]
    lora = network("krea2", rank=4, alpha=3.0)
    module = lora.modules[0]
    tensors = dit_lora.export(lora, exports, torch.bfloat16, "diffusers")
    up = tensors[f"transformer.{module.path}.lora_B.weight"]
    assert torch.equal(up, (module.up.detach() * 0.75).bfloat16())


def test_kohyas_format_needs_every_part_of_a_fused_layer():
    exports, _ = EXPORTS["flux"]
    lora = network("flux")
    kept = [module for module in lora.modules if "proj_mlp" not in module.path]
    with pytest.raises(InputError, match="proj_mlp"):
        dit_lora.export(SimpleNamespace(modules=kept), exports, torch.float32, "kohya")  # type: ignore[arg-type]
