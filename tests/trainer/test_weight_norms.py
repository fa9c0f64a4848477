"""Weight norms: against the full product, and against sd-scripts' rule."""

import math

import pytest
import torch

from trainer.networks.weight_norms import Factors, delta_distance, delta_norms, scale_weight_norms


def linear(norm, rank=4, scale=0.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, 12, generator=g), torch.randn(9, rank, generator=g)
    return Factors(down * norm / (torch.linalg.matrix_norm(up @ down) * scale), up, scale)


def conv(seed=0):
    g = torch.Generator().manual_seed(seed)
    return Factors(torch.randn(4, 6, 3, 3, generator=g), torch.randn(8, 4, 1, 1, generator=g), 2.0)


def kernels(module):
    """The change of a convolution's weight, made by convolving, as sd-scripts makes it."""
    down = module.down.permute(1, 0, 2, 3)
    return torch.nn.functional.conv2d(down, module.up).permute(1, 0, 2, 3) * module.scale


def test_norms_equal_those_of_the_products():
    modules = [linear(0.3), linear(7.0, seed=1), conv()]
    torch.testing.assert_close(
        delta_norms(modules), torch.tensor([0.3, 7.0, kernels(conv()).norm().item()])
    )


def test_distances_equal_those_of_the_products():
    one, other = linear(0.3), linear(0.4, rank=2, scale=3.0, seed=1)
    written_out = one.up @ one.down * one.scale - other.up @ other.down * other.scale
    assert delta_distance(one, other) == pytest.approx(float(written_out.norm()), rel=1e-5)
    assert delta_distance(conv(), conv()) < 1e-6 * float(delta_norms([conv()]))
    assert delta_distance(one, conv()) == math.inf
    assert math.isnan(delta_distance(one, Factors(one.down * math.nan, one.up, one.scale)))


def test_module_over_the_maximum_gets_the_maximum_and_keeps_its_direction():
    module, before = linear(4.0), linear(4.0)
    report = scale_weight_norms([module], 1.0)
    torch.testing.assert_close(delta_norms([module]), torch.tensor([1.0]))
    torch.testing.assert_close(module.up @ module.down, before.up @ before.down / 4)
    # Both factors share the change.
    torch.testing.assert_close(module.up, before.up / 2)
    assert [report.scaled.item(), report.mean.item(), report.max.item()] == pytest.approx([1, 1, 1])


def test_module_under_the_maximum_keeps_its_bits():
    small, limit, untrained = (
        linear(0.2),
        linear(0.999),
        Factors(torch.randn(4, 12), torch.zeros(9, 4), 1.0),
    )
    modules = [small, limit, untrained]
    before = [(m.down.clone(), m.up.clone()) for m in modules]
    report = scale_weight_norms(modules, 1.0)
    for module, (down, up) in zip(modules, before, strict=True):
        assert torch.equal(module.down, down)
        assert torch.equal(module.up, up)
    assert report.scaled.item() == 0
    assert report.mean.item() == pytest.approx((0.2 + 0.999) / 3)
    assert report.max.item() == pytest.approx(0.999)


def test_report_counts_the_scaled_modules():
    report = scale_weight_norms([linear(0.5), linear(3.0), conv()], 2.0)
    assert report.scaled.item() == 2
    assert report.mean.item() == pytest.approx((0.5 + 2.0 + 2.0) / 3)


def test_trained_parameters_are_scaled_in_place_without_a_gradient():
    down, up = (torch.nn.Parameter(t) for t in (linear(4.0).down, linear(4.0).up))
    scale_weight_norms([Factors(down, up, 0.5)], 1.0)
    assert down.grad_fn is None
    assert down.requires_grad
    assert torch.linalg.matrix_norm(up @ down).item() * 0.5 == pytest.approx(1.0)


def test_half_precision_factors_keep_their_type():
    module = Factors(torch.full((4, 12), 50.0).half(), torch.full((9, 4), 50.0).half(), 1.0)
    scale_weight_norms([module], 1.0)
    assert module.down.dtype == module.up.dtype == torch.float16
    assert delta_norms([module]).item() == pytest.approx(1.0, rel=0.01)
