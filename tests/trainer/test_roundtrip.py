"""The round-trip check: saved files act like the trained LoRA in diffusers, and wrong files are
detected.
"""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from datasetkit.core.errors import Exit
from tests.trainer import tiny
from tests.trainer.test_run import planned
from trainer import run, setup
from trainer.errors import LoraCheckFailed
from trainer.files import lora, roundtrip, save_lora
from trainer.files.run_files import RunFiles
from trainer.loop import StepLog

NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PATH = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def assembled(model, data, out, **others):
    options = tiny.options(model, out, **{"network_dim": 4, "network_alpha": 3.0, **others})
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in made.lora.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator) * 0.05)
    return made


@pytest.fixture(scope="module")
def trained(model, data, tmp_path_factory):
    return assembled(model, data, tmp_path_factory.mktemp("out"))


def saved(made, path, dtype=torch.float32, form="kohya", change=lambda tensors: None):
    if form == "kohya":
        tensors, header = lora.kohya_tensors(made.lora, dtype), {"format": "pt"}
    else:
        tensors, header = (
            lora.diffusers_tensors(made.lora, dtype),
            lora.diffusers_metadata(made.lora),
        )
    change(tensors)
    save_file(tensors, path, metadata=header)
    return path


@pytest.mark.long
@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saved_file_acts_like_the_trained_lora(trained, tmp_path, dtype, form):
    roundtrip.check(saved(trained, tmp_path / "x.safetensors", dtype, form), trained, dtype)


@pytest.mark.long
@pytest.mark.parametrize(
    "others",
    [
        {"mixed_precision": "bf16", "network_train_unet_only": True},
        {"network_train_text_encoder_only": True},
        {
            "clip_skip": 2,
            "max_token_length": 150,
            "network_dropout": 0.5,
            "gradient_checkpointing": True,
        },
    ],
)
def test_round_trip_check_covers_other_options(model, data, tmp_path, others):
    made = assembled(model, data, tmp_path / "out", **others)
    for form in ("kohya", "diffusers"):
        roundtrip.check(
            saved(made, tmp_path / f"{form}.safetensors", torch.float16, form), made, torch.float16
        )


def swapped(tensors):
    other = NAME.replace("to_q", "to_k")
    key = "lora_up.weight"
    tensors[f"{NAME}.{key}"], tensors[f"{other}.{key}"] = (
        tensors[f"{other}.{key}"],
        tensors[f"{NAME}.{key}"],
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: [value.mul_(4 / 3) for key, value in t.items() if key.endswith(".alpha")],
            "60 of 60 modules",
        ),
        (swapped, "2 of 60 modules"),
        (lambda t: t[f"{NAME}.lora_down.weight"].mul_(1.001), "1 of 60 modules"),
        (lambda t: t[f"{NAME}.lora_up.weight"].view(-1)[0].fill_(float("nan")), "1 of 60 modules"),
        (
            lambda t: t.update(
                {
                    f"{NAME}x.{k}": t.pop(f"{NAME}.{k}")
                    for k in ("lora_up.weight", "lora_down.weight")
                }
            ),
            NAME,
        ),
        (
            lambda t: [
                t.update({key.replace("lora_te_", "lora_xx_"): t.pop(key)}) for key in list(t)
            ],
            "",
        ),
    ],
)
def test_wrong_kohya_file_is_detected(trained, tmp_path, change, words):
    path = saved(trained, tmp_path / "x.safetensors", change=change)
    with pytest.raises(LoraCheckFailed, match=r"x\.safetensors failed the LoRA check") as caught:
        roundtrip.check(path, trained, torch.float32)
    assert words in caught.value.message
    assert caught.value.exit_code == Exit.LORA_CHECK_FAILED


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[f"{PATH}.lora_B.weight"].mul_(1.01),
        lambda t: t.update({f"{PATH}x.lora_B.weight": t.pop(f"{PATH}.lora_B.weight")}),
        lambda t: [t.pop(key) for key in list(t) if key.startswith("text_encoder.")],
    ],
)
def test_wrong_diffusers_file_is_detected(trained, tmp_path, change):
    path = saved(trained, tmp_path / "x.safetensors", form="diffusers", change=change)
    with pytest.raises(LoraCheckFailed, match=r"x\.safetensors failed the LoRA check"):
        roundtrip.check(path, trained, torch.float32)


