"""Which training pairs are blamed for a concept that a model no longer draws: three scores, high for the blamed.

None of them is evidence of harm by itself: only training again without the blamed pairs shows it.
"""

from __future__ import annotations

import numpy as np
import torch

CO_MENTION, NEIGHBOURHOOD, GRADIENT = "co_mention", "neighbourhood", "gradient"
WORDS = {
    CO_MENTION: "The caption mentions the concept, and the picture is far from it.",
    NEIGHBOURHOOD: "The caption is near the broken prompt, and the picture is far from it.",
    GRADIENT: "To learn this pair is to unlearn the right pictures of the prompt.",
}


def co_mention_blame(image: torch.Tensor, prompt: torch.Tensor, mentions: np.ndarray) -> np.ndarray:
    """Cosine distance of the picture to the prompt, fp64 `[N]` in [0, 2]; 0 where the caption does not mention it.

    Args:
        image: `[N, d]` unit image features.
        prompt: `[d]` unit text feature.
        mentions: bool `[N]`.
    """
    return np.where(mentions, 1 - (image @ prompt).double().numpy(), 0.0)


def neighbourhood_blame(image: torch.Tensor, text: torch.Tensor, prompt: torch.Tensor) -> np.ndarray:
    """How much nearer the caption is to the prompt than the picture: difference of cosines, fp64 `[N]` in [-2, 2].

    On the two graphs the prompt is a node of its own: its neighbours by caption that are not its neighbours by picture.

    Args:
        image: `[N, d]` unit image features.
        text: `[N, d]` unit text features.
        prompt: `[d]` unit text feature.
    """
    return ((text - image) @ prompt).double().numpy()


def gradient_blame(pairs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Minus the inner product of each pair's gradient with the mean gradient of the right pictures, fp64 `[n]`.

    A step down a pair's loss raises that of the right pictures where it is positive (TracIn, Pruthi et al. 2020).

    Args:
        pairs: `[n, k]`.
        right: `[m, k]` of pictures of the prompt that are right.
    """
    return -(pairs.astype(np.float64) @ right.astype(np.float64).mean(axis=0))


def most_blamed_of_any(scores: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted columns of the ``count`` pairs that stand first in the order of any concept, int `[count]`.

    A pair's place is its best one over the concepts, so that each concept gives about as many. Equal scores are put in
    an order drawn from ``seed``.

    Args:
        scores: `[concepts, n]`, high for the blamed.

    Raises:
        ValueError: if ``count`` is not from 1 to n - 1.
    """
    n = scores.shape[1]
    if not 1 <= count < n:
        raise ValueError(f"{count} pairs to leave out: expected from 1 to {n - 1}, of {n} candidates")
    shuffled = np.random.default_rng(seed).permutation(n)
    order = shuffled[np.argsort(-scores[:, shuffled], axis=1, kind="stable")]
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(n), order.shape), axis=1)
    best = places.min(axis=0)
    return np.sort(shuffled[np.argsort(best[shuffled], kind="stable")[:count]])
