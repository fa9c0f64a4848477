"""Write the option tables of the docs and the schema of dsk.toml:
`python -m datasetkit.tools.option_pages`.

A page names a table between two marks; what stands between them is rewritten from the declarations.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from datasetkit.cli.main import commands
from datasetkit.core.files import write_atomic
from datasetkit.options.declare import MANY, DeclaredOption, declared
from datasetkit.options.network_args import ARGS
from datasetkit.options.networks import Algo
from datasetkit.options.run import ConceptOptions
from datasetkit.options.scan import ScanOptions
from datasetkit.options.schema import SHIPPED, schema
from datasetkit.options.toml import TABLES, options_class
from datasetkit.options.train import TrainOptions
from trainer.config import DEFAULTS
from trainer.config.keys import GUI_OTHER_MODEL, OTHER_MODEL, TABLE, Key, KeyMeaning

DOCS: Final = Path(__file__).parents[2] / "docs"
_MARKED: Final = re.compile(r"<!-- table: (.+?) -->\n.*?<!-- end of table -->", re.DOTALL)
_METHODS: Final[Mapping[Algo, str]] = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr"}
# What sd-scripts calls these in its two files.
_RENAMED: Final[Mapping[str, str]] = {
    "batch_size": "`train_batch_size`; in a dataset.toml it stands above that of the config.toml",
    "image_dir": "the folder of a subset: `DIR/train/<repeats>_<concept>` or `DIR/reg/...`",
    "num_repeats": "the number at the front of that folder's name",
    "class_tokens": "the concept at its end: the caption of images without one. Without it in a "
    "dataset.toml they have an empty one",
    "is_reg": "the folder is in `reg/`",
    "train_data_dir, reg_data_dir": "`DIR`",
}
# When to change what is an option of the command alone, and of no table of dsk.toml.
_CHANGE: Final[Mapping[str, str]] = {
    "--dry-run": "you want to see what would be done; nothing is changed, not even in `.dsk/`",
    "--json": "a program reads the result: one JSON document on stdout",
    "--wait": "another dsk command works in this project: wait for it instead of ending with exit "
    "code 11",
    "--base-is-distilled": "you know that such a LoRA drifts, and want it",
    "--apply": "you agree with the plan",
    "--fix": "the findings are what `--fix` can fix, in bold above",
    "--as": "`sd-scripts`: see what this trainer would read",
    "--example": "you want to try dsk without images of your own",
    "--images": "your images are in another folder",
    "--trigger": "always, when you train a subject",
    "--to": "more than the last command must be undone",
    "--recover": "a command stops because another one was interrupted here",
    "--forget": "you do not want what the interrupted command would do",
    "--yes": "a script runs it, and you know what it would be asked",
    "--partial": "you edited some of the files and want to keep them",
    "--config-file": "you have a file of sd-scripts, the kohya_ss GUI, or another trainer",
    "--dataset-config": "you have a dataset.toml of sd-scripts",
    "--allow-import": "a file names a class of a package that you trust",
    "--set": "an option should be different this time: `--set network_dim=64`",
    "--resume": "a run was stopped",
    "--plot": "you want to see the rates before you train",
    "--hold": "other jobs should go first, or you start it at another time",
    "--release": "a job that was held may start",
    "jobs --now": "it should not even finish its optimizer step",
    "--now": "the GPU has memory for both runs; both take longer",
    "--extend": "a resumed run should take more steps, and its LR schedule depends on their number",
}
_SHARED: Final = ("`--dry-run`", "`--json`", "`--wait`", "`--now`")
_GROUPS: Final = ("faces", "models", "lora", "jobs")
_SCAN: Final = frozenset(d.name for d in declared(ScanOptions))


def refreshed(page: Path) -> str:
    """Return the text of a page with its tables as the code has them now."""
    text = page.read_text(encoding="utf-8")
    depth = len(page.relative_to(DOCS).parts) - 1

    def table(mark: re.Match[str]) -> str:
        body = tables()[mark[1]]()
        body = re.sub(r"\]\((?=[\w/-]+\.md)", "](" + "../" * depth, body)
        if depth == 0:  # a link to the page itself is a link to its heading
            body = body.replace(f"]({page.name}#", "](#")
        return f"<!-- table: {mark[1]} -->\n\n{body}\n\n<!-- end of table -->"

    return _MARKED.sub(table, text)


def pages() -> Iterable[Path]:
    """Yield the pages that have tables."""
    for page in sorted(DOCS.rglob("*.md")):
        if _MARKED.search(page.read_text(encoding="utf-8")):
            yield page


def tables() -> Mapping[str, Callable[[], str]]:
    """Return each table by the name that pages call it."""
    alone = [*(name for name in _built() if name.split()[0] not in _GROUPS), *_GROUPS]
    keys = {f"keys of [{name}]": _keys_of(options_class(name)) for name in TABLES}
    return {
        **keys,
        "keys of [[concept]]": _keys_of(ConceptOptions),
        "how images are read": lambda: _keys(declared(ScanOptions)),
        "options of [train]": train_options,
        **{f"options of dsk {name}": partial(command_options, name) for name in alone},
        "keys of sd-scripts": sd_scripts_keys,
    }


def _keys_of(cls: type) -> Callable[[], str]:
    def table() -> str:
        options = [d for d in declared(cls) if d.about.counts_from != "command line"]
        own = [d for d in options if d.name not in _SCAN or not issubclass(cls, ScanOptions)]
        lines = [_keys(own)]
        if len(own) < len(options):
            names = ", ".join(f"`{d.name}`" for d in options if d.name in _SCAN)
            lines.append(f"| {names} | | | [how images are read](#how-images-are-read) |")
        return "\n".join(lines)

    return table


def _keys(options: Iterable[DeclaredOption]) -> str:
    """Return a table of keys of dsk.toml."""
    rows = [(f"`{d.name}`", default(d), values(d), _help(d)) for d in options]
    return _table(("key", "default", "values", "what it does"), rows)


def train_options() -> str:
    """Return a table for each group of options of [train], and one of the network's arguments."""
    parts = []
    for title, options in groupby(declared(TrainOptions), lambda d: d.group):
        group = list(options)
        rows = [(f"`{d.name}`", default(d), values(d), _help(d), d.about.change) for d in group]
        head = ("option", "default", "values", "what it does", "when to change it")
        parts.append(f"### {title}\n\n{_table(head, rows)}")
        if any(d.name == "network_args" for d in group):
            parts.append(f"### Network arguments\n\n{network_arguments()}")
    return "\n\n".join(parts)


