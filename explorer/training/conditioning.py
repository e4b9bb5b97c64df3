"""What the U-Net reads beside the noisy latents: the text of a caption, cached once or computed inside the step.

*Cached*: frozen text encoders read every distinct caption once, and a step looks its rows up. *Live*: a step carries
token ids, and the text encoders run inside it, so that a gradient reaches their weights and their embedding rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.checkpoints.module_identity import module_identity
from explorer.core.block_files import BlockArray, BlockFiles
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_json

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

CAPTIONS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class CachedConditioning:
    """Captions as frozen text encoders read them; the last row is what the pipeline uses for no prompt."""

    text: BlockArray
    """fp16 ``[distinct captions + 1, L, d]``."""
    pooled: BlockArray | None
    """fp16 ``[distinct captions + 1, p]`` for SDXL."""
    identity: str
    """Names encoders and captions."""
    truncated: int
    """Captions longer than a text encoder's context, which sees only their beginning."""
    encoders: None = None
    """No text encoder takes part in a step."""

    def __len__(self) -> int:
        return len(self.text)

    def rows(self, captions: torch.Tensor) -> dict[str, torch.Tensor]:
        """``text`` ``[n, L, d]`` and for SDXL ``pooled`` ``[n, p]`` of the rows ``captions``, int64 ``[n]``."""
        found = {"text": self.text, "pooled": self.pooled}
        return {name: torch.from_numpy(array[captions.numpy()]) for name, array in found.items() if array is not None}


@dataclass(frozen=True, kw_only=True)
class LiveConditioning:
    """Captions as token ids, for text encoders inside the step; the last row stands for no prompt."""

    tokens: torch.Tensor
    """int64 ``[distinct captions + 1, text encoders, L]``."""
    identity: str
    """Names encoders, as they were at first, and captions."""
    truncated: int
    """Captions longer than a text encoder's context, which sees only their beginning."""
    encoders: TextEncoders
    """Part of the network that is trained; what shall stay as it is has ``requires_grad`` off."""

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, captions: torch.Tensor) -> dict[str, torch.Tensor]:
        """``tokens`` ``[n, text encoders, L]``, ``prompted`` bool ``[n]`` of the rows ``captions``, int64 ``[n]``."""
        return {"tokens": self.tokens[captions], "prompted": captions < len(self) - 1}


class TextEncoders(torch.nn.Module):
    """The text encoders of a Stable Diffusion of any family: the pipeline's ``encode_prompt``, differentiable."""

    def __init__(self, encoders: dict[str, Any], *, zeros_for_no_prompt: bool = False) -> None:
        """``encoders`` by the pipeline's names for them; with ``text_encoder_2`` they are SDXL's.

        Raises:
            ValueError: if one of them wants to be told which tokens are padding, which no released one does.
        """
        super().__init__()
        for name, encoder in encoders.items():
            if getattr(encoder.config, "use_attention_mask", False):
                raise ValueError(f"{name} has use_attention_mask True: expected a text encoder that reads all tokens")
        self.encoders = torch.nn.ModuleDict(encoders)
        self.zeros_for_no_prompt = zeros_for_no_prompt

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``text`` ``[n, L, d]`` and for SDXL ``pooled`` ``[n, p]`` of :meth:`LiveConditioning.rows`."""
        read = zip(self.encoders.values(), batch["tokens"].unbind(1), strict=True)
        states = [encoder(tokens, output_hidden_states=True) for encoder, tokens in read]
        if "text_encoder_2" not in self.encoders:
            return {"text": states[0].last_hidden_state}
        # SDXL reads the layer before the last (Podell et al. 2023, section 2.1), of both side by side.
        text = torch.cat([state.hidden_states[-2] for state in states], dim=-1)
        pooled = states[-1].text_embeds
        if self.zeros_for_no_prompt:
            prompted = batch["prompted"][:, None]
            text, pooled = torch.where(prompted[..., None], text, 0), torch.where(prompted, pooled, 0)
        return {"text": text, "pooled": pooled}


def cache_captions(
    pipeline: DiffusionPipeline,
    captions: list[str],
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    processes: int = 1,
    on_progress: OnProgress = unheard,
) -> CachedConditioning:
    """Read distinct ``captions`` with the pipeline's text encoders; what ``cache`` holds already is read from there.

    Raises:
        ValueError: if a value does not fit fp16.
    """
    encoders, (described, truncated) = text_encoders(pipeline), _describe(pipeline, captions)
    names = ("text", "pooled") if "text_encoder_2" in encoders else ("text",)
    files = BlockFiles(root=cache, config=described, names=names, rows=len(captions) + 1)
    with on_device(encoders.values(), device), _without_truncation_warnings():
        encode = _caption_encoder(pipeline, captions, device)
        files.fill(encode, rank=rank, processes=processes, on_progress=on_progress, task="encoding captions")
    arrays = files.open()
    return CachedConditioning(text=arrays["text"], pooled=arrays.get("pooled"), identity=files.key, truncated=truncated)


def live_captions(pipeline: DiffusionPipeline, captions: list[str]) -> LiveConditioning:
    """Distinct ``captions`` as tokens of the pipeline's own tokenizers, cut at their context, beside its text encoders.

    Raises:
        ValueError: see :class:`TextEncoders`.
    """
    encoders, (described, truncated) = text_encoders(pipeline), _describe(pipeline, captions)
    tokens = [
        tokenizer(
            read, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        for tokenizer, read in (_as_read(pipeline, name, [*captions, ""]) for name in encoders)
    ]
    return LiveConditioning(
        tokens=torch.stack(tokens, dim=1),
        identity=hash_json({"live": described})[:16],
        truncated=truncated,
        encoders=TextEncoders(encoders, zeros_for_no_prompt=described["zeros_for_no_prompt"]),
    )


def text_encoders(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """The pipeline's text encoders by their names in it."""
    names = ("text_encoder", "text_encoder_2")
    return {name: getattr(pipeline, name) for name in names if getattr(pipeline, name, None) is not None}


