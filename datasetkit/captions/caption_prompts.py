r"""Prompts for models that follow instructions: presets, and templates of the user.

A template has variables in braces: `{tags}`, `{trigger}`, `{folder}`, `{name}`, `{exclude}`. A line
whose variables are all empty for an image is left out, so `Do not mention {exclude}.` asks nothing
where nothing is excluded. `\{` is a brace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.suggest import did_you_mean

VARIABLES: Final = ("tags", "trigger", "folder", "name", "exclude")
_EXCLUDED: Final = "Do not mention, and do not hint at: {exclude}."
_TAGS: Final = "A tagger found these tags, of which some may be wrong: {tags}."
_PLAIN: Final = (
    'Write plain sentences about what is visible. Do not begin with "The image shows", do not '
    "guess names, moods or stories, and write nothing before or after the caption."
)
PRESETS: Final[Mapping[str, str]] = {
    "caption": f"Write a caption of one short sentence for this image.\n{_PLAIN}\n{_EXCLUDED}",
    "detailed": f"Write a caption of two or three sentences for this image.\n{_PLAIN}\n{_TAGS}\n"
    f"{_EXCLUDED}",
    "paragraph": f"Describe this image in one detailed paragraph.\n{_PLAIN}\n{_TAGS}\n{_EXCLUDED}",
    "training": "Write a caption for training a text-to-image model on this image, in one to four "
    "sentences.\n"
    "Say what could be another way in another image of the same subject: the pose, the "
    "expression, the clothes, the background, the light, the framing and the angle.\n"
    f"{_PLAIN}\n{_TAGS}\n{_EXCLUDED}",
}
_PARTS: Final = re.compile(r"\\([{}\\])|\{([^{}\n]*)\}|([{}])")


def template_of(prompt: str) -> str:
    """Return the template of a preset, or a prompt as a template of the user.

    Raises ConfigError for one word that is not a preset, for an unknown variable, and for a brace
    without a partner.
    """
    text = prompt.strip()
    if text in PRESETS:
        return PRESETS[text]
    if not text or not re.search(r"\s", text):
        hint = did_you_mean(
            text, PRESETS, f"presets: {', '.join(PRESETS)}; a prompt of your own has several words"
        )
        raise ConfigError(f"--prompt {display(text)}: unknown preset", hint=hint)
    for match in _PARTS.finditer(text):
        _, variable, brace = match.groups()
        if brace:
            raise ConfigError(
                f"--prompt: unmatched {brace}", hint=r"write \{ and \} for braces that are text"
            )
        if variable is not None and variable not in VARIABLES:
            otherwise = f"variables: {', '.join(VARIABLES)}; \\{{ is a brace"
            hint = did_you_mean(variable, VARIABLES, otherwise, form="{{{}}}")
            raise ConfigError(f"--prompt: unknown variable {{{display(variable)}}}", hint=hint)
    return text


def rendered(template: str, values: Mapping[str, str]) -> str:
    """Return a template with the values of an image. Values are text: braces in them are kept."""
    lines: list[str] = []
    for line in template.split("\n"):
        used = [m[2] for m in _PARTS.finditer(line) if m[2] is not None]
        if not used or any(values[variable] for variable in used):
            lines.append(_PARTS.sub(lambda m: m[1] or values[m[2]], line))
    return "\n".join(lines).strip()


def uses(template: str, variable: str) -> bool:
    """Tell whether a template has a variable."""
    return any(match[2] == variable for match in _PARTS.finditer(template))
