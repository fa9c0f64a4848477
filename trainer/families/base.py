"""What the trainer asks of a model family, and the parts of a model that was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from torch import Tensor, nn

Part = Literal["unet", "text_encoder"]
PARTS: Final[tuple[Part, ...]] = ("unet", "text_encoder")


@dataclass(frozen=True, slots=True)
class Parts:
    """A model in memory, frozen and in evaluation mode.

    vae: encodes pixels; its `encode(x).latent_dist` has a mean and a standard deviation. text_encoder: CLIP's text
    model. source: the file or folder that it came from. prediction: what its scheduler file says that the UNet
    predicts, None where it says nothing.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    source: Path
    prediction: Literal["epsilon", "v_prediction"] | None = None

    def part(self, name: Part) -> nn.Module:
        """Return a part that can be trained, by name."""
        model: nn.Module = self.unet if name == "unet" else self.text_encoder
        return model


class Family(Protocol):
    """A module of functions that knows one model family."""

    NAME: str
    # sd-scripts' ss_base_model_version, which user interfaces look at.
    BASE_MODEL_VERSION: str
    # Latents are multiplied by it to have a variance of about one.
    LATENT_SCALE: float

    def load(self, base: str, *, revision: str, vae: str) -> Parts:
        """Load a model from a file, a folder or the hub."""

    def targets(self, parts: Parts, part: Part) -> dict[str, str]:
        """Return kohya's name -> the module's path in the part, for each module that LoRA adapts."""

    def idle(self, parts: Parts, clip_skip: int) -> frozenset[str]:
        """Return the names among the targets that no gradient can reach."""

    def encode_text(self, parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int) -> Tensor:
        """Return the text's states, [captions, tokens, width]."""

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Any:
        """Return the UNet's prediction, of the shape of `noisy`."""
