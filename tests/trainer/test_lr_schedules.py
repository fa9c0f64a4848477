"""Every optimizer with every LR schedule: a resumed run is bit-identical, and the plot has its
rates.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from datasetkit.core.errors import ConfigError
from tests.trainer import tiny
from trainer.files.training_state import flatten_state, restore_optimizer
from trainer.optimizers import build_optimizer, build_scheduler
from trainer.optimizers.lr_schedules import SCHEDULES

STEPS, STOP = 24, 11
COURSES = {
    **{name: {"lr_scheduler": name} for name in SCHEDULES},
    "constant_with_warmup": {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 4},
    "warmup_stable_decay": {
        "lr_scheduler": "warmup_stable_decay",
        "lr_warmup_steps": 3,
        "lr_decay_steps": 9,
    },
    "cosine_warm_restarts": {
        "lr_scheduler": "cosine_warm_restarts",
        "lr_scheduler_args": ("cycle_steps=7", "cycle_mult=1.5", "cycle_warmup=2", "gamma=0.7"),
    },
    "inverse_sqrt": {"lr_scheduler": "inverse_sqrt", "lr_warmup_steps": 5},
    "MultiStepLR": {
        "lr_scheduler_type": "MultiStepLR",
        "lr_scheduler_args": ("milestones=[5, 15]",),
    },
    "OneCycleLR": {
        "lr_scheduler_type": "OneCycleLR",
        "lr_scheduler_args": ("max_lr=1.0", "total_steps=30"),
    },
}
EXTRA = {"torch.optim.RAdam": "torch.optim:RAdam", "torch.optim.Adagrad": "torch.optim:Adagrad"}


def begin(name, course):
    """A run on a toy: weights as of a LoRA with a zero factor, two parts, and what trains them.

    The first weight is large enough for states of 8 bits.
    """
    generator = torch.Generator().manual_seed(2)
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=generator))
        for shape in ((72, 64), (33,), (36, 2))
    ]
    weights[2].data.zero_()
    rate = 1.0 if build_optimizer.estimates_lr(name) else 0.01
    options = tiny.options(
        Path("model"),
        Path("out"),
        optimizer_type=name,
        learning_rate=rate,
        text_encoder_lr=rate,
        **course,
    )
    parts = {"unet": weights[:2], "text_encoder": weights[2:]}
    optimizer = build_optimizer.build(
        name, build_optimizer.parameter_groups(parts, {"unet": rate, "text_encoder": rate}), {}
    )
    return weights, optimizer, build_scheduler.build(optimizer, options, STEPS)


def take(weights, optimizer, schedule, start, end):
    """Take steps, with noise that depends on the step alone; return the rates that the plot shows
    of each.
    """
    shown = []
    for step in range(start, end):
        generator = torch.Generator().manual_seed(step)
        for weight in weights:
            weight.grad = (weight.detach() - 0.5) * 0.1 + torch.randn(
                weight.shape, generator=generator
            ) * 0.01
        shown.append([build_optimizer.effective_lr(group) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return shown


def stopped(name, course):
    """The same run, gone on from what was written after STOP steps."""
    weights, optimizer, schedule = begin(name, course)
    shown = take(weights, optimizer, schedule, 0, STOP)
    tensors, numbers = flatten_state(optimizer.state_dict())
    written = save_tensors(tensors), json.dumps(numbers), [w.detach().clone() for w in weights]
    weights, optimizer, schedule = begin(name, course)
    with torch.no_grad():
        for weight, was in zip(weights, written[2], strict=True):
            weight.copy_(was)
    build_scheduler.replay(schedule, STOP)
    restore_optimizer(optimizer, load_tensors(written[0]), json.loads(written[1]))
    return shown + take(weights, optimizer, schedule, STOP, STEPS), weights, optimizer


def is_there(name):
    module = build_optimizer.import_path(name).partition(":")[0].partition(".")[0]
    pytest.importorskip("prodigyopt" if module == "trainer" else module)
    if name.startswith("Paged") and not torch.cuda.is_available():
        pytest.skip("paged memory needs a GPU")


@pytest.mark.long
@pytest.mark.parametrize("name", [*build_optimizer.OPTIMIZERS, *EXTRA])
def test_resumed_run_is_bit_identical_with_every_schedule(name):
    is_there(name)
    done = 0
    for course in COURSES.values():
        try:
            weights, optimizer, schedule = begin(name, course)
        except ConfigError:  # said before anything is loaded; which ones is tested below
            continue
        shown = take(weights, optimizer, schedule, 0, STEPS)
        again, others, resumed = stopped(name, course)
        assert again == shown
        assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True)), (
            course
        )
        with build_optimizer.eval_mode(optimizer), build_optimizer.eval_mode(resumed):
            assert all(
                torch.equal(one, other) for one, other in zip(weights, others, strict=True)
            ), course
        assert all(torch.isfinite(weight).all() for weight in weights)
        done += 1
    assert done >= (2 if "ScheduleFree" in name else 6)


@pytest.mark.parametrize(
    "name", [name for name in build_optimizer.OPTIMIZERS if "ScheduleFree" in name]
)
@pytest.mark.parametrize("course", [name for name in COURSES if not name.startswith("constant")])
def test_averaging_optimizers_require_a_constant_schedule(name, course):
    is_there(name)
    with pytest.raises(ConfigError, match="needs a constant LR schedule") as caught:
        begin(name, COURSES[course])
    assert "constant_with_warmup" in caught.value.hint


@pytest.mark.parametrize(
    "course", ["constant_with_warmup", "cosine_warm_restarts", "warmup_stable_decay"]
)
def test_dadaptsgd_rejects_a_rate_of_0(course):
    is_there("DAdaptSGD")
    with pytest.raises(ConfigError, match="DAdaptSGD cannot take a step with a learning rate of 0"):
        begin("DAdaptSGD", COURSES[course])


def test_every_schedule_is_tested():
    assert set(SCHEDULES) < set(COURSES)
