"""`dsk find-lr`: what it takes, the files that it writes, dsk.toml with --write, and exit codes."""

import json
from dataclasses import replace

import pytest

from tests.cli.test_train import given
from tests.trainer import tiny
from trainer import random_base
from trainer.lr_search import rules, search
from trainer.lr_search.rules import PartSearch, Probe, SweepPoint
from trainer.paired import PairedMean

UNTOUCHED = "# mine\n[train]   # by hand\nunet_lr = 1e-4 # too low\nlearning_rate = 0.5\n"

TITLES = {"unet": "UNet", "text": "text encoder"}
LEARNED = PairedMean(-0.3, 0.01)


@pytest.fixture
def data(here):
    tiny.save_images(here / "ds" / "train" / "2_sks", [(128, 128), (192, 128)])
    return here / "ds"


def found_part(part, rate=2e-3, outcome="flat", change=LEARNED):
    probe = Probe(42, 1e-6, outcome, (1e-6, rate), 2 if outcome == "flat" else None, change)
    if outcome == "never left d0":
        return PartSearch(part, TITLES[part], (probe,), None, (), None)
    sweep = (
        SweepPoint(rate / 2, 0.2, PairedMean(-0.2, 0.01)),
        SweepPoint(rate, 0.1, PairedMean(-0.3, 0.01), True),
        SweepPoint(rate * 2, None, None),
    )
    return PartSearch(part, TITLES[part], (probe,), rate, sweep, rate)


@pytest.fixture
def results(monkeypatch):
    """Let the search return these without training."""
    parts = {"unet": found_part("unet"), "text": found_part("text", 3e-3)}
    calls = []

    def fake(options, plan, wanted, **others):
        calls.append((options, others))
        return tuple(parts[part] for part in wanted)

    monkeypatch.setattr(search, "search", fake)
    parts["calls"] = calls
    return parts


def test_a_dry_run_says_what_the_search_takes_and_writes_nothing(dsk, data, here, results):
    ended = dsk("find-lr", "ds", "--dry-run", *given())
    assert ended.code == 0, ended.err
    assert "Prodigy, seeds 42, 43, 44; rank 4, alpha 16, batches of 2" in ended.out
    assert "6 probes of at most 300 steps, then 480 steps of AdamW: at most 2,280" in ended.out
    assert not results["calls"] and not (here / "output").exists()


def test_the_cost_follows_the_options(dsk, data, results):
    ended = dsk(
        "find-lr", "ds", "--dry-run", "--part", "unet", "--seeds", "2", "--most", "50",
        "--no-sweep", "--json", *given("seed=7"),
    )  # fmt: skip
    plan = ended.result["plan"]
    assert plan["seeds"] == [7, 8] and plan["parts"] == ["unet"]
    assert (plan["cost"]["probe_steps"], plan["cost"]["sweep_steps"]) == (100, 0)


