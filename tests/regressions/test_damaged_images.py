"""An image or mask that cannot be decoded is found by the plan, before the first step, and costs
only itself: all of them are named at once, and the exit code is 3, of the dry run as of the run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasetkit.core.errors import DatasetError, Exit
from datasetkit.options.train import TrainOptions
from trainer.plan.plan import find_subsets, make_plan

SIZE = (128, 128)
BASE = ("--set", "pretrained_model_name_or_path=tiny", "--set", "resolution=128", "--set",
        "min_bucket_reso=64", "--set", "mixed_precision=no", "--set", "network_dim=4")  # fmt: skip


def noise(seed: int, mode: str = "RGB") -> Image.Image:
    """An image that does not compress, so that a cut takes pixels away."""
    channels = [Image.effect_noise(SIZE, 60 + 7 * seed + n) for n in range(len(mode))]
    return channels[0] if mode == "L" else Image.merge(mode, channels)


@pytest.fixture
def concept(tmp_path: Path) -> Path:
    folder = tmp_path / "ds" / "train" / "2_kitsu"
    folder.mkdir(parents=True)
    for number in range(4):
        noise(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("kitsu\n")
    return folder


def planned(concept: Path, **options: object):
    given: dict = {"resolution": 128, "min_bucket_reso": 64, **options}
    chosen = TrainOptions(**given)
    return make_plan(find_subsets(concept.parents[1], chosen)[0], chosen)


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _jpeg(path: Path) -> None:
    noise(1).save(path, quality=95)


def _progressive(path: Path) -> None:
    noise(2).save(path, quality=95, progressive=True)


def _cmyk(path: Path) -> None:
    noise(3, "CMYK").save(path, quality=95)


def _plain(path: Path) -> None:
    noise(4).save(path)


DAMAGED = {
    "baseline.jpg": _jpeg, "progressive.jpg": _progressive, "cmyk.jpg": _cmyk, "png.png": _plain,
    "webp.webp": _plain, "bmp.bmp": _plain, "tiff.tiff": _plain,
}  # fmt: skip


@pytest.mark.parametrize("caches", [True, False])
def test_all_damaged_images_are_left_out_by_name_at_once(concept, caches):
    for name, save in DAMAGED.items():
        save(concept / name)
        cut(concept / name)
    plan = planned(concept, cache_latents=caches)
    assert {failed.path.name for failed in plan.failed} == set(DAMAGED)
    assert all("cut short" in failed.error or failed.hint for failed in plan.failed)
    assert [image.path.name for image in plan.images] == [f"{n}.png" for n in range(4)]
    assert plan.totals.samples == 8, "steps and coverage are of what is trained"


def test_whole_images_of_these_formats_are_trained(concept):
    for name, save in DAMAGED.items():
        save(concept / name)
    plan = planned(concept)
    assert not plan.failed and plan.image_count == 4 + len(DAMAGED)


def test_reg_images_are_matched_to_what_is_left(concept):
    reg = concept.parents[1] / "reg" / "1_girl"
    reg.mkdir(parents=True)
    for number in range(9):
        noise(10 + number).save(reg / f"{number}.png")
    cut(reg / "0.png")
    cut(concept / "0.png")
    plan = planned(concept)
    assert plan.count(is_reg=False) == plan.count(is_reg=True) == 6
    assert {failed.path.parent.name for failed in plan.failed} == {"2_kitsu", "1_girl"}


def test_only_damaged_images_are_an_error_with_the_reason(concept):
    for number in range(4):
        cut(concept / f"{number}.png")
    with pytest.raises(DatasetError, match=r"no usable training image: 0\.png: cannot read"):
        planned(concept)


def test_masks_of_another_shape_and_damaged_ones_are_named(concept):
    masks = concept / "masks"
    masks.mkdir()
    noise(1, "L").save(masks / "0.png")
    noise(1, "L").resize((128, 100)).save(masks / "1.png")
    noise(1, "L").save(masks / "2.png")
    cut(masks / "2.png")
    noise(1, "L").resize((64, 64)).save(masks / "3.png")
    plan = planned(concept, masked_loss=True)
    errors = {failed.path.name: failed.error for failed in plan.failed}
    assert set(errors) == {"1.png", "2.png"}
    assert "is 128 x 100, its image 128 x 128" in errors["1.png"]
    assert "masks/2.png" in errors["2.png"] and "cut short" in errors["2.png"]
    assert not planned(concept).failed, "masks that are not used are not read"


def test_dry_run_and_run_end_with_3_and_name_all(dsk, here, concept, monkeypatch):
    torch = pytest.importorskip("torch")
    from trainer import run

    cut(concept / "1.png")
    cut(concept / "3.png", 0.9)
    dry = dsk("train", "ds", "--dry-run", *BASE)
    assert dry.code == Exit.SOME_FAILED and "1.png" in dry.out + dry.err

    def trained(options, plan, **_):
        return run.TrainedLora((), plan.steps, 0, 0.1, 1.0, 1, Path("m"), Path("p"))

    assert torch
    monkeypatch.setattr(run, "train", trained)
    real = dsk("train", "ds", *BASE)
    assert real.code == Exit.SOME_FAILED
    for name in ("1.png", "3.png"):
        assert name in dry.out + dry.err and name in real.out + real.err


def test_equal_files_are_decoded_once(concept, monkeypatch):
    from datasetkit.images import pixels

    for number in range(4, 9):
        (concept / f"{number}.png").hardlink_to(concept / "0.png")
    loaded: list[Path] = []
    load = pixels.load

    def counted_load(path, **rest):
        loaded.append(path)
        return load(path, **rest)

    monkeypatch.setattr(pixels, "load", counted_load)
    monkeypatch.setattr("datasetkit.executors.local.default_workers", lambda workers: 1)
    planned(concept)
    assert len(loaded) == 4
