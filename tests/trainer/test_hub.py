"""A model of the hub is loaded from the cache without a network, at its commit, checked by hash."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.verbs.train import plan_training
from tests import fake_hub
from tests.trainer import tiny, tiny_families
from trainer.families import registry, sd, sdxl, source
from trainer.families.source import find
from trainer.files import hub_model
from trainer.plan import model_shapes

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
REPO = "someone/tiny-sd"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def plant(cache, source, files, repo=REPO):
    """Put files of a folder into the cache as the hub's client does: bytes by their hash, a
    commit's names as links.
    """
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for file in files:
        data = (source / file).read_bytes()
        large = file.endswith(".safetensors")
        name = (hashlib.sha256 if large else hashlib.sha1)(data).hexdigest()
        (home / "blobs" / name).write_bytes(data)
        link = home / "snapshots" / COMMIT / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home / "blobs" / name)
    return home / "snapshots" / COMMIT


def equal(parts, others):
    return all(
        torch.equal(value, other.state_dict()[key])
        for model, other in (
            (parts.vae, others.vae),
            *((parts.part(name), others.part(name)) for name in parts.names),
        )
        for key, value in model.state_dict().items()
    )


def test_folder_of_the_hub_is_read_from_the_cache(cache, model):
    plant(cache, model, hub_model.MODEL[0])
    loaded = sd.load(REPO, revision=COMMIT)
    assert equal(loaded, sd.load(str(model)))
    assert loaded.source == cache / "models--someone--tiny-sd" / "snapshots" / COMMIT
    assert find(f"{REPO}@{COMMIT}") == loaded.source


def test_plan_estimates_the_memory_of_the_model_in_the_cache(cache, model, data, options):
    plant(cache, model, hub_model.MODEL[0])
    from_hub = replace(options, pretrained_model_name_or_path=REPO, revision=COMMIT)
    planned = plan_training(data, from_hub)
    assert planned.memory == plan_training(data, options).memory
    assert planned.rates == plan_training(data, options).rates


@pytest.mark.long
def test_one_file_of_the_hub_is_read_from_the_cache(cache, full_model, tmp_path):
    path = tiny.save_checkpoint(tmp_path)
    plant(cache, tmp_path, [path.name])
    name = f"{REPO}/{path.name}"
    assert equal(
        sd.load(f"{name}@{COMMIT}", configs=tmp_path / "configs"), sd.load(str(full_model))
    )
    assert find(name, COMMIT) == find(f"{name}@{COMMIT}")


def test_vae_of_the_hub_has_its_own_commit(cache, model):
    plant(cache, model / "vae", hub_model.VAE[0], repo="someone/vae")
    parts = sd.load(str(model), vae=f"someone/vae@{COMMIT}")
    assert equal(parts, sd.load(str(model)))
    with pytest.raises(ConfigError, match="needs its revision"):
        sd.load(str(model), revision=COMMIT, vae="someone/vae")


def test_what_is_not_in_the_cache_is_said_in_one_line(cache, model):
    plant(cache, model, hub_model.MODEL[0])
    for name, commit in (
        (REPO, OTHER),
        ("someone/none", COMMIT),
        (f"{REPO}/none.safetensors", COMMIT),
    ):
        with pytest.raises(ModelFileError, match=rf"^cannot fetch [\w/. -]+ at {commit}") as caught:
            sd.load(name, revision=commit)
        assert "\n" not in caught.value.message and "network" in caught.value.hint


def test_interrupted_download_is_no_model(cache, model):
    plant(cache, model, [file for file in hub_model.MODEL[0] if not file.startswith("unet/")])
    with pytest.raises(
        ModelFileError, match=r"^cannot fetch (unet/config\.json of )?someone/tiny-sd"
    ):
        sd.load(REPO, revision=COMMIT)


def test_model_with_two_text_encoders_is_whole_with_both(cache, tmp_path):
    folder = tiny_families.save_pipeline(tmp_path / "xl", "sdxl")
    files = [*hub_model.MODEL[1], "model_index.json"]
    second = [file for file in files if file.startswith("text_encoder_2/")]
    plant(cache, folder, [file for file in files if file not in second])
    with pytest.raises(
        ModelFileError,
        match=r"^cannot fetch (text_encoder_2/config\.json of )?someone/tiny-sd",
    ):
        find(REPO, COMMIT)
    plant(cache, folder, second)
    assert sdxl.load(REPO, revision=COMMIT).names == ("unet", "text_encoder", "text_encoder_2")


def test_file_that_is_not_what_the_hub_has_is_refused(cache, model):
    folder = plant(cache, model, hub_model.MODEL[0])
    blob = (folder / "unet" / "diffusion_pytorch_model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ModelFileError, match="is damaged") as caught:
        sd.load(REPO, revision=COMMIT)
    assert str(blob) in caught.value.hint


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub on the loopback, and an empty cache."""
    with fake_hub.serve(tmp_path / "hub", monkeypatch) as fake:
        yield fake


def offer(served, folder, files, under=""):
    for file in files:
        served.files[under + file] = (folder / file).read_bytes()


