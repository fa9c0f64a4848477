"""Optimizers: names, arguments, parameter groups, and errors before a run starts."""

import sys

import pytest
import torch

from datasetkit.core.errors import ConfigError, MissingExtra
from datasetkit.core.install import install_command, package_command
from trainer.optimizers import build_optimizer
from trainer.optimizers.build_optimizer import (
    OPTIMIZERS,
    build,
    check_rates,
    describe,
    effective_lr,
    estimates_lr,
    eval_mode,
    import_path,
    keeps_average,
    literal_args,
    parameter_groups,
)
from trainer.plan import memory


def parameters(n=1):
    return [torch.nn.Parameter(torch.zeros(2)) for _ in range(n)]


def is_there(name):
    """Skip a test whose optimizer's package is not installed."""
    module = import_path(name).partition(":")[0].partition(".")[0]
    pytest.importorskip("prodigyopt" if module == "trainer" else module)


def both(unet_lr=1.0, text_encoder_lr=1.0):
    own = {"unet": parameters(3), "text_encoder": parameters(2)}
    return parameter_groups(own, {"unet": unet_lr, "text_encoder": text_encoder_lr})


@pytest.mark.parametrize("name", ["AdamW", "adamw", "torch.optim.AdamW", "torch.optim:AdamW"])
def test_optimizer_names_ignore_case_and_import_paths_work(name):
    assert import_path(name) == "torch.optim:AdamW"


def test_dadaptation_means_dadaptadam():
    assert import_path("DAdaptation") == OPTIMIZERS["DAdaptAdam"]


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        import_path("AdamW8bits")
    assert "AdamW8bit" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        import_path("x")
    assert "Prodigy" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("AdamW8bit", "bitsandbytes", "bitsandbytes"),
        ("Lion", "lion_pytorch", "lion-pytorch"),
        ("Prodigy", "prodigyopt", "prodigyopt"),
        ("DAdaptation", "dadaptation", "dadaptation"),
        ("AdamWScheduleFree", "schedulefree", "schedulefree"),
        ("ProdigyPlusScheduleFree", "prodigyplus", "prodigy-plus-schedule-free"),
    ],
)
def test_missing_package_gives_the_pip_line(monkeypatch, name, module, package):
    for loaded in [
        key
        for key in sys.modules
        if key.partition(".")[0] == module or key == "trainer.optimizers.prodigy"
    ]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=name) as caught:
        build(name, both(), {})
    assert caught.value.hint == (f"{install_command('optimizers')}, or {package_command(package)}")


@pytest.mark.parametrize("path", ["torch.optim.NoSuch", "torch.nn.Linear", "math.sqrt"])
def test_path_that_is_not_an_optimizer_is_an_error(path):
    with pytest.raises(ConfigError, match="has no optimizer"):
        build(path, both(), {})


def test_any_optimizer_can_be_named_by_its_path():
    assert isinstance(build("torch.optim.RAdam", both(), {}), torch.optim.RAdam)


def test_arguments_reach_the_optimizer():
    made = build("AdamW", both(5e-4, 1e-4), literal_args(["weight_decay=0.1", "betas=0.9,0.99"]))
    assert [
        (g["name"], g["lr"], len(g["params"]), g["weight_decay"], g["betas"])
        for g in made.param_groups
    ] == [
        ("unet", 5e-4, 3, 0.1, (0.9, 0.99)),
        ("text_encoder", 1e-4, 2, 0.1, (0.9, 0.99)),
    ]


