"""Latents: what the VAE makes of an image, kept by content so that an edit, a rename or another
VAE all behave.

Kept are the mean and the standard deviation, so that a sample draws its own sample and a cached run
equals another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasetkit.core.files import display, write_atomic
from datasetkit.core.progress import SILENT, Reporter
from trainer.data import pixels
from trainer.data.pixels import Corner
from trainer.device import lower_base
from trainer.plan.plan import TrainImage


@dataclass(frozen=True, slots=True)
class Moments:
    """The latent's distribution, not yet scaled: float32 of shape (4, height / 8, width / 8), on
    the CPU.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a latent."""
        return self.mean + self.std * torch.randn(self.mean.shape, generator=generator)


@dataclass(slots=True)
class Encoder:
    """Encodes images, and remembers what it encoded unless `remember` is False. dtype: of the
    VAE's arithmetic.
    """

    vae: nn.Module
    device: torch.device
    dtype: torch.dtype
    remember: bool = True
    _known: dict[str, Moments] = field(default_factory=dict)
    _fingerprint: str = ""

    def __post_init__(self) -> None:
        self._fingerprint = fingerprint(self.vae)
        lower_base(self.vae, self.dtype)
        self.vae.to(self.device)

    def key(self, image: TrainImage, at: Corner, flip: bool) -> str:
        """Return what a latent depends on, as one hash."""
        facts = [
            image.id, self._fingerprint, str(self.dtype), pixels.VERSION, image.bucket.bucket,
            image.bucket.resized, at, flip,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def knows(self, image: TrainImage, at: Corner, flip: bool) -> bool:
        """Tell whether a latent is kept already, so that nobody needs to read the image."""
        return bool(self._known) and self.key(image, at, flip) in self._known

    def moments(
        self, image: TrainImage, at: Corner, flip: bool, read: NDArray[np.uint8] | None = None
    ) -> Moments:
        """Return an image's latent; an image is encoded by itself, so that no batch can change
        it.

        read: its pixels, where they were read before.
        """
        key = self.key(image, at, flip)
        if key in self._known:
            return self._known[key]
        array = pixels.read(image, at, flip=flip) if read is None else read
        batch = (
            torch.from_numpy(array.copy()).permute(2, 0, 1)[None].to(self.device, self.dtype)
            / 127.5
            - 1
        )
        with torch.inference_mode():
            found = self.vae.encode(batch).latent_dist  # type: ignore[operator]  # any VAE of diffusers
            mean, std = found.mean[0].float().cpu(), found.std[0].float().cpu()
        # A clone that is made outside inference mode can take part in training.
        moments = Moments(mean.clone(), std.clone())
        if self.remember and not image.subset.random_crop:
            self._known[key] = moments
        return moments

    def fill(self, images: Iterable[TrainImage], reporter: Reporter = SILENT) -> int:
        """Encode what will be needed (with both directions where an image is flipped); return how
        many were new.
        """
        wanted = [
            (image, flip)
            for image in images
            for flip in ((False, True) if image.subset.flip else (False,))
        ]
        before = len(self._known)
        reporter.start("encoding", len(wanted))
        for image, flip in wanted:
            self.moments(image, image.bucket.crop, flip)
            reporter.advance()
        reporter.finish()
        return len(self._known) - before

    def read(self, path: Path, reporter: Reporter = SILENT) -> None:
        """Take over the latents of a file; what is damaged is told, left out, and encoded again
        later.
        """
        if path.is_file():
            known, problem = _read(path)
            self._known.update(known)
            if problem:
                reporter.warn(f"{display(path)} {problem}; what is missing is encoded again")

    def write(self, path: Path) -> None:
        """Write all latents to one file, whole or not at all. Raises StorageError."""
        from safetensors.torch import save

        tensors = {
            f"{key}.{name}": getattr(m, name)
            for key, m in self._known.items()
            for name in ("mean", "std")
        }
        sums = {key: _checksum(m) for key, m in self._known.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(tensors, metadata=sums))


def _read(path: Path) -> tuple[dict[str, Moments], str]:
    """Return the sound latents of a file, and what is wrong with it ("" for nothing)."""
    from safetensors import SafetensorError, safe_open

    known: dict[str, Moments] = {}
    damaged = 0
    try:
        with safe_open(path, "pt") as file:
            for key, checksum in (file.metadata() or {}).items():
                moments = Moments(file.get_tensor(f"{key}.mean"), file.get_tensor(f"{key}.std"))
                if _checksum(moments) == checksum:
                    known[key] = moments
                else:
                    damaged += 1
    except (SafetensorError, OSError) as error:
        return known, f"cannot be read ({str(error).splitlines()[0]})"
    return known, f"has {damaged} damaged latents" if damaged else ""


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
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
