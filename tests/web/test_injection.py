"""A corpus of hostile texts in every place of a request that takes a text: nothing is written
outside of the project, no module is imported, and each refusal says why.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasetkit.core.files import PROJECT
from datasetkit.project import job_runner
from tests.lora_files.files import pair, save
from tests.web.client import Browser, Response, studio
from tests.web.datasets import drawing

Body = dict[str, Any]
LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
# A module of somebody else that was put beside the images; it leaves a file when it is imported.
MODULE = "evil_module_of_this_test"

PATHS = [
    "..", "../x", "../../x", "a/../../x", "a/../../../x", "./../x", "/", "/tmp/x", "/etc/passwd",
    "//tmp/x", "/proc/self/cwd/../x", "~root/x", "~/../../x", "~nobody-of-this-test", "link",
    "link/x", "link/../x", "faces/link", "\0", "x\0y", "../x\0.png", "..\\x", "..\\..\\x",
    "C:\\x", "C:x", "\\\\server\\share\\x", "file:///etc/passwd", "http://evil.example/x",
    "..%2fx", "%2e%2e/x", "..\uff0fx", "\uff0e\uff0e/x", "\u2025/x", ".git/hooks/post-commit",
    ".dsk/store.sqlite", "x" * 5000, "a/" * 3000 + "x",
]  # fmt: skip
COMMANDS = [
    "__import__('os')",
    "; touch marker", "&& touch marker", "| touch marker", "`touch marker`", "$(touch marker)",
    "\ntouch marker", "\r\ntouch marker", "'; touch marker; '", '"; touch marker; "', "> marker",
    "--set", "--out=../x", "-rf", "--yes", "-", "--", "--config-file=/etc/passwd", "$HOME/x",
    "${IFS}touch", "%PATH%", "\x1b]0;x\x07", "\u202etxt.exe", "{{7*7}}", "%s%s%n", "../x\n[run]\n",
    'x"\n[train]\noptimizer_type = "evil.Class"\n#',
]  # fmt: skip
NAMES = [
    "", " ", ".", "con", "NUL.png", "a:b", "a?", "a*", "a|b", "a ", " a", "a.", "\ud800", "\x7f",
]  # fmt: skip
IMPORTS = [
    f"{MODULE}.Evil", f"{MODULE}:Evil", f"{MODULE}.sub.Evil", "os.system", "subprocess.Popen",
    "builtins.eval", "importlib.import_module", "torch.hub.load", "pickle.loads", ".evil.Evil",
    "torch.optim.Adam; import os", "torch.optim...Adam",
]  # fmt: skip
TEXTS = [*PATHS, *COMMANDS, *NAMES, *IMPORTS]
WRONG: list[Any] = [None, 5, 1.5, True, [], ["x"], {}, {"a": 1}]


@pytest.fixture(scope="module")
def page(module_path: Path) -> Iterator[Browser]:
    """A project beside folders of somebody else, and a module that must not be imported."""
    with pytest.MonkeyPatch.context() as patch:
        root = module_path
        for name in ("home", "elsewhere", "state"):
            (root / name).mkdir()
        (root / "elsewhere" / "secret.png").write_bytes(b"secret")
        patch.setenv("HOME", str(root / "home"))
        patch.setenv("XDG_STATE_HOME", str(root / "state"))
        patch.setattr(job_runner, "start", lambda: False)
        project = root / "project"
        drawing(project / "faces" / "a.png", 1).with_suffix(".txt").write_text("kitsu\n")
        (project / "link").symlink_to(root / "elsewhere")
        (project / "faces" / "link").symlink_to(root / "elsewhere")
        evil = f"open({str(root / 'home' / 'marker')!r}, 'w').close()\nclass Evil: ...\n"
        (project / f"{MODULE}.py").write_text(evil)
        (project / "dsk.toml").write_text('[[concept]]\nname = "kitsu"\nfolder = "faces"\n')
        save(project / "out" / "k-000002.safetensors", pair(LAYER, 8, 8, 2), {"ss_epoch": "2"})
        drawing(project / "out" / "grid" / "images" / "k-000002-a.png", 2)
        line = {"file": "images/k-000002-a.png", "at": [{"epoch": "epoch 2"}],
                "lora_name": "k-000002", "lora": "", "seed": 1}  # fmt: skip
        (project / "out" / "grid" / "grid.jsonl").write_text(json.dumps(line) + "\n")
        patch.syspath_prepend(str(project))
        with studio(project) as browser:
            yield browser


def tree(*folders: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


def send(page: Browser, method: str, path: str, body: Any) -> Response:
    return page.ask(method, f"/api/{path}", json.dumps(body).encode(), page.headers)


def file(path: Any) -> Body:
    return {"files": [{"path": path, "size": 9, "modified": 0}], "to": "new"}


def train(option: str) -> Callable[[Any], Body]:
    return lambda text: {"verb": "train", "arguments": ["."], "options": {option: text}}


def config(option: str) -> Callable[[Any], Body]:
    return lambda text: {"hash": None, "set": {"train": {option: text}}}


def kept(option: str) -> Callable[[Any], Body]:
    options = {"to": "kept", "name": "k"}
    return lambda text: {"grid": "GRID", "file": 0, "cell": 0, "dry_run": True,
                         "options": {**options, option: text}}  # fmt: skip


def step(name: str, option: str) -> Callable[[Any], Body]:
    return lambda text: {"concept": 0, "dry_run": True, "steps": {name: {option: text}}}


# Place -> method, route, and the body with a text in that place. `command` checks what `jobs` and
# `plan` run.
PLACES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "folder to browse": ("POST", "browse", lambda text: {"path": text}),
    "filter of folders": ("POST", "browse", lambda text: {"path": "", "filter": text}),
    "file to upload": ("POST", "uploads", file),
    "folder of an upload": ("POST", "uploads", lambda text: {**file("a.png"), "to": text}),
    "concept of an upload": ("POST", "uploads", lambda text: {**file("a.png"), "concept": text}),
    "name of a concept": ("POST", "concepts", lambda text: {"name": text}),
    "folder of a concept": ("POST", "concepts", lambda t: {"name": "concept", "folder": t}),
    "prefix": ("POST", "prepare", step("rename", "prefix")),
    "faces": ("POST", "prepare", step("faces", "do")),
    "background": ("POST", "prepare", step("cutout", "bg")),
    "size": ("POST", "prepare", step("resize", "max")),
    "an option that is none": ("POST", "prepare", lambda t: step("resize", str(t))(64)),
    "check": ("POST", "check/fix", lambda text: {"checks": [text], "dry_run": True}),
    "folder to keep in": ("POST", "loras/keep", kept("to")),
    "name to keep as": ("POST", "loras/keep", kept("name")),
    "weight": ("POST", "loras/keep", kept("weight")),
    "trigger": ("POST", "loras/keep", kept("trigger")),
    "grid": ("POST", "loras/keep", lambda text: {**kept("name")("k"), "grid": text}),
    "mark": ("POST", "grids/GRID/marks", lambda text: {"cell": 0, "mark": text}),
    "verb": ("POST", "jobs", lambda text: {"verb": text, "arguments": ["."]}),
    "argument": ("POST", "command", lambda text: {"verb": "check", "arguments": [text]}),
    "argument of layout": (
        "POST",
        "command",
        lambda t: {"verb": "layout", "arguments": [f"a={t}"]},
    ),
    "when": ("POST", "jobs", lambda t: {"verb": "check", "arguments": ["."], "when": t}),
    "output_dir": ("POST", "command", train("output_dir")),
    "output_name": ("POST", "command", train("output_name")),
    "logging_dir": ("POST", "command", train("logging_dir")),
    "sample_prompts": ("POST", "command", train("sample_prompts")),
    "network_weights": ("POST", "command", train("network_weights")),
    "vae": ("POST", "command", train("vae")),
    "optimizer_type": ("POST", "command", train("optimizer_type")),
    "lr_scheduler_type": ("POST", "command", train("lr_scheduler_type")),
    "network_module": ("POST", "command", train("network_module")),
    "optimizer_args": ("POST", "command", lambda t: train("optimizer_args")([f"x={t}"])),
    "optimizer_type in dsk.toml": ("PUT", "config", config("optimizer_type")),
    "lr_scheduler_type in dsk.toml": ("PUT", "config", config("lr_scheduler_type")),
    "output_dir in dsk.toml": ("PUT", "config", config("output_dir")),
    "the example": ("POST", "start", lambda text: {"example": text}),
}
# Here no text of the corpus is harmless.
CODE = ("optimizer_type", "lr_scheduler_type", "network_module")


def problems(page: Browser, place: str, texts: Sequence[Any]) -> list[str]:
    """Send each text in a place; return what is wrong with the answers."""
    method, path, body = PLACES[place]
    grid = page.get("grids")["grids"][0]["id"]
    wrong = []
    for text in texts:
        request = json.loads(json.dumps(body(text)).replace("GRID", grid))
        response = send(page, method, path.replace("GRID", grid), request)
        explains = response.status == 200 or b'"error":"' in response.body
        if not 200 <= response.status < 500 or not explains or b"secret" in response.body:
            wrong.append(f"{ascii(text)[:80]}: {response.status} {ascii(response.body)[:200]}")
    return wrong


def require_nothing_outside(page: Browser, before: dict[str, str]) -> None:
    root = page.folder.parent
    assert tree(root / "home", root / "elsewhere") == before
    assert sorted(path.name for path in root.iterdir()) == [
        "elsewhere", "home", "project", "state"
    ]  # fmt: skip
    assert MODULE not in sys.modules
    assert not [path for path in root.rglob("*marker*") if PROJECT not in path.parts]


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_text_changes_nothing_outside_of_the_project(page, place):
    """Each place gets another ninth of the corpus; the test below has all of it."""
    before = tree(page.folder.parent / "home", page.folder.parent / "elsewhere")
    first = list(PLACES).index(place) % 9
    assert problems(page, place, [*TEXTS[first::9], WRONG[first % len(WRONG)]]) == []
    require_nothing_outside(page, before)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_the_corpus_changes_anything_outside_of_the_project(page, place):
    before = tree(page.folder.parent / "home", page.folder.parent / "elsewhere")
    assert problems(page, place, [*TEXTS, *WRONG]) == []
    require_nothing_outside(page, before)


@pytest.mark.parametrize("place", [p for p in PLACES if p.startswith(CODE)])
def test_no_class_is_named_by_an_import_path(page, place):
    method, path, body = PLACES[place]
    for text in IMPORTS:
        response = send(page, method, path, body(text))
        assert response.status in (400, 403, 409), (text, response.body[:200])
    assert MODULE not in sys.modules


@pytest.mark.parametrize(
    "place", ["folder to browse", "folder of a concept", "folder to keep in", "output_dir",
              "argument"],
)  # fmt: skip
def test_a_path_out_of_the_roots_is_refused(page, place):
    method, path, body = PLACES[place]
    grid = page.get("grids")["grids"][0]["id"]
    for text in ("..", "../x", "a/../../x", "/tmp/x", "/etc/passwd", "link", "link/x", "\0", "/"):
        request = json.loads(json.dumps(body(text)).replace("GRID", grid))
        assert send(page, method, path, request).status in (400, 403), text


@pytest.mark.parametrize("path", PATHS[:30], ids=ascii)
def test_a_name_in_an_address_is_not_a_path(page, path):
    encoded = "".join(f"%{byte:02x}" for byte in path.encode("utf-8", "surrogatepass"))
    for route in ("/source/{}", "/made/{}", "/cell/{}/0", "/api/sources/{}", "/api/grids/{}",
                  "/api/uploads/{}", "/api/jobs/{}", "/api/runs/{}"):  # fmt: skip
        response = page.ask("GET", route.format(encoded), headers={"Cookie": page.cookie})
        assert response.status in (400, 404, 405), (route, response.status)
        assert b"secret" not in response.body and b"root:" not in response.body
