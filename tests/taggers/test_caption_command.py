"""`dsk caption`: what is asked, what is stored, and what is written to captions."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import ConfigError, ModelFileError
from taggers import chat_client
from tests import chat_server
from tests.chat_server import error, raw, says
from tests.taggers.test_florence2 import TINY

COLOURS = ("red", "green", "blue")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "imgs"
    images.mkdir()
    for name in COLOURS:
        Image.new("RGB", (40, 30), name).save(images / f"{name}.png")
    return images


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv(chat_client.KEY_VARIABLE, raising=False)
    with chat_server.serve() as running:
        yield running


def ask(folder, server, **options):
    settings = {"engine": "server", "endpoint": server.endpoint, "workers": 1, **options}
    return api.caption(folder, api.CaptionOptions(**settings))


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


def write(folder: Path, text: str, names=COLOURS) -> None:
    for name in names:
        (folder / f"{name}.txt").write_text(text, "utf-8")


def project(folder: Path, captions: str, more: str = "") -> None:
    (folder / "dsk.toml").write_text(f'[dataset]\ncaptions = "{captions}"\n{more}', "utf-8")


# ---- Florence-2


@pytest.mark.long
def test_florence2_writes_the_trigger_and_the_sentence_and_a_rerun_costs_nothing(folder):
    options = api.CaptionOptions(
        model_dir=str(TINY), beams=1, trigger=("sks",), provider="cpu", workers=1
    )
    first = api.caption(folder, options)
    assert (first.described, first.device) == (3, "cpu")
    assert texts(folder)["red"].startswith("sks, ")
    again = api.caption(folder, options)
    assert (again.described, again.changes, again.device) == (0, (), "")
    other = api.caption(folder, api.CaptionOptions(model_dir=str(TINY), beams=1, prompt="caption"))
    assert other.described == 3
    assert texts(folder)["red"].startswith("sks, ")
    assert run(["undo", str(folder)]) == 0
    assert run(["undo", str(folder)]) == 0
    assert texts(folder) == {}


def test_dry_run_asks_no_model_and_writes_nothing(folder, server):
    options = api.CaptionOptions(engine="server", endpoint=server.endpoint, model="m")
    planned = api.caption(folder, options, api.RunContext(dry_run=True))
    assert (planned.waiting, planned.described, server.requests) == (3, 0, [])
    assert planned.prompt.startswith("Write a caption of two or three sentences")
    assert list(folder.iterdir()) == sorted(folder.glob("*.png"))
    ask(folder, server, model="m")
    for path in folder.glob("*.txt"):
        path.unlink()
    planned = api.caption(folder, options, api.RunContext(dry_run=True))
    assert (planned.waiting, len(planned.changes)) == (0, 3)
    assert texts(folder) == {}


# ---- what is asked


def test_template_gets_what_is_known_of_each_image(folder, server):
    write(folder, "sks, 1girl, long hair, blue eyes\n")
    prompt = "Tags {tags}; name {trigger} in {folder}/{name}.\nNot {exclude}.\nA \\{brace\\}."
    ask(folder, server, prompt=prompt, exclude=("@eyes",), existing="overwrite")
    assert server.prompts[1] == (
        "Tags 1girl, long hair; name sks in imgs/green.\nNot eyes.\nA {brace}."
    )


def test_lines_without_a_value_are_left_out(folder, server):
    ask(folder, server, prompt="Describe it.\nTags: {tags}.\nDo not mention {exclude}.")
    assert set(server.prompts) == {"Describe it."}


def test_scores_of_a_tagger_stand_in_for_tags(folder, server):
    api.tag(folder, api.TagOptions(tagger="basic"))
    project(folder, "sentence")
    write(folder, "A sentence.\n")
    ask(folder, server, prompt="Tags: {tags}.", existing="overwrite")
    assert "simple background" in server.prompts[0]


@pytest.mark.parametrize("preset", ["caption", "detailed", "paragraph", "training"])
def test_presets_ask_not_to_mention_what_is_excluded(folder, server, preset):
    ask(folder, server, prompt=preset, exclude=("lips", "*_hair"))
    assert "Do not mention, and do not hint at: lips, hair." in server.prompts[0]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("detailled", "did you mean detailed"),
        ("Say {tag}.", "did you mean {tags}"),
        ("Say {tags.", r"write \{ and \}"),
        ("Say }.", r"write \{ and \}"),
        ("", "presets"),
    ],
)
def test_prompt_that_cannot_be_used_is_refused_before_any_request(folder, server, prompt, said):
    with pytest.raises(ConfigError) as refused:
        ask(folder, server, prompt=prompt)
    assert said in refused.value.hint
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "Say something."},
        {"prompt": "training"},
        {"endpoint": "http://127.0.0.1:1/v1"},
        {"model": "m"},
        {"system": "Be plain."},
        {"engine": "server", "model_dir": "x"},
        {"engine": "microsoft/Florence-2-base"},
        {"join": "tags-then-sentence"},
        {"join": "lines"},
        {"exclude": ("@nothing",)},
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options):
    with pytest.raises(ConfigError) as refused:
        api.caption(folder, api.CaptionOptions(**options))
    assert refused.value.hint
    assert sorted(folder.iterdir()) == sorted(folder.glob("*.png"))


# ---- what is stored


def test_stored_answers_depend_on_prompt_and_settings_and_survive_a_rename(folder, server):
    ask(folder, server, model="m")
    assert ask(folder, server, model="m").described == 0
    (folder / "red.png").rename(folder / "scarlet.png")
    (folder / "red.txt").unlink()
    renamed = ask(folder, server, model="m")
    assert (renamed.described, len(renamed.changes)) == (0, 1)
    for other in ({"prompt": "caption"}, {"temperature": 1.0}, {"seed": 1}, {"model": "n"}):
        assert ask(folder, server, **{"model": "m", **other}).described == 3
    assert len(server.requests) == 15


def test_copies_of_an_image_are_asked_about_once(folder, server):
    shutil.copy(folder / "red.png", folder / "copy.png")
    result = ask(folder, server)
    assert (result.described, len(result.changes)) == (3, 4)


def test_stored_answers_need_no_server(folder, server):
    ask(folder, server, model="m")
    for path in folder.glob("*.txt"):
        path.unlink()
    options = api.CaptionOptions(engine="server", endpoint="http://127.0.0.1:9/v1", model="m")
    assert len(api.caption(folder, options).changes) == 3


@pytest.mark.parametrize("row", [b"", b"7", b"\xff", b"[" * 9999, b'"' + b"a" * 200_000 + b'"'])
def test_stored_answer_of_a_strange_project_is_asked_for_again(folder, server, row):
    ask(folder, server, model="m")
    with sqlite3.connect(folder / ".dsk" / "store.sqlite") as database:
        database.execute("UPDATE measurements SET row = ?", (row,))
    database.close()
    assert ask(folder, server, model="m").described == 3


def test_stored_answer_of_a_strange_project_is_made_plain(folder, server):
    ask(folder, server, model="m")
    with sqlite3.connect(folder / ".dsk" / "store.sqlite") as database:
        row = json.dumps("One\nline {a|b} \x1b[31m").encode()
        database.execute("UPDATE measurements SET row = ?", (row,))
    database.close()
    ask(folder, server, model="m")
    assert texts(folder)["red"] == "One line (a/b) [31m\n"


# ---- when it fails


def test_image_that_fails_is_named_and_the_others_are_written(folder, server, capsys):
    server.replies = [says(""), says("Green."), says("Red.")]
    command = ["caption", str(folder), "--engine", "server", "--endpoint", server.endpoint]
    assert run(command) == 3
    assert sorted(texts(folder)) == ["green", "red"]
    shown = capsys.readouterr()
    assert "blue.png: the model did not describe it: its answer is empty" in shown.err
    assert run(command) == 0
    assert sorted(texts(folder)) == ["blue", "green", "red"]


def test_server_that_is_not_there_ends_with_12_and_nothing_changed(folder):
    command = ["caption", str(folder), "--engine", "server", "--model", "m"]
    assert run([*command, "--endpoint", "http://127.0.0.1:9/v1"]) == 12
    assert texts(folder) == {}


def test_server_that_stops_keeps_what_it_answered(folder, server):
    for n in range(9):
        Image.new("RGB", (20, 20), (n, n, n)).save(folder / f"{n}.png")
    server.replies = [*[says("Fine.")] * 4, raw(b"no")]
    with pytest.raises(ModelFileError, match="5 images in a row"):
        ask(folder, server)
    assert texts(folder) == {}
    server.replies = [says("Fine.")]
    assert ask(folder, server).described == 8


def test_several_requests_at_once(folder, server):
    for n in range(20):
        Image.new("RGB", (20, 20), (n, n, n)).save(folder / f"{n}.png")
    slow = says("Fine.")

    def answer(handler, body):
        server.release.wait(0.02)
        slow(handler, body)

    server.replies = [answer]
    assert ask(folder, server, jobs=4).described == 23
    assert 2 <= server.most_at_once <= 4


def test_several_requests_at_once_keep_their_answers_when_the_server_stops(folder, server):
    for n in range(20):
        Image.new("RGB", (20, 20), (n, n, n)).save(folder / f"{n}.png")
    server.replies = [*[says("Fine.")] * 4, raw(b"no")]
    with pytest.raises(ModelFileError, match="images in a row"):
        ask(folder, server, jobs=2)
    server.replies = [says("Fine.")]
    assert ask(folder, server, jobs=2).described == 19


# ---- whose caption it is


def test_caption_of_a_person_is_kept_unless_asked(folder, server):
    project(folder, "sentence")
    ask(folder, server)
    write(folder, "A sentence by hand.\n", ["red"])
    server.replies = [says("A new one.")]
    kept = ask(folder, server, prompt="caption")
    assert texts(folder) == {
        "blue": "A new one.\n", "green": "A new one.\n", "red": "A sentence by hand.\n",
    }  # fmt: skip
    assert [skip.record.path.stem for skip in kept.report.skipped] == ["red"]
    ask(folder, server, prompt="caption", existing="append")
    assert texts(folder)["red"] == "A sentence by hand. A new one.\n"
    write(folder, "A sentence by hand.\n", ["red"])
    ask(folder, server, prompt="caption", existing="prepend")
    assert texts(folder)["red"] == "A new one. A sentence by hand.\n"
    ask(folder, server, prompt="caption", existing="overwrite")
    assert texts(folder)["red"] == "A new one.\n"


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("auto", "sks, 1girl, solo\nA red square.\n"),
        ("tags-then-sentence", "sks, 1girl, solo\nA red square.\n"),
        ("sentence-then-tags", "sks, A red square.\n1girl, solo\n"),
        ("sentence", "sks, A red square.\n"),
    ],
)
def test_mixed_caption_has_its_tags_and_the_sentence(folder, server, join, expected):
    project(folder, "mixed")
    write(folder, "sks, 1girl, solo\n")
    existing = "overwrite" if join == "sentence" else "skip"
    first = ask(folder, server, join=join, existing=existing, prompt="caption")
    body = texts(folder)["red"]
    assert body == expected
    assert len(first.changes) == 3
    again = ask(folder, server, join=join, existing=existing, prompt="caption")
    assert (again.described, again.changes) == (0, ())
    assert texts(folder)["red"] == body


def test_sentence_is_replaced_and_the_tags_of_a_person_stay(folder, server):
    project(folder, "mixed")
    write(folder, "1girl, solo\n")
    ask(folder, server)
    write(folder, "1girl, smile\nA red square.\n")
    server.replies = [says("A better one.")]
    ask(folder, server, prompt="caption")
    assert set(texts(folder).values()) == {"1girl, smile\nA better one.\n"}
    write(folder, "1girl, smile\nBy hand.\n")
    server.replies = [says("The third.")]
    kept = ask(folder, server, prompt="paragraph")
    assert len(kept.report.skipped) == 3
    ask(folder, server, prompt="paragraph", existing="append")
    assert set(texts(folder).values()) == {"1girl, smile\nBy hand. The third.\n"}


def test_tags_are_written_beside_a_sentence_that_is_there(folder, server):
    project(folder, "mixed")
    ask(folder, server)
    assert set(texts(folder).values()) == {"A red square.\n"}
    api.tag(folder, api.TagOptions(tagger="basic"))
    tags, sentence = texts(folder)["red"].splitlines()
    assert "simple background" in tags
    assert sentence == "A red square."
    assert ask(folder, server, prompt="Same for {name}").described == 3
    assert texts(folder)["red"].splitlines()[0] == tags


def test_lines_are_captions_of_their_own_each_with_the_trigger(folder, server):
    project(folder, "mixed", "[train]\nenable_wildcard = true\n")
    write(folder, "sks, 1girl, solo\n")
    for _ in range(2):
        ask(folder, server, trigger=("sks",))
        assert texts(folder)["red"] == "sks, 1girl, solo\nsks, A red square.\n"
    with pytest.raises(ConfigError, match="caption of its own"):
        ask(folder, server, join="tags-then-sentence")


def test_folders_of_different_kinds_need_one_join(folder, server):
    for name, colour in (("a", "red"), ("b", "green")):
        (folder / name).mkdir()
        (folder / f"{colour}.png").rename(folder / name / f"{colour}.png")
    (folder / "blue.png").unlink()
    concepts = '[[concept]]\nfolder = "a"\ncaptions = "mixed"\n[[concept]]\nfolder = "b"\n'
    (folder / "dsk.toml").write_text(concepts, "utf-8")
    with pytest.raises(ConfigError, match="different kinds"):
        ask(folder, server, recursive=True)
    assert len(ask(folder, server, recursive=True, join="sentence").changes) == 2
    assert ask(folder / "a", server).join == "tags-then-sentence"


def test_sidecar_leaves_the_tags_alone(folder, server):
    write(folder, "sks, 1girl, solo\n")
    first = ask(folder, server, join="sidecar", trigger=("sks",))
    assert set(texts(folder).values()) == {"sks, 1girl, solo\n"}
    files = sorted(folder.glob("*.caption"))
    assert [path.read_text("utf-8") for path in files] == ["sks, A red square.\n"] * 3
    assert len(first.changes) == 3
    assert ask(folder, server, join="sidecar", trigger=("sks",)).changes == ()
    files[0].write_text("By hand.\n", "utf-8")
    server.replies = [says("Another.")]
    ask(folder, server, join="sidecar", prompt="caption")
    assert files[0].read_text("utf-8") == "By hand.\n"
    assert "Another." in files[1].read_text("utf-8")
    ask(folder, server, join="sidecar", prompt="caption", existing="append", trigger=("sks",))
    assert files[0].read_text("utf-8") == "By hand. sks, Another.\n"
    assert run(["undo", str(folder)]) == 0
    assert files[0].read_text("utf-8") == "By hand.\n"


# ---- the trigger, and what it absorbs


def test_known_trigger_is_put_in_front_once(folder, server):
    project(folder, "sentence", '[tag]\ntrigger = ["sks", "woman"]\n')
    ask(folder, server)
    assert set(texts(folder).values()) == {"sks, woman, A red square.\n"}
    server.replies = [says("sks, woman, A blue one.")]
    ask(folder, server, prompt="caption")
    assert set(texts(folder).values()) == {"sks, woman, A blue one.\n"}


def test_captions_that_mention_what_is_excluded_are_named(folder, server, capsys):
    server.replies = [
        says("Her red hair and full lips shine."), says("A wet hair clip by the lip."),
        says("A hairpin."),
    ]  # fmt: skip
    command = ["caption", str(folder), "--engine", "server", "--endpoint", server.endpoint]
    assert run([*command, "--exclude", "@hair,lips"]) == 0
    shown = capsys.readouterr().err
    assert "blue.png mentions what is excluded: red hair, lips" in shown
    assert "green.png" not in shown
    assert "red.png" not in shown


def test_captions_of_tags_are_told_to_be_sentences_now(folder, server):
    result = ask(folder, server)
    assert any('captions = "sentence"' in warning for warning in result.warnings)
    project(folder, "sentence")
    assert ask(folder, server, prompt="caption").warnings == ()


def test_tags_that_a_sentence_replaces_are_named(folder, server):
    api.tag(folder, api.TagOptions(tagger="basic"))
    replaced = ask(folder, server)
    assert any("3 captions had tags" in warning for warning in replaced.warnings)
    again = ask(folder, server, prompt="caption")
    assert not any("had tags" in warning for warning in again.warnings)
    write(folder, "sks, 1girl\n")
    joined = ask(folder, server, existing="append")
    assert not any("had tags" in warning for warning in joined.warnings)


# ---- what a dsk.toml may decide


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('endpoint = "http://127.0.0.1:1/v1"', "does not count from a file that is only found"),
        ("remote = true", "counts on the command line only"),
    ],
)
def test_found_file_does_not_decide_where_images_are_sent(folder, capsys, table, said):
    (folder / "dsk.toml").write_text(f'[caption]\nengine = "server"\n{table}\n', "utf-8")
    assert run(["caption", str(folder)]) == 2
    assert said in capsys.readouterr().err


def test_json_names_the_engine_and_no_key(folder, server, capsys, monkeypatch):
    monkeypatch.setenv(chat_client.KEY_VARIABLE, "sk-secret")
    server.replies = [error(400, "sk-secret is wrong"), says("Fine.")]
    command = ["caption", str(folder), "--engine", "server", "--endpoint", server.endpoint]
    assert run([*command, "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["result"]["engine"] == "server:tiny"
    assert "sk-secret" not in shown.out + shown.err
    assert b"sk-secret" not in (folder / ".dsk" / "store.sqlite").read_bytes()


# ---- Ctrl-C


@pytest.mark.parametrize("jobs", [1, 3])
def test_ctrl_c_does_not_wait_for_answers_and_keeps_those_that_came(folder, server, jobs):
    main = threading.main_thread().ident
    assert main is not None

    def hang(handler, body):
        signal.pthread_kill(main, signal.SIGINT)
        server.hang(handler, body)

    server.replies = [says("Fine."), hang]
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(folder, server, jobs=jobs, timeout=60)
    assert time.monotonic() - begin < 10
    assert texts(folder) == {}
    server.replies = [says("Fine.")]
    again = ask(folder, server, jobs=jobs)
    assert again.described == (2 if jobs == 1 else 3)
    assert len(texts(folder)) == 3


def test_ctrl_c_between_two_requests_does_not_wait_for_the_first(folder, server, monkeypatch):
    asked = threading.Event()
    submit = ThreadPoolExecutor.submit

    def hang(handler, body):
        asked.set()
        server.hang(handler, body)

    def interrupted(pool, function, *arguments):
        if "dsk-server" in pool._thread_name_prefix and asked.is_set():
            raise KeyboardInterrupt
        sent = submit(pool, function, *arguments)
        if "dsk-server" in pool._thread_name_prefix:
            assert asked.wait(10)
        return sent

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    server.replies = [hang]
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(folder, server, jobs=3, timeout=60)
    assert time.monotonic() - begin < 10
