"""Latents are cached by content: only what changed is encoded again."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.trainer import tiny
from trainer.data import pixels
from trainer.data.latent_cache import LatentCache
from trainer.data.latents import Encoder
from trainer.families import sd
from trainer.plan.plan import find_subsets, make_plan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vae(model):
    return sd.load(str(model)).vae


def encoder(vae, **others) -> Encoder:
    return Encoder(vae, CPU, torch.float32, **others)


class Heard:
    def __init__(self):
        self.warnings = []

    def start(self, label, total): ...
    def advance(self, n=1): ...
    def note(self, text): ...
    def phase(self, name): ...
    def finish(self): ...
    def warn(self, message):
        self.warnings.append(message)


def test_cached_latents_equal_fresh_ones(vae, plan, tmp_path):
    kept, fresh = encoder(vae, disk=LatentCache.open(tmp_path / "c")), encoder(vae, cache=False)
    assert kept.fill(plan.images) == len({p.id for p in plan.images})
    again = encoder(vae, disk=LatentCache.open(tmp_path / "c"))
    assert again.fill(plan.images) == 0
    for image in plan.images:
        one, two, three = (e.moments(image, image.bucket.crop, False) for e in (kept, again, fresh))
        assert torch.equal(one.mean, three.mean) and torch.equal(two.std, three.std)
        assert one.mean.shape == (4, image.bucket.bucket[1] // 8, image.bucket.bucket[0] // 8)


def test_each_sample_draws_its_own_latent(vae, plan):
    moments = encoder(vae).moments(plan.images[0], (0, 0), False)
    first, second = (moments.sample(torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, moments.sample(torch.Generator().manual_seed(1)))


def test_edited_image_is_encoded_again_and_a_renamed_one_is_not(vae, data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    used = encoder(vae)
    used.fill(make_plan(find_subsets(folder, options)[0], options).images)
    (concept / "1.png").rename(concept / "9.png")
    assert used.fill(make_plan(find_subsets(folder, options)[0], options).images) == 0
    with Image.open(concept / "9.png") as image:
        edited = image.convert("L")
    edited.save(concept / "9.png")
    assert used.fill(make_plan(find_subsets(folder, options)[0], options).images) == 1


def test_another_vae_resolution_or_precision_is_another_key(vae, plan, model, data, tmp_path):
    image = plan.images[1]
    key = encoder(vae).key(image, (0, 0), False)
    other = sd.load(str(model)).vae
    with torch.no_grad():
        other.quant_conv.bias += 1
    larger = tiny.options(model, tmp_path, resolution=192)
    elsewhere = make_plan(find_subsets(data, larger)[0], larger).images[1]
    keys = {
        key,
        encoder(other).key(image, (0, 0), False),
        encoder(vae).key(elsewhere, (0, 0), False),
        encoder(vae).key(image, (0, 0), True),
        encoder(vae).key(image, (1, 0), False),
        Encoder(sd.load(str(model)).vae, CPU, torch.bfloat16).key(image, (0, 0), False),
    }
    assert len(keys) == 6


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_the_name_of_the_cache_is_not_replaced(tmp_path, kind):
    path = tmp_path / "latent-cache"
    (tmp_path / "other").mkdir()
    if kind == "file":
        path.write_bytes(b"a LoRA")
    else:
        path.symlink_to(tmp_path / "other")
    reporter = Heard()
    assert LatentCache.open(path, reporter) is None
    assert "does not replace it" in reporter.warnings[0]
    assert path.is_symlink() == (kind == "link") and not list((tmp_path / "other").iterdir())


def test_other_files_in_the_folder_of_the_cache_are_left_alone(vae, plan, tmp_path):
    cache = tmp_path / "latent-cache"
    cache.mkdir()
    other = cache / "other.safetensors"
    save_file({"a.lora_up.weight": torch.ones(2)}, other, metadata={"ss_seed": "1"})
    with_a_name_of_a_shard = cache / f"{'0' * 32}.safetensors"
    with_a_name_of_a_shard.write_bytes(other.read_bytes())
    (cache / f"{'1' * 32}.safetensors").symlink_to(other)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    reporter = Heard()
    used = encoder(vae, disk=LatentCache.open(cache, reporter))
    assert len(reporter.warnings) == 2 and used.fill(plan.images) > 0
    assert {name: (cache / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("damage", ["cut short", "one flipped value", "nonsense", "empty"])
def test_damaged_latents_are_encoded_again_with_a_warning(vae, plan, tmp_path, damage):
    used = encoder(vae, disk=LatentCache.open(tmp_path))
    used.fill(plan.images)
    [path] = tmp_path.iterdir()
    data = path.read_bytes()
    if damage == "one flipped value":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        next(iter(tensors.values())).view(-1)[0] += 1
        save_file(tensors, path, metadata=metadata)
    else:
        halves = {"cut short": data[: len(data) // 2], "nonsense": b"nonsense" * 9, "empty": b""}
        path.write_bytes(halves[damage])
    reporter = Heard()
    again = encoder(vae, disk=LatentCache.open(tmp_path, reporter))
    assert len(reporter.warnings) == 1
    assert again.fill(plan.images) >= 1
    intact = encoder(vae)
    for image in plan.images:
        one, two = (e.moments(image, image.bucket.crop, False).mean for e in (intact, again))
        assert torch.equal(one, two)
    warnings = Heard()
    assert encoder(vae, disk=LatentCache.open(tmp_path, warnings)).fill(plan.images) == 0


def test_image_is_cropped_to_its_bucket(plan, options):
    for image in plan.images:
        seen = pixels.read(image, image.bucket.crop, flip=False)
        assert seen.shape == (image.bucket.bucket[1], image.bucket.bucket[0], 3)
        flipped = pixels.read(image, image.bucket.crop, flip=True)
        assert np.array_equal(flipped, seen[:, ::-1])


def test_one_resampling_equals_resize_and_crop(plan):
    path = plan.images[1]
    with Image.open(path.path) as image:
        resized = image.resize(path.bucket.resized, Image.Resampling.LANCZOS)
    left, top = path.bucket.crop
    width, height = path.bucket.bucket
    wanted = np.asarray(resized.crop((left, top, left + width, top + height))).astype(int)
    assert np.abs(pixels.read(path, (left, top), flip=False).astype(int) - wanted).max() <= 2
