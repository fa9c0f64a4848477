"""The interface of a model family, the parts of a loaded model, and the text conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn

from datasetkit.core.progress import SILENT, Reporter
from trainer.families.detect import FamilyName, Predicts

Part = Literal["unet", "text_encoder", "text_encoder_2"]
PARTS: Final[tuple[Part, ...]] = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded model, frozen and in eval mode.

    vae: its `encode(x).latent_dist` has a mean and a standard deviation. text_encoder: CLIP's text
    model; text_encoder_2: OpenCLIP's, in Stable Diffusion XL only. source: the file or folder of
    the model. prediction: what the UNet predicts, None if unknown.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    source: Path
    prediction: Predicts | None = None
    text_encoder_2: Any = None
    family: FamilyName = "sd1"

    @property
    def names(self) -> tuple[Part, ...]:
        """Return the names of the trainable parts."""
        return tuple(name for name in PARTS if getattr(self, name) is not None)

    def part(self, name: Part) -> nn.Module:
        """Return a trainable part by name."""
        model: nn.Module = getattr(self, name)
        return model


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The UNet's conditioning beside the noisy latents, one row per caption.

    states: [captions, tokens, width]. pooled: [captions, width], a vector for the whole caption, in
    families that use one. sizes: [captions, 6] float32, see trainer/plan/size_conditioning.py;
    ignored by families without size conditioning.
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Conditioning:
        """Cast the text; sizes stay float32, because 1365 pixels would become 1368 in half
        precision.
        """
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return replace(self, states=self.states.to(dtype), pooled=pooled)

    def sized(self, sizes: Tensor) -> Conditioning:
        """Return the same text with its images' sizes."""
        return replace(self, sizes=sizes)

    @property
    def nbytes(self) -> int:
        """Return the size of the text in memory."""
        return self.states.nbytes + (0 if self.pooled is None else self.pooled.nbytes)

    def rows(self) -> list[Conditioning]:
        """Return the rows as separate copies."""
        pooled = (
            [None] * len(self.states)
            if self.pooled is None
            else [row[None].clone() for row in self.pooled]
        )
        return [
            Conditioning(row[None].clone(), vector)
            for row, vector in zip(self.states, pooled, strict=True)
        ]


def concatenate(rows: Sequence[Conditioning]) -> Conditioning:
    """Join the rows of several captions."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(
        torch.cat([row.states for row in rows]), torch.cat(pooled) if pooled else None
    )


@dataclass(frozen=True, slots=True)
class FamilyNames:
    """A family's names in LoRA metadata.

    base_model_version: sd-scripts' ss_base_model_version, which user interfaces read.
    architecture, implementation: modelspec's. v2: sd-scripts' ss_v2.
    """

    base_model_version: str
    architecture: str
    implementation: str = "diffusers"
    v2: bool = False


class Family(Protocol):
    """A module of functions for one model family."""

    NAME: FamilyName
    # Latents are multiplied by it, so that their variance is about 1.
    LATENT_SCALE: float
    # Whether clip_skip chooses the text encoder's layer; other families have a fixed layer.
    CLIP_SKIP: bool
    # The class of diffusers.loaders that loads a LoRA file into the model.
    LOADER: str

    def load(
        self,
        base: str,
        *,
        revision: str,
        vae: str,
        prediction: Predicts | None,
        dtype: torch.dtype = torch.float32,
        reporter: Reporter = SILENT,
    ) -> Parts:
        """Load a model from a file, a folder or the hub. prediction: what to train it to predict,
        if known.

        dtype: of all parts but the VAE, which is loaded in float32.
        """

    def targets(self, parts: Parts, part: Part) -> dict[str, str]:
        """Return kohya's name -> module path in the part, for each module that LoRA adapts."""

    def unreachable(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the targets that no gradient reaches."""

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return the conditioning of captions."""

    def predict(
        self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Any:
        """Return the UNet's prediction, of the shape of `noisy`."""

    def as_kohya(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a LoRA's tensors in the shapes of kohya's files."""

    def metadata_names(self, prediction: Predicts) -> FamilyNames:
        """Return the family's names in LoRA metadata."""
