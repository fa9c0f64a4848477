"""What tags mean: shown from the tables that people have, searched, and added on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasetkit.cli.main import run
from datasetkit.options.review import ReviewOptions
from datasetkit.options.toml import find
from tests.captions.test_translations import EQUATIONS, FOUR, LANGUAGES, THREE, TWO
from tests.web import datasets
from tests.web.client import Browser, review


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "set"
    for n, tags in enumerate(["1girl, long hair", "1girl, solo", "long hair"]):
        datasets.drawing(project / f"{n}.png", n)
        (project / f"{n}.txt").write_text(tags + "\n", "utf-8")
    return project


def meanings(page: Browser) -> dict[str, str]:
    tags = page.post("tags", scope={"in": "all"})
    return dict(zip(tags["tag"], tags["translation"], strict=True))


@pytest.mark.parametrize("table", [TWO, THREE, FOUR, LANGUAGES, EQUATIONS])
@pytest.mark.parametrize("name", ["translations.csv", "translations.txt"])
def test_tables_of_all_kinds_are_shown_and_searched(folder, name, table):
    (folder / name).write_text(table, "utf-8")
    with review(folder) as page:
        assert page.session["translations"] is True
        assert page.session["notice"] == ""
        assert meanings(page) == {"1girl": "1个女孩", "long hair": "长发", "solo": ""}
        assert page.get("complete", q="长发")["tag"] == ["long hair"]


def test_tables_that_dsk_toml_names_come_after_the_own_one(folder):
    (folder / "tables").mkdir()
    (folder / "tables" / "zh.txt").write_text("long hair=长发\nsolo=单人\n", "utf-8")
    (folder / "translations.csv").write_text("solo,один\n", "utf-8")
    (folder / "dsk.toml").write_text('[review]\ntranslations = ["tables/zh.txt"]\n', "utf-8")
    options = find(folder).build(ReviewOptions, "review")
    with review(folder, translations=options.translations) as page:
        assert meanings(page) == {"1girl": "", "long hair": "长发", "solo": "один"}


def test_table_that_cannot_be_read_is_named_in_the_notice(folder):
    (folder / "translations.csv").write_text("just\nsome\nwords\n", "utf-8")
    with review(folder, translations=("none.csv",)) as page:
        assert "translations.csv has no meanings in 3 of 3 lines" in page.session["notice"]
        assert "none.csv does not exist" in page.session["notice"]


def test_meaning_is_added_changed_removed_and_undone_on_the_page(folder):
    table = folder / "translations.csv"
    with review(folder) as page:
        added = page.post("translate", tag="Long_Hair", meaning=" длинные\nволосы ")
        assert (added["changed"], added["translations"]) == (1, True)
        assert added["undo"] == "what long hair means"
        assert table.read_text("utf-8") == "tag,translation\nlong hair,длинные волосы\n"
        assert meanings(page)["long hair"] == "длинные волосы"
        page.post("translate", tag="solo", meaning="один")
        page.post("translate", tag="long hair", meaning="")
        assert meanings(page) == {"1girl": "", "long hair": "", "solo": "один"}
        assert page.post("undo", version=added["version"])["changed"] == 1
        assert meanings(page)["long hair"] == "длинные волосы"
        page.post("redo", version=added["version"])
        assert meanings(page)["long hair"] == ""
        same = page.post("translate", tag="solo", meaning="один")
        assert same["changed"] == 0
    assert run(["undo", str(folder)]) == 0
    assert "длинные волосы" in table.read_text("utf-8")


def test_table_that_a_person_wrote_keeps_its_other_lines(folder):
    table = folder / "translations.csv"
    table.write_bytes("long_hair;长发\r\nsolo;单人\r\n".encode("utf-8-sig"))
    with review(folder) as page:
        page.post("translate", tag="1girl", meaning="1个女孩")
        assert meanings(page) == {"1girl": "1个女孩", "long hair": "长发", "solo": "单人"}
        page.post("translate", tag="long hair", meaning="长头发")
        assert meanings(page)["long hair"] == "长头发"


def test_table_that_changes_on_disk_is_read_again(folder):
    with review(folder) as page:
        assert meanings(page)["solo"] == ""
        (folder / "translations.csv").write_text("solo,один\n", "utf-8")
        assert meanings(page)["solo"] == "один"


def test_read_only_page_and_odd_requests_write_nothing(folder):
    with review(folder, read_only=True) as page:
        assert page.send("translate", tag="solo", meaning="один").status == 403
    with review(folder) as page:
        for body in ({"tag": "solo"}, {"tag": "", "meaning": "a"}, {"tag": 5, "meaning": "a"}):
            assert page.send("translate", **body).status == 400
    assert not (folder / "translations.csv").exists()


def test_report_has_a_column_of_meanings(folder, capsys):
    (folder / "translations.txt").write_text(EQUATIONS, "utf-8")
    assert run(["report", str(folder), "--translate"]) == 0
    shown = capsys.readouterr().out
    assert "长发" in shown
    head, *rows = (folder / "report" / "tags.csv").read_text("utf-8-sig").splitlines()
    assert head.split(",")[:3] == ["concept", "tag", "translation"]
    assert any("long hair,长发," in row for row in rows)


def test_report_without_a_table_says_where_to_put_one(folder, capsys):
    assert run(["report", str(folder), "--translate"]) == 2
    assert "translations.csv" in capsys.readouterr().err
    assert not (folder / "report").exists()
