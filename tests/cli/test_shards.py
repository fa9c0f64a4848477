"""WebDataset shards: `dsk export --format webdataset`, and `dsk import SHARDS --out DIR`."""

import io
import json
import tarfile

import pytest
from PIL import Image

from tests.cli.conftest import images, snapshot, write_image


@pytest.fixture
def laid_out(here):
    for name, number in (("train/4_sks", 3), ("train/2_dog", 2), ("reg/5_1girl", 2)):
        for path in images(here / "set" / name, number):
            path.with_suffix(".txt").write_text(f"{name.partition('_')[2]}, smile\n")
    mask = Image.new("L", (64, 48), 255)
    (here / "set/train/4_sks/masks").mkdir()
    mask.save(here / "set/train/4_sks/masks/a2.png")
    return here / "set"


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def png(shade=0):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def shard(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            add(tar, name, data)
    return path


def names(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_dataset_comes_back_with_its_captions_and_masks(laid_out, here, dsk):
    ended = dsk("export", "set", "--format", "webdataset", "--out", "shards", "--shard-size", 4)
    assert ended.code == 0, ended.err
    made = sorted(p.name for p in (here / "shards").glob("*.tar"))
    assert made == ["reg-000000.tar", "train-000000.tar", "train-000001.tar"]
    assert names(here / "shards/train-000001.tar") == ["4_sks/a3.png", "4_sks/a3.txt"]
    ended = dsk("import", "shards", "--from", "webdataset", "--out", "again/train")
    assert ended.code == 0, ended.err
    assert "wrote 7 images and 7 captions to again/train" in ended.out
    for path in (here / "set/train").rglob("*.*"):
        below = path.relative_to(here / "set/train")
        assert (here / "again/train" / below).read_bytes() == path.read_bytes(), below
    again = dsk("import", "shards", "--from", "webdataset", "--out", "again/train")
    assert "wrote 0 images and 0 captions to again/train; 7 images unchanged" in again.out
    assert dsk("undo", "again/train").code == 0
    assert [p.name for p in (here / "again/train").iterdir()] == [".dsk"]


def test_a_dry_run_writes_nothing_and_json_has_the_counts(laid_out, here, dsk):
    before = snapshot(here)
    ended = dsk("export", "set", "--format", "webdataset", "--out", "s", "--dry-run", "--json")
    assert ended.code == 0 and len(ended.result["changed"]) == 2
    assert snapshot(here) == before
    assert dsk("export", "set", "--format", "webdataset", "--out", "s").code == 0
    before = snapshot(here)
    ended = dsk("import", "s/train-000000.tar", "--out", "new", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert (ended.result["images"], ended.result["captions"], ended.result["failed"]) == (5, 5, [])
    assert snapshot(here) == before


def test_only_changed_shards_are_written_and_undo_brings_the_old_ones_back(laid_out, here, dsk):
    export = ("export", "set", "--format", "webdataset", "--out", "s", "--shard-size", 3)
    assert dsk(*export).code == 0
    before = snapshot(here / "s", all_of_it=False)
    (laid_out / "train/4_sks/a3.txt").write_text("sks, frown\n")
    (laid_out / "train/2_dog/a1.png").unlink()
    (laid_out / "train/2_dog/a2.png").unlink()
    ended = dsk(*export)
    assert ended.code == 0 and "s/reg-000000.tar unchanged" in ended.out
    assert not (here / "s/train-000001.tar").exists()  # three images are left
    assert dsk("undo", "s").code == 0
    assert snapshot(here / "s", all_of_it=False) == before
    assert not (here / "s/.dsk/staging").exists()


def test_a_shard_that_dsk_did_not_write_is_kept(laid_out, here, dsk):
    shard(here / "s/train-000000.tar", {"x.png": png()})
    before = snapshot(here / "s")
    ended = dsk("export", "set", "--format", "webdataset", "--out", "s")
    assert ended.code == 2 and "dsk did not write s/train-000000.tar" in ended.err
    assert {k: v for k, v in snapshot(here / "s").items() if k in before} == before
    (here / "s/train-000000.tar").rename(here / "s/train-000007.tar")
    ended = dsk("export", "set", "--format", "webdataset", "--out", "s")
    assert ended.code == 0 and "s/train-000007.tar is not of this dataset" in ended.err


def test_two_images_with_one_key_are_named(here, dsk):
    write_image(here / "set/1_a/x.y.png", 1)
    write_image(here / "set/1_a/x_y.png", 2)
    ended = dsk("export", "set", "--format", "webdataset", "--out", "s")
    assert ended.code == 2 and "would have the same key 1_a/x_y" in ended.err
    assert "dsk rename" in ended.err and not (here / "s").exists()
    assert dsk("rename", "set/1_a", "x").code == 0
    assert dsk("export", "set", "--format", "webdataset", "--out", "s").code == 0


def test_captions_come_from_text_or_json_and_existing_ones_are_kept(here, dsk):
    shard(
        here / "s.tar",
        {
            "./a.PNG": png(1), "./a.txt": b"one, two\n", "./a.json": b'{"caption": "no"}',
            "b.png": png(2), "b.json": json.dumps({"caption": "a red\nsquare"}).encode(),
            "c.png": png(3), "c.json": json.dumps({"tags": ["long_hair", "artist:x"]}).encode(),
            "d.png": png(4), "d.cls": b"3", "e.txt": b"no image\n",
            "._a.png": b"", "__meta__/x.png": b"", "folder/f.png": png(5),
        },
    )  # fmt: skip
    (here / "out").mkdir()
    (here / "out/b.txt").write_text("mine\n")
    ended = dsk("import", "s.tar", "--out", "out")
    assert ended.code == 0, ended.err
    files = {str(p.relative_to(here / "out")) for p in (here / "out").rglob("*.*")}
    files = {f for f in files if not f.startswith(".dsk")}
    assert files == {
        "a.png", "a.txt", "b.png", "b.txt", "c.png", "c.txt", "d.png", "folder/f.png"
    }  # fmt: skip
    assert (here / "out/a.txt").read_text() == "one, two\n"
    assert (here / "out/b.txt").read_text() == "mine\n"
    assert (here / "out/c.txt").read_text() == "long hair\n"
    assert "1 existing caption kept" in ended.out and "1 sample without an image" in ended.out
    assert "2 images without a caption" in ended.out
    ended = dsk("import", "s.tar", "--out", "out", "--existing", "overwrite")
    assert (here / "out/b.txt").read_text() == "a red square\n"


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_imported(here, dsk):
    shard(here / "s.tar", {"a.png": png(), "a.txt": b"a\n", "b.png": b"no image", "b.txt": b"b\n"})
    ended = dsk("import", "s.tar", "--out", "out")
    assert ended.code == 3 and "b.png" in ended.err and "staging" not in ended.err
    assert {p.name for p in (here / "out").glob("*.*")} == {"a.png", "a.txt", ".dsk"}


@pytest.mark.parametrize(
    ("existing", "message"),
    [("a.png", "would be replaced by other images"), ("a.jpg", "would share its caption")],
)
def test_an_image_of_the_folder_is_never_replaced(existing, message, here, dsk):
    shard(here / "s.tar", {"a.png": png(), "b.png": png(1)})
    write_image(here / "out" / existing, 9)
    before = snapshot(here)
    ended = dsk("import", "s.tar", "--out", "out")
    assert ended.code == 2 and message in ended.err
    assert {k: v for k, v in snapshot(here).items() if ".dsk" not in k}.keys() == before.keys()
    assert dsk("import", "s.tar", "--out", "other").code == 0


def test_the_folder_for_the_images_has_to_be_named(here, dsk):
    shard(here / "s.tar", {"a.png": png()})
    ended = dsk("import", "s.tar")
    assert ended.code == 2 and "--out" in ended.err
    assert dsk("import", "s.tar", "--out", "photos").code == 0
    ended = dsk("import", "s.tar", "--out", "out", "--meta", "x.json")
    assert ended.code == 2 and "--meta is for a folder of images" in ended.err
    (here / "empty").mkdir()
    ended = dsk("import", "empty", "--from", "webdataset", "--out", "out")
    assert ended.code == 2 and "empty has no .tar files" in ended.err
    assert not (here / "out").exists()


def test_the_library_webdataset_reads_what_is_written(laid_out, here, dsk):
    webdataset = pytest.importorskip("webdataset")
    odd = write_image(laid_out / "train/4_sks" / ("é" * 60 + " 1.PNG"), 7)
    odd.with_suffix(".txt").write_text("sks, été\n")
    assert dsk("export", "set", "--format", "webdataset", "--out", "s").code == 0
    with (here / "s/train-000000.tar").open("rb") as stream:
        files = webdataset.tariterators.tar_file_expander([{"url": "s", "stream": stream}])
        samples = list(webdataset.tariterators.group_by_keys(files))
    assert [s["__key__"] for s in samples] == [
        "2_dog/a1", "2_dog/a2", "4_sks/a1", "4_sks/a2", "4_sks/a3", f"4_sks/{'é' * 60} 1"
    ]  # fmt: skip
    assert samples[-1]["png"] == odd.read_bytes() and samples[-1]["txt"].decode() == "sks, été\n"
    mask = laid_out / "train/4_sks/masks/a2.png"
    assert samples[3]["mask.png"] == mask.read_bytes()


def test_what_the_library_webdataset_writes_is_read(here, dsk):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(here / "s-%03d.tar"), maxcount=2, verbose=0) as writer:
        for n in range(5):
            writer.write({"__key__": f"k{n:03d}", "png": png(n), "txt": f"word {n}", "cls": n})
    ended = dsk("import", ".", "--from", "webdataset", "--out", "out")
    assert ended.code == 0, ended.err
    for n in range(5):
        assert (here / f"out/k{n:03d}.png").read_bytes() == png(n)
        assert (here / f"out/k{n:03d}.txt").read_text() == f"word {n}"
