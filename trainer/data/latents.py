"""Latents: the VAE's encoding of each image, cached under a hash of everything it depends on.

The cache stores mean and standard deviation. Each sample draws its own latent from them, so a run
with cached latents equals one without.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display, write_atomic
from datasetkit.core.progress import SILENT, Reporter
from trainer.data import pixels
from trainer.data.pixels import Corner
from trainer.device import cast_base
from trainer.families import autoencoders
from trainer.files.safetensors_bytes import safetensors_bytes
from trainer.plan.plan import TrainImage


@dataclass(frozen=True, slots=True)
class Moments:
    """The latent distribution as the VAE returns it, not normalised: float32, (channels, height,
    width), on the CPU.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a latent."""
        return self.mean + self.std * torch.randn(self.mean.shape, generator=generator)


@dataclass(slots=True)
class Encoder:
    """Encodes images with the VAE. cache: keep the results; dtype: of the VAE's arithmetic; encode:
    of the family, returns mean and deviation.
    """

    vae: nn.Module
    device: torch.device
    dtype: torch.dtype
    cache: bool = True
    encode: Callable[[Any, Tensor], tuple[Tensor, Tensor]] = autoencoders.moments
    _latents: dict[str, Moments] = field(default_factory=dict)
    _fingerprint: str = ""
    _foreign: set[Path] = field(default_factory=set)

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
        """Tell whether a latent is cached, so that the image need not be read."""
        return bool(self._latents) and self.key(image, at, flip) in self._latents

    def moments(
        self, image: TrainImage, at: Corner, flip: bool, read: NDArray[np.uint8] | None = None
    ) -> Moments:
        """Return an image's latent. Each image is encoded alone, so that its latent does not depend
        on a batch.

        read: its pixels, if they have been read already.
        """
        key = self.key(image, at, flip)
        if key in self._latents:
            return self._latents[key]
        array = pixels.read(image, at, flip=flip) if read is None else read
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
        moments = Moments(mean.clone(), std.clone())
        if self.cache and not image.subset.random_crop:
            self._latents[key] = moments
        return moments

    def fill(self, images: Iterable[TrainImage], reporter: Reporter = SILENT) -> int:
        """Encode images, also mirrored where they may be flipped; return how many were new."""
        wanted = [
            (image, flip)
            for image in images
            for flip in ((False, True) if image.subset.flip else (False,))
        ]
        before = len(self._latents)
        reporter.start("encoding images", len(wanted))
        for image, flip in wanted:
            self.moments(image, image.bucket.crop, flip)
            reporter.advance()
        reporter.finish()
        return len(self._latents) - before

    def read(self, path: Path, reporter: Reporter = SILENT) -> None:
        """Load latents from a file; damaged ones are skipped with a warning and encoded again."""
        if _is_foreign(path):
            self._foreign.add(path)
            reporter.warn(
                f"dsk did not write {display(path)}, and does not replace it: latents are not kept"
            )
        elif path.is_file():
            latents, problem = _read(path)
            self._latents.update(latents)
            if problem:
                reporter.warn(f"{display(path)} {problem}; the missing ones are encoded again")

    def write(self, path: Path) -> None:
        """Write all latents to one file, completely or not at all; over a file that
        is not of dsk, none. Raises StorageError.
        """
        if path in self._foreign:
            return
        tensors = {
            f"{key}.{name}": getattr(m, name)
            for key, m in self._latents.items()
            for name in ("mean", "std")
        }
        sums = {key: _checksum(m) for key, m in self._latents.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, safetensors_bytes(tensors, sums))


def _is_foreign(path: Path) -> bool:
    """Tell whether something else than a file of latents has its name, also a folder. A file that
    cannot be read was one.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return os.path.lexists(path)
    try:
        with safe_open(path, "pt") as file:
            keys = {name.rpartition(".")[0] for name in file.keys()}  # noqa: SIM118 - no mapping
            return set(file.metadata() or {}) != keys
    except (SafetensorError, OSError):
        return False


def _read(path: Path) -> tuple[dict[str, Moments], str]:
    """Return the intact latents of a file and its problem ("" for none)."""
    from safetensors import SafetensorError, safe_open

    latents: dict[str, Moments] = {}
    damaged = 0
    try:
        with safe_open(path, "pt") as file:
            for key, checksum in (file.metadata() or {}).items():
                moments = Moments(file.get_tensor(f"{key}.mean"), file.get_tensor(f"{key}.std"))
                if _checksum(moments) == checksum:
                    latents[key] = moments
                else:
                    damaged += 1
    except (SafetensorError, OSError) as error:
        return latents, f"cannot be read ({str(error).splitlines()[0]})"
    return latents, f"has {damaged} damaged latents" if damaged else ""


def _checksum(moments: Moments) -> str:
    digest = hashlib.sha256()
    for tensor in (moments.mean, moments.std):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights of a model, in their own type."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
