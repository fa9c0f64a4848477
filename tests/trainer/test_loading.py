"""A model is loaded in the precision of the run, and equals a cast of a float32 load bit by bit."""

import pytest
import torch

from tests.trainer import tiny, tiny_families
from trainer import setup
from trainer.families import registry

FORMS = ("folder", "file")


def saved(family, form, place):
    """Write a tiny model; return it, and what its loader is told besides."""
    if form == "folder":
        return tiny_families.save_pipeline(place / family, family), {}
    return tiny_families.save_checkpoint(place, family), {"configs": place / "configs"}


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_load_equals_casting_float32(family, form, dtype, tmp_path):
    path, given = saved(family, form, tmp_path)
    load = registry.family(family).load
    whole, half = load(str(path), **given), load(str(path), dtype=dtype, **given)
    for name in whole.names:
        there, here = whole.part(name).state_dict(), half.part(name).state_dict()
        assert there.keys() == here.keys() and here
        assert all(
            here[key].dtype == dtype and torch.equal(there[key].to(dtype), here[key])
            for key in here
        )
        assert not any(
            p.requires_grad or p.is_meta
            for p in (*half.part(name).parameters(), *half.part(name).buffers())
        )
    for name, tensor in half.vae.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, whole.vae.state_dict()[name])


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ({"mixed_precision": "no"}, torch.float32),
        ({"mixed_precision": "bf16"}, torch.bfloat16),
        ({"mixed_precision": "bf16", "network_args": ("dora_wd=True",)}, torch.float32),
        ({"mixed_precision": "bf16", "fp8_base": True}, torch.float32),
        ({"mixed_precision": "bf16", "fp8_base_unet": True}, torch.float32),
    ],
)
def test_values_computed_from_weights_use_float32(model, tmp_path, given, dtype):
    parts = setup.load_parts(tiny.options(model, tmp_path, **given))
    assert {p.dtype for name in parts.names for p in parts.part(name).parameters()} == {dtype}
    assert {p.dtype for p in parts.vae.parameters()} == {torch.float32}


@pytest.mark.long
def test_run_in_bf16_does_not_depend_on_the_load_precision(data, model, tmp_path):
    from tests.trainer.test_loop import ready
    from trainer.loop import steps

    options = tiny.options(model, tmp_path, mixed_precision="bf16", max_train_steps=2)
    own = ready(data, options)
    losses = [log.loss for log in steps(own)]
    parts = registry.family("sd1").load(
        str(model), revision="", vae="", prediction=None, dtype=torch.float32
    )
    other = setup.assemble(options, own.plan, parts)
    assert [log.loss for log in steps(other)] == losses
    for mine, theirs in zip(own.lora.parameters(), other.lora.parameters(), strict=True):
        assert torch.equal(mine, theirs)
