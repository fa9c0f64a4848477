"""A dsk.toml that lies beside or above images may have come with them: it does not decide where
outside of its folder dsk writes, what code is imported, or who may open the review page.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.options import toml
from datasetkit.options.declare import declared
from datasetkit.options.run import ConceptOptions
from tests.cli.conftest import images, snapshot

CLASSES: dict[str, Any] = {name: toml.options_class(name) for name in toml.TABLES}
OPTIONS = [(table, d) for table, cls in CLASSES.items() for d in declared(cls)]
# Those of `dsk lora` count on the command line only.
WRITTEN = [
    (table, d)
    for table, d in OPTIONS
    if d.is_written and table != "run" and d.about.counts_from != "command line"
]
# The smallest command of each table that writes to a path, on the folder `downloaded`.
COMMANDS = {
    "check": ("check", "downloaded"),
    "faces": ("faces", "list", "downloaded"),
    "report": ("report", "downloaded"),
    "export": ("export", "downloaded"),
    "train": ("train", "downloaded", "--dry-run"),
}
NEEDED = {
    "train": (
        "pretrained_model_name_or_path = 'tiny'",
        "resolution = 128",
        "max_train_epochs = 1",
        "network_dim = 4",
    )
}


@pytest.fixture
def downloaded(here):
    """A folder of images with captions that somebody sent, beside a home with files of the user."""
    folder = here / "downloaded"
    for path in images(folder):
        path.with_suffix(".txt").write_text("sks, lips\n")
    (here / "home").mkdir()
    (here / "home" / "ledger.csv").write_text("mine,1\n")
    return folder


def settings(folder: Path, text: str) -> Path:
    path = folder / "dsk.toml"
    path.write_text(text)
    return path


def ids(rows):
    return [f"{table}-{d.name}" for table, d in rows]


# ---- places that are written


def value_of(d) -> str:
    ends = {"csv": ".csv", "sheet": ".png", "review": ".png"}
    return f"../home/new{ends.get(d.name, '')}"


@pytest.mark.parametrize(("table", "d"), WRITTEN, ids=ids(WRITTEN))
def test_a_found_file_does_not_write_outside_of_its_folder(downloaded, table, d):
    path = settings(downloaded, f"[{table}]\n{d.name} = '{value_of(d)}'\n")
    with pytest.raises(ConfigError, match=f"{d.name} = .* lies outside") as refused:
        toml.find(downloaded).build(CLASSES[table], table)
    assert str(downloaded.parent / "home") in refused.value.hint  # with what to type
    typed = toml.find(downloaded).build(CLASSES[table], table, {d.name: value_of(d)})
    assert getattr(typed, d.name) == value_of(d)
    named = toml.load(path).build(CLASSES[table], table)
    assert getattr(named, d.name).endswith(value_of(d))


@pytest.mark.parametrize("place", ["/etc/dsk-test", "../x", "a/../../x", "link/x"])
def test_a_place_is_outside_however_it_is_written(downloaded, place):
    (downloaded / "link").symlink_to(downloaded.parent / "home")
    settings(downloaded, f"[report]\nout = '{place}'\n")
    with pytest.raises(ConfigError, match="lies outside"):
        toml.find(downloaded).build(CLASSES["report"], "report")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("check", "csv = '../home/ledger.csv'"),
        ("check", "sheet = '../home/new.png'"),
        ("report", "out = '../home/report'"),
        ("export", "out = '../home/export'"),
        ("train", "output_dir = '../home/loras'"),
        ("train", "logging_dir = '../home/logs'"),
    ],
)
def test_a_command_stops_at_such_a_place_and_says_what_to_type(dsk, here, downloaded, table, line):
    lines = "\n".join((*NEEDED.get(table, ()), line))
    settings(downloaded, f"[{table}]\n{lines}\n")
    before = snapshot(here / "home")
    ended = dsk(*COMMANDS[table])
    name = line.partition(" ")[0]
    switch = f"--set {name}=" if table == "train" else f"--{name} "
    assert ended.code == 2 and f"{name} = " in ended.err and "lies outside" in ended.err
    assert switch in ended.err and snapshot(here / "home") == before


def test_the_option_that_is_typed_works(dsk, here, downloaded):
    settings(downloaded, "[report]\nout = '../home/x'\n")
    assert dsk("report", "downloaded", "--out", "home/x").code == 0
    assert (here / "home" / "x" / "tags.csv").is_file()


def test_a_place_within_the_folder_counts(dsk, here, downloaded):
    settings(downloaded, "[report]\nout = 'tables'\n")
    assert dsk("report", "downloaded").code == 0
    assert (downloaded / "tables" / "tags.csv").is_file()


def test_what_another_table_says_stops_no_command(dsk, here, downloaded):
    settings(downloaded, "[report]\nout = '../home/x'\n[train]\noutput_dir = '../home/y'\n")
    assert dsk("check", "downloaded").code == 0
    assert dsk("export", "downloaded").code == 0


def test_reg_generate_does_not_leave_the_folder_either(dsk, here, downloaded):
    settings(
        downloaded,
        "[layout]\nout = '../home/set'\n[reg-generate]\nclass_name = 'girl'\nbase = 'tiny'\n",
    )
    ended = dsk("reg", "generate", "downloaded", "--dry-run")
    assert ended.code == 2 and "dsk reg generate " in ended.err
    assert not (here / "home" / "set").exists()


def test_captions_of_concepts_outside_are_not_changed(dsk, here, downloaded):
    images(here / "home" / "private")
    (here / "home" / "private" / "a1.txt").write_text("sks, sks, 1girl\n")
    text = "[run]\nsteps = ['tag']\n[[concept]]\nfolder = '../home/private'\n"
    settings(downloaded, text)
    before = snapshot(here / "home", all_of_it=False)
    ended = dsk("check", "downloaded", "--fix")
    assert ended.code == 2 and str(here / "home" / "private") in ended.err
    with pytest.raises(ConfigError, match="lies outside"):
        api.review(downloaded, api.ReviewOptions(open=False))
    assert snapshot(here / "home", all_of_it=False) == before
    assert dsk("check", "downloaded").code == 0  # reading is allowed


def test_links_are_followed_from_a_named_file_only(dsk, here, downloaded):
    [image, *_] = images(here / "home" / "private", 1)
    (downloaded / "b.png").symlink_to(image)
    settings(downloaded, "[rules]\nfollow_links = true\n")
    ended = dsk("rules", "downloaded", "--exclude", "lips")
    assert ended.code == 2 and "--follow-links" in ended.err
    typed = dsk("rules", "downloaded", "--exclude", "lips", "--no-follow-links")
    assert typed.code == 3 and "b.png: is a symbolic link" in typed.err


# ---- a file that is named


def test_dsk_run_shows_places_outside_before_it_writes_there(dsk, here, downloaded):
    settings(
        downloaded,
        "[run]\nsteps = ['layout', 'report']\n[layout]\nout = '../home/set'\n"
        "[[concept]]\nname = 'sks'\nfolder = '.'\n",
    )
    foreseen = dsk("run", "downloaded/dsk.toml", "--dry-run")
    line = f"[layout] out lies outside of {downloaded}: {here / 'home' / 'set'}"
    unwrapped = " ".join(foreseen.err.split())
    assert foreseen.code == 0 and line in unwrapped
    assert not (here / "home" / "set").exists()
    assert dsk("run", "downloaded/dsk.toml", "--json").json["warnings"][0] == line
    assert (here / "home" / "set" / "train").is_dir()


def test_dsk_train_takes_a_named_file_and_shows_its_places(dsk, here, downloaded):
    lines = "\n".join((*NEEDED["train"], "output_dir = '../home/loras'"))
    images(downloaded / "dataset" / "train" / "2_sks")
    settings(downloaded, f"[train]\n{lines}\n")
    assert dsk("train", "downloaded", "--dry-run").code == 2
    ended = dsk("train", "downloaded/dsk.toml", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    assert f"output_dir lies outside of {downloaded}" in ended.json["warnings"][0]
    assert ended.result["plan"]["options"]["output_dir"].endswith("home/loras")
    (downloaded / "other.toml").write_text("[train]\nresolution = 512\n")
    assert "is not called dsk.toml" in dsk("train", "downloaded/other.toml").err


def test_places_of_a_named_sd_scripts_file_are_shown(dsk, here, downloaded):
    images(here / "set" / "2_sks")
    (here / "config.toml").write_text(
        "train_data_dir = 'set'\noutput_dir = '/tmp/loras'\n"
        "pretrained_model_name_or_path = 'tiny'\n"
    )
    ended = dsk("train", "--config-file", "config.toml", "--dry-run", "--json")
    assert "output_dir lies outside" in ended.json["warnings"][0]


def test_places_that_are_only_read_count_from_a_found_file(downloaded):
    settings(
        downloaded,
        "[train]\npretrained_model_name_or_path = '../home/base.safetensors'\n"
        "vae = '../home/vae.safetensors'\nsample_prompts = '../home/prompts.txt'\n",
    )
    options = toml.find(downloaded).build(CLASSES["train"], "train")
    assert options.sample_prompts == "../home/prompts.txt"


NAMED = {
    "check": ("check", "{}", "--fix"),
    "report": ("report", "{}"),
    "export": ("export", "{}"),
}


@pytest.mark.parametrize("verb", NAMED)
def test_a_command_on_a_dataset_takes_a_named_file_and_shows_its_places(
    dsk, here, downloaded, verb
):
    images(here / "home" / "private")
    (here / "home" / "private" / "a1.txt").write_text("sks, sks, 1girl\n")
    out = {"check": "csv = '../home/x.csv'", "report": "out = '../home/x'",
           "export": "out = '../home/x'"}.get(verb, "")  # fmt: skip
    settings(downloaded, f"[{verb}]\n{out}\n[[concept]]\nfolder = '../home/private'\n")
    if out:
        assert dsk(*(word.format("downloaded") for word in NAMED[verb])).code == 2
    ended = dsk(*(word.format("downloaded/dsk.toml") for word in NAMED[verb]))
    assert ended.code == 0, ended.err
    assert f"lies outside of {downloaded}: {here / 'home' / 'private'}" in ended.err
    if out:
        assert f"lies outside of {downloaded}: {here / 'home' / 'x'}" in ended.err
        assert list((here / "home").glob("x*"))
    if verb == "check":
        assert (here / "home" / "private" / "a1.txt").read_text() == "sks, 1girl\n"
    assert not toml.find(downloaded).is_named  # only for that one command


def test_review_takes_a_named_file(here, downloaded, monkeypatch, dsk):
    images(here / "home" / "private")
    settings(downloaded, "[[concept]]\nfolder = '../home/private'\n")
    seen = []
    monkeypatch.setattr(
        api, "review", lambda folder, *a, **k: seen.append((folder, toml.find(folder).is_named))
    )
    assert dsk("review", "downloaded/dsk.toml", "--no-open").code == 0
    assert dsk("review", "downloaded", "--no-open").code == 0
    assert seen == [(Path("downloaded"), True), (Path("downloaded"), False)]


def test_a_file_of_another_name_is_refused(dsk, downloaded):
    (downloaded / "other.toml").write_text("")
    ended = dsk("check", "downloaded/other.toml")
    assert ended.code == 2 and "is not called dsk.toml" in ended.err


# ---- who may open the review page


@pytest.mark.parametrize(
    ("line", "switch"),
    [
        ("host = '0.0.0.0'", "--host 0.0.0.0"),
        ("allow_host = ['evil.example']", "--allow-host evil.example"),
        ("port = 80", "--port 80"),
        ("open = false", "--no-open"),
    ],
)
def test_the_network_is_of_the_command_line_alone(dsk, here, downloaded, line, switch):
    path = settings(downloaded, f"[review]\n{line}\n")
    ended = dsk("review", "downloaded")
    assert ended.code == 2 and "counts on the command line only" in ended.err
    assert switch in ended.err and "http://" not in ended.out
    with pytest.raises(ConfigError):
        toml.load(path)  # whether named or found


# ---- code that is imported


@pytest.fixture
def package(here, monkeypatch):
    """A package on the path whose import leaves a mark."""
    (here / "evil_package.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\ndef Call(*a, **k): ...\n"
    )
    monkeypatch.syspath_prepend(here)
    yield here / "imported"
    sys.modules.pop("evil_package", None)


IMPORTS = ["evil_package.Call", "evil_package:Call", "subprocess.Popen", "torch.optim.x..os.system",
           "torch.optimizers.Adam", "os.system", ".Popen"]  # fmt: skip


@pytest.mark.parametrize("option", ["optimizer_type", "lr_scheduler_type"])
@pytest.mark.parametrize("path", IMPORTS)
def test_a_file_imports_no_code_that_is_not_known(dsk, here, downloaded, package, option, path):
    images(downloaded / "train" / "2_sks")
    settings(downloaded, f"[train]\n{option} = '{path}'\n")
    (here / "config.toml").write_text(f"train_data_dir = 'downloaded/train'\n{option} = '{path}'\n")
    for command in (
        ("downloaded",),
        ("downloaded/dsk.toml",),
        ("--config-file", "config.toml"),
    ):
        ended = dsk("train", *command, "--dry-run")
        assert ended.code == 2 and "--allow-import" in ended.err, command
    assert not package.exists()


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("optimizer_type", "AdamW"),
        ("optimizer_type", "torch.optim.RAdam"),
        ("optimizer_type", "bitsandbytes.optim:AdamW8bit"),
        ("optimizer_type", "prodigyplus.ProdigyPlusScheduleFree"),
        ("lr_scheduler_type", "OneCycleLR"),
        ("lr_scheduler_type", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        ("lr_scheduler_type", "cosine_annealing_warmup.CosineAnnealingWarmupRestarts"),
        (
            "lr_scheduler_type",
            "LoraEasyCustomOptimizer.CosineAnnealingWarmRestarts.CosineAnnealingWarmRestarts",
        ),
    ],
)
def test_classes_of_known_packages_count_from_a_file(downloaded, option, path):
    settings(downloaded, f"[train]\n{option} = '{path}'\n")
    assert getattr(toml.find(downloaded).build(CLASSES["train"], "train"), option) == path


def test_other_classes_need_allow_import_or_are_typed(dsk, downloaded, package):
    images(downloaded / "train" / "2_sks")
    settings(downloaded, "[train]\noptimizer_type = 'evil_package.Call'\n")
    command = ("train", "downloaded", "--dry-run")
    for allowed in (("--allow-import",), ("--set", "optimizer_type=evil_package.Call")):
        ended = dsk(*command, *allowed)
        assert ended.code == 2 and "evil_package has no optimizer Call" in ended.err
    assert package.exists()


def test_what_is_imported_must_be_an_optimizer_or_a_schedule():
    torch = pytest.importorskip("torch")
    from trainer.optimizers import build_optimizer, build_scheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ConfigError, match="has no optimizer Popen"):
        build_optimizer.build(
            "subprocess.Popen", [{"name": "x", "params": [weight], "lr": 1.0}], {}
        )
    with pytest.raises(ConfigError, match="has no scheduler Popen"):
        build_scheduler.of_class(torch.optim.SGD([weight], lr=1.0), "subprocess.Popen", {})


@pytest.mark.parametrize("option", ["optimizer_type", "lr_scheduler_type"])
@pytest.mark.parametrize("path", IMPORTS)
def test_an_export_hands_no_unknown_import_path_on(dsk, here, downloaded, option, path):
    settings(downloaded, f"[train]\n{option} = '{path}'\n")
    for folder in ("downloaded", "downloaded/dsk.toml"):  # whoever trains with it names config.toml
        ended = dsk("export", folder)
        assert ended.code == 2 and f"{option} = {path}" in ended.err, folder
        assert "exported config.toml" in ended.err and "--allow-import" not in ended.err
    assert not (downloaded / "config.toml").exists()


def test_an_export_hands_known_classes_on(dsk, downloaded):
    settings(downloaded, "[train]\noptimizer_type = 'prodigyplus.ProdigyPlusScheduleFree'\n")
    assert dsk("export", "downloaded").code == 0
    assert "prodigyplus.ProdigyPlusScheduleFree" in (downloaded / "config.toml").read_text()


# ---- limits that protect the machine


LIMITS = [(table, d) for table, d in OPTIONS if d.about.is_limit]
LIMITED = {
    "tag": ("tag", "downloaded", "--dry-run"),
    "caption": ("caption", "downloaded", "--dry-run"),
    "rules": ("rules", "downloaded", "--exclude", "lips", "--dry-run"),
    "check": ("check", "downloaded"),
    "resize": ("resize", "downloaded", "--dry-run"),
}


@pytest.mark.parametrize(("table", "d"), LIMITS, ids=ids(LIMITS))
def test_a_found_file_may_lower_a_limit_and_not_raise_it(downloaded, table, d):
    path = settings(downloaded, f"[{table}]\n{d.name} = {d.default + 1}\n")
    with pytest.raises(ConfigError, match="may only lower it") as refused:
        toml.find(downloaded).build(CLASSES[table], table)
    assert f"dsk {table} {d.switch} {d.default + 1}" in refused.value.hint
    assert toml.load(path).build(CLASSES[table], table).max_pixels == d.default + 1
    settings(downloaded, f"[{table}]\n{d.name} = {d.default - 1}\n")
    assert toml.find(downloaded).build(CLASSES[table], table).max_pixels == d.default - 1


@pytest.mark.parametrize("table", LIMITED)
def test_what_the_hint_says_to_type_raises_the_limit(dsk, downloaded, table):
    settings(downloaded, f"[{table}]\nmax_pixels = 1_000_000_000\n")
    ended = dsk(*LIMITED[table])
    assert ended.code == 2 and "--max-pixels 1000000000" in ended.err
    assert dsk(*LIMITED[table], "--max-pixels", 1_000_000_000).code == 0


# ---- the file in force is named


PARENTS = [
    ("check", "proj/imgs"), ("rules", "proj/imgs", "--exclude", "lips"),
    ("tag", "proj/imgs", "--dry-run"), ("report", "proj/imgs"), ("export", "proj/imgs"),
    ("plan-repeats", "proj/imgs"), ("rename", "proj/imgs", "--dry-run"),
    ("resize", "proj/imgs", "--dry-run"),
]  # fmt: skip


@pytest.mark.parametrize("command", PARENTS, ids=lambda c: c[0])
def test_a_command_names_the_file_of_a_parent_folder(dsk, here, command):
    for path in images(here / "proj" / "imgs"):
        path.with_suffix(".txt").write_text("sks, lips\n")
    settings(here / "proj", "[tag]\nthreshold = 0.5\n")
    line = f"settings: {here / 'proj' / 'dsk.toml'}"
    assert line in dsk(*command).err.replace("\n", "")
    (here / "proj" / "dsk.toml").rename(here / "proj" / "imgs" / "dsk.toml")
    assert "settings:" not in dsk(*command).err


# ---- files that dsk did not write


OUTPUTS = {
    "csv": ("check", "downloaded", "--csv", "home/ledger.csv"),
    "sheet": ("check", "downloaded", "--sheet", "home/art.png"),
    "report": ("report", "downloaded", "--out", "home"),
    "export": ("export", "downloaded", "--out", "home"),
    "sd-scripts": ("check", "downloaded", "--as", "sd-scripts", "--csv", "home/ledger.csv"),
}


@pytest.mark.long
@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_never_replaces_a_file_that_dsk_did_not_write(dsk, here, downloaded, command):
    for name in ("art.png", "tags.csv", "pairs.csv", "dataset.toml", "config.toml"):
        (here / "home" / name).write_text("mine\n")
    before = snapshot(here / "home", all_of_it=False)
    arguments = OUTPUTS[command]
    ended = dsk(*arguments)
    assert ended.code == 2 and "dsk did not write" in ended.err and "name another" in ended.err
    after = snapshot(here / "home", all_of_it=False)
    assert {name: kept for name, kept in after.items() if name != ".dsk"} == before
    for name in before:
        (here / "home" / name).unlink()
    assert dsk(*arguments).code == 0  # made
    (downloaded / "a1.txt").write_text("sks, smile, hat\n")
    assert dsk(*arguments).code == 0, dsk(*arguments).err  # and made again
    where = "home" if (here / "home" / ".dsk").is_dir() else "downloaded"
    assert dsk("undo", where).code == 0


def test_what_was_undone_is_not_dsks_own(dsk, here, downloaded):
    assert dsk("export", "downloaded").code == 0
    assert dsk("undo", "downloaded").code == 0
    (downloaded / "config.toml").write_text("# mine\n")
    assert dsk("export", "downloaded").code == 2
    assert (downloaded / "config.toml").read_text() == "# mine\n"


def test_a_store_from_elsewhere_does_not_claim_files_of_the_user(dsk, here, downloaded):
    ledger = here / "home" / "ledger.csv"
    ledger.unlink()
    assert dsk("check", "downloaded", "--csv", ledger).code == 0  # so the store says it wrote it
    ledger.write_text("mine,1\n")
    assert dsk("check", "downloaded", "--csv", ledger).code == 2
    assert ledger.read_text() == "mine,1\n"


def test_a_run_does_not_replace_a_lora_from_elsewhere(tmp_path):
    pytest.importorskip("torch")
    from trainer.files.run_files import RunFiles, require_own

    (tmp_path / "sks.safetensors").write_bytes(b"mine")
    with pytest.raises(DskError, match="did not write"):
        require_own(tmp_path, "sks")
    require_own(tmp_path, "other")
    (tmp_path / "sks.safetensors").unlink()
    RunFiles.start(tmp_path, "sks", "2026-11-30T00:00:00Z").write("sks.safetensors", "lora", b"dsk")
    require_own(tmp_path, "sks")


# ---- no option is forgotten


# Options whose value is a text and neither a path nor the name of a class. A new one has to be
# declared as a path (`path=...`), as code (`imports_code=...`), or to be added here.
TEXTS = set(
    "additional address allow_host apply base bg blocks caption_prefix caption_suffix class_name "
    "detector "
    "encoding endpoint engine exclude host keep_duplicates keep_tokens_separator language "
    "license log_prefix "
    "lr_decay_steps lr_scheduler lr_scheduler_args lr_warmup_steps model name negative "
    "network_args only optimizer_args output_name prefix preset prompt provider replace repo "
    "revision secondary_separator skip sr system tagger tags training_comment trigger where x y "
    "z".split()
)


def test_each_option_that_takes_a_text_says_whether_it_is_a_path_or_code():
    concept = [("concept", d) for d in declared(ConceptOptions)]
    unclassified = {
        d.name
        for _, d in [*OPTIONS, *concept]
        if {str, tuple[str, ...]} & set(d.kinds)
        and not (d.choices or d.about.path or d.about.imports_code)
    }
    assert unclassified == TEXTS


def test_options_that_count_from_nowhere_but_the_command_line_or_a_named_file():
    of_lora = [d for table, d in OPTIONS if table.startswith("lora-") and d.is_written]
    assert of_lora and all(d.about.counts_from == "command line" for d in of_lora)
    counts = {(d.name, d.about.counts_from) for t, d in OPTIONS if not t.startswith("lora-")}
    assert {name for name, source in counts if source == "command line"} == {
        "allow_host", "host", "open", "port", "remote",
        "repo", "public", "trigger", "base", "replace_card", "suggest", "apply", "write",
        "to", "name", "preview", "replace", "new", "keep_token", "allow_import", "root", "stay",
    }  # fmt: skip
    assert {name for name, source in counts if source == "named file"} == {
        "address", "endpoint", "follow_links", "link",
    }  # fmt: skip
