"""network_args are read by name; what is misspelt, out of range or another method's is one clear
error.
"""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from datasetkit.options.network_args import ARGS, REFUSED, read
from datasetkit.options.networks import LYCORIS, MODULES, NetworkArgs
from datasetkit.options.train import TrainOptions


def reported(*args, module="networks.lora", dim=32, alpha=16.0) -> NetworkArgs:
    return read(module, args, dim=dim, alpha=alpha)


def test_nothing_said_is_a_plain_lora():
    assert reported() == NetworkArgs()
    assert not reported().convolutions


@pytest.mark.parametrize(("module", "algo"), MODULES.items())
def test_module_names_its_method(module, algo):
    assert reported(module=module).algo == algo


def test_lycoris_says_its_method_and_trains_convolutions_of_the_same_rank():
    args = reported("algo=locon", module=LYCORIS)
    assert (args.algo, args.conv_dim, args.conv_alpha) == ("lora", 32, 16.0)
    args = reported("algo=LoHa", "conv_dim=4", "conv_alpha=1", "preset=full", module=LYCORIS)
    assert (args.algo, args.conv_dim, args.conv_alpha) == ("loha", 4, 1.0)
    assert not reported("algo=lokr", "preset=attn-mlp", module=LYCORIS).convolutions


def test_values_are_read_by_their_kind():
    args = reported(
        "conv_dim=8", "conv_alpha=0.5", "dora_wd=True", "rs_lora=false", "rank_dropout=0.1",
        "module_dropout=.2", "loraplus_lr_ratio=16", "block_lr_zero_threshold=0.1", "verbose=True",
    )  # fmt: skip
    assert (args.conv_dim, args.conv_alpha, args.dora, args.rank_stabilized) == (
        8,
        0.5,
        True,
        False,
    )
    assert (args.rank_dropout, args.module_dropout, args.plus, args.zero_threshold) == (
        0.1,
        0.2,
        16,
        0.1,
    )


def test_block_weights_are_lists_or_courses_and_an_empty_one_is_0():
    args = reported(
        "down_lr_weight=" + ",".join(["1"] * 11) + ",", "up_lr_weight=sine+.25", "mid_lr_weight=.5"
    )
    assert args.down_weights == (1.0,) * 11 + (0.0,)
    assert (args.up_weights, args.mid_weights) == (("sine", 0.25), (0.5,))
    assert args.sides == 12
    assert reported("mid_lr_weight=1,1,1").sides == 9
    assert reported("up_lr_weight=zeros").sides is None


LIST = ",".join(["4"] * 25)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["conv_dims=8"], "did you mean 'conv_dim'"),
        (["conv_dim"], "name=value"),
        (["conv_dim=4", "conv_dim=8"], "once"),
        (["conv_dim=many"], "whole number"),
        (["conv_dim=5000"], "out of range"),
        (["rank_dropout=1"], "out of range"),
        (["dora_wd=yes"], "True or False"),
        (["conv_alpha=1"], "needs a conv_dim"),
        (["conv_block_alphas=" + LIST], "needs conv_block_dims"),
        (["factor=8"], "belongs to lokr"),
        (["algo=loha"], "lycoris.kohya"),
        (["wd_on_output=True"], "input axis"),
        (["use_tucker=True"], "needs a conv_dim"),
        (["conv_dim=4", "use_cp=True", "dora_wd=True"], "dora_wd is not supported with use_cp"),
        (["conv_dim=4", "use_cp=True", "rank_dropout=0.1"], "rank_dropout is not supported"),
        (["block_dims=1,2,3"], "25"),
        (["down_lr_weight=1"], "each block"),
        (["down_lr_weight=sinus"], "sine"),
        (["block_dims=" + LIST, "mid_lr_weight=1,1,1"], "1 and 2"),
        (["down_lr_weight=" + ",".join("1" * 9), "up_lr_weight=" + ",".join("1" * 12)], "SDXL"),
    ],
)
def test_what_cannot_be_honoured_is_refused(args, words):
    with pytest.raises(ConfigError) as caught:
        reported(*args)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_method_and_preset_that_are_not_known_are_refused():
    for argument in ("algo=dylora", "preset=attn-only"):
        with pytest.raises(ConfigError, match=argument.partition("=")[0]):
            reported(argument, module=LYCORIS)
    with pytest.raises(ConfigError, match="network_module"):
        TrainOptions(network_module="networks.dylora")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_may_be_off(name):
    assert reported(f"{name}=False") == NetworkArgs()
    with pytest.raises(ConfigError, match="is not supported"):
        reported(f"{name}=True")


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for name in ARGS:
        with suppress(ConfigError):
            assert isinstance(reported(f"{name}={text}"), NetworkArgs)


@pytest.mark.parametrize(
    ("given_options", "words"),
    [
        ({"network_module": "networks.loha", "network_dropout": 0.1}, "module_dropout"),
        ({"network_args": ("dora_wd=True",), "scale_weight_norms": 1.0}, "scale_weight_norms"),
        ({"network_args": ("dora_wd=True",), "lora_format": "both"}, "no loader"),
        ({"network_args": ("train_norm=True",), "lora_format": "both"}, "no loader for norms"),
        ({"network_module": "networks.lokr", "lora_format": "diffusers"}, "no loader"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given_options, words):
    with pytest.raises(ConfigError) as caught:
        TrainOptions(**given_options)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_an_argument_may_be_written_twice_with_one_value():
    """The GUI of kohya_ss does so with use_tucker."""
    twice = ["algo=loha", "rank_dropout=0.1", "use_tucker=False", "use_tucker=False"]
    assert read("lycoris.kohya", twice, dim=4, alpha=1).rank_dropout == 0.1
    with pytest.raises(ConfigError, match="factor=8"):
        read("lycoris.kohya", ["algo=lokr", "factor=4", "factor=8"], dim=4, alpha=1)
