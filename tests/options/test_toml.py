"""dsk.toml: strict types, unknown keys with the nearest, ranges, precedence, and paths as seen from
the file.
"""

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from datasetkit.options import toml
from datasetkit.options.dataset import (
    ExportOptions,
    ImportOptions,
    LayoutOptions,
    PlanRepeatsOptions,
    ReportOptions,
)
from datasetkit.options.images import RenameOptions, ResizeOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.run import RunOptions
from datasetkit.options.tag import RulesOptions, TagOptions
from datasetkit.options.toml import Config
from datasetkit.options.train import TrainOptions
from datasetkit.verbs.shared.concept_folders import concept_name


def dsk_toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dsk.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(tmp_path, text) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        toml.load(dsk_toml(tmp_path, text))
    assert "dsk.toml" in caught.value.message
    return caught.value


# ---- the file
# --------------------------------------------------------------------------------------------------


def test_an_unknown_table_names_the_nearest(tmp_path):
    error = refused(tmp_path, "[tags]\n")
    assert "unknown table [tags]" in error.message and error.hint == "did you mean [tag]?"
    assert "plan-repeats" in refused(tmp_path, "[zzz]\n").hint
    assert "[concept]" in refused(tmp_path, "[[concepts]]\nfolder = 'x'\n").hint


@pytest.mark.parametrize("text", ["[[reg]]\nresolution = 5\n", "reg = 5\n"])
def test_a_known_name_that_is_not_a_table_is_explained(tmp_path, text):
    error = refused(tmp_path, text)
    assert "reg is not a table" in error.message and "write [reg], with one" in error.hint


@pytest.mark.parametrize("table", toml.TABLES)
def test_an_unknown_key_names_the_nearest(tmp_path, table):
    key = fields(toml.options_class(table))[0].name
    error = refused(tmp_path, f"[{table}]\n{key}x = 1\n")
    assert (
        f"[{table}]: unknown key '{key}x'" in error.message
        and error.hint == f"did you mean {key!r}?"
    )


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("resize", 'max = "5"'),
        ("resize", "max = 5.5"),
        ("resize", "max = true"),
        ("resize", 'mode = "diagonal"'),
        ("resize", "in_place = 1"),
        ("tag", 'threshold = "0.35"'),
        ("tag", 'threshold = "prr"'),
        ("tag", 'trigger = "sks"'),
        ("tag", "trigger = [1]"),
        ("tag", "mcut = 'yes'"),
        ("train", 'resolution = "512"'),
        ("train", "resolution = [512]"),
        ("train", "resolution = [512, 768, 1024]"),
        ("train", "seed = 1.0"),
        ("report", "plot = 'true'"),
        ("run", "steps = ['tag', 3]"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(tmp_path, table, line):
    key = line.split()[0]
    error = refused(tmp_path, f"[{table}]\n{line}\n")
    assert f"[{table}]: {key} = " in error.message and error.hint.startswith(f"{key} ")
    assert "\n" not in error.message and "pydantic" not in error.message


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("[resize]\nmax = 15\n", "max = 15 is out of range"),
        ("[resize]\nquality = 101\n", "quality = 101 is out of range"),
        ("[tag]\nthreshold = 0.001\n", "threshold = 0.001 is out of range"),
        ("[tag]\nworkers = -1\n", "workers = -1 is out of range"),
        ("[train]\ntrain_batch_size = 0\n", "train_batch_size = 0 is out of range"),
        ("[train]\nmax_token_length = 77\n", "max_token_length = 77"),
        ("[layout]\nrepeats = 0\n", "repeats = 0 is out of range"),
        ("[run]\nsteps = ['tga']\n", "steps = 'tga' is not known"),
        ("[resize]\nalpha = 'keep'\nformat = 'jpg'\n", "JPEG has no transparency"),
        ("[[concept]]\nfolder = 'x'\nrepeats = 0\n", "repeats = 0 is out of range"),
        ("[[concept]]\nname = 'x'\n", "folder"),
        ("[concept]\nfolder = 'x'\n", "[[concept]]"),
        ("tag = 1\n", "[tag]"),
        ("[tag\n", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_followed_says_why(tmp_path, text, reported):
    error = refused(tmp_path, text)
    assert reported in error.message + error.hint


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "dsk.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        toml.load(path)
    with pytest.raises(ConfigError, match="cannot read"):
        toml.load(tmp_path / "other" / "dsk.toml")


def test_lists_become_tuples_and_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "dsk.toml"
    path.write_bytes(
        b'\xef\xbb\xbf[tag]\r\nexclude = ["lips", "nose"]\r\n[train]\r\nresolution = [512, 768]\r\n'
    )
    found = toml.load(path)
    assert found.build(TagOptions, "tag").exclude == ("lips", "nose")
    assert found.build(TrainOptions, "train").bucket_rules().resolution == (512, 768)


def test_the_nearest_file_above_governs(tmp_path):
    dsk_toml(tmp_path, "[tag]\nthreshold = 0.5\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert toml.find(below).root == tmp_path.resolve()
    assert toml.find(below).build(TagOptions, "tag").threshold == 0.5
    assert toml.find(Path(os.sep)).path is None


# ---- precedence
# -------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_file_and_it_over_the_default(tmp_path):
    found = toml.load(dsk_toml(tmp_path, "[tag]\nthreshold = 0.5\nmcut = true\nexclude = ['a']\n"))
    given_none = found.build(TagOptions, "tag", {"threshold": None, "mcut": None, "exclude": None})
    assert (given_none.threshold, given_none.mcut, given_none.exclude) == (0.5, True, ("a",))
    assert given_none.character_threshold == 0.85
    given = found.build(TagOptions, "tag", {"threshold": "pr", "mcut": False, "exclude": []})
    assert (given.threshold, given.mcut, given.exclude) == ("pr", False, ())


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_key_comes_from_the_last_that_gives_it(data):
    layers = st.fixed_dictionaries(
        {},
        optional={
            "max": st.integers(16, 16384),
            "quality": st.integers(1, 100),
            "mode": st.sampled_from(["long-edge", "area"]),
            "recursive": st.booleans(),
        },
    )
    table, given_here = data.draw(layers), data.draw(layers)
    built = Config(None, {"resize": table}).build(ResizeOptions, "resize", given_here)
    assert built == replace(ResizeOptions(), **{**table, **given_here})


OPTIONS = [
    RenameOptions, ResizeOptions, RulesOptions, TagOptions, TrainOptions, PlanRepeatsOptions,
    LayoutOptions, RegOptions, ReportOptions, ExportOptions, ImportOptions, RunOptions,
]  # fmt: skip


@pytest.mark.parametrize("cls", OPTIONS)
def test_the_defaults_pass_through_the_door_unchanged(cls):
    defaults = {f.name: getattr(cls(), f.name) for f in fields(cls)}
    table = json.loads(json.dumps({k: v for k, v in defaults.items() if v is not None}))
    assert toml.build(cls, table, {}, where="here") == cls()


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=12),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        max_size=3,
    )
)
def test_no_table_gives_anything_but_options_or_a_config_error(table):
    try:
        built = toml.build(TagOptions, table, {}, where="here")
    except ConfigError as error:
        assert error.message.startswith("here: ")
    else:
        assert isinstance(built, TagOptions)


