"""The schema of dsk.toml is what the declarations give, and judges files as dsk does."""

import copy
import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError
from datasetkit.options import toml
from datasetkit.options.schema import SHIPPED, schema
from datasetkit.tools import option_pages
from datasetkit.verbs.shared import schema_file
from tests.cli.conftest import write_image

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(SHIPPED.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)


def test_the_schema_that_is_shipped_is_that_of_the_code():
    assert SHIPPED.read_text(encoding="utf-8") == option_pages.schema_text(), (
        "run python -m datasetkit.tools.option_pages"
    )
    jsonschema.Draft4Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == {*toml.TABLES, "concept"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/dsk.toml")), ids=str)
def test_the_files_of_the_examples_are_valid(path):
    VALIDATOR.validate(tomllib.loads(path.read_text(encoding="utf-8")))


def test_init_names_the_schema_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api.init(tmp_path, "images", "sks", api.RunContext(dry_run=True))
    assert list(tmp_path.iterdir()) == []
    text = api.init(tmp_path, "images", "sks").path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first == "#:schema .dsk/dsk.schema.json"
    assert (tmp_path / first.removeprefix("#:schema ")).read_bytes() == SHIPPED.read_bytes()
    VALIDATOR.validate(tomllib.loads(text))


def test_a_run_brings_the_schema_of_this_version_where_the_file_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "images" / "a.png")
    text = "[run]\nsteps = []\n[[concept]]\nfolder = 'images'\n"
    copied = tmp_path / ".dsk" / SHIPPED.name
    for line, there in (("", False), (schema_file.LINE, True)):
        (tmp_path / "dsk.toml").write_text(f"{line}\n{text}", encoding="utf-8")
        api.run(Path("dsk.toml"), api.RunContext(dry_run=True))
        assert not copied.exists()
        api.run(Path("dsk.toml"))
        assert copied.exists() == there
    copied.write_text("of an older version", encoding="utf-8")
    api.run(Path("dsk.toml"))
    assert copied.read_bytes() == SHIPPED.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "[tga]\n",
        "[tag]\nthreshhold = 0.4\n",
        "[tag]\nthreshold = 0.001\n",
        "[tag]\nthreshold = 'prr'\n",
        "[resize]\nmax = '5'\n",
        "[resize]\nmode = 'diagonal'\n",
        "[run]\nsteps = ['tga']\n",
        "[train]\nmax_token_length = 77\n",
        "[train]\nresolution = [512]\n",
        "[train]\nsample_sampler = 'lms'\n",
        "[[concept]]\nname = 'x'\n",
        "[review]\nport = 65536\n",
    ],
)
def test_what_dsk_refuses_the_schema_refuses(text, tmp_path):
    path = tmp_path / "dsk.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        toml.load(path)
    assert not VALIDATOR.is_valid(tomllib.loads(text))


def test_what_dsk_takes_the_schema_takes(tmp_path):
    """Every default, written out, is valid."""
    tables = copy.deepcopy(schema()["properties"])
    written = {
        name: {key: one["default"] for key, one in table["properties"].items() if "default" in one}
        for name, table in tables.items()
        if name != "concept"
    }
    VALIDATOR.validate(json.loads(json.dumps(written)))