def command_options(name: str) -> str:
    """Return a table of the options of a command, or of all commands of a group."""
    built = _built()
    group = {n: c for n, c in built.items() if n.startswith(f"{name} ")}
    members = {name: built[name]} if name in built else group
    rows: dict[str, tuple[str, str, str]] = {}
    having: dict[str, list[str]] = {}
    for full_name, member in members.items():
        tables = filter(None, (member.table, "executor"))
        options = {d.name: d for table in tables for d in declared(options_class(table))}
        for parameter in member.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                spelled = ", ".join(f"`{f}`" for f in (*parameter.opts, *parameter.secondary_opts))
                rows.setdefault(spelled, _about(name, parameter, options.get(parameter.name)))
                having.setdefault(spelled, []).append(full_name.removeprefix(f"{name} "))
    lines = []
    for spelled in sorted(rows, key=lambda spelled: spelled in _SHARED):
        value, what, change = rows[spelled]
        if len(having[spelled]) < len(members):
            what = ", ".join(f"`{member}`" for member in having[spelled]) + f": {what}"
        lines.append((spelled, value, what, change))
    return _table(("option", "default", "what it does", "when to change it"), lines)


def _about(command: str, parameter: Any, d: DeclaredOption | None) -> tuple[str, str, str]:
    """Return the default of a parameter, what it does, and when to change it."""
    if d is None:
        value = "off" if parameter.is_flag else f"`{parameter.default or 'none'}`"
        flags = [key for flag in parameter.opts for key in (f"{command} {flag}", flag)]
        change = next(_CHANGE[flag] for flag in flags if flag in _CHANGE)
        return value.replace("`none`", "none"), parameter.help.replace(r"\[", "["), change
    if isinstance(d.default, bool):
        return "on" if d.default else "off", _help(d), d.about.change
    return default(d).replace('"', ""), _help(d), d.about.change


@cache
def _built() -> Mapping[str, Any]:
    return commands()


def network_arguments() -> str:
    """Return a table of the arguments that `network_args` takes."""
    rows = [
        (f"`{name}`", f"{arg.what} ({_METHODS[arg.only]} only)" if arg.only else arg.what)
        for name, arg in ARGS.items()
    ]
    return _table(("argument", "what it does"), rows)


