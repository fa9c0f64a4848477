"""Drawing with a base model alone: what it makes of a prompt, without a LoRA and without
training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from datasetkit.core.errors import ConfigError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer import device as place
from trainer import setup
from trainer.data.latents import Encoder
from trainer.device import DeviceContext
from trainer.families import registry
from trainer.families.base import Family, Parts
from trainer.families.detect import detect
from trainer.families.source import find
from trainer.files.hashes import model_hash
from trainer.monitor import preview
from trainer.monitor.prompts import Prompt
from trainer.objective.noise_schedule import Prediction

# Options of losses that only fit one kind of prediction.
_PLAIN: Final[Mapping[str, Any]] = {
    "scale_v_pred_loss_like_noise_pred": False,
    "v_pred_like_loss": None,
}


@dataclass(frozen=True, slots=True)
class ImageGenerator:
    """A base model that is ready to draw (`sample.Model`). hash: of its weights, see
    `model_hash`.
    """

    options: TrainOptions
    place: DeviceContext
    family: Family
    parts: Parts
    encoder: Encoder
    hash: str

    @property
    def prediction(self) -> Prediction:
        return "v" if self.parts.prediction == "v_prediction" else "epsilon"

    @property
    def source(self) -> Path:
        """Return the file or folder that it was read from."""
        return self.parts.source

    def draw(self, prompt: Prompt) -> Image.Image:
        """Draw one image; the same prompt gives the same one."""
        try:
            return preview.draw(self, [prompt])[0]
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"an image of {prompt.width} x {prompt.height} does not fit into the GPU's memory",
                hint='try mixed_precision = "bf16" in [train], or a smaller --size',
            ) from error


def hire(options: TrainOptions, reporter: Reporter = SILENT) -> ImageGenerator:
    """Load the base model that [train] names, as it is: of whatever family, and predicting what it
    says itself.

    Raises ModelFileError, ConfigError.
    """
    source = find(options.pretrained_model_name_or_path, options.revision)
    said = detect(source).prediction
    # What the run of [train] would be refused for is no matter here: another base may be named.
    own = options
    if said is not None:
        v = said == "v_prediction"
        zero = options.zero_terminal_snr and v
        own = replace(options, v_parameterization=v, zero_terminal_snr=zero, **_PLAIN)
    parts = setup.load_parts(replace(own, pretrained_model_name_or_path=str(source), revision=""))
    where, remark = place.find(own.mixed_precision)
    if remark:
        reporter.warn(remark.replace("run", "drawing"))
    for name in parts.names:
        place.lower_base(parts.part(name), where.dtype)
        parts.part(name).to(where.device)
    encoder = Encoder(parts.vae, where.device, setup.vae_dtype(where), remember=False)
    return ImageGenerator(
        own, where, registry.family(parts.family), parts, encoder, model_hash(source)
    )