@pytest.mark.parametrize(
    "arguments", [{"no_such": 1}, {"weight_decay": -1.0}, {"betas": (2.0, 2.0)}]
)
def test_argument_that_the_optimizer_rejects_is_a_config_error(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        build("AdamW", both(), arguments)


def test_rate_among_the_arguments_is_an_error():
    with pytest.raises(ConfigError) as caught:
        build("AdamW", both(), {"lr": 1.0})
    assert "unet_lr" in caught.value.hint


def test_argument_values_are_python_literals():
    pairs = [
        "decouple=True",
        " d_coef = 2",
        "betas=.9,.99",
        "mode='a=b'",
        "growth_rate=1e-2",
        "beta3=None",
    ]
    assert literal_args(pairs) == {
        "decouple": True,
        "d_coef": 2,
        "betas": (0.9, 0.99),
        "mode": "a=b",
        "growth_rate": 0.01,
        "beta3": None,
    }


@pytest.mark.parametrize(
    "pairs", [["a"], ["=1"], ["a="], ["a=true"], ["a=1", "a=2"], ["a b=1"], ["a=f()"]]
)
def test_unreadable_argument_is_an_error_with_its_text(pairs):
    with pytest.raises(ConfigError, match=r"optimizer_args: '(a|=1)"):
        literal_args(pairs)


def test_part_without_rate_or_parameters_has_no_group():
    assert [g["name"] for g in both(text_encoder_lr=0.0)] == ["unet"]
    own, rates = parameters(), {"unet": 1.0, "text_encoder": 1.0}
    assert [g["name"] for g in parameter_groups({"unet": [], "text_encoder": own}, rates)] == [
        "text_encoder"
    ]


def test_nothing_to_train_is_an_error():
    with pytest.raises(ConfigError, match="nothing would be trained"):
        both(0.0, 0.0)


@pytest.mark.parametrize(
    "name", ["DAdaptation", "dadaptlion", "Prodigy", "pytorch_optimizer.DAdaptAdan"]
)
def test_different_rates_are_rejected_if_one_is_estimated(monkeypatch, name):
    # Even where the package is missing: the mistake is in the configuration.
    monkeypatch.setitem(sys.modules, "dadaptation", None)
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(ConfigError, match=r"unet_lr = 1, text_encoder_lr = 0\.5"):
        check_rates(name, {"unet_lr": 1.0, "text_encoder_lr": 0.5})
    with pytest.raises(ConfigError, match=r"unet_lr = 1, text_encoder_lr = 0\.5"):
        build(name, both(1.0, 0.5), {})


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("AdamW", (5e-4, 1e-4)),
        ("Prodigy", (1.0, 1.0)),
        ("DAdaptation", (1.0, 0.0)),
        ("prodigyplus.ProdigyPlusScheduleFree", (1.0, 0.5)),  # keeps one step size a group
    ],
)
def test_different_rates_are_accepted_otherwise(name, rates):
    check_rates(name, dict(zip(("unet_lr", "text_encoder_lr"), rates, strict=True)))


def test_optimizers_that_estimate_their_rate_are_known():
    found = {name for name in OPTIMIZERS if estimates_lr(name)}
    assert found == {name for name in OPTIMIZERS if name.startswith(("DAdapt", "Prodigy"))}
    assert len(found) == 9


