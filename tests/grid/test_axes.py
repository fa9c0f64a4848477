"""The axes of `dsk grid`: ranges, names, what a value changes, and the column without the LoRA."""

from __future__ import annotations

import pytest

from datasetkit.core.errors import ConfigError
from tests.lora_files.files import pair, save
from trainer.grid import axes, loras, values
from trainer.grid.axes import CellRequest, GridContent
from trainer.monitor.prompts import Prompt

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"


def prompt(text="kitsu, 1girl", **fields):
    return Prompt(
        **{"text": text, "width": 64, "height": 64, "seed": 1, "sampler": "ddim"} | fields
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's files: three epochs, the final one, and the best."""
    folder = tmp_path_factory.mktemp("run")
    for n, (name, epoch) in enumerate(
        (("k-000002", 2), ("k-000004", 4), ("k-000010", 10), ("k", 12), ("k-best", 4))
    ):
        header = {"ss_epoch": str(epoch), "ss_steps": str(epoch * 30)}
        save(folder / f"{name}.safetensors", pair(LAYER, 8, 8, 2, seed=n), header)
    return folder


@pytest.fixture
def content(run):
    return GridContent(loras.read([run]), (prompt(),))


def labels(axis):
    return [value.label for value in axis.values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3", [1, 2, 3]),
        ("1-4", [1, 2, 3, 4]),
        ("3-1", [3, 2, 1]),
        ("-1-1", [-1, 0, 1]),
        ("-2--1", [-2, -1]),
        ("0.1-0.3 (+0.1)", [0.1, 0.2, 0.3]),
        ("1-0 (-0.25)", [1, 0.75, 0.5, 0.25, 0]),
        ("0.7-1.5 [5]", [0.7, 0.9, 1.1, 1.3, 1.5]),
        ("1-1", [1]),
        (".5, 1.", [0.5, 1]),
        ("1-2,5", [1, 2, 5]),
    ],
)
def test_both_ends_of_a_range_belong_to_it(text, expected):
    assert values.numbers(text, "weight", whole=False) == expected


@pytest.mark.parametrize(
    "text",
    ["0.1-0.3", "a", "1,,2", "1-3 (0)", "1-3 (-1)", "1x3", "1-3 [0]", "nan", "inf", "1e400",
     "1-999999", "1-2 [100000]", '"1'],
)  # fmt: skip
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(ConfigError) as raised:
        values.numbers(text, "weight", whole=False)
    assert raised.value.hint and "\n" not in raised.value.message


def test_a_whole_number_is_asked_for_where_one_is_needed():
    with pytest.raises(ConfigError, match=r"1\.5 is not a whole number"):
        values.numbers("1-2 (+0.5)", "seed", whole=True)
    assert values.numbers("1-10 [4]", "seed", whole=True) == [1, 4, 7, 10]


def test_epochs_come_in_the_order_of_the_training_and_the_best_is_called_so(content):
    axis = axes.parse("epoch", content)
    assert labels(axis) == ["epoch 2", "epoch 4", "best", "epoch 10", "epoch 12"]
    assert [v.note for v in axis.values][:3] == ["step 60", "step 120", "epoch 4, step 120"]
    assert labels(axes.parse("epoch=10,2", content)) == ["epoch 10", "epoch 2"]
    assert labels(axes.parse("epoch=2-4 (+2),best,last", content)) == [
        "epoch 2", "epoch 4", "best", "epoch 12",
    ]  # fmt: skip


