"""The card of a published dataset: what the hub shows, and how the `datasets` library reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from datasetkit.core.files import display
from datasetkit.core.records import ImageRecord
from datasetkit.core.words import counted
from datasetkit.options.publish import PublishOptions
from datasetkit.verbs.shared.concept_folders import ConceptSet

TRAIN: Final = "train"


def card(images: Sequence[tuple[ConceptSet, ImageRecord]], options: PublishOptions) -> str:
    """Return the text of the README.md: YAML for the hub, then the page."""
    from huggingface_hub import DatasetCardData

    concepts: dict[str, int] = {}
    for concept, _ in images:
        concepts[concept.name] = concepts.get(concept.name, 0) + 1
    number = len(images)
    bound = next((b for b in (1_000, 10_000, 100_000) if number < b), 1_000_000)
    sizes = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    data = DatasetCardData(
        license=options.license or None,
        task_categories=["text-to-image"],
        size_categories=[sizes[bound]],
        tags=[*dict.fromkeys(("lora", "image", *options.tags))],
        configs=[{"config_name": "default", "data_files": _data_files(options)}],
    )
    lines = [
        f"# {display(options.repo.partition('/')[2])}",
        "",
        f"{counted(number, 'image')} for training a LoRA. Made with "
        "[datasetkit](https://github.com/datasetkit/datasetkit).",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'dataset = load_dataset("{options.repo}", split="train")  # columns: image, text',
        "```",
        "",
        "| concept | images |",
        "|---|---|",
        *(f"| {display(name)} | {n} |" for name, n in concepts.items()),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


def _data_files(options: PublishOptions) -> list[dict[str, str]]:
    pattern = f"{TRAIN}/**" if options.format == "imagefolder" else "data/train-*.parquet"
    return [{"split": "train", "path": pattern}]