def sd_scripts_keys() -> str:
    """Return what each key of sd-scripts' files becomes here."""
    options = {d.name: d for d in declared(TrainOptions)}
    same = ", ".join(f"`{name}`" for name in sorted(options) if options[name].about.section)
    differing = {
        name: f"{_value(value)} (`dsk.toml`: {default(options[name])})"
        for name, value in DEFAULTS.items()
        if value != options[name].default
    }
    parts = [
        f"**The same name and meaning**: {same}.",
        _key_table("**Another name** in a `dsk.toml` or a laid-out dataset:", "here", _RENAMED),
        _meanings("**Another name in the file** than here:", "here", KeyMeaning.OPTION),
        _meanings("**An argument of `network_args`** here:", "argument", KeyMeaning.ARGUMENT),
        _meanings("**These values only**; any other is refused:", "values", KeyMeaning.ONE_VALUE),
        _meanings(
            "**Accepted, and not needed**: the plan names those that are not off.",
            "why",
            KeyMeaning.NOT_NEEDED,
        ),
        _meanings(
            "**Not supported**: refused, unless it is off (`false`, 0, empty, `None`).",
            "what to do instead",
            KeyMeaning.NOT_SUPPORTED,
        ),
        _other_models(),
        _key_table(
            "**What a file leaves open** is as in sd-scripts, and not as in a `dsk.toml`:",
            "default",
            differing,
        ),
    ]
    return "\n\n".join(parts)


def _meanings(title: str, column: str, meaning: KeyMeaning) -> str:
    """Return a table of the keys of one meaning, one row for those of a program that say the
    same.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for key in TABLE:
        if key.meaning is meaning and key.text != OTHER_MODEL:
            rows.setdefault((_meaning(key), key.program), []).append(f"`{key.name}`")
    cells = [(", ".join(names), program, text) for (text, program), names in rows.items()]
    return f"{title}\n\n{_table(('key', 'written by', column), cells)}"


def _meaning(key: Key) -> str:
    """Return what a table says of a key; an option and an argument of the same name say so."""
    if key.meaning is KeyMeaning.ONE_VALUE:
        return ", ".join(f"`{value}`" for value in key.off)
    if key.meaning is KeyMeaning.ARGUMENT:
        return "the same" if key.text == key.name else f"`{key.text}`"
    is_name = key.meaning is KeyMeaning.OPTION and key.text.isidentifier()
    return f"`{key.text}`" if is_name else key.text


def _other_models() -> str:
    """Return the keys of models that are not trained here."""
    paths = sorted({k.name for k in TABLE if k.meaning is KeyMeaning.OTHER_MODEL})
    rest = {k.name for k in TABLE if k.text == OTHER_MODEL} - set(paths) | GUI_OTHER_MODEL
    named = [", ".join(f"`{name}`" for name in names) for names in (paths, sorted(rest))]
    return (
        "**Of other models** (Flux, Stable Diffusion 3, Lumina, HunyuanImage, Anima): refused if "
        f"one of these is set, {named[0]}; without an effect: {named[1]}."
    )


def _key_table(title: str, column: str, rows: Mapping[str, str]) -> str:
    named = [(", ".join(f"`{n}`" for n in key.split(", ")), text) for key, text in rows.items()]
    return f"{title}\n\n{_table(('key', column), named)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in (head, *rows)]
    lines = [f"| {line} |".replace("|  |", "| |") for line in lines]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _help(d: DeclaredOption) -> str:
    return f"{d.about.help} [More]({d.about.see})" if d.about.see else d.about.help


def values(d: DeclaredOption) -> str:
    """Return the values that an option takes, as far as a table can say it."""
    words = ", ".join(f"`{word}`" for word in d.choices)
    if d.about.range is None:
        return words
    low, high = d.about.range
    limits = f"{_number(low)} to {_number(high)}" if high < MANY else f"{_number(low)} or more"
    return f"{limits}, `{d.choices[0]}`" if d.choices else limits


def default(d: DeclaredOption) -> str:
    """Return an option's default, in words where it has some."""
    return "must be given" if d.default is MISSING else d.about.shown or _value(d.default)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "none"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{part}"' for part in value) + "]`" if value else "none"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    # 5e-05 is how Python writes it, and not how people do.
    small = isinstance(value, float) and 0 < value < 0.001
    return f"{value:.8f}".rstrip("0") if small else str(value)


def schema_text() -> str:
    """Return the schema of dsk.toml as it is shipped."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_atomic(SHIPPED, schema_text().encode())
    for path in pages():
        write_atomic(path, refreshed(path).encode())
        sys.stdout.write(f"{path}\n")
