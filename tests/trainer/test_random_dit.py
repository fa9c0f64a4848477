"""Random bases of diffusion transformers: diffusers' own pipelines load them and generate."""

import diffusers
import pytest
import torch
from diffusers.utils import logging

from datasetkit.core.errors import ConfigError, InputError
from trainer import random_base, random_dit

# Anima's pipeline is modular, and needs torchvision.
PIPELINES = [family for family in random_dit.BUILDERS if family != "anima"]


def state(family, seed):
    models = random_dit.build(family, seed).models.values()
    return [
        v for model in models if hasattr(model, "state_dict") for v in model.state_dict().values()
    ]


@pytest.mark.long
@pytest.mark.parametrize("family", PIPELINES)
def test_diffusers_loads_a_random_base_and_generates(dit_base, family):
    logging.disable_progress_bar()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(dit_base(family), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt="a cat", height=32, width=32, num_inference_steps=2, output_type="pt",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert images.shape == (1, 3, 32, 32)
    assert images.isfinite().all()
    assert images.std() > 0


def test_every_part_of_animas_base_loads(dit_base):
    folder = dit_base("anima")
    transformer = diffusers.CosmosTransformer3DModel.from_pretrained(folder / "transformer")
    assert transformer.config.concat_padding_mask
    conditioner = diffusers.AnimaTextConditioner.from_pretrained(folder / "text_conditioner")
    assert conditioner.config.target_dim == transformer.config.text_embed_dim
    assert (folder / "modular_model_index.json").is_file()


@pytest.mark.parametrize("family", ["z-image", "flux2"])
def test_a_seed_makes_one_model_and_another_seed_another(family):
    first, again, other = (state(family, seed) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(tensor.isfinite().all() for tensor in first)


def test_tokenizers_read_any_text_and_end_as_the_published_ones():
    qwen = random_dit.byte_tokenizer()
    assert qwen.decode(qwen("1girl, 猫").input_ids) == "1girl, 猫"
    assert len(qwen("<|im_end|>\n").input_ids) == 2
    messages = [{"role": "user", "content": "hi"}]
    text = qwen.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    text = qwen.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    t5 = random_dit.t5_tokenizer()
    ids = t5("a cat").input_ids
    assert ids[-1] == t5.eos_token_id
    assert t5.decode(ids, skip_special_tokens=True) == "a cat"
    assert len(t5("a cat", padding="max_length", max_length=20).input_ids) == 20


@pytest.mark.long
def test_command_writes_a_base_of_a_family_and_says_that_it_is_random(tmp_path, capsys):
    folder = tmp_path / "base"
    assert random_base.main([str(folder), "--family", "z-image"]) == 0
    assert "random weights" in capsys.readouterr().out
    assert "z-image with random weights" in (folder / "README.txt").read_text(encoding="utf-8")
    assert random_base.main([str(folder), "--family", "z-image", "--seed", "3"]) == 0
    with pytest.raises(InputError):  # its files would mix with those of another family
        random_base.save(folder, family="anima")


def test_unknown_family_names_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError) as failure:
        random_base.main([str(tmp_path / "x"), "--family", "lumina"])
    assert "krea2" in (failure.value.hint or "")
    assert not (tmp_path / "x").exists()
