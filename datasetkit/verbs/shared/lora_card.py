"""What is published beside a LoRA: its model card, and its metadata in the form of civitai."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from datasetkit import __version__
from datasetkit.core.files import display, file_sha256
from datasetkit.options.publish import PublishOptions
from trainer.lora_files.describe import LoraDescription

SAMPLES: Final = "samples.png"
_PROJECT: Final = "https://github.com/datasetkit/datasetkit"
_TRIGGERS: Final = "modelspec.trigger_phrase"
# The title of a family -> its tag on the hub, and the name of civitai.
_FAMILIES: Final = {
    "Stable Diffusion 1": ("stable-diffusion", "SD 1.5"),
    "Stable Diffusion 2": ("stable-diffusion", "SD 2.1"),
    "Stable Diffusion XL": ("stable-diffusion-xl", "SDXL 1.0"),
}


def triggers(lora: LoraDescription) -> tuple[str, ...]:
    """Return the trigger that the header names, else the concept of its folders if it is a tag,
    else the tag of every image.
    """
    return triggers_in(lora.metadata, lora.tags)


def triggers_in(metadata: Mapping[str, str], tags: Mapping[str, int]) -> tuple[str, ...]:
    """Return the same from a header and its tags, see `describe.tags`."""
    if stated := metadata.get(_TRIGGERS, "").strip():
        return tuple(word for part in stated.split(",") if (word := part.strip()))
    for folder in _json_keys(metadata.get("ss_dataset_dirs", "")):
        name = re.sub(r"^\d+_", "", folder)
        if name in tags:
            return (name,)
    return tuple(tags)[:1]


def samples_of(path: Path) -> Path | None:
    """Return the contact sheet of preview images that the run of a LoRA has written, if any."""
    run = re.sub(r"-(?:\d{6}|step\d{8})$", "", path.stem)
    sheet = path.with_name(f"{run}-samples.png")
    return sheet if sheet.is_file() else None


def disclosed(lora: LoraDescription) -> list[str]:
    """Return what the header of a LoRA tells people about its training."""
    metadata = lora.metadata
    folders = _json_keys(metadata.get("ss_dataset_dirs", ""))
    lines = []
    if lora.tags:
        lines.append(
            f"the most frequent tags of the captions, such as {', '.join([*lora.tags][:3])}"
        )
    if folders:
        lines.append(f"names of the image folders: {', '.join(folders[:3])}")
    for key, what in (
        ("ss_sd_model_name", "the base model"),
        ("ss_training_comment", "the comment"),
        ("modelspec.author", "the author"),
    ):
        if (value := metadata.get(key, "None")) not in ("None", ""):
            lines.append(f"{what}: {value}")
    return [f"in the file's header: {display(line)}" for line in lines]


def card(lora: LoraDescription, options: PublishOptions, *, samples: bool) -> str:
    """Return the text of the README.md: YAML for the hub, then the page."""
    words = options.trigger or triggers(lora)
    title = lora.path.stem
    lines = [
        f"# {_plain(title)}",
        "",
        f"A LoRA for {lora.family}, trained with [datasetkit]({_PROJECT})."
        if "ss_network_module" in lora.metadata
        else f"A LoRA for {lora.family}.",
        "",
    ]
    if samples:
        lines += [f"![Preview images]({SAMPLES})", ""]
    lines += _use(title, words)
    lines += ["", "## Training", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in _recipe(lora)]
    if lora.tags:
        tags = ", ".join(f"{_plain(tag)} ({number})" for tag, number in lora.tags.items())
        lines += [
            "",
            "## Tags",
            "",
            f"The most frequent tags of the captions, with their images: {tags}.",
        ]
    return _front_matter(lora, options, words, samples=samples) + "\n".join(lines) + "\n"


def civitai_json(lora: LoraDescription, options: PublishOptions) -> str:
    """Return a LoRA's metadata under the names that civitai's API gives to a model's version."""
    sha256 = file_sha256(lora.path)
    _, base = _FAMILIES.get(lora.family, ("", "Other"))
    document: dict[str, Any] = {
        "name": lora.path.stem,
        "baseModel": base,
        "trainedWords": list(options.trigger or triggers(lora)),
        "description": f"Written by datasetkit {__version__}",
        "model": {
            "name": lora.path.stem,
            "type": "DoRA" if lora.dora else _type(lora),
            "nsfw": False,
        },
        "files": [
            {
                "name": lora.path.name,
                "sizeKB": round(lora.size / 1024, 3),
                "type": "Model",
                "metadata": {"format": "SafeTensor"},
                "hashes": {"SHA256": sha256.upper(), "AutoV2": sha256[:10].upper()},
                "primary": True,
            }
        ],
    }
    if epochs := lora.training.get("epoch"):
        document["epochs"] = epochs
    if steps := lora.training.get("steps"):
        document["steps"] = steps
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _type(lora: LoraDescription) -> str:
    return "LORA" if set(lora.methods) <= {"LoRA"} else "LoCon"


def _use(title: str, words: tuple[str, ...]) -> list[str]:
    prompt = ", ".join((*words, f"<lora:{title}:0.8>"))
    lines = ["## Use", ""]
    if words:
        lines += [f"Trigger: {', '.join(f'`{word}`' for word in words)}", ""]
    return [
        *lines,
        f"Copy `{title}.safetensors` to `models/Lora` of a web interface, or to `models/loras` of "
        f"ComfyUI, and prompt `{prompt}`.",
    ]


def _recipe(lora: LoraDescription) -> list[tuple[str, str]]:
    ranks = ", ".join(map(str, lora.ranks))
    rows = [("family", lora.family), ("method", ", ".join(lora.methods)), ("rank", ranks)]
    rows += [item for item in lora.training.items() if item[0] not in ("title", "network")]
    return [(name, value) for name, value in rows if value.strip()]


def _front_matter(
    lora: LoraDescription, options: PublishOptions, words: tuple[str, ...], *, samples: bool
) -> str:
    from huggingface_hub import ModelCardData

    tag, _ = _FAMILIES.get(lora.family, ("", ""))
    extra: dict[str, Any] = {"instance_prompt": ", ".join(words)} if words else {}
    if samples:
        extra["widget"] = [{"text": ", ".join(words) or "-", "output": {"url": SAMPLES}}]
    data = ModelCardData(
        license=options.license or None,
        base_model=options.base or None,
        pipeline_tag="text-to-image",
        tags=[*dict.fromkeys(filter(None, ("lora", "text-to-image", tag, *options.tags)))],
        **extra,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _json_keys(text: str) -> list[str]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return []
    return [str(key) for key in value] if isinstance(value, dict) else []


def _cell(text: str) -> str:
    """Return a text as it stands in a table: one line, without the characters of Markdown."""
    return _plain(text if len(text) <= 300 else f"{text[:300]}…").replace("|", "\\|")


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#!])", r"\\\1", display(text))
