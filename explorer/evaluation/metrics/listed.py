"""The metrics of ``evaluation.json``."""

from __future__ import annotations

from explorer.evaluation.metrics import known_masks, pictures, word_maps, word_overlap

METRICS = (*pictures.METRICS, *word_maps.METRICS, *word_overlap.METRICS, *known_masks.METRICS)
