"""The fallback tagger is named where it is used: first and last, in JSON, and who needs WD14 can
say so.
"""

from __future__ import annotations

import huggingface_hub
import pytest

from datasetkit import hub
from datasetkit.core.errors import Exit
from taggers import models, registry
from taggers.base import TaggerOptions
from tests.cli.conftest import captions, images

RUN = """
[run]
steps = ["tag"]
[[concept]]
folder = "pics"
name = "a"
[[concept]]
folder = "more"
name = "b"
[tag]
tagger = "{tagger}"
"""
WIDTH = 80
FETCH = models.fetch


@pytest.fixture(params=["tag", "run"])
def command(request, here):
    """A command that tags, with the tagger as its argument."""

    def arguments(tagger: str) -> list[str]:
        images(here / "pics", 2)
        images(here / "more", 1)
        (here / "dsk.toml").write_text(RUN.format(tagger=tagger))
        return ["run", "dsk.toml"] if request.param == "run" else ["tag", "pics"]

    return arguments


def test_the_fallback_is_said_in_the_first_and_in_the_last_line(command, dsk):
    ended = dsk(*command("auto"))
    assert ended.code == Exit.DONE
    first, last = ended.err.splitlines()[0], ended.out.rstrip("\n").splitlines()[-1]
    for line in (first, last):
        assert "fallback basic" in line and len(line) <= WIDTH
    assert "--tagger wd14" in last


def test_json_says_that_the_fallback_was_used(command, dsk):
    assert dsk(*command("auto"), "--json").result["fallback"] is True


@pytest.mark.parametrize("tagger", ["basic"])
def test_who_names_basic_gets_no_fallback(tagger, command, dsk):
    assert dsk(*command(tagger), "--json").result["fallback"] is False
    assert "--tagger wd14" not in dsk(*command(tagger)).out


def test_wd14_by_name_ends_with_12_where_it_cannot_be_had(command, dsk, here):
    ended = dsk(*command("wd14"))
    assert ended.code == Exit.MODEL
    assert f"dsk models download {models.DEFAULT}" in ended.err
    assert not captions(here / "pics")


def test_the_option_that_the_last_line_names_ends_with_12(dsk, here):
    images(here / "pics", 1)
    last = dsk("tag", "pics").out.rstrip("\n").splitlines()[-1]
    option = last.split("`")[1].split()
    assert dsk("tag", "pics", *option).code == Exit.MODEL


def test_wd14_is_the_name_of_the_default_model():
    assert "wd14" in registry.names()
    assert models.find("wd14") == models.MODELS[models.DEFAULT]
    assert registry.resolve("wd14", TaggerOptions(provider="cpu")).identity.name == models.DEFAULT


def test_wd14_twice_is_one_tagger(dsk, here):
    images(here / "pics", 1)
    ended = dsk("tag", "pics", "--tagger", f"wd14,{models.DEFAULT}")
    assert ended.code == Exit.USAGE and "one tagger" in ended.err


def test_wd14_has_the_threshold_of_its_card(dsk, here):
    images(here / "pics", 1)
    assert dsk("tag", "pics", "--tagger", "wd14", "--threshold", "pr").code == Exit.MODEL


def test_why_it_is_the_fallback_is_one_short_line(monkeypatch):
    """Whatever the client of the hub answers: URLs, several lines, a revision."""

    def unreachable(*_, **__):
        raise OSError("Cannot reach https://huggingface.co/x/resolve/805ca98/model.onnx\nretry")

    monkeypatch.setattr(hub, "cached", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(models, "fetch", FETCH)
    resolved = registry.resolve("auto", TaggerOptions(provider="cpu"))
    name = models.DEFAULT
    assert resolved.fallback == (
        f"the tagger {name} is not on this machine: `dsk models download {name}` downloads it, or "
        "says why not"
    )
