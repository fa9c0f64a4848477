"""The report of a run, `<name>-report.html`: one file without scripts, that needs no network.

Every text is escaped, images are embedded, and a policy in the page forbids everything else. Paths
are shown by their last part only, so that the page may be passed on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import DskError
from datasetkit.figure_style import BLUE, FAINT, GRID, INK, WARN
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.files.run_files import RunFiles
from trainer.files.run_manifest import ENDINGS, RunFile
from trainer.lora_files import lora_file
from trainer.lora_files.heat_map import draw as draw_heat_map
from trainer.lora_files.measure import measure

_MOST_EPOCHS: Final = 40  # rows of the table
_WIDEST: Final = 1800  # pixels of the contact sheet
_QUALITY: Final = 88
_STYLE: Final = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; padding: 24px 20px 60px; max-width: 1100px; color: {INK};
  background: #fff; font: 15px/1.5 "DejaVu Sans", system-ui, sans-serif; }}
h1 {{ margin: 0; font-size: 26px; }}
h2 {{ margin: 40px 0 10px; font-size: 18px; border-bottom: 1px solid {GRID}; padding-bottom: 4px; }}
p {{ margin: 6px 0; }}
.faint {{ color: {FAINT}; }}
.warn {{ color: {WARN}; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px;
  margin: 20px 0 0; }}
.facts div {{ border: 1px solid {GRID}; border-radius: 6px; padding: 8px 12px; }}
.facts b {{ display: block; font-size: 19px; }}
table {{ border-collapse: collapse; font-size: 13px; }}
.wide {{ overflow-x: auto; }}
th, td {{ text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid {GRID};
  vertical-align: top; }}
th {{ color: {FAINT}; font-weight: normal; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
code, td.code {{ font: 12px/1.5 "DejaVu Sans Mono", ui-monospace, monospace;
  overflow-wrap: anywhere; }}
pre {{ font: 13px/1.6 "DejaVu Sans Mono", ui-monospace, monospace; background: #f6f7f9;
  padding: 10px 14px; border-radius: 6px; overflow-x: auto; }}
img {{ max-width: 100%; height: auto; display: block; }}
a {{ color: {BLUE}; }}
nav {{ margin-top: 16px; }}
nav a {{ margin-right: 14px; }}
"""
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What the report shows. facts: of the run's manifest. rows: of metrics.jsonl. plot, heat_map:
    PNGs; no_heat_map: why there is none. samples: the contact sheet, if there is one. remarks: of
    the LoRA check. files: the LoRA files, with their hashes. base_hash: of the base model's file,
    "" for a folder. network: the network and its rank, in words.
    """

    name: str
    started: str
    options: TrainOptions
    facts: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    plot: bytes
    heat_map: bytes | None
    no_heat_map: str
    samples: Path | None
    remarks: Sequence[str]
    files: Sequence[RunFile]
    base_hash: str
    network: str


def gathered(
    options: TrainOptions,
    files: RunFiles,
    rows: Sequence[Mapping[str, Any]],
    *,
    plot: Path,
    samples: Path | None,
    remarks: Sequence[str],
    base_hash: str | None,
) -> ReportContent:
    """Gather what the report shows, when all other files of the run are written."""
    loras = files.listed("lora")
    final = next(
        (f for f in loras if f.name.removeprefix(files.name) in ENDINGS),
        loras[-1] if loras else None,
    )
    heat_map, reason = None, ""
    if final is not None:
        try:
            measures = measure(lora_file.read(files.folder / final.name))
            heat_map = draw_heat_map([(files.name, measures)])
        except (DskError, ValueError) as error:
            reason = f"The norms could not be drawn: {error}"
    args = options.network()
    alpha = options.network_alpha or options.network_dim
    return ReportContent(
        name=files.name,
        started=files.started,
        options=options,
        facts=files.facts,
        rows=rows,
        plot=plot.read_bytes(),
        heat_map=heat_map,
        no_heat_map=reason,
        samples=samples,
        remarks=remarks,
        files=loras,
        base_hash=base_hash or "",
        network=f"{args.title}, rank {options.network_dim}, alpha {alpha:g}",
    )


def page(report: ReportContent) -> bytes:
    """Return the page."""
    sections = [
        ("Loss and learning rates", _image(report.plot, "png", "loss by step") + _epochs(report)),
        ("Validation", _validation(report)),
        ("Preview images", _samples(report.samples)),
        ("Norms of the layers", _norms(report)),
        ("Plan", _plan(report)),
        ("Options that differ from the defaults", _options(report.options)),
        ("Files and hashes", _files(report)),
    ]
    present = [(title, body) for title, body in sections if body]
    links = " ".join(f'<a href="#s{n}">{escape(title)}</a>' for n, (title, _) in enumerate(present))
    body = "\n".join(
        f'<h2 id="s{n}">{escape(title)}</h2>\n{text}' for n, (title, text) in enumerate(present)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(report.name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(report.name)}</h1>
<p class="faint">{_text(_subtitle(report))}</p>
{_cards(report)}
{_remarks(report.remarks)}
<nav>{links}</nav>
{body}
</body>
</html>
""".encode(errors="backslashreplace")


