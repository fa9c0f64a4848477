"""What travels to a worker and back: paths are the worker's there and the user's here, messages
too, and nothing else of an item or a result changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datasetkit.core.errors import InputError
from datasetkit.core.records import Done, Failed, ImageRecord
from datasetkit.executors import parcels
from datasetkit.outputs.produce import OutputJob
from datasetkit.stages.resize import ResizedImage


def job(path: Path, out: Path) -> OutputJob:
    return OutputJob(ImageRecord(path, "0" * 16, 4, 3), (out,), {"boxes": (path, 1)})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imgs" / "masks").mkdir(parents=True)
    (tmp_path / "imgs" / "a.jpg").write_bytes(b"image")
    (tmp_path / "imgs" / "masks" / "a.png").write_bytes(b"mask")
    return tmp_path


def test_on_shared_storage_a_worker_gets_absolute_paths(here):
    item = job(Path("imgs/a.jpg"), Path("out/a.jpg"))
    got = parcels.unpacked(parcels.packed(item, ship=False), here / "unused")
    assert got.item.path == here / "imgs" / "a.jpg" and got.item.files == (here / "out" / "a.jpg",)
    assert got.item.detail == {"boxes": (here / "imgs" / "a.jpg", 1)}
    made = Done(got.item.record, ResizedImage(got.item.files[0], (4, 3), (2, 2)))
    result, written = parcels.result_of(got.reply(made), item)
    assert result == Done(item.record, ResizedImage(Path("out/a.jpg"), (4, 3), (2, 2)))
    assert written == {}


def test_shipped_images_and_masks_lie_in_a_folder_of_the_worker_and_outputs_come_back(here):
    item = job(Path("imgs/a.jpg"), Path("out/a.jpg"))
    parcel = parcels.packed(item, ship=True)
    (here / "imgs" / "a.jpg").unlink()
    folder = here / "worker"
    folder.mkdir()
    got = parcels.unpacked(parcel, folder)
    assert got.item.path.read_bytes() == b"image" and got.item.path.is_relative_to(folder)
    assert (got.item.path.parent / "masks" / "a.png").read_bytes() == b"mask"
    got.item.files[0].write_bytes(b"made")
    made = Done(got.item.record, ResizedImage(got.item.files[0], (4, 3), (2, 2)))
    result, written = parcels.result_of(got.reply(made), item)
    assert result.value.path == Path("out/a.jpg") and written == {Path("out/a.jpg"): b"made"}


@pytest.mark.parametrize("ship", [False, True])
def test_messages_name_the_file_as_the_user_did(here, ship):
    item = job(Path("imgs/a.jpg"), Path("out/a.jpg"))
    folder = here / "worker"
    folder.mkdir()
    got = parcels.unpacked(parcels.packed(item, ship=ship), folder)
    failed = Failed(got.item.path, f"cannot read {got.item.path}: cut off", f"{got.item.path}!")
    result, _ = parcels.result_of(got.reply(failed), item)
    assert result == Failed(Path("imgs/a.jpg"), "cannot read imgs/a.jpg: cut off", "imgs/a.jpg!")


def test_an_image_that_is_gone_is_an_error_of_this_image(here):
    with pytest.raises(InputError, match=r"gone\.jpg"):
        parcels.packed(job(Path("imgs/gone.jpg"), Path("out/gone.jpg")), ship=True)


def test_options_travel_with_absolute_paths(here):
    sent = parcels.loads_absolute(parcels.dumps_absolute({"model": Path("models/x"), "n": 1}))
    assert sent == {"model": here / "models" / "x", "n": 1}