def test_round_trip_check_does_not_change_the_trained_model(trained, tmp_path):
    path = saved(trained, tmp_path / "x.safetensors", torch.bfloat16)
    before = copy.deepcopy(lora.kohya_tensors(trained.lora, torch.float32))
    names = [name for name, _ in trained.parts.denoiser.named_modules()]
    modes = [m.training for m in trained.parts.denoiser.modules()]
    roundtrip.check(path, trained, torch.bfloat16)
    after = lora.kohya_tensors(trained.lora, torch.float32)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [name for name, _ in trained.parts.denoiser.named_modules()] == names
    assert [m.training for m in trained.parts.denoiser.modules()] == modes


def test_plain_model_shares_its_weights(trained):
    plain = roundtrip._plain(trained)
    own = {p.data_ptr() for p in trained.parts.denoiser.parameters()}
    assert all(p.data_ptr() in own for p in plain.denoiser.parameters())
    assert not any("lora" in name for name, _ in plain.denoiser.named_modules())


def sabotaged(true, change):
    def exporter(*arguments):
        tensors = true(*arguments)
        change(tensors)
        return tensors

    return exporter


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "file"), [("kohya", "sks.safetensors"), ("diffusers", "sks.diffusers.safetensors")]
)
def test_run_with_a_wrong_exporter_fails_and_keeps_its_file(
    trained, tmp_path, monkeypatch, form, file
):
    def change(tensors):
        key = next(
            key
            for key in tensors
            if key.startswith(("lora_unet", "unet")) and key.endswith("weight")
        )
        tensors[key] = tensors[key] * 2

    made = replace(trained, options=replace(trained.options, lora_format="both"))
    name = f"{form}_tensors"
    monkeypatch.setattr(lora, name, sabotaged(getattr(lora, name), change))
    log = StepLog(1, 1, 0.1, 1, {}, {}, 0.0, True)
    files = RunFiles.start(tmp_path, "sks", "")
    save_lora.save(made, files, "sks", save_lora.run_facts(made, "sks"), log)
    with pytest.raises(LoraCheckFailed, match=rf"^{file} failed the LoRA check") as caught:
        run.check_files(made, files)
    assert caught.value.exit_code == 21
    assert load_file(tmp_path / file)


def test_files_of_a_run_pass(trained, tmp_path):
    made = replace(trained, options=replace(trained.options, lora_format="both"))
    log = StepLog(1, 1, 0.1, 1, {}, {}, 0.0, True)
    files = RunFiles.start(tmp_path, "sks", "")
    save_lora.save(made, files, "sks", save_lora.run_facts(made, "sks"), log)
    assert run.check_files(made, files) == ()


@pytest.mark.long
@pytest.mark.parametrize("factor", [10.0, 1e3])
def test_a_lora_far_stronger_than_the_base_hints_at_the_rate(model, data, tmp_path, factor):
    """Half precision amplifies rounding until forward passes differ, though the file is good."""
    made = assembled(model, data, tmp_path / "out", mixed_precision="bf16")
    with made.lora.with_values([p.detach() * factor for p in made.lora.parameters()]):
        path = saved(made, tmp_path / "x.safetensors")
        with pytest.raises(LoraCheckFailed, match="times its own weights") as caught:
            roundtrip.check(path, made, torch.float32)
    assert caught.value.hint.startswith("lower the learning rate")
    assert "report" not in caught.value.hint


@pytest.mark.long
@pytest.mark.parametrize("factor", [1e-15, 1e-10])
def test_a_tiny_lora_is_compared_beyond_the_range_of_float32(model, data, tmp_path, factor):
    made = assembled(model, data, tmp_path / "out")
    with made.lora.with_values([p.detach() * factor for p in made.lora.parameters()]):
        path = saved(made, tmp_path / "x.safetensors")
        roundtrip.check(path, made, torch.float32)


def test_a_lora_with_which_nothing_finite_is_predicted_hints_at_the_rate(trained, tmp_path):
    made = replace(trained, options=replace(trained.options, save_precision="float"))
    files = RunFiles.start(tmp_path, "sks", "")
    log = StepLog(1, 1, 0.1, 1, {}, {}, 0.0, True)
    with made.lora.with_values([p.detach() * 1e6 for p in made.lora.parameters()]):
        save_lora.save(made, files, "sks", save_lora.run_facts(made, "sks"), log)
        with pytest.raises(LoraCheckFailed, match="predicts values that are not finite") as caught:
            run.check_files(made, files)
    assert caught.value.hint.startswith("lower the learning rate")