def _text(value: object) -> str:
    return escape(str(value), quote=True)


def _subtitle(report: ReportContent) -> str:
    return f"{report.network}, on {_last(report.facts['plan']['base'])}; started {report.started}"


def _last(path: str) -> str:
    """Return the last part of a path; a name on the hub stays whole."""
    return Path(path).name if Path(path).is_absolute() else path


def _cards(report: ReportContent) -> str:
    plan = report.facts["plan"]
    losses = _steps(report.rows)
    cards = [
        ("images", f"{plan['images']:,}"),
        ("steps", f"{plan['steps']:,}"),
        ("epochs", f"{plan['epochs']:,}"),
        ("samples an epoch", f"{plan['samples_per_epoch']:,}"),
    ]
    if losses:
        last = [row for row in losses if row["epoch"] == losses[-1]["epoch"]]
        cards.append(("last epoch's loss", f"{_mean(last):.4f}"))
        seconds = [row["seconds"] for row in losses if "seconds" in row]
        if seconds:
            cards.append(("seconds a step", f"{sum(seconds) / len(seconds):.2f}"))
    made = "".join(f"<div>{_text(name)}<b>{_text(value)}</b></div>" for name, value in cards)
    return f'<div class="facts">{made}</div>'


def _remarks(remarks: Sequence[str]) -> str:
    return "".join(f'<p class="warn">{_text(line)}</p>' for line in remarks)


def _steps(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row.get("loss") is not None]


def _mean(rows: Sequence[Mapping[str, Any]]) -> float:
    samples = sum(row["samples"] for row in rows)
    return float(sum(row["loss"] * row["samples"] for row in rows) / samples)


