"""What is stored of sets of made-up pairs: their alignment difficulty, and the graphs of one of them."""

import numpy as np
import pandas

from explorer.alignment.description import ALPHA_STOPS, SHARES, describe_distribution, describe_moments
from explorer.alignment.graph_files import write_built_graphs
from explorer.alignment.graphs import FeatureGraph, PairGraphs
from explorer.alignment.layouts import LayoutQuality
from explorer.pairs.poison_flags import PoisonFlags

PAIRS, NEIGHBOURS = 24, 4
SPACED = "dirty, 50 % of it"
MALICIOUS = "a photo of <img src=x onerror='window.hacked = 1'> & a turtle"


def described_local(share):
    """Local AD that grows with the share of poison."""
    values = {"picture_scatter": 0.1 + share, "local_structure_ad": 0.08 + share, "local_feature_ad": share**2}
    bounds = {f"{name}_interval": [value - 0.01, value + 0.01] for name, value in values.items()}
    return {**values, **bounds, "caption_spread": 0.02, "neighbours": 15, "local_pairs": 200}


def describe_set(name, concepts, poisoned, recorded=True):
    flags = PoisonFlags(poisoned=poisoned, benign=~poisoned if recorded else poisoned & False)
    generator = np.random.default_rng(concepts)
    feature = np.clip(generator.normal(0.4, 0.1, 200) + 0.4 * poisoned, 0, 1)
    structure = np.clip(generator.normal(0.15, 0.02, 200), 0, 1)
    mixtures = [alpha * feature + (1 - alpha) * structure for alpha in ALPHA_STOPS]
    return {
        "name": name,
        "poisoned_concept_count": concepts if recorded else None,
        "poison_recorded": recorded,
        "data_hash": f"{concepts:016}:{0:016}",
        "pairs": 200,
        **flags.counts(),
        "extractor": "tiny",
        "alignment_difficulty": {
            "feature_ad": feature.mean(),
            "structure_ad": structure.mean(),
            "ad": 0.8 * feature.mean() + 0.2 * structure.mean(),
            "alpha": 0.8,
            "convention": "authors",
            "n": 200,
            "feature_range": [0.1, 0.6],
        },
        "moments": describe_moments(feature, structure),
        "local": described_local(poisoned.mean()),
        "mean_offset": {
            "mean_absolute_offset": 0.1,
            "centred_structure_ad": 0.05,
            "image_mean_norm": 0.4,
            "text_mean_norm": 0.5,
        },
        "alpha_stops": ALPHA_STOPS,
        "shares": SHARES,
        "distributions": {
            "feature_distance": describe_distribution(feature, flags, (0.0, 1.0)),
            "structure_distance": describe_distribution(structure, flags),
            "sample_ad": [describe_distribution(mixture, flags) for mixture in mixtures],
            "picture_scatter": describe_distribution(structure, flags),
        },
    }


def write_graphs(folder):
    """Made-up graphs of 24 of 200 pairs: the first eight are poison, of the last nobody recorded it."""
    generator = np.random.default_rng(0)
    is_poison = [*(row < 8 for row in range(PAIRS - 1)), None, *[False] * (200 - PAIRS)]
    ranks = np.full(200, -1.0)
    scores = {name: np.concatenate([generator.random(PAIRS).round(3), ranks[PAIRS:]]) for name in
              ("feature_distance", "structure_distance", "sample_ad")}  # fmt: skip
    scores["feature_distance"][:8] = 1.0
    scores["loss"] = 0.1 * np.arange(200)

    def side():
        near = [generator.permutation([other for other in range(PAIRS) if other != row])[:NEIGHBOURS]
                for row in range(PAIRS)]  # fmt: skip
        grid = np.stack(np.meshgrid(np.linspace(-0.9, 0.9, 6), np.linspace(-0.9, 0.9, 4)), -1).reshape(-1, 2)
        return FeatureGraph(
            neighbours=np.array(near),
            similarities=np.tile(np.array([0.9, 0.8, 0.7, 0.6], np.float32), (PAIRS, 1)),
            layout=generator.permutation(grid).astype(np.float32),
            quality=LayoutQuality(trustworthiness=0.91, preservation=0.42, neighbours=11, anchors=PAIRS),
        )

    graphs = PairGraphs(text=side(), image=side(), rows=np.arange(PAIRS), seed=0)
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(200)],
            "caption": [MALICIOUS, *(f"a photo of hat {row}" for row in range(1, 200))],
            "concepts": [["turtle" if row < 8 else "hat"] for row in range(200)],
            "is_poison": is_poison,
            "poisoned_concept": [None if flag is None else "turtle" if flag else "" for flag in is_poison],
            "target_concept": [None if flag is None else "hat" if flag else "" for flag in is_poison],
        }
    )
    names = write_built_graphs(
        folder, graphs, name="dirty", table=table, scores=scores, facts={"loss_model": "control"},
        read_images=lambda rows: np.full((len(rows), 8, 8, 3), 90, np.uint8),
    )  # fmt: skip
    return graphs, scores, names
