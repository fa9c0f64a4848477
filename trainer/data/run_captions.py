"""Every text that a run encodes, known before its first step because all draws are seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datasetkit.options.train import TrainOptions
from trainer.data.epochs import epoch_batches, step_batches
from trainer.data.prefetch import drawn_caption
from trainer.monitor import validation
from trainer.monitor.prompts import Prompt
from trainer.plan.plan import TrainingPlan


def of_run(options: TrainOptions, plan: TrainingPlan, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Yield the captions of all samples of all processes, of the validation and of the preview
    images; some of them more than once.
    """
    for prompt in prompts:
        yield prompt.text
        yield prompt.negative
    for images in validation.choose_images(plan, options):
        yield from (validation.caption_of(image, options) for image in images)
    per_epoch = plan.totals.steps_per_epoch
    for step in range(plan.steps):
        epoch, of_epoch = divmod(step, per_epoch)
        if of_epoch == 0:
            batches = epoch_batches(plan, options.seed, epoch)
        for process in range(plan.batch_settings.processes):
            for _, batch in step_batches(batches, plan, of_epoch, process):
                yield from (drawn_caption(plan, options, sample, epoch, step) for sample in batch)
