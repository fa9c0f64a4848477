"""Datasets of OneTrainer, ai-toolkit and diffusion-pipe: files as those programs write them are
read, and what is written is read back.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from datasetkit.dataset import tool_datasets
from datasetkit.dataset.tool_datasets import TITLES, ToolConcept, ToolDataset, read, write

ONETRAINER = [
    {
        "__version": 2, "image": {"__version": 0, "enable_random_flip": True},
        "text": {"__version": 0, "prompt_source": "sample", "prompt_path": "",
                 "enable_tag_shuffling": True, "tag_delimiter": ",", "keep_tags_count": 2},
        "name": "sks", "path": "/data/sks", "seed": 7, "enabled": True, "type": "STANDARD",
        "include_subdirectories": False, "balancing": 8.0, "balancing_strategy": "REPEATS",
    },
    {"name": "", "path": "C:\\data\\women", "type": "PRIOR_PREDICTION", "balancing": 30.0,
     "balancing_strategy": "SAMPLES", "image": {"enable_random_flip": True},
     "text": {"enable_tag_shuffling": True, "keep_tags_count": 2}},
    {"name": "off", "path": "/data/off", "enabled": False},
    {"name": "val", "path": "/data/val", "type": "VALIDATION"},
    {"name": "names", "path": "/data/names", "repeats": 0.4,
     "text": {"prompt_source": "filename", "enable_tag_shuffling": True, "keep_tags_count": 2},
     "image": {"enable_random_flip": True}},
]  # fmt: skip
AI_TOOLKIT = """\
job: extension
config:
  name: my_first_lora
  process:
    - type: sd_trainer
      trigger_word: sks
      network: {type: lora, linear: 16}
      datasets:
        - folder_path: /data/8_sks
          caption_ext: txt
          shuffle_tokens: false
          num_repeats: 3
          resolution: [512, 768]
        - folder_path: /data/reg
          is_reg: true
          caption_ext: ".caption"
          shuffle_tokens: false
          resolution: 512
          mask_path: /data/reg/masks
"""
DIFFUSION_PIPE = """\
resolutions = [512, [1280, 720]]
enable_ar_bucket = true
cache_shuffle_num = 10
[[directory]]
path = '/data/sks'
num_repeats = 10
mask_path = '/data/sks/masks'
[[directory]]
path = '/data/dog'
caption_prefix = 'dog, '
"""


def test_a_file_of_onetrainer_is_read():
    tool, dataset = read(json.dumps(ONETRAINER), "concepts.json")
    assert tool == "onetrainer" and [c.name for c in dataset.concepts] == ["sks", "women", "names"]
    sks, women, names = dataset.concepts
    assert (sks.repeats, sks.is_reg) == (8, False)
    assert women.is_reg and tool_datasets.whole_repeats(women, 10) == 3
    assert tool_datasets.whole_repeats(names, 10) == 1
    assert (dataset.shuffle_caption, dataset.keep_tokens, dataset.flip_aug) == (True, 2, True)
    assert any("--from filename" in note for note in dataset.notes)
    assert any("off is not enabled" in note for note in dataset.notes)
    preset = json.dumps({"concepts": ONETRAINER[:1], "batch_size": 4})
    assert read(preset, "preset.json")[1].concepts == (sks,)


def test_a_file_of_ai_toolkit_is_read():
    tool, dataset = read(AI_TOOLKIT, "job.yaml")
    assert tool == "ai-toolkit" and dataset.resolutions == (512, 768)
    sks, reg = dataset.concepts
    assert (sks.name, sks.repeats, sks.trigger) == ("8_sks", 3, ("sks",))
    assert reg.is_reg and reg.has_masks and dataset.shuffle_caption is False
    assert any(".caption" in note and "dsk import /data/reg" in note for note in dataset.notes)
    as_json = json.dumps({"config": {"process": [{"datasets": [{"folder_path": "/a"}]}]}})
    assert read(as_json, "job.json")[0] == "ai-toolkit"


def test_a_file_of_diffusion_pipe_is_read():
    tool, dataset = read(DIFFUSION_PIPE, "dataset.toml")
    assert tool == "diffusion-pipe" and dataset.resolutions == (512, 960)
    assert [(c.name, c.repeats, c.has_masks) for c in dataset.concepts] == [
        ("sks", 10, True), ("dog", 1, False),
    ]  # fmt: skip
    assert dataset.shuffle_caption and any("'dog, '" in n or "dog, " in n for n in dataset.notes)


NAMES = st.text("abcdefgh ijäß_-あ", min_size=1, max_size=8).filter(lambda t: t.strip() == t)
CONCEPTS = st.builds(
    ToolConcept,
    folder=NAMES.map(lambda name: f"/data/{name}"),
    repeats=st.integers(1, 50).map(float),
    is_reg=st.booleans(),
    has_masks=st.booleans(),
)
DATASETS = st.builds(
    ToolDataset,
    concepts=st.lists(CONCEPTS, min_size=1, max_size=4).map(tuple),
    resolutions=st.lists(st.sampled_from([512, 768, 1024]), min_size=1, unique=True).map(tuple),
    shuffle_caption=st.booleans(),
    keep_tokens=st.integers(0, 3),
    flip_aug=st.booleans(),
)


@pytest.mark.long
@pytest.mark.parametrize("tool", list(TITLES))
@given(dataset=DATASETS)
def test_what_is_written_is_read_back(tool, dataset):
    text = write(tool, dataset)
    if tool == "diffusion-pipe" and all(c.is_reg for c in dataset.concepts):
        return  # it has nothing to train then
    read_tool, again = read(text, "x")
    expected = [c for c in dataset.concepts if tool != "diffusion-pipe" or not c.is_reg]
    assert read_tool == tool
    assert [(c.folder, c.repeats, c.is_reg) for c in again.concepts] == [
        (c.folder, c.repeats, c.is_reg) for c in expected
    ]
    if tool != "onetrainer":
        assert again.resolutions == dataset.resolutions
        assert [c.has_masks for c in again.concepts] == [c.has_masks for c in expected]
    if tool != "diffusion-pipe":
        assert again.shuffle_caption == dataset.shuffle_caption
        assert again.keep_tokens == dataset.keep_tokens and again.flip_aug == dataset.flip_aug


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "a: [", "- 1", "[general]\nshuffle_caption = true", '{"path": 3}', "\0"],
)
def test_other_files_are_refused_with_one_line(text):
    with pytest.raises(ConfigError) as caught:
        read(text, "file")
    assert "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        '[{"path": 3, "balancing": "x", "text": 1, "image": null}]',
        '{"config": {"process": [{"datasets": [1, {"folder_path": []}, {"folder_path": "/a"}]}]}}',
        'directory = [1, {path = "/a", num_repeats = "x", resolutions = "y"}]',
        '{"config": {"process": [{"datasets": [{"folder_path": ["a"], "num_repeats": -1}]}]}}',
    ],
)
def test_values_of_the_wrong_kind_do_not_end_in_a_traceback(text):
    _, dataset = read(text, "file")
    assert all(c.repeats >= 1 and isinstance(c.folder, str) for c in dataset.concepts)
