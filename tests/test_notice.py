"""Everything shipped that somebody else made is named in a NOTICE, with its licence."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
CODE = {".py", ".pyc", ".typed"}
# Folders whose files are named one by one, and folders of many images from one source, which are
# named whole.
NAMED_ONE_BY_ONE = (
    "datasetkit/data",
    "datasetkit/vision/weights",
    "trainer/tinybase/weights",
    "examples/assets",
)
NAMED_WHOLE = (
    "examples/quickstart/images",
    "examples/quickstart/reg-images",
    "examples/tiny-lora/faces",
    "examples/tiny-lora/held-out",
    "examples/tiny-lora/girls",
    "datasetkit/example/faces",
    "datasetkit/example/girls",
)


def shipped(folder: str) -> list[Path]:
    return sorted(
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in CODE and path.name not in ("NOTICE", ".DS_Store")
    )


def names_in(text: str) -> set[str]:
    """What looks like a path: words with a dot or a slash inside."""
    return set(re.findall(r"[\w./-]+[/.][\w.-]*", text))


def notices_for(path: Path) -> list[tuple[Path, set[str]]]:
    found = [(ROOT, names_in(NOTICE))]
    for folder in path.relative_to(ROOT).parents:
        notice = ROOT / folder / "NOTICE"
        if folder != Path() and notice.is_file():
            found.append((ROOT / folder, names_in(notice.read_text(encoding="utf-8"))))
    return found


@pytest.mark.parametrize("folder", NAMED_ONE_BY_ONE)
def test_every_data_file_is_named_in_a_notice(folder):
    files = shipped(folder)
    assert files, folder
    unnamed = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if not any(path.relative_to(base).as_posix() in names for base, names in notices_for(path))
    ]
    assert unnamed == []


@pytest.mark.parametrize("folder", NAMED_WHOLE)
def test_every_folder_of_example_images_is_named_in_the_notice(folder):
    assert shipped(folder)
    assert f"{folder}/" in names_in(NOTICE)


def test_no_data_file_lies_where_no_notice_is_asked_for():
    asked_for = tuple(f"{folder}/" for folder in (*NAMED_ONE_BY_ONE, *NAMED_WHOLE))
    binaries = {".onnx", ".safetensors", ".csv", ".png", ".jpg", ".jpeg", ".webp", ".npz"}
    elsewhere = [
        path.relative_to(ROOT).as_posix()
        for folder in ("datasetkit", "taggers", "trainer", "examples")
        for path in shipped(folder)
        if path.suffix.lower() in binaries
        and not path.relative_to(ROOT).as_posix().startswith(asked_for)
    ]
    assert elsewhere == []


def test_every_path_in_the_notice_exists():
    paths = [
        name
        for name in names_in(NOTICE)
        if name.startswith(("datasetkit/", "trainer/", "examples/"))
    ]
    assert len(paths) >= 12
    missing = [name for name in paths if not (ROOT / name.rstrip(".")).exists()]
    assert missing == []


def test_every_entry_of_the_notice_says_its_licence():
    lists = NOTICE.split("-------\n", 1)[1]
    entries = [
        block
        for block in lists.split("\n\n")
        if block.strip().startswith(("datasetkit/", "trainer/", "examples/"))
    ]
    assert len(entries) >= 9
    assert [entry.strip().splitlines()[0] for entry in entries if "Licence: " not in entry] == []


def test_the_licence_is_the_one_that_the_package_declares():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text.splitlines()[1]
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
