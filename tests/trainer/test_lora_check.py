"""The LoRA check passes a working LoRA, and fails one without effect or with another effect."""

import pytest
import torch
from safetensors.torch import save_file

from datasetkit.core.errors import Exit
from trainer.errors import LoraCheckFailed
from trainer.families import sd
from trainer.files import lora, lora_check

NAME = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.fixture(scope="module")
def trained(model):
    parts = sd.load(str(model))
    network = lora.attach(
        sd, parts, ("unet", "text_encoder"), dim=4, alpha=3.0, dropout=0.0, seed=1
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator) * 0.01)
    return network


def checked(trained, tmp_path, change, *, dtype=torch.float32, unreachable=()):
    tensors = lora.kohya_tensors(trained, dtype)
    change(tensors)
    save_file(tensors, tmp_path / "x.safetensors")
    return lora_check.check(
        tmp_path / "x.safetensors", trained, unreachable=unreachable, dtype=dtype
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_complete_file_passes_in_every_precision(trained, tmp_path, dtype):
    verdict = checked(trained, tmp_path, lambda tensors: None, dtype=dtype)
    assert verdict.modules == 60
    assert min(verdict.norms.values()) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(f"{NAME}.lora_up.weight"), "missing or unexpected"),
        (lambda t: t[f"{NAME}.lora_up.weight"].zero_(), "learned nothing"),
        (lambda t: t[f"{NAME}.lora_down.weight"].view(-1)[0].fill_(float("nan")), "not finite"),
        (lambda t: t[f"{NAME}.lora_down.weight"].view(-1)[0].fill_(float("inf")), "not finite"),
        (lambda t: t[f"{NAME}.alpha"].fill_(4.0), "differ from the trained ones"),
        (lambda t: t.update({"lora_unet_other.alpha": torch.tensor(1.0)}), "missing or unexpected"),
    ],
)
def test_problem_is_named(trained, tmp_path, change, words):
    with pytest.raises(LoraCheckFailed, match=words) as caught:
        checked(trained, tmp_path, change)
    assert caught.value.exit_code == Exit.LORA_CHECK_FAILED


def test_unreachable_modules_may_stay_untrained(trained, tmp_path):
    verdict = checked(trained, tmp_path, lambda t: None, unreachable={NAME})
    assert verdict.modules == 60


def test_module_with_a_very_large_change_is_remarked(trained, tmp_path):
    module = next(m for m in trained.modules if m.name == NAME)
    before = module.up.detach().clone()
    with torch.no_grad():
        module.up.mul_(1000)
    try:
        assert any(NAME in remark for remark in checked(trained, tmp_path, lambda t: None).remarks)
    finally:
        with torch.no_grad():
            module.up.copy_(before)


@pytest.mark.parametrize(
    ("change", "dtype", "words", "hint"),
    [
        (1e-10, torch.float16, "rounds to 0 in fp16", 'save_precision = "float"'),
        (1e-10, torch.bfloat16, "", ""),
        (0.0, torch.float16, "learned nothing", "raise the learning rate"),
        (0.0, torch.float32, "learned nothing", "raise the learning rate"),
    ],
)
def test_a_lora_without_effect_says_whether_the_file_or_the_training_lost_it(
    trained, tmp_path, change, dtype, words, hint
):
    ups = [module.up.detach().clone() for module in trained.modules]
    try:
        with torch.no_grad():
            for module in trained.modules:
                module.up.fill_(change)
        if not words:
            checked(trained, tmp_path, lambda tensors: None, dtype=dtype)
            return
        with pytest.raises(LoraCheckFailed, match=words) as caught:
            checked(trained, tmp_path, lambda tensors: None, dtype=dtype)
        assert hint in caught.value.hint and "60 of 60 modules" in caught.value.message
        assert ("float" in caught.value.hint) == bool(change)
    finally:
        with torch.no_grad():
            for module, up in zip(trained.modules, ups, strict=True):
                module.up.copy_(up)
