"""Structure AD by other means: what the blocked kernel is measured against.

Every peer takes the same unit rows, fp32 `[N, d]` twice, and returns structure AD (convention ``authors``); the bare
products return nothing that means anything. Peers hold what their method holds, N^2 numbers included.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

LANDMARKS = 1000
"""Landmarks of the estimator that stands beside the exact peers."""
_ROWS_AT_ONCE = 2**17


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to structure AD."""

    compute: Callable[[torch.Tensor, torch.Tensor], float]
    """``(image, text) -> structure AD``."""
    exact: bool = True
    """Whether all exact peers must agree with it; not so for estimates and for bare products."""
    device: str = "cpu"
    """Where its rows lie."""
    bytes_per_pair: int = 0
    """Bytes it holds for each of the N^2 ordered pairs; 0 where it never holds them."""
    module: str | None = None
    """A module that must be installed for it."""

    def absence(self) -> str | None:
        """Why it cannot run here; None where it can."""
        import torch

        if self.module is not None and importlib.util.find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if self.device == "cuda" and not torch.cuda.is_available():
            return "no GPU at hand: not measured"
        return None


def row_loop(image: torch.Tensor, text: torch.Tensor) -> float:
    """One row at a time in numpy, as the authors' script does it: two products with a vector, difference, sum."""
    images, texts = image.numpy(), text.numpy()
    total = 0.0
    for row in range(len(images)):
        total += float(np.abs(images @ images[row] - texts @ texts[row]).sum())
    return total / len(images) ** 2


def torch_dense(image: torch.Tensor, text: torch.Tensor) -> float:
    """Both similarity matrices at once."""
    return (image @ image.T - text @ text.T).abs().mean().item()


def scikit_learn_chunked(image: torch.Tensor, text: torch.Tensor) -> float:
    """Two streams of ``pairwise_distances_chunked`` in scikit-learn's own working memory."""
    from sklearn.metrics import pairwise_distances_chunked

    streams = (pairwise_distances_chunked(rows.numpy(), metric="cosine") for rows in (image, text))
    chunks = zip(*streams, strict=True)
    total = sum(np.abs(images - texts).sum(dtype=np.float64) for images, texts in chunks)
    return float(total) / len(image) ** 2


def keops(image: torch.Tensor, text: torch.Tensor) -> float:
    """One symbolic reduction; KeOps compiles it at first use, and says so where a report is printed if let."""
    with contextlib.redirect_stdout(sys.stderr):
        from pykeops.torch import LazyTensor

        image_rows, text_rows = (LazyTensor(rows[:, None, :].contiguous()) for rows in (image, text))
        image_columns, text_columns = (LazyTensor(rows[None, :, :].contiguous()) for rows in (image, text))
        disparity = ((image_rows | image_columns) - (text_rows | text_columns)).abs()
        return disparity.sum(dim=1).double().mean().item() / len(image)


def blocked(image: torch.Tensor, text: torch.Tensor, precision: str = "fp32") -> float:
    """Ours: AD with every check and every sample's share, as ``alignment_difficulty`` gives it."""
    from explorer.alignment.difficulty import alignment_difficulty

    return alignment_difficulty(image, text, precision=precision).structure_ad


def blocked_and_centred(image: torch.Tensor, text: torch.Tensor) -> float:
    """Ours with the centred AD from the same products, as ``explorer ad`` computes it."""
    from explorer.alignment.structure.tiles import structure_and_centred_row_sums

    return structure_and_centred_row_sums(image, text)[0].mean().item() / len(image)


def _by_kernel(kernel: str, precision: str) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """Ours with the kernel that is not the one it would take: what the choice is worth."""

    def compute(image: torch.Tensor, text: torch.Tensor) -> float:
        from explorer.alignment.structure.tiles import structure_row_sums

        return structure_row_sums(image, text, precision=precision, kernel=kernel).mean().item() / len(image)

    return compute