def test_steps_name_the_files_where_an_epoch_has_several(tmp_path):
    for step in (100, 200):
        header = {"ss_epoch": "1", "ss_steps": str(step)}
        save(tmp_path / f"k-step{step:08d}.safetensors", pair(LAYER, 8, 8, 2), header)
    content = GridContent(loras.read([tmp_path]), (prompt(),))
    assert labels(axes.parse("epoch", content)) == ["step 100", "step 200"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "there is no axis epochs"),
        ("", "there is no axis"),
        ("seed", "seed has no values"),
        ("seed=", "seed has no values"),
        ("epoch=3", "no LoRA is of epoch 3"),
        ("lora=j", "there is no LoRA j"),
        ("weight=1,1", "has weight 1 twice"),
        ("prompt=2", "there is no prompt 2"),
        ("sampler=", "sampler has no values"),
        ("size=big", "size=big is not a size"),
        ("clip-skip=0", "not between 1 and 12"),
        ("sr=wolf,fox", "no prompt has wolf"),
        ("sr", "sr has no values"),
    ],
)
def test_an_axis_that_cannot_be_drawn_gets_one_line_and_a_next_step(content, text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        axes.parse(text, content)
    assert raised.value.hint


def test_search_and_replace_takes_whole_words_of_both_prompts():
    content = GridContent((), (prompt("ann, annie, red ann", negative="ann"),))
    axis = axes.parse('sr=ann,"bo, b"', content)
    assert labels(axis) == ["ann", "bo, b"]
    start = CellRequest(base="tiny", lora=None, prompt=content.prompts[0], clip_skip=1)
    changed = axis.apply(axis.values[1], start).prompt
    assert (changed.text, changed.negative) == ("bo, b, annie, red bo, b", "bo, b")
    other = axes.parse("sr=red=blue,green", content)
    assert labels(other) == ["blue", "green"]
    assert axes.parse("sr=狐,猫", GridContent((), (prompt("狐耳"),))).values[1].label == "猫"


def test_a_seed_of_minus_one_is_drawn_once_and_the_same_again(content):
    axis = axes.parse("seed=-1--1 [3],7", content)
    seeds = [value.value for value in axis.values]
    assert len(set(seeds)) == 4 and seeds[3] == 7 and all(0 <= s < 2**32 for s in seeds)
    assert axes.parse("seed=-1--1 [3],7", content) == axis


def test_search_and_replace_takes_its_values_from_one_place():
    content = GridContent((), (prompt("red fox"),), replacements="fox=fox,wolf")
    assert labels(axes.parse("sr", content)) == ["fox", "wolf"]
    with pytest.raises(ConfigError, match="has its values twice"):
        axes.parse("sr=red,blue", content)


def test_weights_of_parts_multiply(content):
    start = CellRequest(base="tiny", lora=content.loras[0], prompt=prompt(), clip_skip=1)
    cell = start
    for text in ("weight=0.5", "unet-weight=0.8", "text-weight=0"):
        axis = axes.parse(text, content)
        cell = axis.apply(axis.values[0], cell)
    assert cell.weights == (0.4, 0.0)


def chosen(content, *given, compare_base=True):
    return [(a.name, labels(a)) for a in axes.chosen(given, content, compare_base=compare_base)]


def test_without_axes_the_epochs_of_a_run_are_compared(content):
    two = GridContent(content.loras, (prompt(), prompt("1girl")))
    found = chosen(two, "", "", "")
    assert found[0][0] == "epoch" and found[0][1][0] == "without"
    assert found[1] == ("prompt", ["kitsu, 1girl", "1girl"])
    only = GridContent(content.loras[:1], (prompt(),))
    assert chosen(only, "", "", "") == [
        ("weight", ["without", "weight 0.5", "weight 0.75", "weight 1"])
    ]


def test_files_of_two_runs_are_compared_by_name(content, tmp_path):
    other = save(tmp_path / "other.safetensors", pair(LAYER, 8, 8, 2), {"ss_epoch": "2"})
    both = GridContent((content.loras[0], *loras.read([other])), (prompt(),))
    assert chosen(both, "", "", "") == [("lora", ["without", "k-000002", "other"])]
    with pytest.raises(ConfigError, match="not of one run"):
        axes.parse("epoch", both)


def test_the_base_alone_stands_first_on_the_axis_of_the_lora(content):
    assert chosen(content, "seed=1,2", "epoch=2,4", "")[1] == (
        "epoch", ["without", "epoch 2", "epoch 4"],
    )  # fmt: skip
    one = GridContent(content.loras[:1], (prompt(),))
    assert chosen(one, "seed=1,2", "", "")[0] == ("lora", ["without", "k-000002"])
    assert chosen(one, "seed=1,2", "", "", compare_base=False)[0][0] == "seed"
    assert chosen(one, "weight=0,1", "", "")[0][1] == ["without", "weight 1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("epoch", "epoch", ""), "two axes are epoch"),
        (("epoch", "lora", ""), "both the LoRA file"),
        (("weight=1", "", ""), "5 LoRAs and no axis"),
        (("epoch", "", "seed=1"), "z axis without a y axis"),
    ],
)
def test_axes_that_do_not_fit_each_other_are_refused(content, given, message):
    with pytest.raises(ConfigError, match=message):
        axes.chosen(given, content, compare_base=True)


def test_three_axes_without_one_for_the_lora_or_the_prompts_are_refused(content):
    one = GridContent(content.loras[:1], (prompt(),))
    with pytest.raises(ConfigError, match="no axis for the images without"):
        axes.chosen(("seed=1", "cfg=4", "steps=5"), one, compare_base=True)
    two = GridContent(content.loras[:1], (prompt(), prompt("1girl")))
    with pytest.raises(ConfigError, match="2 prompts and no axis"):
        axes.chosen(("seed=1", "cfg=4", "weight=1"), two, compare_base=True)
