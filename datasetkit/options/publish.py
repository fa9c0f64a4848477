"""Options of `dsk publish`. Those that say where files go and who sees them count on the command
line only: a dsk.toml that came with images must not decide that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.options.declare import CheckedOptions, check, option
from datasetkit.options.scan import Tags

_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions(CheckedOptions):
    """`dsk publish`: a LoRA or a dataset on the Hugging Face hub."""

    repo: str = option(
        "",
        "The repository, owner/name; it is created if there is none.",
        group="Publish",
        counts_from="command line",
        shown="needed",
        change="always: say where the files go",
    )
    public: bool = option(
        False,
        "Let everybody see it.",
        counts_from="command line",
        shown="off: private",
        change="you want to share it, and may",
    )
    license: str = option(
        "",
        "The licence in the card, as the hub names it: apache-2.0, cc-by-4.0, "
        "creativeml-openrail-m, other.",
        shown="none",
        change="others may use it",
    )
    trigger: Tags = option(
        (),
        "The trigger in the card of a LoRA.",
        counts_from="command line",
        shown="found in its header",
        change="the one that is found is wrong",
    )
    base: str = option(
        "",
        "The base model in the card of a LoRA, owner/name on the hub.",
        counts_from="command line",
        shown="none",
        change="the hub must list the LoRA under its base model",
    )
    tags: Tags = option(
        (),
        "More tags of the card, for the hub's search.",
        shown="those of its kind",
        change="people must find it by other words",
    )
    format: Literal["imagefolder", "parquet"] = option(
        "imagefolder",
        "Of a dataset. imagefolder: the images and metadata.jsonl. parquet: one table.",
        change="there are thousands of images: the hub takes 10,000 files in a folder",
    )
    replace_card: bool = option(
        False,
        "Replace a README.md that the repository has.",
        counts_from="command line",
        change="the card must be written again; edits of it on the hub are lost",
    )

    def __post_init__(self) -> None:
        check(self)
        for name, value in (("repo", self.repo), ("base", self.base)):
            if value and not _REPO.fullmatch(value):
                raise ConfigError(
                    f"{name} = {display(value)} is not a repository",
                    hint="write owner/name as the hub's page shows it",
                )
        if self.license and not _LICENSE.fullmatch(self.license):
            raise ConfigError(
                f"license = {display(self.license)} is not an identifier of the hub",
                hint="write it in lower case, such as cc-by-4.0, or give other",
            )