# ---- paths
# --------------------------------------------------------------------------------------------------


def test_paths_of_the_file_are_as_seen_from_it_and_given_ones_from_here(tmp_path, monkeypatch):
    found = toml.load(
        dsk_toml(
            tmp_path,
            "[layout]\nout = 'ds'\n[tag]\nmodel_dir = 'model'\nimplies = "
            "'mine.toml'\n[report]\nout = '/abs'\n",
        )
    )
    here = tmp_path / "sub"
    here.mkdir()
    monkeypatch.chdir(here)
    assert Path(found.build(LayoutOptions, "layout").out) == tmp_path / "ds"
    assert Path(found.build(LayoutOptions, "layout", {"out": "mine"}).out) == Path("mine")
    assert Path(found.build(RegOptions, "reg").out) == tmp_path / "dataset"
    assert found.build(RegOptions, "reg").folder == "" == found.build(ExportOptions, "export").out
    tag = found.build(TagOptions, "tag")
    assert (Path(tag.model_dir), Path(tag.implies)) == (tmp_path / "model", tmp_path / "mine.toml")
    assert Path(found.build(ReportOptions, "report").out) == Path("/abs")
    assert Config().build(LayoutOptions, "layout").out == "dataset"
    monkeypatch.chdir(tmp_path)
    assert found.build(LayoutOptions, "layout").out == "ds"


@pytest.mark.parametrize("implies", ["none", "common"])
def test_named_implications_are_no_paths(tmp_path, implies):
    found = toml.load(dsk_toml(tmp_path, f"[rules]\nimplies = '{implies}'\n"))
    assert found.build(RulesOptions, "rules").implies == implies


# ---- library callers
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (ResizeOptions, {"max": 1}),
        (ResizeOptions, {"mode": "diagonal"}),
        (TagOptions, {"threshold": 2.0}),
        (TagOptions, {"threshold": "p"}),
        (TagOptions, {"existing": "keep"}),
        (TrainOptions, {"resolution": 0}),
        (PlanRepeatsOptions, {"steps": 0}),
        (LayoutOptions, {"repeats": 0}),
        (RegOptions, {"captions": "all"}),
        (ExportOptions, {"format": "parquet"}),
        (ImportOptions, {"source": "nowhere"}),
        (RunOptions, {"steps": ("tga",)}),
    ],
)
def test_ranges_hold_for_library_callers_too(cls, wrong):
    with pytest.raises(ConfigError) as caught:
        cls(**wrong)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('folder = "."', "set"),
        ('folder = "./"', "set"),
        ('folder = "images/.."', "set"),
        ('folder = ".."', "project"),
        ('folder = "images"', "images"),
        ('folder = "."\ntrigger = ["sks"]', "sks"),
        ('folder = "."\nname = "given"', "given"),
    ],
)
def test_a_concept_has_the_name_of_its_folder_also_where_the_path_has_none(tmp_path, written, name):
    path = tmp_path / "project" / "set" / "dsk.toml"
    (path.parent / "images").mkdir(parents=True)
    path.write_text(f"[[concept]]\n{written}\n", encoding="utf-8")
    assert [concept_name(concept) for concept in toml.load(path).concepts] == [name]
