"""Captions are counted with the tokenizer of the base model, by every command that counts them."""

import shutil

import pytest
import torch

from datasetkit import api
from datasetkit.options.check import CheckOptions
from tests.trainer import tiny
from trainer import setup
from trainer.families import registry

# 159 CLIP tokens. In the tokenizers of random bases each letter is a token.
WORDS = ", ".join(["hat"] * 80)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "1_sks"
    tiny.save_images(folder, [(64, 64)])
    (folder / "1.txt").write_text(WORDS, "utf-8")
    return folder


def findings(dataset, **train):
    lines = [f"{key} = {value!r}\n" for key, value in train.items()]
    (dataset / "dsk.toml").write_text("[train]\n" + "".join(lines), "utf-8")
    found = api.check(dataset, options=CheckOptions(only=("tokens",)))
    return [finding.reason for finding in found.findings]


def test_without_a_base_the_tokens_are_clips(dataset):
    assert findings(dataset) == ["159 tokens: 84 are cut off; max_token_length = 225 is enough"]
    assert findings(dataset, max_token_length=225) == []
    missing = str(dataset / "missing.safetensors")
    assert len(findings(dataset, pretrained_model_name_or_path=missing)) == 1


@pytest.mark.parametrize(
    ("family", "limit", "around"),
    [("z-image", 512, 19), ("flux2", 512, 25), ("sd3", 256, 2), ("chroma", 512, 2)],
)
def test_the_tokenizer_and_the_limit_of_a_transformer_count(
    dit_base, dataset, family, limit, around
):
    base = {"pretrained_model_name_or_path": str(dit_base(family))}
    caption = dataset / "1.txt"
    caption.write_text("x" * (limit - around), "utf-8")
    assert findings(dataset, **base) == []
    caption.write_text("x" * (limit - around + 3), "utf-8")
    (reason,) = findings(dataset, **base)
    assert reason == (
        f"{limit + 3} tokens: 3 are cut off; the base model reads {limit}; shorten it"
    )


def test_a_tokenizer_that_cannot_be_read_does_not_end_the_check(dit_base, dataset, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(dit_base("z-image"), broken)
    shutil.rmtree(broken / "tokenizer")
    (dataset / "1.txt").write_text(", ".join(["hat"] * 300), "utf-8")
    (reason,) = findings(dataset, pretrained_model_name_or_path=str(broken))
    assert reason == "599 tokens: 87 are cut off; the base model reads 512; shorten it"


@pytest.mark.parametrize("name", ["z-image", "qwen", "krea2"])
def test_a_caption_of_as_many_tokens_as_the_limit_is_the_longest_that_is_read(dit_base, name):
    base = dit_base(name)
    family = registry.family(name)
    limit, count = family.TEXT_LIMIT, family.token_counter(base)
    assert limit is not None
    parts = setup.load_parts(tiny.flow_options(base, base))
    longest = "x" * (limit - count(""))
    assert count(longest) == limit
    read = {}
    for caption in (longest[1:], longest, longest + "x"):
        with torch.no_grad():
            mask = family.encode_text(parts, [caption], clip_skip=1, max_tokens=75).mask
        assert mask is not None
        read[count(caption) - limit] = int(mask.sum())
    assert read[0] == read[1] == read[-1] + 1
