"""Latents: the VAE's encoding of each image, cached under a hash of everything it depends on.

The cache stores mean and standard deviation. Each sample draws its own latent from them, so a run
with cached latents equals one without.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from trainer.data import pixels
from trainer.data.latent_cache import LatentCache, Moments
from trainer.data.map_ahead import map_ahead
from trainer.data.pixels import Corner
from trainer.device import cast_base
from trainer.families import autoencoders
from trainer.plan.plan import TrainImage

# Threads that read images ahead of the VAE.
_READERS: Final = 2
# What is encoded is written after so many seconds, also where a shard would have more.
_MOST_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _View:
    """An image as it is encoded once, at its centred crop."""

    image: TrainImage
    flip: bool

    def read(self) -> NDArray[np.uint8]:
        return pixels.read(self.image, self.image.bucket.crop, flip=self.flip)


@dataclass(slots=True)
class Encoder:
    """Encodes images with the VAE. cache: keep the results; dtype: of the VAE's arithmetic; encode:
    of the family, returns mean and deviation; disk: where results are kept, None for memory.
    """

    vae: nn.Module
    device: torch.device
    dtype: torch.dtype
    cache: bool = True
    encode: Callable[[Any, Tensor], tuple[Tensor, Tensor]] = autoencoders.moments
    disk: LatentCache | None = None
    _latents: dict[str, Moments] = field(default_factory=dict)
    _fingerprint: str = ""

    def __post_init__(self) -> None:
        self._fingerprint = fingerprint(self.vae)
        cast_base(self.vae, self.dtype)
        self.vae.to(self.device)

    def key(self, image: TrainImage, at: Corner, flip: bool) -> str:
        """Return a hash of everything that the latent depends on."""
        facts = [
            image.id, self._fingerprint, str(self.dtype), pixels.VERSION, image.bucket.bucket,
            image.bucket.resized, at, flip, image.subset.interpolation,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def is_cached(self, image: TrainImage, at: Corner, flip: bool) -> bool:
        """Tell whether a latent is in memory, so that the image need not be read."""
        return bool(self._latents) and self.key(image, at, flip) in self._latents

    def on_disk(self, image: TrainImage, at: Corner, flip: bool) -> Moments | None:
        """Return a latent of the cache on disk; None where there is no such cache, or it is not in
        it. Threads may call it. Raises InputError for a shard that was removed meanwhile.
        """
        return None if self.disk is None else self.disk.read(self.key(image, at, flip))

    def moments(
        self, image: TrainImage, at: Corner, flip: bool, read: NDArray[np.uint8] | None = None
    ) -> Moments:
        """Return an image's latent. Each image is encoded alone, so that its latent does not depend
        on a batch.

        read: its pixels, if they have been read already.
        """
        key = self.key(image, at, flip)
        cached = self._latents.get(key) or (self.disk.read(key) if self.disk is not None else None)
        if cached is not None:
            return cached
        moments = self._encoded(image, pixels.read(image, at, flip=flip) if read is None else read)
        if self.cache and not image.subset.random_crop:
            self._latents[key] = moments
        return moments

    def _encoded(self, image: TrainImage, array: NDArray[np.uint8]) -> Moments:
        batch = (
            torch.from_numpy(array.copy()).permute(2, 0, 1)[None].to(self.device, self.dtype)
            / 127.5
            - 1
        )
        with torch.inference_mode():
            mean, std = (moment[0].float().cpu() for moment in self.encode(self.vae, batch))
        if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
            raise ModelFileError(
                f"the VAE encodes {display(image.path)} to values that are not finite",
                hint="name another `vae`, or check the base model",
            )
        # A tensor made in inference mode cannot be used in training; its clone can.
        return Moments(mean.clone(), std.clone())

    def fill(self, images: Iterable[TrainImage], reporter: Reporter = SILENT) -> int:
        """Encode images, also mirrored where they may be flipped, into the cache on disk or in
        memory; return how many were new.
        """
        wanted: dict[str, _View] = {}
        for image in images:
            for flip in (False, True) if image.subset.flip else (False,):
                wanted.setdefault(self.key(image, image.bucket.crop, flip), _View(image, flip))
        disk = self.disk
        if disk is not None and not disk.read_only:
            return self._fill_disk(disk, wanted, reporter)
        missing = {
            key: view
            for key, view in wanted.items()
            if key not in self._latents and (disk is None or key not in disk)
        }
        reporter.start("encoding images", len(wanted))
        reporter.advance(len(wanted) - len(missing))
        for key, moments in self._encode_all(missing):
            self._latents[key] = moments
            reporter.advance()
        reporter.finish()
        return len(missing)

    def _encode_all(self, views: Mapping[str, _View]) -> Iterator[tuple[str, Moments]]:
        """Encode images one by one, while threads read the next ones."""
        arrays = map_ahead(views.values(), _View.read, _READERS)
        for (key, view), array in zip(views.items(), arrays, strict=True):
            yield key, self._encoded(view.image, array)

    def _fill_disk(self, disk: LatentCache, wanted: dict[str, _View], reporter: Reporter) -> int:
        """Encode what is missing in the cache on disk, bucket by bucket: first those that no other
        process encodes now, then what such processes have left out.
        """
        buckets = disk.buckets(wanted)
        missing = {b: sum(key not in disk for key in keys) for b, keys in buckets.items()}
        reporter.start("encoding images", sum(missing.values()))
        new = 0
        remaining = [bucket for bucket, number in missing.items() if number]
        for wait in (False, True):
            claimed_by_others: list[str] = []
            for bucket in remaining:
                with disk.claimed(bucket, wait=wait) as is_claimed:
                    if not is_claimed:
                        claimed_by_others.append(bucket)
                        continue
                    disk.refresh(reporter.warn)
                    views = {key: wanted[key] for key in buckets[bucket] if key not in disk}
                    new += self._encode_bucket(disk, bucket, views)
                reporter.advance(missing[bucket])
            remaining = claimed_by_others
        reporter.finish()
        return new

    def _encode_bucket(self, disk: LatentCache, bucket: str, views: Mapping[str, _View]) -> int:
        encoded: dict[str, Moments] = {}
        written = time.monotonic()
        try:
            for key, moments in self._encode_all(views):
                encoded[key] = moments
                if time.monotonic() - written > _MOST_SECONDS:
                    disk.write(bucket, encoded)
                    encoded, written = {}, time.monotonic()
        finally:  # an image that cannot be read, or Ctrl-C: what is encoded is kept
            if encoded:
                disk.write(bucket, encoded)
        return len(views)


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights of a model, in their own type."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
