"""Prodigy with one synchronisation per step: bit by bit like prodigyopt."""

import inspect

import pytest
import torch

prodigyopt = pytest.importorskip("prodigyopt")
prodigy = pytest.importorskip("trainer.optimizers.prodigy")

RECOMMENDED = {
    "use_bias_correction": True,
    "safeguard_warmup": True,
    "weight_decay": 0.01,
    "betas": (0.9, 0.99),
}


def parameters():
    """Weights as a LoRA has them: some random, some zero at first."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, 9), (7, 4), (33,), (2, 3, 3, 3))
    made = [torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.1) for shape in shapes]
    made[1].data.zero_()
    return made


def course(made_by, arguments, rates, steps=25):
    """Take steps down a noisy slope; return all weights, all state and the groups' numbers after
    each of them.
    """
    weights = parameters()
    halves = [
        {"params": weights[:2], "name": "unet"},
        {"params": weights[2:], "name": "text_encoder"},
    ]
    optimizer = made_by(halves, lr=1.0, **arguments)
    generator = torch.Generator().manual_seed(5)
    seen = []
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate(step)
        for place, weight in enumerate(weights):
            weight.grad = (
                weight.detach() - 0.3 + torch.randn(weight.shape, generator=generator) * 0.1
            )
            if place == 3 and step < 4:
                weight.grad = None
        optimizer.step()
        groups = [
            {k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
        ]
        state = [
            {k: v.clone() if torch.is_tensor(v) else v for k, v in optimizer.state[w].items()}
            for w in weights
        ]
        seen.append(([w.detach().clone() for w in weights], state, groups))
    return seen


def equal(one, other):
    if torch.is_tensor(one):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        RECOMMENDED,
        {"weight_decay": 0.1, "decouple": False},
        {"betas": (0.0, 0.999), "beta3": 0.95, "growth_rate": 1.02},
        {"slice_p": 5, "d_coef": 2.0, "d0": 1e-4},
    ],
    ids=lambda arguments: " ".join(arguments) or "none",
)
@pytest.mark.parametrize(
    "rates",
    [
        (lambda step: 1.0, lambda step: 1.0),
        (lambda step: min(1.0, step / 5), lambda step: min(1.0, step / 5)),
        (lambda step: 1.0, lambda step: 0.0),
    ],
    ids=["constant", "warm-up from 0", "one part at rest"],
)
def test_every_step_equals_prodigyopts(arguments, rates):
    theirs = course(prodigyopt.Prodigy, arguments, rates)
    ours = course(prodigy.Prodigy, arguments, rates)
    assert equal(ours, theirs)
    assert ours[-1][2][0]["d"] > ours[0][2][0]["d0"]


def test_step_synchronises_with_the_device_once(monkeypatch):
    """Every `item` and `tolist` of a GPU's tensor is a wait."""
    waits = []

    def watched(name):
        plain = getattr(torch.Tensor, name)

        def watch(self):
            waits.append(name)
            return plain(self)

        return watch

    for name in ("item", "tolist", "__bool__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, watched(name))
    weights = parameters()
    optimizer = prodigy.Prodigy(weights)
    for _ in range(3):
        waits.clear()
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert waits == ["tolist"]


def test_zero_gradient_changes_nothing():
    weights = parameters()
    before = [w.detach().clone() for w in weights]
    optimizer = prodigy.Prodigy(weights)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert equal([w.detach() for w in weights], before)
    assert optimizer.param_groups[0]["k"] == 0


def test_different_rates_are_an_error_as_in_prodigyopt():
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = prodigy.Prodigy([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 0.5}])
    first.grad = second.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="the same learning rate in all groups"):
        optimizer.step()


def test_arguments_are_those_of_prodigyopt():
    assert inspect.signature(prodigy.Prodigy) == inspect.signature(prodigyopt.Prodigy)
