"""What a comparison is asked with: prompt, numbers, models, and the nouns that fill the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.ui.shell.concepts import concept_prompts, read_concepts
from explorer.ui.shell.permalink import COLUMN_RANGE, NO_MODEL, CompareSettings

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy

CHIPS_PER_GROUP = 3
MOST_DRAWN_FROM = 200
"""Prompts that the button "random" draws from: the most frequent nouns of its group."""


def prompt_row(defaults: CompareSettings) -> tuple[gr.Textbox, list[gr.Number], gr.Button, gr.Button]:
    """Prompt, the numbers (seed, steps, guidance scale), Generate and Stop."""
    with gr.Row(elem_id="prompt-row"):
        prompt = gr.Textbox(
            value=defaults.prompt,
            label="Prompt",
            max_lines=1,
            scale=8,
            min_width=300,
            elem_id="prompt",
        )
        numbers = [
            gr.Number(defaults.seed, label="Seed", precision=0, scale=1, min_width=84, elem_id="seed"),
            gr.Number(defaults.steps, label="Steps", precision=0, scale=1, min_width=84, elem_id="steps"),
            gr.Number(defaults.guidance_scale, label="Guidance", scale=1, min_width=84, elem_id="guidance"),
        ]
        generate = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="generate")
        stop = gr.Button("Stop", variant="secondary", scale=0, min_width=80, elem_id="stop")
    return prompt, numbers, generate, stop


def model_row(opened: OpenStudy, defaults: CompareSettings) -> tuple[list[gr.Dropdown], gr.Textbox]:
    """One chooser a column, and the negative prompt."""
    names = opened.checkpoint_names()
    columns: list[gr.Dropdown] = []
    with gr.Row(elem_id="model-row"):
        for index in range(COLUMN_RANGE[1]):
            required = index < COLUMN_RANGE[0]
            chosen = defaults.models[index] if index < len(defaults.models) else None
            columns.append(
                gr.Dropdown(
                    names if required else [NO_MODEL, *names],
                    value=chosen if required else chosen or NO_MODEL,
                    label=f"Column {index + 1}",
                    min_width=140,
                    elem_id=f"column-{index + 1}",
                )
            )
        negative = gr.Textbox(
            defaults.negative_prompt, label="Negative prompt", max_lines=1, min_width=140, elem_id="negative-prompt"
        )
    return columns, negative


def chip_groups(opened: OpenStudy) -> dict[str, Any]:
    """Groups of the study's nouns, for ``chips.js``: what the group is called, its kind, and its buttons' texts with
    the prompts that one of them is drawn from."""
    concepts = read_concepts(opened)

    def group(name: str, kind: str, nouns: tuple[str, ...]) -> dict[str, Any]:
        first = [[noun, [concepts.prompt(noun)]] for noun in nouns[:CHIPS_PER_GROUP]]
        anything = [concepts.prompt(noun) for noun in nouns[:MOST_DRAWN_FROM]]
        return {"name": name, "kind": kind, "chips": [*first, ["random", anything]] if nouns else []}

    two = [[label, [prompt]] for label, prompt in concept_prompts(concepts).items()]
    groups = [
        group("poisoned", "poisoned", concepts.poisoned),
        group("not targeted" if concepts.aims_known else "not recorded as targeted", "benign", concepts.unpoisoned),
        {"name": "two concepts", "kind": "two", "chips": two},
    ]
    return {"study": opened.slug, "groups": [found for found in groups if found["chips"]]}
