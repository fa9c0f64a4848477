"""Options of `dsk keep`. Those that say where files go count on the command line only: a dsk.toml
that came with images must not decide that.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.dataset.naming import MAX_NAME_BYTES, name_fault
from datasetkit.options.declare import CheckedOptions, check, option
from datasetkit.options.scan import Tags

# What is put behind the name: a number, and the suffix of the LoRA or of its preview.
_LONGEST_END = len(".safetensors") + len("-99")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOptions(CheckedOptions):
    """`dsk keep`: a LoRA file where the web interfaces look for it."""

    to: str = option(
        "",
        "The folder of LoRAs, or the folder of a web interface: A1111, Forge, SD.Next, ComfyUI, "
        "Stability Matrix and SwarmUI are recognised.",
        group="Keep",
        path="output folder",
        counts_from="command line",
        shown="needed",
        change="always: say where the file goes",
    )
    name: str = option(
        "",
        "The name of the copy, without a suffix.",
        counts_from="command line",
        shown="that of its run",
        change="prompts must call it by another name",
    )
    weight: float = option(
        0.0,
        "The weight that the web interface writes into the prompt; 0: its own default.",
        range=(0, 10),
        shown="none",
        change="you have found the weight that looks best",
    )
    preview: str = option(
        "",
        "The image that the web interface shows for it.",
        path="input file",
        counts_from="command line",
        shown="the first preview image of its epoch",
        change="another image shows better what it does",
    )
    trigger: Tags = option(
        (),
        "The trigger that the web interface writes into the prompt.",
        counts_from="command line",
        shown="found in its header",
        change="the one that is found is wrong",
    )
    replace: bool = option(
        False,
        "Replace another LoRA of this name; it goes into the history. Without it the copy gets a "
        "number.",
        counts_from="command line",
        change="the copy is meant to be the new version of that file",
    )

    def __post_init__(self) -> None:
        check(self)
        fault = name_fault(self.name) if self.name else None
        if fault is None and len(self.name.encode()) > MAX_NAME_BYTES - _LONGEST_END:
            fault = f"is longer than {MAX_NAME_BYTES - _LONGEST_END} bytes"
        if fault is not None:
            raise ConfigError(
                f"the name `{display(self.name)}` {fault}", hint="give another one with --name"
            )
