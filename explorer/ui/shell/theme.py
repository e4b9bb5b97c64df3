"""The look: one Gradio theme without web fonts, and the style sheets and scripts that lie beside the screens."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

UI = Path(__file__).parents[1]

# Dark by default; a choice made with the header's switch is kept in the browser, `?__theme=` wins over both.
CHOOSE_THEME = """
() => {
  document.documentElement.lang = 'en';
  const asked = new URLSearchParams(location.search).get('__theme');
  const kept = localStorage.getItem('explorer-theme');
  const theme = asked || kept || 'dark';
  document.body.classList.toggle('dark', theme === 'dark');
}
"""


def make_theme() -> gr.Theme:
    """Neutral greys, system fonts (a web font would be a request that leaves the machine)."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    theme = gr.themes.Base(
        primary_hue="teal", secondary_hue="slate", neutral_hue="slate", radius_size="md", font=fonts, font_mono=mono
    )
    return theme.set(
        body_background_fill="#f5f7f9",
        body_background_fill_dark="#0d1217",
        body_text_color="#16212b",
        body_text_color_dark="#e8eef3",
        body_text_color_subdued="#4a5866",
        body_text_color_subdued_dark="#a3b2c0",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#151c23",
        background_fill_secondary="#eef2f5",
        background_fill_secondary_dark="#10161c",
        block_background_fill="#ffffff",
        block_background_fill_dark="#151c23",
        block_border_color="#d5dde4",
        block_border_color_dark="#27323c",
        block_label_text_color="#4a5866",
        block_label_text_color_dark="#a3b2c0",
        block_info_text_color="#4a5866",
        block_info_text_color_dark="#a3b2c0",
        border_color_primary="#d5dde4",
        border_color_primary_dark="#27323c",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0f151b",
        input_border_color="#8a98a5",
        input_border_color_dark="#53616e",
        input_border_width="1px",
        block_title_text_color="#4a5866",
        block_title_text_color_dark="#a3b2c0",
        color_accent="#0b6b6b",
        button_primary_background_fill="#0b6b6b",
        button_primary_background_fill_dark="#24b3ad",
        button_primary_background_fill_hover="#085454",
        button_primary_background_fill_hover_dark="#4fc9c3",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#071414",
        slider_color="#0b6b6b",
        slider_color_dark="#24b3ad",
    )


def style_sheet() -> str:
    """All style sheets, in order of name."""
    return "\n".join(path.read_text(encoding="utf-8") for _, path in sorted(static_files(".css").items()))


def static_files(suffix: str) -> dict[str, Path]:
    """Files of the shell and of every screen by name, which is unique among them."""
    return {path.name: path for path in UI.rglob(f"*{suffix}")}
