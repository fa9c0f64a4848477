"""Captions encoded before the first step: the run is the same, and its encoders are free."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.progress import SILENT
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer import setup
from trainer.data import run_captions, text_cache
from trainer.data.latents import Encoder
from trainer.data.prefetch import Reader
from trainer.data.text_cache import TextCache
from trainer.families import option_checks, registry
from trainer.families.base import Conditioning
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

RUN = {
    "network_train_unet_only": True,
    "max_train_epochs": 2,
    "shuffle_caption": True,
    "caption_tag_dropout_rate": 0.3,
    "caption_dropout_rate": 0.2,
    "validation_split": 0.3,
    "save_state": False,
}


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("sks, smile --n ugly --w 64 --h 64 --s 2 --l 2\n")
    return str(path)


@pytest.mark.long
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"gradient_accumulation_steps": 2, "train_batch_size": 1},
        {"token_warmup_step": 0.5, "token_warmup_min": 1},
        {"caption_dropout_every_n_epochs": 2, "text_wordings": 1},
        {"max_train_steps": 3},
    ],
)
def test_the_captions_of_a_run_are_those_that_its_reader_draws(data, model, tmp_path, others):
    options = tiny.options(model, tmp_path, **{**RUN, "validation_split": 0.0, **others})
    plan = planned(data, options)
    parts = setup.load_parts(options)
    encoder = Encoder(parts.vae, torch.device("cpu"), torch.float32)
    drawn = [
        sample.caption
        for work in Reader(options, plan, encoder).steps(workers=0)
        for _, batch in work.batches
        for sample in batch
    ]
    listed = list(run_captions.of_run(options, plan, []))
    assert sorted(listed[-len(drawn) :]) == sorted(drawn) and len(set(drawn)) > 2


def test_wordings_repeat_after_so_many_epochs(data, model, tmp_path):
    def different(epochs, wordings):
        options = tiny.options(
            model, tmp_path, network_train_unet_only=True, max_train_epochs=epochs,
            shuffle_caption=True, text_wordings=wordings,
        )  # fmt: skip
        return len(set(run_captions.of_run(options, planned(data, options), [])))

    assert different(2, 2) == different(8, 2) == different(2, 0)
    assert different(1, 0) == different(8, 1) < different(8, 0)


@pytest.mark.long
def test_a_run_with_encoded_captions_is_bit_identical_and_reuses_them(
    data, model, tmp_path, prompts, monkeypatch
):
    more = {**RUN, "sample_prompts": prompts, "sample_every_n_epochs": 1}
    plain = tiny.options(model, tmp_path / "plain", **more)
    wanted = train(plain, planned(data, plain))
    encoded = []
    family = registry.family("sd1")
    whole = family.encode_text

    def recorded(parts, captions, **rest):
        encoded.extend(captions)
        return whole(parts, captions, **rest)

    monkeypatch.setattr(family, "encode_text", recorded)
    for name in ("memory", "disk", "disk"):
        cached = tiny.options(
            model, tmp_path / name, **more, cache_text_encoder_outputs=True,
            cache_text_encoder_outputs_to_disk=name == "disk", output_name=f"sks-{len(encoded)}",
        )  # fmt: skip
        before = len(encoded)
        made = train(cached, planned(data, cached))
        fresh = encoded[before:]
        assert len(fresh) == len(set(fresh))  # each caption once
        assert made.loss == wanted.loss and made.best == wanted.best
        first, second = load_file(wanted.files[-1]), load_file(made.files[-1])
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert fresh == []  # the second run with files
    folder = tmp_path / "disk" / text_cache.FOLDER
    files = sorted(folder.iterdir())
    assert len(files) == before // 2 and all(path.suffix == ".safetensors" for path in files)
    images = [
        sorted((tmp_path / name).rglob("*.png"), key=lambda path: path.name)
        for name in ("plain", "memory")
    ]
    assert images[0] and len(images[0]) == len(images[1])


def test_the_encoders_are_empty_afterwards_and_the_run_needs_none(data, model, tmp_path):
    options = tiny.options(model, tmp_path, **RUN, cache_text_encoder_outputs=True)
    plan, parts = planned(data, options), setup.load_parts(options)
    assert option_checks.frees_encoders(options, registry.family(parts.family))
    texts = setup.encode_texts(options, parts, ["sks", "", "sks"], tmp_path)
    assert all(p.is_meta for m in parts.encoders.values() for p in m.parameters())
    run = setup.assemble(options, plan, parts, texts=texts)
    assert run.conditioning(["sks", ""]).states.shape[0] == 2
    with pytest.raises(InputError, match="'other' is missing"):
        run.conditioning(["other"])


def test_by_default_only_families_that_never_train_text_free_their_encoders():
    for family in registry.families():
        assert option_checks.frees_encoders(TrainOptions(), family) is not family.TRAINS_TEXT
        off = TrainOptions(cache_text_encoder_outputs=False)
        assert not option_checks.frees_encoders(off, family)


def test_captions_that_are_encoded_once_exclude_a_trained_text_encoder():
    with pytest.raises(ConfigError, match="a text encoder is trained") as caught:
        TrainOptions(cache_text_encoder_outputs=True)
    assert "network_train_unet_only" in caught.value.hint
    TrainOptions(cache_text_encoder_outputs=True, network_train_unet_only=True)


@pytest.fixture
def row():
    return Conditioning(
        torch.randn(1, 5, 8).bfloat16(), mask=torch.tensor([[True] * 4 + [False]]),
        ids=torch.arange(3)[None], ids_mask=torch.ones(1, 3, dtype=torch.bool),
    )  # fmt: skip


def same(left, right):
    return left.tensors().keys() == right.tensors().keys() and all(
        torch.equal(left.tensors()[name], right.tensors()[name]) for name in left.tensors()
    )


def test_a_file_holds_every_field_and_is_of_its_text_and_model_alone(tmp_path, row):
    cache = TextCache(tmp_path / "texts", {"model": "a"})
    assert cache.read("sks") is None
    cache.write("sks", row)
    assert same(cache.read("sks"), row)
    assert cache.read("sks ") is None
    assert TextCache(tmp_path / "texts", {"model": "b"}).read("sks") is None
    for text in ("", "\n", "\ud800", "é" * 10_000):
        cache.write(text, replace(row, pooled=torch.ones(1, 2)))
        read = cache.read(text)
        assert read is not None and read.pooled is not None
    (tmp_path / "texts" / "mine.txt").touch()
    cache.delete()
    assert [path.name for path in (tmp_path / "texts").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "header"])
def test_a_damaged_file_counts_as_missing(tmp_path, row, damage):
    cache = TextCache(tmp_path, {})
    cache.write("sks", row)
    path = cache.path("sks")
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[-3] ^= 1
    damaged = {"empty": b"", "cut": data[:-9], "bit": data, "header": b"\xff" * 16}[damage]
    path.write_bytes(bytes(damaged))
    assert cache.read("sks") is None


@pytest.mark.long
def test_a_transformer_is_loaded_after_its_encoders_and_trains_the_same(
    data, dit_base, tmp_path, monkeypatch
):
    base, loads = dit_base("z-image"), []
    whole = setup.load_parts

    def recorded(options, reporter=SILENT, **how):
        loads.append(tuple(how.get("only", ())))
        return whole(options, reporter, **how)

    monkeypatch.setattr(setup, "load_parts", recorded)

    def trained(name, **others):
        options = tiny.flow_options(
            base, tmp_path / name, max_train_steps=2, shuffle_caption=True, save_state=False,
            **others,
        )  # fmt: skip
        return train(options, planned(data, options))

    plain = trained("plain", cache_text_encoder_outputs=False)
    staged = trained("staged")
    assert loads == [(), ("text_encoder",), ("transformer", "vae")]
    assert staged.loss == plain.loss
    first, second = load_file(plain.files[-1]), load_file(staged.files[-1])
    assert all(torch.equal(first[key], second[key]) for key in first)
    small = trained("small", base_precision="int8", blocks_to_swap=1)
    assert small.modules == plain.modules and small.loss == pytest.approx(plain.loss, rel=0.02)
