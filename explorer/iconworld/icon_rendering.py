"""Render the icon atlas of IconWorld once, from the npm packages of freely licensed emoji sets.

Needs ``cairosvg`` (and Debian's libcairo2), which a running app does not: the atlas is shipped.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explorer.core.provenance import write_json
from explorer.iconworld.icons import ATLAS_COLUMNS, ICON_SIZE, atlas_path, index_path

PACKAGES = {"noto": "noto", "twemoji": "twemoji", "fluent": "fluent-emoji-flat"}
"""Of the shipped atlas: each style, and the package whose icons it is drawn with."""
SUPERSAMPLING = 2


def parse_concept_list(text: str) -> dict[str, str]:
    """Parse ``icon-name`` or ``icon-name=concept`` words into ``{concept: icon name}``, in file order.

    Lines that start with ``#`` are comments.

    Raises:
        ValueError: for a concept that appears twice or is not one lower-case word.
    """
    icons: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        for word in line.split():
            icon, _, concept = word.partition("=")
            concept = concept or icon
            if not (concept.isalpha() and concept.islower()):
                raise ValueError(f"concept {concept!r} of icon {icon!r}: expected one lower-case word")
            if concept in icons:
                raise ValueError(f"concept {concept!r} is listed twice: {icons[concept]!r} and {icon!r}")
            icons[concept] = icon
    return icons


def rank_concepts(concept_list: str, seed: int) -> dict[str, str]:
    """Frequency ranks: concepts above the line ``# ---`` come first; each part is shuffled by ``seed``."""
    head, _, tail = concept_list.partition("# ---")
    ranked: dict[str, str] = {}
    for part in (head, tail.partition("\n")[2]):
        items = sorted(parse_concept_list(part).items())
        random.Random(seed).shuffle(items)
        for concept, icon in items:
            if concept in ranked:
                raise ValueError(f"concept {concept!r} is listed above and below the line")
            ranked[concept] = icon
    return ranked


def render_atlases(
    package_root: Path, concept_list: Path, output: Path, seed: int = 0, packages: Mapping[str, str] = PACKAGES
) -> dict[str, Any]:
    """Render every concept in every style into one RGBA atlas per style and write ``icons.json``.

    Args:
        package_root: the folder ``node_modules/@iconify-json``.
        concept_list: text file read by :func:`rank_concepts`.
        output: folder for ``icons-<style>.png`` and ``icons.json``.
        seed: of the frequency ranks.
        packages: style to the package of its icons.

    Raises:
        ValueError: naming a package that is not there, a concept whose icon a package lacks, or that renders empty.
    """
    for style, package in packages.items():
        if not (package_root / package / "icons.json").is_file():
            raise ValueError(f"style {style}: {package_root} holds no package {package!r} with an icons.json")
    ranked = rank_concepts(concept_list.read_text(encoding="utf-8"), seed)
    sources = {}
    output.mkdir(parents=True, exist_ok=True)
    for style, name in packages.items():
        package = package_root / name
        collection = json.loads((package / "icons.json").read_text(encoding="utf-8"))
        icons = [_render_icon(collection, icon, f"{style}/{concept}") for concept, icon in ranked.items()]
        Image.fromarray(_tile(icons), "RGBA").save(atlas_path(output, style), optimize=True)
        sources[style] = _source_facts(package)
    index = {"concepts": list(ranked), "icons": list(ranked.values()), "sources": sources, "seed": seed}
    write_json(index_path(output), index)
    return {"concepts": len(ranked), "styles": list(packages), "sources": sources}


def _source_facts(package: Path) -> dict[str, str]:
    facts = json.loads((package / "package.json").read_text(encoding="utf-8"))
    licence = json.loads((package / "info.json").read_text(encoding="utf-8"))["license"]
    return {
        "package": facts["name"],
        "version": facts["version"],
        "licence": licence["spdx"],
        "url": licence["url"],
    }


def _render_icon(collection: dict[str, Any], icon: str, label: str) -> np.ndarray:
    """One icon as premultiplied-safe RGBA uint8 ``[ICON_SIZE, ICON_SIZE, 4]``."""
    import cairosvg

    name = icon if icon in collection["icons"] else collection.get("aliases", {}).get(icon, {}).get("parent")
    if name not in collection["icons"]:
        raise ValueError(f"{label}: the package has no icon named {icon!r}")
    entry = collection["icons"][name]
    width = entry.get("width", collection.get("width", 16))
    height = entry.get("height", collection.get("height", 16))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{entry.get("left", 0)} {entry.get("top", 0)} {width} {height}">{entry["body"]}</svg>'
    )
    side = ICON_SIZE * SUPERSAMPLING
    png = cairosvg.svg2png(bytestring=svg.encode(), output_width=side, output_height=side)
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"{label}: rendered empty")
    return _fit_square(image.crop(box))


def _fit_square(image: Image.Image) -> np.ndarray:
    """Scale to fill the cell and centre, so that an object's size is a property of the scene alone."""
    scale = ICON_SIZE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    cell = Image.new("RGBA", (ICON_SIZE, ICON_SIZE))
    cell.paste(image.resize(size, Image.Resampling.LANCZOS), tuple((ICON_SIZE - side) // 2 for side in size))
    return np.asarray(cell)


def _tile(icons: list[np.ndarray]) -> np.ndarray:
    rows = -(-len(icons) // ATLAS_COLUMNS)
    atlas = np.zeros((rows * ICON_SIZE, ATLAS_COLUMNS * ICON_SIZE, 4), np.uint8)
    for position, icon in enumerate(icons):
        top, left = (side * ICON_SIZE for side in divmod(position, ATLAS_COLUMNS))
        atlas[top : top + ICON_SIZE, left : left + ICON_SIZE] = icon
    return atlas
