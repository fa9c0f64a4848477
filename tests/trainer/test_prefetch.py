"""Prefetch: any number of threads gives the same samples in the same order, with bounded
read-ahead.
"""

import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from datasetkit.core.errors import InputError
from tests.trainer import tiny
from tests.trainer.test_loop import epoch_gradient, ready, wake
from trainer import loop
from trainer.data.map_ahead import map_ahead

WORKERS = (0, 1, 2)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Seven samples in two buckets, which no batch size but 1 divides."""
    folder = tmp_path_factory.mktemp("many")
    tiny.save_images(folder / "train" / "1_sks", [(64, 64)] * 3 + [(96, 64)])
    tiny.save_images(folder / "train" / "3_sks hat", [(64, 96)])
    return folder


@pytest.fixture(scope="module")
def small(model, tmp_path_factory):
    def options(**others):
        return tiny.options(
            model, tmp_path_factory.getbasetemp(), resolution=64, max_train_epochs=2, network_dim=1,
            flip_aug=True, random_crop=True, caption_tag_dropout_rate=0.3, text_encoder_lr=0.0,
            **others,
        )  # fmt: skip

    return options


def pixels(sample):
    return sample.pixels.tobytes()


@pytest.mark.long
@pytest.mark.parametrize("batch", [1, 3, 4, 5])
def test_every_epoch_samples_each_image_as_often_as_planned(many, small, batch):
    seen = []
    for workers in WORKERS:
        run = ready(many, small(train_batch_size=batch))
        with closing(loop.reader(run).steps(workers=workers)) as read:
            seen.append(
                [
                    [
                        (
                            s.number,
                            s.epoch,
                            v.image.path.parent.name,
                            v.image.id,
                            v.number,
                            v.at,
                            v.flip,
                            v.caption,
                            pixels(v),
                        )
                        for _, b in s.batches
                        for v in b
                    ]
                    for s in read
                ]
            )
    assert all(other == seen[0] for other in seen)
    for epoch in (0, 1):
        samples = Counter(v[2] for step in seen[0] for v in step if v[1] == epoch)
        assert samples == {"1_sks": 4, "3_sks hat": 3}


@pytest.mark.long
def test_gradient_of_an_epoch_depends_neither_on_workers_nor_on_the_batch_size(many, small):
    found = {}
    for batch, workers in ((1, 0), (1, 1), (3, 2), (4, 0), (4, 1), (4, 2), (5, 1), (5, 2)):
        run = ready(many, small(train_batch_size=batch))
        wake(run)
        found[batch, workers] = epoch_gradient(run, workers)
    assert float(found[1, 0].norm()) > 0
    assert all(torch.equal(found[4, 0], found[4, w]) for w in (1, 2))
    assert torch.equal(found[1, 0], found[1, 1]) and torch.equal(found[5, 1], found[5, 2])
    for other in found.values():
        assert float((other - found[1, 0]).norm()) / float(found[1, 0].norm()) < 2e-6


def test_cached_latent_saves_reading_the_image(many, small):
    run = ready(many, small(train_batch_size=4))
    image = run.plan.images[0]
    assert not run.encoder.is_cached(image, (0, 0), False)
    run = ready(
        many, tiny.options(Path(small().pretrained_model_name_or_path), Path("out"), resolution=64)
    )
    run.encoder.fill(run.plan.images)
    with closing(loop.reader(run).steps(workers=2)) as read:
        assert all(v.pixels is None for step in read for _, b in step.batches for v in b)


def test_missing_image_stops_the_run_at_its_step(many, model, tmp_path):
    folder = tiny.copy_folder(many, tmp_path / "data")
    run = ready(
        folder, tiny.options(model, tmp_path, resolution=64, random_crop=True, train_batch_size=1)
    )
    (folder / "train" / "3_sks hat" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        list(loop.steps(run))


class Counting:
    """Work that notes how many items were begun before each was asked for."""

    def __init__(self):
        self.begun = 0
        self.lock = threading.Lock()

    def __call__(self, item):
        with self.lock:
            self.begun += 1
        if item == "bad":
            raise InputError("bad")
        return item


@pytest.mark.parametrize("workers", WORKERS)
def test_items_are_in_order_and_prefetch_is_bounded(workers):
    work = Counting()
    with closing(map_ahead(iter(range(40)), work, workers)) as read:
        for wanted, item in enumerate(read):
            assert item == wanted
            assert work.begun <= wanted + 1 + workers
    assert work.begun == 40


@pytest.mark.parametrize("workers", WORKERS)
def test_error_is_raised_after_the_earlier_items(workers):
    read = map_ahead(["a", "b", "bad", "c"], Counting(), workers)
    assert [next(read), next(read)] == ["a", "b"]
    with pytest.raises(InputError, match="bad"):
        next(read)


def test_closing_early_stops_the_threads():
    before = threading.active_count()
    read = map_ahead(range(1000), np.arange, 2)
    next(read)
    assert threading.active_count() > before
    read.close()
    assert threading.active_count() == before


def test_waiting_is_measured(many, small):
    taken = list(loop.steps(ready(many, small(train_batch_size=5, max_train_steps=2))))
    assert all(0 <= log.waited < 60 for log in taken)
    assert taken[0].waited > 0