def _image(data: bytes, kind: str, alt: str) -> str:
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{_text(alt)}" src="data:image/{kind};base64,{encoded}">'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """Return a table; its last `numbers` columns are numbers. Cells are escaped here."""

    def cells(tag: str, values: Sequence[str]) -> str:
        first = len(values) - numbers
        return "".join(
            f"<{tag}{' class=n' if n >= first else ''}>{_text(value)}</{tag}>"
            for n, value in enumerate(values)
        )

    head = f"<tr>{cells('th', columns)}</tr>" if any(columns) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _epochs(report: ReportContent) -> str:
    """Return the mean loss and the last rates of each epoch, or of every n-th of many."""
    by_epoch: dict[int, list[Mapping[str, Any]]] = {}
    for row in _steps(report.rows):
        by_epoch.setdefault(row["epoch"], []).append(row)
    every = -(-len(by_epoch) // _MOST_EPOCHS)
    rates = sorted({key for rows in by_epoch.values() for key in rows[-1] if key[:3] == "lr/"})[:4]
    lines = [
        [
            f"{epoch:,}",
            f"{rows[-1]['step']:,}",
            f"{_mean(rows):.4f}",
            *(f"{rows[-1].get(key, 0):.3g}" for key in rates),
        ]
        for epoch, rows in by_epoch.items()
        if epoch % every == 0 or epoch == max(by_epoch)
    ]
    columns = ["epoch", "step", "mean loss", *(key.removeprefix("lr/") + " lr" for key in rates)]
    return _table(columns, lines, len(columns)) if lines else ""


def _validation(report: ReportContent) -> str:
    rows = [row for row in report.rows if row.get("validation/loss") is not None]
    if not rows:
        return ""
    best = min(rows, key=lambda row: row["validation/loss"])
    every = -(-len(rows) // _MOST_EPOCHS)
    shown = [row for n, row in enumerate(rows) if n % every == 0 or row in (best, rows[-1])]
    lines = [
        [
            "best" if row is best else "",
            f"{row['step']:,}",
            f"{row['validation/loss']:.4f}",
            _signed(row.get("validation/change")),
            _plain(row.get("validation/error")),
            _signed(row.get("validation/trained_change")),
        ]
        for row in shown
    ]
    columns = ["", "step", "held-out loss", "against step 0", "± error", "trained images"]
    held = report.facts["plan"]["held_out_images"]
    note = f"{held:,} images were held out, and measured with the same noise each time."
    return f'<p class="faint">{_text(note)}</p>' + _table(columns, lines, 5)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _samples(path: Path | None) -> str:
    """Return the contact sheet as a JPEG of moderate width."""
    if path is None:
        return ""
    from PIL import Image

    with Image.open(path) as sheet:
        small = sheet.convert("RGB")
    small.thumbnail((_WIDEST, _WIDEST * 8))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_QUALITY)
    return _image(data.getvalue(), "jpeg", "contact sheet of the preview images")


def _norms(report: ReportContent) -> str:
    if report.heat_map is None:
        return f'<p class="faint">{_text(report.no_heat_map)}</p>' if report.no_heat_map else ""
    note = "How much each kind of layer changed, by block: dark is more."
    return f'<p class="faint">{note}</p>' + _image(report.heat_map, "png", "heat map of the norms")


def _plan(report: ReportContent) -> str:
    plan = report.facts["plan"]
    buckets = ", ".join(f"{size}: {count:,}" for size, count in plan["buckets"].items())
    lines = [
        ("training images", f"{plan['images']:,}, {plan['samples']:,} samples an epoch"),
        (
            "regularisation images",
            f"{plan['regularisation_images']:,}, {plan['regularisation_samples']:,} samples",
        ),
        ("held-out images", f"{plan['held_out_images']:,}"),
        ("steps", f"{plan['steps']:,}, {plan['steps_per_epoch']:,} an epoch"),
        ("epochs", f"{plan['epochs']:,}"),
        ("samples by bucket", buckets),
        ("processes", f"{plan['processes']:,}"),
        ("base model", _last(plan["base"])),
        ("versions", ", ".join(f"{k} {v}" for k, v in report.facts["versions"].items())),
    ]
    return _table(["", ""], lines, 0)


def _options(options: TrainOptions) -> str:
    about = by_name(TrainOptions)
    lines = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        shown = _last(value) if about[field.name].path and isinstance(value, str) else value
        default = about[field.name].shown or _value(field.default)
        if (text := _value(shown)) != default:
            lines.append([field.name, text, default, about[field.name].help.replace("`", "")])
    return _table(["option", "value", "default", "what it does"], lines, 0) if lines else ""


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _files(report: ReportContent) -> str:
    lines = [
        [
            file.name,
            "" if file.step is None else f"{file.step:,}",
            "" if file.size is None else f"{file.size:,}",
            file.sha256 or "",
        ]
        for file in report.files
    ]
    head = "".join(f"<th>{name}</th>" for name in ("file", "step", "bytes", "sha256"))
    body = "".join(
        f"<tr><td>{_text(name)}</td><td class=n>{_text(step)}</td><td class=n>{_text(size)}</td>"
        f"<td class=code>{_text(sha256)}</td></tr>"
        for name, step, size, sha256 in lines
    )
    base = f"<p>base model: <code>{_text(report.base_hash)}</code></p>" if report.base_hash else ""
    return f'{base}<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
