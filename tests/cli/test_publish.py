"""`dsk publish` against a hub on the loopback: what arrives there, what is asked, what is
refused.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import ExifTags, Image

from datasetkit import api
from datasetkit.core.errors import ConfigError
from tests.cli.conftest import images, write_image
from tests.fake_upload_hub import Repository, serve
from tests.lora_files.files import pair, save

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
# The hub's client uploads a file in a way that its HTTP library is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
METADATA = {
    "ss_network_module": "networks.lora",
    "ss_sd_model_name": "v1-5.safetensors",
    "ss_dataset_dirs": json.dumps({"8_sks": {"n_repeats": 8, "img_count": 3}}),
    "ss_tag_frequency": json.dumps({"8_sks": {"1girl": 3, "sks": 3, "smile|wink": 2}}),
    "ss_steps": "60",
}


@pytest.fixture
def upload_hub(monkeypatch):
    with serve(monkeypatch) as served:
        yield served


@pytest.fixture
def lora(here):
    write_image(here / "sks-samples.png", 1)
    return save(here / "sks-000002.safetensors", pair(LAYER, 8, 8, 4, 4.0), METADATA)


@pytest.fixture
def dataset(here):
    """Two concepts, laid out; one image has no caption, one says where it was taken."""
    for concept in ("4_sks", "2_dog"):
        for n, path in enumerate(images(here / "dataset" / "train" / concept, 2)):
            path.with_suffix(".txt").write_text(f"{concept[2:]}, tag {n}, “smile”\n")
    (here / "dataset" / "train" / "2_dog" / "a1.txt").unlink(missing_ok=True)
    image = Image.new("RGB", (64, 64), "red")
    exif = image.getexif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    image.save(here / "dataset" / "train" / "4_sks" / "gps.jpg", exif=exif)
    (here / "dataset" / "train" / "4_sks" / "gps.txt").write_text("sks\n")
    return here / "dataset"


def front_matter(card: bytes) -> str:
    match = re.match(r"---\n(.*?)\n---\n", card.decode(), re.DOTALL)
    assert match
    return match[1]


def test_a_lora_arrives_with_its_card_its_samples_and_its_metadata(upload_hub, lora, dsk):
    command = ("publish", lora.name, "--repo", "me/sks", "--yes", "--license", "cc-by-4.0",
               "--base", "org/base", "--tags", "anime")  # fmt: skip
    ended = dsk(*command)
    assert ended.code == 0, ended.err
    repo = upload_hub.repos["models/me/sks"]
    assert repo.private and len(repo.commits) == 1
    assert set(repo.files) == {
        lora.name, "samples.png", "README.md", "sks-000002.civitai.json",
    }  # fmt: skip
    assert repo.files[lora.name] == lora.read_bytes()
    head = front_matter(repo.files["README.md"])
    for line in ("license: cc-by-4.0", "base_model: org/base", "instance_prompt: sks", "- anime"):
        assert line in head
    body = repo.files["README.md"].decode()
    assert "Trigger: `sks`" in body and "![Preview images](samples.png)" in body
    assert "| steps | 60 |" in body and "smile|wink" in body
    described = json.loads(repo.files["sks-000002.civitai.json"])
    assert described["trainedWords"] == ["sks"] and described["baseModel"] == "SD 1.5"
    assert len(described["files"][0]["hashes"]["SHA256"]) == 64
    assert "created the repository and uploaded 4 files" in ended.out


def test_it_says_what_leaves_the_machine_before_anything_does(upload_hub, lora, dsk):
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--dry-run")
    assert ended.code == 0 and upload_hub.requests == []
    for part in (lora.name, "samples.png", "README.md", "civitai.json", "(private)", "8_sks",
                 "v1-5.safetensors", "such as 1girl, sks", "/me/sks", "# sks"):  # fmt: skip
        assert part in ended.out, part
    assert "nothing was uploaded" in ended.out and "no licence" in ended.err


def test_without_an_answer_nothing_is_uploaded(upload_hub, lora, dsk, monkeypatch):
    ended = dsk("publish", lora.name, "--repo", "me/sks")
    assert ended.code == 2 and "nobody can be asked here" in ended.err and "--yes" in ended.err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--public")
    assert ended.code == 2 and upload_hub.requests == []


@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_a_dataset_arrives_so_that_the_datasets_library_reads_it(
    upload_hub, dataset, dsk, format, tmp_path, monkeypatch
):
    command = ("publish", "dataset", "--repo", "me/data", "--yes", "--format", format, "--public")
    ended = dsk(*command)
    assert ended.code == 0, ended.err
    repo = upload_hub.repos["datasets/me/data"]
    assert not repo.private
    for part in ("5 images", "where 1 image was taken", "everybody can see it"):
        assert part in ended.out, part
    arrived = tmp_path / "arrived"
    for name, data in repo.files.items():
        (arrived / name).parent.mkdir(parents=True, exist_ok=True)
        (arrived / name).write_bytes(data)
    from datasets import load_dataset

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    read = load_dataset(str(arrived), split="train", cache_dir=str(tmp_path / "cache"))
    texts = sorted(row["text"] for row in read)
    assert texts == sorted(
        (path.with_suffix(".txt").read_text(encoding="utf-8").strip()
         if path.with_suffix(".txt").exists() else path.parent.name[2:])
        for path in dataset.rglob("*.*") if path.suffix in (".jpg", ".png")
    )  # fmt: skip
    assert {row["image"].size[0] > 0 for row in read} == {True}


def test_a_card_that_is_there_is_kept_unless_it_must_be_replaced(upload_hub, lora, dsk):
    upload_hub.repos["models/me/sks"] = Repository(private=True, files={"README.md": b"mine"})
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--yes")
    repo = upload_hub.repos["models/me/sks"]
    assert ended.code == 0 and repo.files["README.md"] == b"mine" and lora.name in repo.files
    assert "README.md of the repository is kept; --replace-card" in ended.err
    assert "POST /api/repos/create" not in upload_hub.requests
    assert dsk("publish", lora.name, "--repo", "me/sks", "--yes", "--replace-card").code == 0
    assert repo.files["README.md"] != b"mine"


@pytest.mark.parametrize("is_private, option", [(False, ()), (True, ("--public",))])
def test_a_repository_with_the_other_visibility_gets_nothing(
    upload_hub, lora, dsk, is_private, option
):
    upload_hub.repos["models/me/sks"] = Repository(private=is_private)
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--yes", *option)
    assert ended.code == 2 and "--public" in ended.err
    assert upload_hub.repos["models/me/sks"].files == {}


def test_what_the_hub_refuses_is_one_line_and_the_next_step(upload_hub, lora, dsk, monkeypatch):
    upload_hub.refuses = 403
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--yes")
    assert ended.code == 12 and "error: cannot upload to me/sks: " in ended.err
    assert upload_hub.repos["models/me/sks"].files == {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert dsk("publish", lora.name, "--repo", "me/sks", "--yes").code == 12


def test_without_a_login_the_hub_is_not_asked(upload_hub, lora, dsk, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    ended = dsk("publish", lora.name, "--repo", "me/sks", "--yes")
    assert ended.code == 2 and "hint: run hf auth login" in ended.err
    assert upload_hub.requests == []


def test_what_cannot_be_published_is_refused_before_the_network(upload_hub, here, lora, dsk):
    write_image(here / "a.png", 1)
    (here / "empty").mkdir()
    for path, code in (("a.png", 12), ("empty", 10), ("gone", 10)):
        assert dsk("publish", path, "--repo", "me/x", "--yes").code == code, path
    assert dsk("publish", lora.name, "--yes").code == 2
    for option, value in (("--repo", "x"), ("--repo", "a/b/c"), ("--license", "Mine!")):
        assert dsk("publish", lora.name, "--repo", "me/x", option, value).code == 2, value
    assert upload_hub.requests == []


def test_a_found_dsk_toml_does_not_decide_where_files_go(upload_hub, dataset, dsk):
    (dataset / "dsk.toml").write_text("[publish]\nrepo = 'thief/loot'\npublic = true\n")
    ended = dsk("publish", "dataset", "--yes")
    assert ended.code == 2 and upload_hub.requests == []


def test_from_python_a_plan_is_made_without_a_network_and_published_later(upload_hub, lora):
    plan = api.plan_publishing(lora, api.PublishOptions(repo="me/sks"))
    assert upload_hub.requests == [] and plan.size > lora.stat().st_size
    result = api.publish(plan)
    assert result.created and result.url.endswith("c" * 40)
    with pytest.raises(ConfigError, match="no repository"):
        api.plan_publishing(lora, api.PublishOptions())


def test_two_concepts_with_one_folder_name_are_refused(here, dsk, upload_hub):
    for parent in ("one", "two"):
        images(here / parent / "imgs", 1)
    (here / "dsk.toml").write_text(
        '[[concept]]\nname = "a"\nfolder = "one/imgs"\n'
        '[[concept]]\nname = "b"\nfolder = "two/imgs"\n'
    )
    ended = dsk("publish", "dsk.toml", "--repo", "me/x", "--dry-run")
    assert ended.code == 2 and "would replace each other" in ended.err
    assert Path("one").is_dir()