def test_base_model_is_downloaded_once(served, model):
    offer(served, model, hub_model.MODEL[0])
    assert equal(sd.load(REPO, revision=COMMIT), sd.load(str(model)))
    wanted = sorted(f"{file} from 0" for file in hub_model.MODEL[0])
    assert sorted(served.requests) == wanted
    find(REPO, COMMIT)
    assert sorted(served.requests) == wanted


def test_interrupted_download_of_a_base_model_resumes(served, model):
    offer(served, model, hub_model.MODEL[0])
    weights = "unet/diffusion_pytorch_model.safetensors"
    half = len(served.files[weights]) // 2
    part = served.plant_part(REPO, weights, served.files[weights][:half])
    assert equal(sd.load(REPO, revision=COMMIT), sd.load(str(model)))
    assert f"{weights} from {half}" in served.requests
    assert f"{weights} from 0" not in served.requests
    assert not part.exists()


@pytest.mark.long
def test_interrupted_download_of_a_single_file_resumes(served, tmp_path):
    path = tiny.save_checkpoint(tmp_path)
    offer(served, tmp_path, [path.name])
    half = path.stat().st_size // 2
    served.plant_part(REPO, path.name, path.read_bytes()[:half])
    found = find(f"{REPO}/{path.name}@{COMMIT}")
    assert served.requests == [f"{path.name} from {half}"]
    assert found.read_bytes() == path.read_bytes()


def test_model_with_two_text_encoders_is_downloaded_whole(served, tmp_path):
    folder = tiny_families.save_pipeline(tmp_path / "xl", "sdxl")
    offer(served, folder, [*hub_model.MODEL[1], "model_index.json"])
    assert sdxl.load(REPO, revision=COMMIT).names == ("unet", "text_encoder", "text_encoder_2")


def test_vae_that_is_a_part_of_a_model_is_downloaded(served, model):
    offer(served, model / "vae", hub_model.VAE[0], under="vae/")
    parts = sd.load(str(model), vae=f"{REPO}@{COMMIT}")
    assert equal(parts, sd.load(str(model)))


def test_repository_of_another_layout_costs_no_large_download(served, model):
    offer(served, model, [file for file in hub_model.MODEL[0] if file != "vae/config.json"])
    with pytest.raises(ModelFileError, match=r"^cannot fetch vae/config\.json") as caught:
        find(REPO, COMMIT)
    assert "layout of diffusers" in caught.value.hint
    assert not any("safetensors" in request for request in served.requests)


@pytest.mark.parametrize("commit", ["", "main", COMMIT[:7], COMMIT.upper(), f"{COMMIT}0"])
def test_commit_has_to_be_whole(cache, model, commit):
    plant(cache, model, hub_model.MODEL[0])
    with pytest.raises(ConfigError, match="needs its revision"):
        sd.load(REPO, revision=commit)


@pytest.mark.parametrize(
    ("text", "revision", "name"),
    [
        ("a/b", "x", hub_model.HubName("a/b", "", "x")),
        ("a/b", "", hub_model.HubName("a/b", "", "")),
        ("a/b@c", "x", hub_model.HubName("a/b", "", "c")),
        ("a/b-1.5/c/d.safetensors", "x", hub_model.HubName("a/b-1.5", "c/d.safetensors", "x")),
        ("a/b/c.safetensors@d", "", hub_model.HubName("a/b", "c.safetensors", "d")),
        ("a/b/c.safetensors", "", None),
        ("a/b.safetensors", "x", None),
        ("a/b/c.ckpt", "x", None),
        ("a", "x", None),
        ("a/b/c", "x", None),
        ("/a/b", "x", None),
        ("C:\\a\\b", "x", None),
    ],
)
def test_names_of_the_hub_are_told_from_paths(text, revision, name):
    assert hub_model.parse(text, revision) == name


def test_revision_of_the_make_target_is_a_commit():
    text = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^REVISION .*,([0-9a-f]{40})\)$", text, re.MULTILINE)


@pytest.mark.long
@pytest.mark.parametrize("family", ["z-image", "anima"])
def test_a_transformer_is_downloaded_as_its_index_lists_it(served, dit_base, family):
    """Also with the weights of a part in several files."""
    folder = dit_base(family)
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    offer(served, folder, files)
    whole = "text_encoder/model.safetensors"
    tensors = load_file(folder / whole)
    del served.files[whole]
    shards: dict[str, str] = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        shards |= dict.fromkeys(names, shard)
        served.files[f"text_encoder/{shard}"] = save({name: tensors[name] for name in names})
    index = {"metadata": {}, "weight_map": shards}
    served.files[f"{whole}.index.json"] = json.dumps(index).encode()
    loaded = registry.family(family).load(
        REPO, revision=COMMIT, vae="", prediction=None, dtype=torch.float32
    )
    plain = registry.family(family).load(
        str(folder), revision="", vae="", prediction=None, dtype=torch.float32
    )
    assert equal(loaded, plain)
    requests = len(served.requests)
    assert find(REPO, COMMIT) == loaded.source and source.local(REPO, COMMIT) == loaded.source
    assert len(served.requests) == requests
    shapes = model_shapes.read(str(loaded.source))
    assert shapes is not None and shapes == model_shapes.read(str(folder))