def test_effective_rate_is_the_rate_times_the_estimate():
    assert effective_lr({"lr": 1e-4}) == 1e-4
    assert effective_lr({"lr": 0.5, "d": 2e-6}) == pytest.approx(1e-6)
    assert effective_lr({"lr": 0.5, "d": torch.tensor(2e-6)}) == pytest.approx(1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_named_optimizer_lowers_a_loss(name, capsys):
    is_there(name)
    if name.startswith("Paged") and not torch.cuda.is_available():
        pytest.skip("paged memory needs a GPU")
    x = torch.nn.Parameter(torch.full((5000,), 0.1))
    made = build(
        name, parameter_groups({"unet": [x]}, {"unet": 1.0 if estimates_lr(name) else 0.01}), {}
    )
    losses = []
    for _ in range(30):
        made.zero_grad()
        loss = x.square().mean()
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert capsys.readouterr().out == ""  # results stand there, and nothing else
    assert ("d" in made.param_groups[0]) == estimates_lr(name)


def test_memory_of_every_named_optimizer_is_known():
    assert set(memory.STATES) == {name.casefold() for name in OPTIMIZERS}


@pytest.mark.parametrize(
    "name", ["Adafactor", "AdamW", "Lion", "SGDNesterov", "Prodigy", "DAdaptAdanIP"]
)
def test_optimizer_states_take_the_estimated_memory(name):
    is_there(name)
    weight = torch.nn.Parameter(torch.randn(64, 512))
    made = build(name, parameter_groups({"unet": [weight]}, {"unet": 1.0}), {})
    for _ in range(2):
        weight.grad = torch.randn_like(weight)
        made.step()
    held = sum(v.nbytes for v in made.state[weight].values() if isinstance(v, torch.Tensor))
    assert held / weight.numel() <= memory.STATES[name.casefold()] + 0.1
    assert held / weight.numel() > memory.STATES[name.casefold()] - 1.1


def test_names_imply_arguments():
    made = build("SGDNesterov", both(), {})
    assert [(g["momentum"], g["nesterov"]) for g in made.param_groups] == [(0.9, True)] * 2
    assert build("SGDNesterov", both(), {"momentum": 0.5}).param_groups[0]["momentum"] == 0.5
    assert build("adafactor", both(1e-3, 1e-4), {}).param_groups[1]["lr"] == 1e-4
    with pytest.raises(ConfigError, match="relative_step"):
        build("Adafactor", both(), {"relative_step": True})


def test_metadata_has_the_optimizers_original_name():
    assert describe("prodigy", ("d_coef=2",)) == "prodigyopt.Prodigy(d_coef=2)"
    assert describe("AdamW", ()) == "torch.optim.AdamW()"


# ---- averages
# --------------------------------------------------------------------------------------------------

AVERAGING = ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree", "ProdigyPlusScheduleFree")


def slope(name, steps, look=0, arguments=None):
    """Take steps down a noisy slope, and look at what is of use after each; return the weight and
    what was seen.
    """
    is_there(name)
    weight = torch.nn.Parameter(torch.full((64,), 1.0))
    made = build(
        name,
        parameter_groups({"unet": [weight]}, {"unet": 1.0 if estimates_lr(name) else 0.1}),
        arguments or {},
    )
    generator = torch.Generator().manual_seed(1)
    seen = []
    for _ in range(steps):
        weight.grad = weight.detach() + torch.randn(64, generator=generator)
        made.step()
        for _ in range(look):
            with eval_mode(made):
                seen.append(weight.detach().clone())
    return made, weight, seen


@pytest.mark.parametrize("name", AVERAGING)
def test_eval_mode_does_not_change_the_training(name):
    made, weight, seen = slope(name, 20, look=2)
    assert keeps_average(made)
    assert torch.equal(weight, slope(name, 20)[1])
    assert all(torch.equal(one, other) for one, other in zip(seen[::2], seen[1::2], strict=True))
    assert not torch.equal(seen[-1], weight)
    made.step()  # it is in training again


@pytest.mark.parametrize("name", AVERAGING)
def test_eval_mode_restores_the_weights_after_an_error(name):
    made, weight, _ = slope(name, 5)
    before = weight.detach().clone()
    with pytest.raises(KeyError), eval_mode(made), eval_mode(made):
        raise KeyError
    assert torch.equal(weight, before)
    made.step()


def test_eval_mode_has_the_average_of_the_steps():
    """Of plain descent the average has the same weight for each step: the mean of all z
    (arXiv:2405.15682, eq. 5).
    """
    is_there("SGDScheduleFree")
    weight = torch.nn.Parameter(torch.zeros(3))
    made = build("SGDScheduleFree", parameter_groups({"unet": [weight]}, {"unet": 0.5}), {})
    used = []
    for step in range(6):
        weight.grad = torch.full((3,), float(step % 3))
        made.step()
        used.append(made.state[weight]["z"].clone())
    with eval_mode(made):
        torch.testing.assert_close(weight.detach(), torch.stack(used).mean(dim=0))


@pytest.mark.parametrize("name", ["AdamW", "Prodigy"])
def test_eval_mode_does_nothing_for_other_optimizers(name):
    made, weight, seen = slope(name, 3, look=1)
    assert not keeps_average(made)
    assert torch.equal(seen[-1], weight)


def test_prodigy_plus_without_averages_accepts_any_schedule():
    made, _, _ = slope("ProdigyPlusScheduleFree", 2, arguments={"use_schedulefree": False})
    assert not keeps_average(made)


def stepped(optimizer, steps, start=0):
    for step in range(start, start + steps):
        for group in optimizer.param_groups:
            for i, parameter in enumerate(group["params"]):
                parameter.grad = torch.full_like(parameter, (-1.0) ** step * (i + 1) * 0.1 + 0.02)
        optimizer.step()
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def test_adamw_on_a_gpu_is_fused_and_equal_within_rounding(monkeypatch):
    """CPUs have the fused kernel, too, so that its arithmetic can be compared here."""
    plain = build("AdamW", both(1e-2, 1e-3), {"weight_decay": 0.1})
    monkeypatch.setattr(build_optimizer, "_on_cuda", lambda groups: True)
    fused = build("AdamW", both(1e-2, 1e-3), {"weight_decay": 0.1})
    assert not plain.defaults["fused"] and fused.defaults["fused"]
    first, second = stepped(plain, 50), stepped(fused, 50)
    for left, right in zip(first, second, strict=True):
        assert torch.allclose(left, right, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("AdamW", {"fused": False}, False),
        ("AdamW", {"foreach": True}, None),
        ("AdamW", {"foreach": False}, True),
        ("torch.optim.Adam", {}, None),
    ],
)
def test_what_the_user_says_of_fused_kernels_rules(monkeypatch, name, arguments, expected):
    monkeypatch.setattr(build_optimizer, "_on_cuda", lambda groups: True)
    assert build(name, both(), arguments).defaults["fused"] is expected
