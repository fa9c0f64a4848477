"""Keys of a TOML file are set, and everything else stays byte by byte."""

import tomllib

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options.toml_edit import with_values

VALUES = {"unet_lr": 0.00198, "optimizer_args": ["betas=0.9,0.999"], "optimizer_type": "AdamW"}


def edited(text, values=VALUES, table="train"):
    return with_values(text, table, values, source="dsk.toml")


def test_values_are_replaced_in_place_and_comments_stay():
    text = """# a project
[tag]
unet_lr = "not this one"

[train]   # the training
unet_lr = 1e-4      # too low
  optimizer_args = [  # Prodigy's
  "decouple=True",    # as its page says
]  # behind
seed = 3

[layout]
optimizer_type = "nor this"
"""
    assert (
        edited(text)
        == """# a project
[tag]
unet_lr = "not this one"

[train]   # the training
unet_lr = 0.00198      # too low
  optimizer_args = ["betas=0.9,0.999"]  # behind
seed = 3
optimizer_type = "AdamW"

[layout]
optimizer_type = "nor this"
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[tag]\ntrigger = 'x'",
        "[train]",
        "[train]\n# nothing\n\n[tag]\n",
        '[train]\n"unet_lr" = 1.0 # "#"\n',
        "[train]\ntraining_comment = 'a # b = [c]' # why\nunet_lr = 1\n",
        '[train]\ntraining_comment = """\n[train]\nunet_lr = 5\n"""\nunet_lr = 1\n',
        "\ufeff[train]\nunet_lr = 1\n",
        '[[concept]]\nfolder = "a"\n\n["train"]\nseed = 1\n',
        "[train]\nresolution = [\n  512, # wide\n  768,\n]\n",
    ],
)
def test_files_of_any_form_have_the_values_afterwards(text):
    before = tomllib.loads(text.removeprefix("\ufeff"))
    after = tomllib.loads(edited(text).removeprefix("\ufeff"))
    assert after.pop("train") == {**before.pop("train", {}), **VALUES}
    assert after == before
    for line in text.splitlines():
        if "unet_lr" not in line:
            assert line in edited(text)


def test_line_ends_of_windows_stay():
    text = "[train]\r\nunet_lr = 1 # x\r\nseed = 1\r\n"
    assert edited(text, {"unet_lr": 2.0}) == "[train]\r\nunet_lr = 2.0 # x\r\nseed = 1\r\n"


def test_a_second_edit_with_the_same_values_changes_nothing():
    once = edited("[train]\nseed = 1\n")
    assert edited(once) == once


@pytest.mark.parametrize(
    "text", ["train = { seed = 1 }\n", "train.seed = 1\n", "[train]\nunet_lr.x = 1\n"]
)
def test_a_file_that_cannot_be_edited_says_what_to_set(text):
    with pytest.raises(ConfigError) as error:
        edited(text)
    assert "cannot be replaced" in error.value.message
    assert 'unet_lr = 0.00198; optimizer_args = ["betas=0.9,0.999"]' in error.value.hint
