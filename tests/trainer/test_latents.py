"""Latents are cached by content: only what changed is encoded again."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.trainer import tiny
from trainer.data import pixels
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
    kept, fresh = encoder(vae), encoder(vae, cache=False)
    assert kept.fill(plan.images) == len({p.id for p in plan.images})
    kept.write(tmp_path / "latents.safetensors")
    again = encoder(vae)
    again.read(tmp_path / "latents.safetensors")
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


@pytest.mark.parametrize("kind", ["lora", "link", "folder"])
def test_a_file_that_is_no_cache_of_latents_is_not_replaced(vae, plan, tmp_path, kind):
    path = tmp_path / "latents.safetensors"
    other = tmp_path / "other.safetensors"
    save_file({"a.lora_up.weight": torch.ones(2)}, other, metadata={"ss_seed": "1"})
    if kind == "lora":
        other.rename(path)
    elif kind == "link":
        path.symlink_to(other)
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    reporter, used = Heard(), encoder(vae)
    used.read(path, reporter)
    used.fill(plan.images)
    used.write(path)
    assert "does not replace it" in reporter.warnings[0] and path.is_symlink() == (kind == "link")
    assert before == (path.read_bytes() if path.is_file() else None)


@pytest.mark.parametrize("damage", ["cut short", "one flipped value", "nonsense"])
def test_damaged_latents_are_encoded_again_with_a_warning(vae, plan, tmp_path, damage):
    path = tmp_path / "latents.safetensors"
    used = encoder(vae)
    used.fill(plan.images)
    used.write(path)
    if damage == "one flipped value":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        next(iter(tensors.values())).view(-1)[0] += 1
        save_file(tensors, path, metadata=metadata)
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage == "cut short" else b"nonsense")
    reporter = Heard()
    again = encoder(vae)
    again.read(path, reporter)
    assert len(reporter.warnings) == 1
    assert again.fill(plan.images) >= 1
    for image in plan.images:
        one, two = (e.moments(image, image.bucket.crop, False).mean for e in (used, again))
        assert torch.equal(one, two)


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
