"""What a sentence must not mention, because the trigger has to absorb it: the words of `exclude`,
for a prompt and to look for in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.selectors import Category, Exact, Group, glob_pattern, parse_selector
from datasetkit.captions.vocabulary import Vocabulary

# Words of a caption that a glob's star may stand for.
_ONE_WORD: Final = r"[\w'’-]+"
# Letters of scripts without spaces between words.
_NO_SPACES: Final = re.compile("[\u2e80-\ua4cf\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """words: as a prompt names them. pattern: finds one of them in the normal form of a sentence,
    None where there is nothing to look for. exceptions: of groups, such as `wet hair` of @hair.
    """

    words: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    exceptions: tuple[re.Pattern[str], ...] = ()

    def mentioned(self, sentence: str) -> tuple[str, ...]:
        """Return what a sentence mentions, each once."""
        if self.pattern is None:
            return ()
        hits = dict.fromkeys(m[0] for m in self.pattern.finditer(normal_form(sentence)))
        return tuple(hit for hit in hits if not any(e.match(hit) for e in self.exceptions))


def exclusions(
    exclude: Iterable[str], vocabulary: Vocabulary, groups: Mapping[str, Group]
) -> Exclusions:
    """Return what rules exclude, as words of sentences. Raises ConfigError for an unknown group.

    A category (`category:rating`) is not looked for: its tags are not words of sentences.
    """
    words: list[str] = []
    patterns: list[str] = []
    exceptions: list[re.Pattern[str]] = []
    for text in exclude:
        selector = parse_selector(text, vocabulary, groups)
        if isinstance(selector, Exact):
            words.append(selector.form)
            patterns.append(_phrase(selector.form))
        elif isinstance(selector, Group):
            words.append(selector.name.replace("_", " "))
            for group in _with_included(selector, groups):
                forms = [normal_form(tag) for tag in (*group.tags, *group.words)]
                patterns += [_phrase(form) for form in forms]
                patterns += [_phrase(normal_form(glob)) for glob in group.globs]
                exceptions += [glob_pattern(group.exceptions)] if group.exceptions else []
        elif not isinstance(selector, Category):
            form = normal_form(text)
            words.append(" ".join(form.replace("*", " ").replace("?", " ").split()) or form)
            patterns.append(_phrase(form))
    phrases = [pattern for pattern in dict.fromkeys(patterns) if pattern]
    compiled = re.compile("|".join(sorted(phrases, key=len, reverse=True))) if phrases else None
    return Exclusions(tuple(dict.fromkeys(words)), compiled, tuple(exceptions))


def _with_included(group: Group, groups: Mapping[str, Group]) -> list[Group]:
    return [group, *(groups[name] for name in group.includes)]


def _phrase(form: str) -> str:
    """Return the pattern of a tag or glob as words: also in the plural. "" for what is not a word,
    such as `:d`, and for a glob of nothing but stars.
    """
    if not re.search(r"\w\w", form) and not _NO_SPACES.search(form):
        return ""
    parts = [re.escape(part).replace(r"\?", r"\w") for part in form.split("*")]
    body = "".join(
        part if not n else f"{_star(parts[n - 1], part)}{part}" for n, part in enumerate(parts)
    )
    before = "" if _NO_SPACES.match(form) else r"(?<!\w)"
    after = "" if _NO_SPACES.match(form[-1]) else r"(?:e?s)?(?!\w)"
    return f"{before}{body}{after}"


def _star(before: str, after: str) -> str:
    """Return what a star stands for: one word, or the rest of one."""
    is_alone = (not before or before.endswith("\\ ")) and (not after or after.startswith("\\ "))
    return _ONE_WORD if is_alone else r"[\w'’-]*"