@torch.no_grad()
def encode_prompts(
    pipeline: DiffusionPipeline, prompts: list[str], device: torch.device | str
) -> dict[str, torch.Tensor]:
    """``text`` ``[n, L, d]`` and for SDXL ``pooled`` ``[n, p]``, as the pipeline itself makes them when it draws."""
    encoded = pipeline.encode_prompt(
        prompt=prompts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return dict(zip(("text", "pooled"), encoded[0::2], strict=False))


@torch.no_grad()
def encode_no_prompt(pipeline: DiffusionPipeline, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The same for the unguided half of classifier-free guidance: the empty caption, or zeros where SDXL says so."""
    encoded = pipeline.encode_prompt(
        prompt=[""], device=device, num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    return dict(zip(("text", "pooled"), encoded[1::2], strict=False))


@contextmanager
def on_device(modules: Sequence[Any], device: torch.device | str) -> Iterator[None]:
    """``modules`` on ``device``, and afterwards on the CPU."""
    modules = list(modules)
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to("cpu")


def _describe(pipeline: DiffusionPipeline, captions: list[str]) -> tuple[dict[str, Any], int]:
    """Everything that decides the text of ``captions``, and how many of them are longer than the context."""
    encoders, ids, truncated = text_encoders(pipeline), {}, np.zeros(len(captions), bool)
    for name in encoders:
        tokenizer, read = _as_read(pipeline, name, captions)
        ids[name] = tokenizer(read, padding=False, truncation=False, verbose=False).input_ids
        truncated |= np.array([len(row) > tokenizer.model_max_length for row in ids[name]])
    config = {
        "encoders": {name: module_identity(encoder) for name, encoder in encoders.items()},
        "tokens": hash_json(ids),
        "zeros_for_no_prompt": bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    }
    return config, int(truncated.sum())


def _as_read(pipeline: DiffusionPipeline, name: str, captions: list[str]) -> tuple[Any, list[str]]:
    """The tokenizer of the text encoder ``name``, and ``captions`` as it is given them."""
    tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
    if len(tokenizer) > tokenizer.vocab_size:  # textual inversions, whose further vectors count
        captions = pipeline.maybe_convert_prompt(captions, tokenizer)
    return tokenizer, captions


def _caption_encoder(
    pipeline: DiffusionPipeline, captions: list[str], device: torch.device | str
) -> Callable[[range], dict[str, np.ndarray]]:
    def encode(rows: range) -> dict[str, np.ndarray]:
        part = captions[rows.start : rows.stop]
        parts = [part[start : start + CAPTIONS_AT_ONCE] for start in range(0, len(part), CAPTIONS_AT_ONCE)]
        encoded = [encode_prompts(pipeline, some, device) for some in parts]
        if rows.stop == len(captions) + 1:
            encoded.append(encode_no_prompt(pipeline, device))
        return {name: torch.cat([one[name] for one in encoded]).float().cpu().numpy() for name in encoded[0]}

    return encode


@contextmanager
def _without_truncation_warnings() -> Iterator[None]:
    """Long captions are counted once and reported with the result; diffusers would warn of every one."""
    logger = logging.getLogger("diffusers.pipelines")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
