"""Permalinks: the settings of a comparison as a short, versioned query string.

``?v=1&p=a+photo+of+a+turtle&s=7&n=20&g=4&m=benign&m=dirty-060``: v version, p prompt, s seed, n denoising steps,
g guidance scale, x negative prompt, m one model a column. Whatever else stands in the query (the sliders, which
the browser writes and reads itself, or Gradio's own parameters) is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

VERSION = "1"
MAX_STEPS = 100
MAX_SEED = 2**31 - 1
MAX_GUIDANCE_SCALE = 30.0
MAX_PROMPT_CHARACTERS = 500
COLUMN_RANGE = (2, 4)
NO_MODEL = "(none)"


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What decides the pictures of a comparison."""

    prompt: str = "a photo of a turtle"
    """Text condition."""
    seed: int = 7
    """Of the initial noise, the same for every model; 0 to ``MAX_SEED``."""
    steps: int = 20
    """Denoising steps, 1 to ``MAX_STEPS``."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale; 1 and below is without guidance."""
    negative_prompt: str = ""
    """Text condition of the unconditional branch."""
    models: tuple[str, ...] = ()
    """Checkpoint names, one a column."""


def write_permalink(settings: CompareSettings) -> str:
    """The query string, beginning with ``?``."""
    fields = [
        ("v", VERSION),
        ("p", settings.prompt),
        ("s", settings.seed),
        ("n", settings.steps),
        ("g", f"{settings.guidance_scale:.15g}"),
    ]
    if settings.negative_prompt:
        fields.append(("x", settings.negative_prompt))
    return "?" + urlencode(fields + [("m", model) for model in settings.models])


def read_permalink(query: Mapping[str, str], models: Sequence[str], defaults: CompareSettings) -> CompareSettings:
    """Settings of a query string; what it does not mention is as in ``defaults``.

    Args:
        query: single values by name.
        models: values of the repeated field ``m``.
        defaults: settings of a page without a permalink, returned if there is no version field.

    Raises:
        ValueError: in words a person understands, if the version is not ours or a value is out of range.
    """
    if "v" not in query:
        return defaults
    if query["v"] != VERSION:
        raise ValueError(f"This link is of version {query['v'][:20]!r}; this app reads version {VERSION}.")
    settings = CompareSettings(
        prompt=query.get("p", defaults.prompt),
        seed=_number("seed (s)", query.get("s"), defaults.seed, int),
        steps=_number("number of steps (n)", query.get("n"), defaults.steps, int),
        guidance_scale=_number("guidance scale (g)", query.get("g"), defaults.guidance_scale, float),
        negative_prompt=query.get("x", ""),
        models=tuple(models) or defaults.models,
    )
    check_settings(settings)
    return settings


def check_settings(settings: CompareSettings) -> None:
    """Refuse settings that cannot be generated.

    Raises:
        ValueError: saying what was asked for and what is possible, in words a person understands.
    """
    if not settings.prompt.strip():
        raise ValueError("The prompt is empty: write what the picture should show, e.g. “a photo of a turtle”.")
    for name, text in (("prompt", settings.prompt), ("negative prompt", settings.negative_prompt)):
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise ValueError(
                f"The {name} has {len(text)} characters: at most {MAX_PROMPT_CHARACTERS} are possible here, and the "
                "model reads fewer still."
            )
    if not 1 <= settings.steps <= MAX_STEPS:
        raise ValueError(
            f"{settings.steps} denoising steps were asked for: 1 to {MAX_STEPS} are possible. 20 are enough here; more "
            "take proportionally longer and use more memory for the attention maps."
        )
    if not 0 <= settings.seed <= MAX_SEED:
        raise ValueError(f"The seed is {settings.seed}: expected a whole number from 0 to {MAX_SEED}.")
    if not (math.isfinite(settings.guidance_scale) and 0 <= settings.guidance_scale <= MAX_GUIDANCE_SCALE):
        raise ValueError(f"The guidance scale is {settings.guidance_scale}: expected 0 to {MAX_GUIDANCE_SCALE:g}.")
    if not COLUMN_RANGE[0] <= len(settings.models) <= COLUMN_RANGE[1]:
        chosen = "1 model is" if len(settings.models) == 1 else f"{len(settings.models)} models are"
        raise ValueError(f"{chosen} chosen: a comparison has {COLUMN_RANGE[0]} to {COLUMN_RANGE[1]} columns.")


def _number(name: str, text: str | None, default: float, kind: type) -> float:
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"The {name} of this link is {text[:20]!r}: expected a number.") from error
