"""Estimate the disk space that a run takes: its LoRA files, training states and encoded
captions.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.files import nearest_folder
from datasetkit.options.train import TrainOptions
from trainer import precision
from trainer.files.saved_states import KEPT
from trainer.plan import memory
from trainer.plan.encoded_captions import EncodedCaptions
from trainer.plan.model_shapes import ModelShapes
from trainer.plan.plan import TrainingPlan

_BYTES: Final = {"float": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """What a run writes to `folder`, as far as it is large: latents, metrics and preview images are
    not counted.

    loras: files that are kept; states: at most at a time, with one that is being written; texts:
    encoded captions, at most. lora, state, text: bytes of each. free: bytes on that disk now, None
    where it is not known.
    """

    folder: Path
    loras: int
    lora: float
    states: int
    state: float
    free: int | None
    texts: int = 0
    text: float = 0.0

    @property
    def bytes(self) -> float:
        """Return the bytes of all of them."""
        return self.loras * self.lora + self.states * self.state + self.texts * self.text


def estimate(
    options: TrainOptions,
    plan: TrainingPlan,
    shapes: ModelShapes | None,
    captions: EncodedCaptions | None = None,
) -> DiskEstimate:
    """Estimate the disk space of a run. shapes: None for a missing model; captions: None for none
    on disk.
    """
    options = precision.decided(options)
    on_disk = captions is not None and captions.on_disk
    parameters = memory.lora_parameters(options, shapes)
    states = memory.STATES.get(options.optimizer_type.casefold(), memory.DEFAULT_STATE)
    trained_and_average = 4 + (4 if options.ema_decay else 0)
    per_epoch = plan.totals.steps_per_epoch
    # The last step has the final file.
    epochs = _saved(plan.steps - 1, per_epoch * options.save_every_n_epochs)
    steps = _saved(plan.steps - 1, options.save_every_n_steps)
    kept = min(epochs, options.save_last_n_epochs or epochs)
    kept += min(steps, options.save_last_n_steps or steps)
    kept += bool(plan.held_out and options.save_best) + 1
    formats = 2 if options.lora_format == "both" else 1
    of_saved = min(epochs + steps, KEPT) if options.save_state else 0
    paused = 2 if plan.steps > 1 else 0  # a pause state, and the next one while it is written
    folder = Path(options.output_dir)
    return DiskEstimate(
        folder,
        kept * formats,
        parameters * _BYTES[options.save_precision],
        of_saved + paused,
        parameters * (trained_and_average + states),
        _free(folder),
        captions.count if captions is not None and on_disk else 0,
        captions.size if captions is not None and on_disk else 0.0,
    )


def _saved(last: int, every: int) -> int:
    return last // every if every else 0


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(nearest_folder(folder)).free
    except OSError:
        return None
