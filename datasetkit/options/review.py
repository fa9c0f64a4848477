"""Options of `dsk review`."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.options.declare import READING, CheckedOptions, option


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions(CheckedOptions):
    """`dsk review`: the page for looking through images and captions."""

    port: int = option(
        0,
        "The port to listen on.",
        panel="How it runs",
        counts_from="command line",
        group="Page",
        range=(0, 65535),
        shown="0: any free one",
        change="a bookmark must stay valid",
    )
    open: bool = option(
        True,
        "Open the page in your browser.",
        panel="How it runs",
        counts_from="command line",
        change="there is no browser on this machine",
    )
    read_only: bool = option(
        False,
        "Look only: nothing is written, not even .dsk/.",
        change="somebody must only look",
    )
    host: str = option(
        "127.0.0.1",
        "The address to listen on; others let other machines in.",
        panel="How it runs",
        counts_from="command line",
        change="other machines must reach the page; they need the token too, and nothing is "
        "encrypted",
    )
    allow_host: tuple[str, ...] = option(
        (),
        "A name under which browsers may reach the page, with --host; repeat for more.",
        panel="How it runs",
        counts_from="command line",
        repeat=True,
        change="browsers reach this machine under a name",
    )
    root: tuple[str, ...] = option(
        (),
        "A folder besides the project that the page may read and write; repeat for more. On this "
        "machine it may also use your home folder.",
        panel="How it runs",
        path="input folder",
        counts_from="command line",
        repeat=True,
        metavar="DIR",
        change="models or results are on another disk",
    )
    allow_import: bool = option(
        False,
        "Let the page set optimizers and LR schedules that import any code.",
        panel="How it runs",
        counts_from="command line",
        change="you train with a class of your own",
    )
    keep_token: bool = option(
        False,
        "Keep the keys of the page, so that an open page goes on when the server is started again.",
        panel="How it runs",
        counts_from="command line",
        change="the server is restarted often",
    )
    new: bool = option(
        False,
        "Start another server, also where one runs for this project.",
        panel="How it runs",
        counts_from="command line",
        change="two people look at one project",
    )
    stay: bool = option(
        False,
        "When the page is stopped, wait for the jobs that run or wait in the queue before it ends.",
        panel="How it runs",
        counts_from="command line",
        change="it is the first process of a container, whose end would end the jobs",
    )
    translations: tuple[str, ...] = option(
        (),
        "Tables of what tags mean in your language, besides translations.csv (or .txt) in the "
        "project; repeat for more. The first that has a tag counts.",
        path="input file",
        repeat=True,
        metavar="FILE",
        see="review.md#meanings",
        change="you have such a table, as tag autocompletion or BooruDatasetTagManager use",
    )
    language: str = option(
        "",
        "The language of tables that have several, such as `zh`.",
        shown="the first of each tag",
        change="a table has a column with the language",
    )
    recursive: bool = option(
        False,
        "Go into subfolders.",
        group=READING,
        change="images are in subfolders",
        flags=("--recursive/--no-recursive", "-r"),
    )
    max_pixels: int = option(
        64_000_000,
        "Refuse images of more pixels than this.",
        panel="How it runs",
        range=(1, 2**31),
        unit="pixels",
        is_limit=True,
        change="you trust an image of more than 64 megapixels",
    )