def landmarks(image: torch.Tensor, text: torch.Tensor) -> float:
    """Ours, estimated from ``LANDMARKS`` landmarks."""
    from explorer.alignment.structure.estimators import landmark_estimate

    return landmark_estimate(image, text, min(LANDMARKS, len(image)), seed=0).structure_ad


def bare_products(image: torch.Tensor, text: torch.Tensor, precision: str = "fp32") -> float:
    """The limit: products of the same tiles, upper triangle, width 2d, joined rows and nothing after a product."""
    import torch

    from explorer.alignment.structure.tiles import OPERANDS, choose_block, choose_kernel, joined_rows, upper_tiles

    block = choose_block(image.device, len(image), choose_kernel(image.device, precision))
    joined = joined_rows(image, text, OPERANDS[precision])
    buffer = joined.new_empty(block * block)
    for rows, columns in upper_tiles(len(image), block):
        left, right = joined[rows], joined[columns]
        torch.mm(left, right.T, out=buffer[: len(left) * len(right)].view(len(left), len(right)))
    return float("nan")


def _half_precision(compute: Callable[..., float]) -> Callable[[torch.Tensor, torch.Tensor], float]:
    return lambda image, text: compute(image, text, precision="fp16")


PEERS: dict[str, Peer] = {
    "products": Peer(compute=bare_products, exact=False),
    "blocked": Peer(compute=blocked),
    "blocked-centred": Peer(compute=blocked_and_centred),
    "blocked-fp16": Peer(compute=_half_precision(blocked)),
    "landmarks": Peer(compute=landmarks, exact=False),
    "row-loop": Peer(compute=row_loop),
    "torch-dense": Peer(compute=torch_dense, bytes_per_pair=12),
    "scikit-learn": Peer(compute=scikit_learn_chunked, module="sklearn"),
    "keops": Peer(compute=keops, module="pykeops"),
    "gpu-products-fp16": Peer(compute=_half_precision(bare_products), exact=False, device="cuda"),
    "gpu-products": Peer(compute=bare_products, exact=False, device="cuda"),
    "gpu-blocked": Peer(compute=blocked, device="cuda"),
    "gpu-blocked-fp16": Peer(compute=_half_precision(blocked), device="cuda"),
    "gpu-blocked-triton": Peer(compute=_by_kernel("triton", "fp32"), device="cuda"),
    "gpu-blocked-torch-fp16": Peer(compute=_by_kernel("torch", "fp16"), device="cuda"),
    "gpu-torch-dense": Peer(compute=torch_dense, device="cuda", bytes_per_pair=12),
}
"""Name on the command line -> peer. Against ``products`` the kernel has a limit to reach, against the rest to beat."""


def synthetic_rows(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit fp32 rows `[N, d]` of two cones with different means, as a CLIP's two towers give them."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    rows = []
    for offset in (0.06, 0.03):
        features = torch.empty(n, d).normal_(generator=generator).mul_(d**-0.5).add_(offset)
        rows.append(features.div_(features.norm(dim=1, keepdim=True)))
    return rows[0], rows[1]


def synthetic_rows_there(
    n: int, d: int, seed: int, device: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`synthetic_rows`, made where they are needed and in parts, so that millions of them take seconds and no
    memory beside their own; the numbers are not those of another device."""
    import torch

    from explorer.alignment.structure.distance import row_slices

    generator = torch.Generator(device=device).manual_seed(seed)
    rows = []
    for offset in (0.06, 0.03):
        made = torch.empty(n, d, dtype=dtype, device=device)
        for part in row_slices(n, _ROWS_AT_ONCE):
            features = torch.empty(part.stop - part.start, d, device=device).normal_(generator=generator)
            features.mul_(d**-0.5).add_(offset)
            made[part] = features.div_(features.norm(dim=1, keepdim=True))
        rows.append(made)
    return rows[0], rows[1]
