"""Options of `dsk caption`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.options.declare import option
from datasetkit.options.scan import ScanOptions, Tags

Join = Literal["auto", "sentence", "tags-then-sentence", "sentence-then-tags", "lines", "sidecar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions(ScanOptions):
    """`dsk caption`: which model, what it is asked, and what the captions get of its answer."""

    engine: str = option(
        "florence2",
        "florence2 (base), florence2-large, florence2-base-ft, florence2-large-ft; server: a model "
        "behind an OpenAI-compatible API; or a hub repository with the same ONNX graphs: "
        "owner/repo, with an optional @revision.",
        group="Model",
        change="another model describes your images better",
    )
    model_dir: str = option(
        "",
        "A folder with the files of Florence-2.",
        path="input folder",
        shown="none",
        change="the model is in a local folder",
    )
    endpoint: str = option(
        "",
        "The base of the server's API.",
        shown="http://127.0.0.1:8080/v1",
        metavar="URL",
        counts_from="named file",
        change="the engine is `server`, and it listens elsewhere",
    )
    model: str = option(
        "",
        "The name of the model on the server.",
        shown="the only one that it has",
        change="the server has several models",
    )
    remote: bool = option(
        False,
        "Allow an endpoint on another machine: your images are sent to it.",
        counts_from="command line",
        change="you want to send your images there",
    )
    prompt: str = option(
        "detailed",
        "caption: one sentence; detailed; paragraph; training (server only): what varies, for a "
        "LoRA. For a server also a text of your own, with {tags}, {trigger}, {folder}, {name} and "
        "{exclude}.",
        group="What it is asked",
        see="commands/caption.md#prompts",
        change="the captions should be longer, shorter or of another kind",
    )
    system: str = option(
        "",
        "The system prompt for a server.",
        shown="none",
        change="the model's card asks for one",
    )
    exclude: Tags = option(
        (),
        "What the trigger must absorb: the model is asked not to mention it, and captions that do "
        "are named. As for `dsk tag`: names, globs (`*_hair`), groups (`@face`).",
        shown="that of dsk.toml",
        change="the trigger must absorb what it describes",
    )
    temperature: float = option(
        0.2,
        "How freely a server's model words its answer.",
        range=(0, 2),
        change="captions repeat each other: higher",
    )
    top_p: float = option(
        1.0,
        "Only the likeliest words, up to this share of the probability, for a server.",
        range=(0.01, 1),
        change="the model's card names a value",
    )
    seed: int = option(
        0,
        "The seed of a server's model.",
        range=(0, 2**31 - 1),
        change="you want other captions from the same prompt",
    )
    max_tokens: int = option(
        300,
        "The longest answer, in the model's tokens.",
        range=(8, 8192),
        unit="tokens",
        change="captions are cut off, or the model thinks aloud first",
    )
    beams: int = option(
        3,
        "Texts that Florence-2 follows at once; 1 is fastest.",
        range=(1, 16),
        change="captioning takes too long: 1",
    )
    trigger: Tags = option(
        (),
        "Trigger words, placed before the sentence.",
        group="What is written",
        shown="the known one of the folder",
        change="no command has set the trigger yet",
    )
    join: Join = option(
        "auto",
        "What a caption is made of. auto: as `captions` in dsk.toml says: a sentence, or tags and "
        "then a sentence. lines: each line is a caption of its own. sidecar: the sentence goes to "
        "a `.caption` file beside the `.txt`.",
        see="commands/caption.md#tags-and-sentences",
        change="captions should have tags and a sentence",
    )
    existing: Literal["skip", "overwrite", "append", "prepend"] = option(
        "skip",
        "What to do with captions that a person wrote or edited.",
        change="they must be replaced, or joined with the sentence",
    )
    max_side: int = option(
        1024,
        "The long edge of the images that are sent to a server.",
        panel="How it runs",
        range=(64, 8192),
        unit="pixels",
        change="details are too small for the model, or requests are too large",
    )
    timeout: float = option(
        300.0,
        "Seconds that a server may take for one answer.",
        panel="How it runs",
        range=(0.1, 86_400),
        unit="seconds",
        change="the model is slow",
    )
    jobs: int = option(
        1,
        "Requests to a server at once.",
        panel="How it runs",
        range=(1, 64),
        change="the server answers several at once, as vLLM does",
    )
    provider: str = option(
        "auto",
        "Where Florence-2 runs: auto, cpu, cuda, ...",
        panel="How it runs",
        change="`auto` picks the wrong device",
    )
    batch_size: int = option(
        0,
        "Images that Florence-2 sees at once.",
        panel="How it runs",
        range=(0, 256),
        shown="0: what suits the device",
        change="the GPU runs out of memory",
    )
