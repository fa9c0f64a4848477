"""Generate images with a base model alone, without a LoRA and without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from datasetkit.core.errors import ConfigError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer import device, precision, setup
from trainer.data import weighted_text
from trainer.data.latents import Encoder
from trainer.device import DeviceContext
from trainer.families import registry
from trainer.families.base import Conditioning, Family, Parts
from trainer.families.detect import detect
from trainer.families.source import find
from trainer.files.hashes import model_hash
from trainer.monitor import preview
from trainer.monitor.prompts import Prompt
from trainer.objective import process
from trainer.objective.process import Process

# Loss options that only fit one prediction type, switched off.
_NO_LOSS_OPTIONS: Final[Mapping[str, Any]] = {
    "scale_v_pred_loss_like_noise_pred": False,
    "v_pred_like_loss": None,
}


@dataclass(frozen=True, slots=True)
class ImageGenerator:
    """A loaded base model (a `preview.PreviewModel`)."""

    options: TrainOptions
    device_context: DeviceContext
    family: Family
    parts: Parts
    encoder: Encoder
    process: Process

    @property
    def source(self) -> Path:
        """Return the model's file or folder."""
        return self.parts.source

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """Return the conditioning of prompts."""
        return weighted_text.encode_text(self.family, self.parts, texts, self.options)

    @property
    def hash(self) -> str:
        """Return the hash of its weights, which are read again: seconds for each gigabyte."""
        return model_hash(self.source)

    def generate(self, prompt: Prompt) -> Image.Image:
        """Generate one image; the same prompt always gives the same image."""
        try:
            return preview.generate(self, [prompt])[0]
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"an image of {prompt.width} x {prompt.height} does not fit into the GPU's memory",
                hint='try mixed_precision = "bf16" in [train], or a smaller --size',
            ) from error


def load(options: TrainOptions, reporter: Reporter = SILENT) -> ImageGenerator:
    """Load the base model of [train], with its own prediction type. Raises ModelFileError,
    ConfigError.
    """
    options = precision.decided(options)
    source = find(options.pretrained_model_name_or_path, options.revision)
    prediction = detect(source).prediction
    # Options that contradict the model would stop a training run, but do not matter here.
    if prediction is not None:
        v = prediction == "v_prediction"
        stated = None if prediction == "flow" else v
        zero = options.zero_terminal_snr and v
        options = replace(
            options, v_parameterization=stated, zero_terminal_snr=zero, **_NO_LOSS_OPTIONS
        )
    parts = setup.load_parts(
        replace(options, pretrained_model_name_or_path=str(source), revision=""), trains=False
    )
    context, remark = device.select(options.mixed_precision)
    if remark:
        reporter.warn(remark)
    for model in parts.models.values():
        device.cast_base(model, context.dtype)
        model.to(context.device)
    family = registry.family(parts.family)
    encoder = Encoder(parts.vae, context.device, setup.vae_dtype(context), cache=False)
    noising = process.build(options, family, parts)
    return ImageGenerator(options, context, family, parts, encoder, noising)
