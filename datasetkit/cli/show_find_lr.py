"""What `dsk find-lr` prints for people: what it takes, the table of its probes, and the rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasetkit.cli.console import counted, say, table, warn
from datasetkit.cli.show import from_here
from datasetkit.options.toml_edit import written

if TYPE_CHECKING:
    from datasetkit.verbs.find_lr import FindLrPlan, FindLrResult
    from datasetkit.verbs.shared.result_types import PartSearch


def plan(result: FindLrPlan) -> None:
    """Print what a search takes at most."""
    cost = result.cost
    parts = " and ".join(result.titles)
    say(
        f"searching the rate of {parts}: {result.optimizer}, seeds "
        f"{', '.join(map(str, result.seeds))}; rank {result.rank}, alpha {result.alpha:g}, batches "
        f"of {result.batch_size}"
    )
    probes = cost.probe_steps // cost.probes
    steps = f"{counted(cost.probes, 'probe')} of at most {counted(probes, 'step')}"
    if cost.sweep_steps:
        steps += f", then {counted(cost.sweep_steps, 'step')} of AdamW"
    say(
        f"{steps}: at most {counted(cost.probe_steps + cost.sweep_steps, 'step')}, and "
        f"{counted(cost.passes, 'forward pass', 'forward passes')} on a grid of "
        f"{counted(result.images, 'image')}; a probe that never leaves its start is repeated "
        f"{cost.raised - 1} times",
        "bold",
    )


def found(result: FindLrResult, dry_run: bool) -> None:
    """Print what was found; of a dry run the plan alone is printed."""
    if dry_run:
        return
    _probes(result.parts)
    _sweeps(result.parts)
    for search in result.parts:
        _candidate(search)
    if result.unet_lr is not None:
        say(f"{result.denoiser}: {result.unet_lr:g}", "bold")
    _text_encoder(result)
    for line in result.warnings:
        warn(line)
    say(f"plot: {from_here(result.plan.plot)}, all numbers: {from_here(result.plan.record)}", "dim")
    _settings(result)


def _probes(parts: tuple[PartSearch, ...]) -> None:
    rows = [
        (
            search.title,
            probe.seed,
            probe.outcome if probe.flat_from is None else f"step {probe.flat_from:,}",
            "-" if probe.rate is None else f"{probe.rate:.3g}",
            "not finite" if probe.change is None else probe.change.words(),
            "ran away" if probe.is_ruined and probe.rate is not None else "",
        )
        for search in parts
        for probe in search.probes
    ]
    columns = ["part", "seed", "flat at", "rate", "loss change", ""]
    table("", columns, rows, right=["seed", "flat at", "rate", "loss change"])


def _sweeps(parts: tuple[PartSearch, ...]) -> None:
    rows = [
        (
            search.title,
            f"{point.rate:g}",
            "not finite" if point.loss is None else f"{point.loss:.4f}",
            "-" if point.change is None else point.change.words(),
            "taken" if point.is_taken else "",
        )
        for search in parts
        for point in search.sweep
    ]
    if rows:
        columns = ["sweep", "rate", "loss", "loss change", ""]
        table("", columns, rows, right=["rate", "loss", "loss change"])


def _candidate(search: PartSearch) -> None:
    rates = [probe.rate for probe in search.probes if probe.rate is not None]
    if search.candidate is None:
        say(f"{search.title}: no probe left its start, so there is no rate")
        return
    spread = f", from {min(rates):.3g} to {max(rates):.3g}" if len(rates) > 1 else ""
    say(f"{search.title}: candidate {search.candidate:.3g}{spread}", "dim")


def _text_encoder(result: FindLrResult) -> None:
    """Print both answers for the text encoder, and which one is used."""
    answers = []
    if result.text_tenth is not None:
        answers.append(("tenth", f"{result.text_tenth:g} (a tenth of the {result.denoiser}'s)"))
    if result.text_measured is not None:
        answers.append(("measured", f"{result.text_measured:g} (its own)"))
    if not answers:
        return
    text = " or ".join(words for _, words in answers)
    if len(answers) > 1:
        other = "measured" if result.text_from == "tenth" else "tenth"
        text += f"; taken: {result.text_encoder_lr:g}, --text {other} takes the other"
    say(f"text encoder: {text}", "bold")


def _settings(result: FindLrResult) -> None:
    if not result.settings:
        return
    if result.written and result.plan.config is not None:
        names = ", ".join(result.settings)
        say(f"wrote {names} to {from_here(result.plan.config)}; dsk undo takes them back")
        return
    say("for [train] of dsk.toml (--write writes them):")
    for key, value in result.settings.items():
        say(f"  {key} = {written(value)}")
