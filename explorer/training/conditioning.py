"""What the U-Net reads beside the noisy latents: the text of a caption, cached once or computed inside the step.

*Cached*: frozen text encoders read every distinct caption once, and a step looks its rows up. *Live*: a step carries
token ids, and the text encoders run inside it, so that a gradient reaches their weights and their embedding rows.
"""

from __future__ import annotations

from collections.abc import Iterator
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

CAPTIONS_AT_ONCE, GPU_CAPTIONS_AT_ONCE = 32, 256
ENCODER_NAMES = ("text_encoder", "text_encoder_2")
"""In a pipeline; with the second they are SDXL's."""


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
        """``encoders`` by the pipeline's names for them.

        Raises:
            ValueError: if one of them wants to be told which tokens are padding, which no released one does.
        """
        super().__init__()
        for name, encoder in encoders.items():
            if getattr(encoder.config, "use_attention_mask", False):
                raise ValueError(f"{name} has use_attention_mask True: expected a text encoder that reads all tokens")
        self.encoders = torch.nn.ModuleDict(encoders)
        self.are_of_sdxl = "text_encoder_2" in encoders
        self.zeros_for_no_prompt = zeros_for_no_prompt

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``text`` ``[n, L, d]`` and for SDXL ``pooled`` ``[n, p]`` of :meth:`LiveConditioning.rows`."""
        read = zip(self.encoders.values(), batch["tokens"].unbind(1), strict=True)
        states = [encoder(tokens, output_hidden_states=True) for encoder, tokens in read]
        if not self.are_of_sdxl:
            return {"text": states[0].last_hidden_state}
        # SDXL reads the layer before the last (Podell et al. 2023, section 2.1), of both side by side.
        text = torch.cat([state.hidden_states[-2] for state in states], dim=-1)
        pooled = states[-1].text_embeds
        if self.zeros_for_no_prompt:
            prompted = batch["prompted"][:, None]
            text, pooled = torch.where(prompted[..., None], text, 0), torch.where(prompted, pooled, 0)
        return {"text": text, "pooled": pooled}


def cached_captions(
    pipeline: DiffusionPipeline,
    captions: list[str],
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    processes: int = 1,
    on_progress: OnProgress = unheard,
) -> CachedConditioning:
    """Distinct ``captions`` as the pipeline's text encoders read them; what ``cache`` holds is not encoded again.

    Raises:
        ValueError: if a value does not fit fp16, or as :class:`TextEncoders`.
    """
    config, live = _tokenized(pipeline, captions)
    at_once = CAPTIONS_AT_ONCE if torch.device(device).type == "cpu" else GPU_CAPTIONS_AT_ONCE

    @torch.no_grad()
    def encode(rows: range) -> dict[str, np.ndarray]:
        parts = torch.arange(rows.start, rows.stop).split(at_once)
        batches = [{name: value.to(device) for name, value in live.rows(part).items()} for part in parts]
        encoded = [live.encoders(batch) for batch in batches]
        return {name: torch.cat([one[name] for one in encoded]).float().cpu().numpy() for name in encoded[0]}

    names = ("text", "pooled") if live.encoders.are_of_sdxl else ("text",)
    files = BlockFiles(root=cache, config=config, names=names, rows=len(live))
    with on_device(live.encoders, device):
        files.fill(encode, rank=rank, processes=processes, on_progress=on_progress, task="encoding captions")
    arrays = files.open()
    return CachedConditioning(
        text=arrays["text"], pooled=arrays.get("pooled"), identity=files.key, truncated=live.truncated
    )


def live_captions(pipeline: DiffusionPipeline, captions: list[str]) -> LiveConditioning:
    """Distinct ``captions`` as tokens, cut at the context's end, beside the pipeline's own text encoders.

    Raises:
        ValueError: as :class:`TextEncoders`.
    """
    return _tokenized(pipeline, captions)[1]


@contextmanager
def on_device(module: torch.nn.Module, device: torch.device | str) -> Iterator[None]:
    """``module`` on ``device``, and afterwards on the CPU."""
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


def _tokenized(pipeline: DiffusionPipeline, captions: list[str]) -> tuple[dict[str, Any], LiveConditioning]:
    """Everything that decides the text of ``captions``, JSON-serialisable, and their tokens."""
    names = [name for name in ENCODER_NAMES if getattr(pipeline, name, None) is not None]
    encoders = {name: getattr(pipeline, name) for name in names}
    ids, tokens, truncated = {}, [], np.zeros(len(captions), bool)
    for name in names:
        tokenizer, read = getattr(pipeline, name.replace("text_encoder", "tokenizer")), [*captions, ""]
        if len(tokenizer) > tokenizer.vocab_size:  # textual inversions, whose further vectors count
            read = pipeline.maybe_convert_prompt(read, tokenizer)
        ids[name] = tokenizer(read[:-1], padding=False, truncation=False, verbose=False).input_ids
        limit = tokenizer.model_max_length
        tokens.append(tokenizer(read, padding="max_length", max_length=limit, truncation=True).input_ids)
        truncated |= np.array([len(row) > limit for row in ids[name]])
    zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
    config = {
        "encoders": {name: module_identity(encoder) for name, encoder in encoders.items()},
        "tokens": hash_json(ids),
        "zeros_for_no_prompt": zeros,
    }
    return config, LiveConditioning(
        tokens=torch.tensor(tokens).transpose(0, 1),
        identity=hash_json({"live": config})[:16],
        truncated=int(truncated.sum()),
        encoders=TextEncoders(encoders, zeros_for_no_prompt=zeros),
    )