@pytest.mark.long
def test_a_tenth_and_its_own_are_both_shown(dsk, data, here, results):
    ended = dsk("find-lr", "ds", *given())
    assert ended.code == 0, ended.err
    words = "text encoder: 0.0002 (a tenth of the UNet's) or 0.003 (its own); taken: 0.0002"
    assert words in " ".join(ended.out.split())
    assert "unet_lr = 0.002" in ended.out and "text_encoder_lr = 0.0002" in ended.out
    record = json.loads((here / "output" / "find-lr.json").read_bytes())
    assert (record["unet_lr"], record["text_tenth"], record["text_measured"]) == (2e-3, 2e-4, 3e-3)
    assert record["parts"][0]["probes"][0]["estimates"] == [1e-6, 2e-3]
    assert (here / "output" / "find-lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_write_sets_the_rates_and_undo_takes_them_back(dsk, data, here, results):
    (here / "dsk.toml").write_text(UNTOUCHED, encoding="utf-8")
    ended = dsk("find-lr", "ds", "--write", "--text", "measured", *given("unet_lr=1e-3"))
    assert ended.code == 0, ended.err
    assert (here / "dsk.toml").read_text(encoding="utf-8") == (
        "# mine\n[train]   # by hand\nunet_lr = 0.002 # too low\nlearning_rate = 0.5\n"
        'text_encoder_lr = 0.003\noptimizer_type = "AdamW"\n'
        'optimizer_args = ["betas=0.9,0.999", "weight_decay=0.01"]\n'
    )
    assert dsk("undo").code == 0
    assert (here / "dsk.toml").read_text(encoding="utf-8") == UNTOUCHED
    assert not (here / "output" / "find-lr.json").exists()


@pytest.mark.long
def test_a_second_search_replaces_the_files_of_the_first(dsk, data, here, results):
    assert dsk("find-lr", "ds", *given()).code == 0
    results["unet"] = found_part("unet", 4e-3)
    assert dsk("find-lr", "ds", *given()).code == 0
    assert json.loads((here / "output" / "find-lr.json").read_bytes())["unet_lr"] == 4e-3


@pytest.mark.long
def test_a_part_without_a_rate_ends_with_3_and_leaves_dsk_toml(dsk, data, here, results):
    (here / "dsk.toml").write_text(UNTOUCHED, encoding="utf-8")
    results["unet"] = found_part("unet", 1e-4, "never left d0")
    ended = dsk("find-lr", "ds", "--write", *given())
    assert ended.code == 3
    assert "the estimate never left d0 in 300 steps" in " ".join(ended.err.split())
    assert (here / "dsk.toml").read_text(encoding="utf-8") == UNTOUCHED
    assert (here / "output" / "find-lr.json").exists()


@pytest.mark.long
def test_probes_that_ran_away_are_named(dsk, data, results):
    results["unet"] = found_part("unet", change=PairedMean(0.5711, 0.0144))
    results["text"] = found_part("text", outcome="not finite", change=None)
    ended = dsk("find-lr", "ds", *given())
    err = " ".join(ended.err.split())
    assert ended.code == 0
    assert "UNet, seed 42: the probe ran away (loss +0.5711 ± 0.0144)" in err
    assert "text encoder, seed 42: the probe ran away (not finite)" in err
    assert ended.out.count("ran away") == 2


@pytest.mark.long
def test_an_edit_while_it_searches_is_kept(dsk, data, here, results, monkeypatch):
    (here / "dsk.toml").write_text(UNTOUCHED, encoding="utf-8")
    real = search.search

    def slow(*arguments, **others):
        (here / "dsk.toml").write_text(UNTOUCHED + "seed = 5\n", encoding="utf-8")
        return real(*arguments, **others)

    monkeypatch.setattr(search, "search", slow)
    assert dsk("find-lr", "ds", "--write", *given()).code == 0
    text = (here / "dsk.toml").read_text(encoding="utf-8")
    assert "seed = 5\n" in text and "unet_lr = 0.002 # too low" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--write"], "--write needs a dsk.toml"),
        (["--set", "network_args=['loraplus_lr_ratio=16']"], "one rate for all weights"),
        (["--part", "text", "--set", "network_train_unet_only=true"], "text encoder is not train"),
        (["--part", "unet", "--set", "unet_lr=0"], "UNet is not trained"),
        (["--most", "5"], "most"),
        (["--optimizer", "adam"], "adam"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_start(
    dsk, data, here, results, more, message
):
    ended = dsk("find-lr", "ds", *given(), *more)
    assert ended.code == 2 and message in " ".join(ended.err.split())
    assert not results["calls"] and not (here / "output").exists()


def test_what_the_hints_say_can_be_done(dsk, data, here, results):
    plain = ("find-lr", "ds", "--dry-run")
    ratio = "network_args=['loraplus_lr_ratio=16']"
    assert dsk(*plain, *given(ratio), "--set", "network_args=[]").code == 0
    unet_only = given("network_train_unet_only=true")
    assert dsk(*plain, "--part", "text", *unet_only).code == 2
    assert dsk(*plain, "--part", "text", *given("text_encoder_lr=1e-4")).code == 0
    assert dsk(*plain, "--write", *given()).code == 2
    assert dsk("init", ".").code == 0
    assert dsk(*plain, "--write", *given()).code == 0


def test_the_trainings_own_optimizer_does_not_matter(dsk, data, results):
    """Prodigy with unequal rates would be refused by the training, and is replaced here."""
    ended = dsk(
        "find-lr", "ds", *given("optimizer_type=Prodigy", "unet_lr=1", "text_encoder_lr=0.5")
    )
    assert ended.code == 0, ended.err


def test_a_model_that_is_missing_ends_with_12(dsk, data, results):
    ended = dsk("find-lr", "ds", *given("pretrained_model_name_or_path=missing.safetensors"))
    assert ended.code in (2, 12) and not results["calls"]


@pytest.mark.long
def test_a_real_search_writes_json(dsk, data, here, tmp_path_factory):
    model = tiny.save_small(tmp_path_factory.mktemp("model"))
    ended = dsk(
        "find-lr", "ds", "--part", "unet", "--seeds", "1", "--most", "20", "--no-sweep", "--json",
        *given(f"pretrained_model_name_or_path={model}"),
    )  # fmt: skip
    assert ended.code in (0, 3), ended.err
    (part,) = ended.result["parts"]
    assert len(part["probes"][0]["estimates"]) == 20
    assert ended.json["verb"] == "find-lr"


# ---- the words for a transformer


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    folder = random_base.save(tmp_path_factory.mktemp("z") / "z", family="z-image")
    return given(f"pretrained_model_name_or_path={folder}")


def test_a_transformer_is_not_called_a_unet(dsk, data, results, transformer):
    dry = dsk("find-lr", "ds", "--dry-run", *transformer)
    assert dry.code == 0, dry.err
    assert "the rate of transformer: " in dry.out
    results["unet"] = replace(
        found_part("unet", change=PairedMean(0.5711, 0.0144)),
        title=rules.title("unet", "transformer"),
    )
    ended = dsk("find-lr", "ds", *transformer)
    assert ended.code == 0, ended.err
    assert "transformer: 0.002" in ended.out and "transformer, seed 42: the probe" in ended.err
    assert "UNet" not in dry.out + dry.err + ended.out + ended.err


def test_a_text_encoder_that_is_never_trained_has_no_rate(dsk, data, transformer):
    ended = dsk("find-lr", "ds", "--dry-run", "--part", "text", *transformer)
    assert ended.code == 2 and "the text encoder of Z-Image is not trained" in ended.err
    assert "--part unet" in ended.err
    assert dsk("find-lr", "ds", "--dry-run", "--part", "unet", *transformer).code == 0


def test_a_model_that_is_not_here_yet_may_be_either():
    assert rules.title("unet", None) == "UNet or transformer"
    assert rules.title("text", None) == "text encoder"
