"""What the trainer asks of a model family, the parts of a model that was loaded, and what captions
become for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn

from trainer.families.detect import FamilyName, Predicts

Part = Literal["unet", "text_encoder", "text_encoder_2"]
PARTS: Final[tuple[Part, ...]] = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Parts:
    """A model in memory, frozen and in evaluation mode.

    vae: encodes pixels; its `encode(x).latent_dist` has a mean and a standard deviation.
    text_encoder: CLIP's text model; text_encoder_2: OpenCLIP's, which Stable Diffusion XL has
    beside it. source: the file or folder that it came from. prediction: what the UNet predicts,
    None where nobody said it.
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
        """Return the parts that can be trained."""
        return tuple(name for name in PARTS if getattr(self, name) is not None)

    def part(self, name: Part) -> nn.Module:
        """Return a part that can be trained, by name."""
        model: nn.Module = getattr(self, name)
        return model


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the UNet is told beside the noisy latents, a row a caption.

    states: [captions, tokens, width]. pooled: [captions, width], a whole caption as one vector, in
    families that have it. sizes: [captions, 6] float32, see trainer/plan/size_conditioning.py;
    families that are told no sizes pass over them.
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Conditioning:
        """Return the text in another precision; sizes keep theirs: in half precision 1365 pixels
        would be 1368.
        """
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return replace(self, states=self.states.to(dtype), pooled=pooled)

    def sized(self, sizes: Tensor) -> Conditioning:
        """Return the same text with the sizes of its images."""
        return replace(self, sizes=sizes)

    @property
    def nbytes(self) -> int:
        """Return what the text takes in memory."""
        return self.states.nbytes + (0 if self.pooled is None else self.pooled.nbytes)

    def rows(self) -> list[Conditioning]:
        """Return the text of each caption in memory of its own."""
        pooled = (
            [None] * len(self.states)
            if self.pooled is None
            else [row[None].clone() for row in self.pooled]
        )
        return [
            Conditioning(row[None].clone(), one)
            for row, one in zip(self.states, pooled, strict=True)
        ]


def together(rows: Sequence[Conditioning]) -> Conditioning:
    """Return the texts of several captions as one."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(
        torch.cat([row.states for row in rows]), torch.cat(pooled) if pooled else None
    )


@dataclass(frozen=True, slots=True)
class FamilyNames:
    """What LoRA files call a family.

    base_model_version: sd-scripts' ss_base_model_version, which user interfaces look at.
    architecture, implementation: modelspec's, of the base and of where its code is at home. v2:
    sd-scripts' ss_v2.
    """

    base_model_version: str
    architecture: str
    implementation: str = "diffusers"
    v2: bool = False


class Family(Protocol):
    """A module of functions that knows one model family."""

    NAME: FamilyName
    # Latents are multiplied by it to have a variance of about one.
    LATENT_SCALE: float
    # Whether clip_skip says which layer of the text encoder is read; a family without reads one
    # layer always.
    CLIP_SKIP: bool
    # The class of diffusers.loaders that puts a LoRA's file onto the model.
    LOADER: str

    def load(
        self,
        base: str,
        *,
        revision: str,
        vae: str,
        prediction: Predicts | None,
        dtype: torch.dtype = torch.float32,
    ) -> Parts:
        """Load a model from a file, a folder or the hub. prediction: what it will be trained to
        predict, if known.

        dtype: of all parts but the VAE, which is read in float32.
        """

    def targets(self, parts: Parts, part: Part) -> dict[str, str]:
        """Return kohya's name -> the module's path in the part, for each module that LoRA
        adapts.
        """

    def idle(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the names among the targets that no gradient can reach."""

    def encode_text(
        self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
    ) -> Conditioning:
        """Return what captions become for the UNet."""

    def predict(
        self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Any:
        """Return the UNet's prediction, of the shape of `noisy`."""

    def as_kohya(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a LoRA's tensors in the shapes that kohya's files of the family have."""

    def published(self, prediction: Predicts) -> FamilyNames:
        """Return what LoRA files call the family."""
