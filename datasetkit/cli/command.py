"""How a command is registered: its options come from their declarations, and are built only when
the command runs or its help is asked for.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
import typer.core
import typer.main

from datasetkit.core.words import WIDE_COMMAS

if TYPE_CHECKING:
    from datasetkit.options.declare import DeclaredOption

Command = Callable[..., None]
# The parameter of a command in whose place its options stand: name -> value, None for not given.
Given = Mapping[str, Any]
# What a command that has `show` returns: the verb's call, with `api` and the context.
Call = Callable[[Any, Any], Any]
# The panel of options that do not change the result.
HOW = "How it runs"
# Ranges beyond this are no help to a reader.
_SHOWN_UP_TO = 100_000
# More choices than this stand in the explanation, not behind the option's name.
_MOST_WORDS = 5
_PATHS = {
    "input file": "FILE", "output file": "FILE", "input folder": "DIR", "output folder": "DIR",
    "model": "MODEL",
}  # fmt: skip
# Commas of any script between the words of a list, but not those inside a wildcard.
_COMMA = re.compile(rf"[,{WIDE_COMMAS}](?![^{{}}]*\}})")


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    panel: str | None = None,
    table: str = "",
    only: Collection[str] = (),
    without: Collection[str] = (),
    show: str = "",
    on_cluster: bool = False,
    on_gpu: bool = False,
    takes_command: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a command. Its parameter `given` stands for the options of a table.

    table: of dsk.toml. only, without: which of its options the command has. show: what prints the
    result, such as `show_prepare.tag`; the function then returns the verb's call, and the command
    has --dry-run, --json and --wait. on_cluster: it has the options of [executor], too, and works
    where they say. on_gpu: it fills a GPU, and has --now, too. takes_command: the arguments are a
    command line, whose options are not those of this command.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def placeholder() -> None: ...

        def build() -> Command:
            full_name = name or function.__name__
            group = "" if app.info.name == "dsk" else f"{app.info.name} "
            run = function
            if show:
                run = _run_verb(function, group + full_name, show, on_cluster, on_gpu)
            run = _with_options(run, "given", table, only, without) if table else run
            return _with_options(run, "executor", "executor", (), ()) if on_cluster else run

        placeholder.__name__ = function.__name__
        placeholder.__doc__ = _unwrapped(function.__doc__ or "")
        cls = type("Command", (LazyCommand,), {"build": staticmethod(build), "table": table})
        settings = {"allow_interspersed_args": False} if takes_command else None
        app.command(name, cls=cls, rich_help_panel=panel, context_settings=settings)(placeholder)
        return function

    return register


def _run_verb(
    function: Callable[..., Call], name: str, show: str, on_cluster: bool, on_gpu: bool
) -> Command:
    """Return the command that runs the verb's call that a function returns."""
    from datasetkit.cli import options as opt

    def run(dry_run: bool, json: bool, wait: bool, **values: Any) -> None:
        from datasetkit.cli import run as body

        module, _, printer = show.partition(".")
        show_result = getattr(import_module(f"datasetkit.cli.{module}"), printer)
        given = values.pop("executor", None)
        now = values.pop("now", False)
        executor = opt.executor(values["folder"], given) if given is not None else None
        call = function(**values)
        body.verb(name, call, show_result, json, dry_run, wait, executor, now=now)

    kinds = {"dry_run": opt.DryRun, "json": opt.Json}
    kinds |= {"wait": opt.WaitForGpu, "now": opt.Now} if on_gpu else {"wait": opt.Wait}
    switches = [
        inspect.Parameter(switch, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for switch, kind in kinds.items()
    ]
    if on_cluster:
        switches.insert(0, inspect.Parameter("executor", inspect.Parameter.KEYWORD_ONLY))
    signature = inspect.signature(function, eval_str=True)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *switches]
    )
    return run


def _unwrapped(text: str) -> str:
    """Return a docstring with each paragraph on one line: the terminal wraps it where it ends."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)


class CommandGroup(typer.core.TyperGroup):
    """A group of commands whose help is that of `cli.help`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from datasetkit.cli import help  # here: it loads Rich

        help.show(self, ctx)


