"""Fast decoding: one fractional resize of a reduced image, close to the whole one; the scores of
the two are never mixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from datasetkit.core.records import ImageRecord
from datasetkit.images import pixels
from datasetkit.stages.tag import TagWorker
from taggers.base import FastDecoder, TaggerOptions
from taggers.preprocess import FAST_FACTOR, shrunk_to_square_bgr, to_square_bgr
from taggers.registry import open_tagger
from tests.taggers.tiny_models import small_folder


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """Make an image with structure of about forty pixels, as photos have it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def psnr(one, other):
    return 10 * np.log10(255**2 / max(np.square(one - other).mean(), 1e-9))


SIZES = [(1600, 1200), (1200, 1600), (1601, 903), (1003, 1999), (2000, 2000), (1777, 41)]


@pytest.mark.long
@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("size", SIZES)
def test_reduced_jpeg_gives_nearly_the_whole_ones_square(tmp_path, size, turn):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    smooth(*size).save(path, quality=95, exif=exif)
    reduced = pixels.load_reduced(path, 448)
    assert max(reduced.image.size) < max(size)
    whole = to_square_bgr(pixels.load(path), 448)
    fast = shrunk_to_square_bgr(reduced, 448)
    assert fast.shape == (448, 448, 3) and fast.dtype == np.float32
    assert psnr(whole, fast) > 52
    border = whole == 255
    assert (fast[border] >= 254).mean() > 0.99


def test_fractional_box_is_more_exact_than_resizing_first(tmp_path):
    path = tmp_path / "a.jpg"
    smooth(1601, 903).save(path, quality=95)
    whole = to_square_bgr(pixels.load(path), 448)
    reduced = pixels.load_reduced(path, 448)
    naive = np.full((448, 448, 3), 255, np.float32)
    height = round(448 * 903 / 1601)
    top = (448 - height) // 2
    naive[top : top + height] = np.asarray(
        reduced.image.resize((448, height), Image.Resampling.BICUBIC)
    )[:, :, ::-1]
    assert psnr(whole, shrunk_to_square_bgr(reduced, 448)) > psnr(whole, naive) + 6


def test_image_that_was_not_shrunk_gives_the_same_bytes():
    image = smooth(300, 200)
    reduced = pixels.ReducedImage(image, 300, 200, (0, 0, 300, 200), "PNG")
    assert np.array_equal(shrunk_to_square_bgr(reduced, 64), to_square_bgr(image, 64))


def test_worker_decodes_at_reduced_size_only_for_a_tagger_that_wants_it(tmp_path):
    path = tmp_path / "a.jpg"
    smooth(1600, 1200).save(path, quality=95)
    record = ImageRecord(path, "", 1600, 1200)
    model = small_folder(tmp_path / "model")
    options = [
        TaggerOptions(model_dir=model, provider="cpu", threads=1, fast_decode=fast)
        for fast in (False, True)
    ]
    exact, fast = (
        TagWorker(open_tagger("auto", one), pixels.DEFAULT_MAX_PIXELS) for one in options
    )
    assert isinstance(fast.tagger, FastDecoder) and fast.tagger.decode_at == 32
    assert np.array_equal(np.asarray(exact.prepare(record)), to_square_bgr(pixels.load(path), 32))
    reduced = pixels.load_reduced(path, 32, factor=FAST_FACTOR)
    assert np.array_equal(np.asarray(fast.prepare(record)), shrunk_to_square_bgr(reduced, 32))
    assert exact.tagger.identity.key() != fast.tagger.identity.key()
