"""The losses of a model of a grid on images, as validation measures them during a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np

from datasetkit.options.train import TrainOptions
from trainer import setup
from trainer.data import weighted_text
from trainer.data.latents import Encoder
from trainer.data.text_encoding import TextStates
from trainer.device import DeviceContext
from trainer.families.base import Family, Parts
from trainer.grid.scores import Values
from trainer.loop import TrainingSetup
from trainer.monitor import validation
from trainer.monitor.image_generator import ImageGenerator
from trainer.objective.process import Process
from trainer.plan.plan import TrainImage


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """What `validation.losses` reads of a training: there is no network and no optimizer."""

    options: TrainOptions
    device_context: DeviceContext
    family: Family
    parts: Parts
    encoder: Encoder
    texts: TextStates
    process: Process


def measured(model: ImageGenerator) -> MeasuredModel:
    """Return a loaded model as one that can be measured; its images are encoded once."""
    context, family, parts = model.device_context, model.family, model.parts
    encoder = Encoder(parts.vae, context.device, setup.vae_dtype(context), True, family.moments)
    encode = partial(weighted_text.encode_text, family, parts, options=model.options)
    # "trained": the text encoder's weights change from LoRA to LoRA, so nothing is cached.
    texts = TextStates(encode, context.dtype, True, together=context.device.type != "cpu")
    return MeasuredModel(model.options, context, family, parts, encoder, texts, model.process)


def losses(model: MeasuredModel, images: Sequence[TrainImage]) -> Values:
    """Return the loss of each image at each timestep: (images, timesteps)."""
    plain = [replace(p, subset=replace(p.subset, preserved=False)) for p in images]
    rows = validation.losses(cast(TrainingSetup, model), plain)
    return np.asarray(rows.numpy(), np.float64)
