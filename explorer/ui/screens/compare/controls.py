"""What a comparison is asked with: prompt, numbers, models, and the nouns that fill the prompt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gradio as gr

from explorer.iconworld.grammar import photo_of
from explorer.ui.shell.concepts import WorldConcepts, concept_prompts
from explorer.ui.shell.permalink import COLUMN_RANGE, NO_MODEL, CompareSettings

if TYPE_CHECKING:
    from explorer.ui.shell.context import AppContext

CHIPS_PER_GROUP = 3


def prompt_row(defaults: CompareSettings) -> tuple[gr.Textbox, list[gr.Number], gr.Button, gr.Button]:
    """Prompt, the numbers (seed, steps, guidance scale), Generate and Stop."""
    with gr.Row(elem_id="prompt-row"):
        prompt = gr.Textbox(
            value=defaults.prompt,
            label="Prompt",
            placeholder="a photo of a turtle",
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


def model_row(context: AppContext, defaults: CompareSettings) -> tuple[list[gr.Dropdown], gr.Textbox]:
    """One chooser a column, and the negative prompt."""
    names = context.checkpoint_names()
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


def chips(concepts: WorldConcepts, prompt: gr.Textbox) -> None:
    """Buttons that fill the prompt in the browser, without a round trip."""
    with gr.Row(elem_id="chips"):
        _label("Try")
        _chip_group("poisoned", concepts.poisoned, prompt, "poisoned")
        _chip_group("not targeted", concepts.unpoisoned, prompt, "benign")
        two_concepts = concept_prompts(concepts)
        if two_concepts:
            _label("two concepts")
        for label, two in two_concepts.items():
            _chip(label, [two], prompt, "two")


def _chip_group(name: str, concepts: tuple[str, ...], prompt: gr.Textbox, kind: str) -> None:
    """The group's name in words, its first concepts and a random one; their marks are in ``base.css``."""
    if not concepts:
        return
    _label(name)
    for concept in concepts[:CHIPS_PER_GROUP]:
        _chip(concept, [photo_of(concept)], prompt, kind)
    _chip("random", [photo_of(concept) for concept in concepts], prompt, kind)


def _label(text: str) -> None:
    gr.HTML(f'<span class="chips-label">{text}</span>', container=False, padding=False)


def _chip(label: str, prompts: list[str], prompt: gr.Textbox, kind: str) -> None:
    button = gr.Button(label, size="sm", min_width=0, scale=0, elem_classes=["chip", kind])
    choices = json.dumps(prompts)
    choose = f"() => {{ const c = {choices}; return c[Math.floor(Math.random() * c.length)]; }}"
    button.click(None, js=choose, outputs=prompt, show_progress="hidden", api_visibility="private")
