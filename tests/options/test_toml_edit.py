"""Keys of a TOML file are set, and everything else stays byte by byte."""

import tomllib

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options.toml_edit import TableChange, with_changes, with_values

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


# ---- several changes, keys that are reset, and lists of tables

FILE = """# a project
[train]   # the training
network_dim = 8   # small
unet_lr = 1e-4
optimizer_args = [  # as its page says
  "eps=1e-6",
]
# about layout
[layout]
repeats = 3

[[concept]]  # the subject
folder = "imgs"
repeats = 2

# the others
[[concept]]
folder = "women"
"""


def changed(text, *changes):
    return with_changes(text, changes, source="dsk.toml")


def test_a_reset_key_goes_or_keeps_its_line_for_the_comment_behind_it():
    text = changed(FILE, TableChange("train", unset={"network_dim": 16, "unet_lr": 1e-3}))
    assert text == FILE.replace("network_dim = 8   # small", "network_dim = 16   # small").replace(
        "unet_lr = 1e-4\n", ""
    )
    text = changed(FILE, TableChange("train", unset={"network_dim": None, "nothing": 3}))
    assert text == FILE.replace("network_dim = 8   # small\n", "")
    text = changed(FILE, TableChange("train", unset={"optimizer_args": None}))
    assert "eps" not in text and "# about layout\n[layout]" in text
    assert changed(FILE, TableChange("tag", unset={"threshold": 0.35})) == FILE


def test_several_tables_change_at_once_and_all_else_stays():
    text = changed(
        FILE, TableChange("train", {"network_dim": 4}), TableChange("layout", {"repeats": 5}),
        TableChange("tag", {"threshold": 0.5}),
    )  # fmt: skip
    assert text == FILE.replace("= 8 ", "= 4 ").replace("repeats = 3", "repeats = 5") + (
        "\n[tag]\nthreshold = 0.5\n"
    )


def test_concepts_are_changed_added_and_removed_by_their_number():
    text = changed(FILE, TableChange("concept", {"repeats": 7}, at=1))
    assert text == FILE + "repeats = 7\n" or text == FILE.rstrip("\n") + "\nrepeats = 7\n"
    text = changed(FILE, TableChange("concept", {"repeats": 1}, {"folder": None}, at=0))
    assert text == FILE.replace('folder = "imgs"\nrepeats = 2', "repeats = 1")
    added = changed(FILE, TableChange("concept", {"folder": "more"}, at=2))
    assert added == FILE + '\n[[concept]]\nfolder = "more"\n'
    assert changed(added, TableChange("concept", at=2, removed=True)).rstrip() == FILE.rstrip()
    first = changed(FILE, TableChange("concept", at=0, removed=True))
    assert "imgs" not in first and '# the others\n[[concept]]\nfolder = "women"' in first
    none = changed(first, TableChange("concept", at=0, removed=True))
    assert "concept" not in tomllib.loads(none)
    assert changed("", TableChange("concept", {"folder": "x"}, at=0)).startswith("[[concept]]")


@pytest.mark.parametrize("text", ['concept = [{folder = "x"}]\n', "train = {x = 1}\n"])
def test_a_file_that_is_written_in_another_way_is_left_alone(text):
    with pytest.raises(ConfigError):
        changed(text, TableChange("concept", {"repeats": 1}, at=0), TableChange("train", {"a": 1}))