class LazyCommand(typer.core.TyperCommand):
    """A command that has its name and help from the start, its parameters when they are needed."""

    build: ClassVar[Callable[[], Command]]
    table: ClassVar[str] = ""

    def get_params(self, ctx: Any) -> Any:
        if not self.params:
            alone = typer.Typer(add_completion=False)
            alone.command()(type(self).build())
            built = typer.main.get_command(alone)
            self.params, self.callback = built.params, built.callback
        return super().get_params(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from datasetkit.cli import help  # here: it loads Rich

        help.show(self, ctx)


def _with_options(
    function: Command, name: str, table: str, only: Collection[str], without: Collection[str]
) -> Command:
    """Return the function with a parameter for each option in the place of the one of a name."""
    # Here, so that `dsk --help` does not load them.
    from datasetkit.options.declare import READING, declared
    from datasetkit.options.toml import forget_named, options_class

    options = [
        d
        for d in declared(options_class(table))
        if (not only or d.name in only) and d.name not in without
    ]
    options.sort(key=lambda d: d.group == READING)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name == name:
            parameters += [_parameter(d) for d in options]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    names = {d.name: d for d in options}

    def run(**values: Any) -> None:
        given = {option: _parsed(d, values.pop(option)) for option, d in names.items()}
        try:
            function(**{name: given}, **values)
        finally:
            forget_named()

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def _parameter(d: DeclaredOption) -> inspect.Parameter:
    """Return the parameter of an option: None where it is not given."""
    about = d.about
    kind = _command_line_type(d)
    flags = about.flags
    if kind is bool and not flags:
        spelled = d.name.replace("_", "-")
        flags = (f"--{spelled}/--no-{spelled}",)
    info = typer.Option(
        *flags,
        help=_help(d),
        show_default=_shown_default(d),
        metavar=about.metavar or _metavar(d),
        rich_help_panel=about.panel,
    )
    return inspect.Parameter(
        d.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, info],
    )


def _command_line_type(d: DeclaredOption) -> Any:
    """Return the type by which Typer reads an option."""
    kinds = d.kinds
    if kinds == (tuple[str, ...],):
        return list[str] if d.about.repeat else str
    if kinds == (tuple[int, int],) or len(kinds) > 1:  # the latter: a number, or a word instead
        return str
    return kinds[0]


def _metavar(d: DeclaredOption) -> str:
    """Return what help prints for an option's value."""
    if d.kinds == (tuple[str, ...],):
        return "TEXT" if d.about.repeat else "A,B,..."
    if d.kinds == (tuple[int, int],):
        return "SIZE"
    words = [*(["N"] if d.is_number else []), *map(str, d.choices)]
    value = _PATHS.get(d.about.path, "TEXT")
    return "|".join(words) if words and len(words) <= _MOST_WORDS else value


def _parsed(d: DeclaredOption, value: Any) -> Any:
    """Return a value of the command line in the option's own type."""
    if value is None or not isinstance(value, str):
        return value
    if d.kinds == (tuple[str, ...],):
        return [word for piece in _COMMA.split(value) if (word := piece.strip())]
    if d.kinds == (tuple[int, int],):
        return _size(d.name, value)
    if len(d.kinds) > 1 and value not in d.choices:
        try:
            return float(value)
        except ValueError:
            words = " nor ".join(map(str, d.choices))
            option = f"--{d.name.replace('_', '-')}"
            raise typer.BadParameter(f"{option} {value} is neither a number nor {words}") from None
    return value


def _size(name: str, text: str) -> list[int]:
    width, _, height = text.lower().partition("x")
    try:
        return [int(width), int(height or width)]
    except ValueError:
        raise typer.BadParameter(f"--{name} {text or '(nothing)'}: write 512 or 512x768") from None


def _help(d: DeclaredOption) -> str:
    text = d.about.help
    if d.about.range is not None and d.about.range[1] <= _SHOWN_UP_TO:
        text += " ({:,g} to {:,g})".format(*d.about.range)
    if len(d.choices) > _MOST_WORDS:
        text += f" ({', '.join(map(str, d.choices))})"
    # The backslash keeps Rich from reading a style in the brackets.
    return text.replace("[", r"\[")


def _shown_default(d: DeclaredOption) -> str | bool:
    if d.about.shown:
        return d.about.shown if d.about.shown != "none" else False
    if isinstance(d.default, bool):
        return d.name.replace("_", "-") if d.default else False
    return str(d.default) if d.default not in ("", (), None) else False
