"""The benchmarks' rows on a GPU: each a function that saves its report after every figure, and the time it may take.

With ``smoke`` the same code runs at tiny size on a CPU, so that only the device is another one.
"""

from __future__ import annotations

from collections.abc import Callable

from explorer.benchmarks import gpu_alignment, gpu_capture, gpu_clean_label, gpu_embeddings, gpu_training

ROWS: dict[str, tuple[Callable[..., None], float]] = {
    "alignment": (gpu_alignment.alignment, gpu_alignment.SECONDS),
    "capture": (gpu_capture.capture, gpu_capture.SECONDS),
    "training_sd15": (gpu_training.training_sd15, gpu_training.SD15_SECONDS),
    "training_sdxl": (gpu_training.training_sdxl, gpu_training.SDXL_SECONDS),
    "clean_label": (gpu_clean_label.clean_label, gpu_clean_label.SECONDS),
    "embeddings": (gpu_embeddings.embeddings, gpu_embeddings.SECONDS),
    "training_sd15_recorded": (gpu_training.training_sd15_recorded, gpu_training.SD15_SECONDS),
}
"""Name -> ``row(save, *, smoke, device)``, see :data:`~explorer.benchmarks.row_report.Save`, and seconds it may take.
A row watches its time where a figure is dear, but does not stop in the middle of one."""
