"""The captions of a partition: each distinct one tokenised and encoded once, or refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from explorer.embeddings.universal_extractor import embedding_memory
from explorer.pairs.quarantine import Reason, UnusableError

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


class CaptionRows:
    """The distinct captions of one partition, each tokenised and encoded once."""

    def __init__(self, extractor: UniversalExtractor) -> None:
        self._extractor = extractor
        self._rows: dict[str, int] = {}
        self._refused: dict[str, UnusableError] = {}
        self._cut: set[str] = set()
        self._features: list[torch.Tensor] = []

    def encode(self, captions: list[str]) -> None:
        """Encode those of ``captions`` that are new."""
        new = [text for text in dict.fromkeys(captions) if text not in self._rows and text not in self._refused]
        tokens = []
        for caption, ids in zip(new, self._tokenized(new), strict=True):
            if isinstance(ids, UnusableError):
                self._refused[caption] = ids
            else:
                self._rows[caption] = len(self._rows)
                tokens.append(ids)
        self._cut.update(compress(new, self._extractor.cut_captions(new)))
        if tokens:
            self._features.append(encode_units(self._extractor, self._extractor.clip.encode_text, torch.stack(tokens)))

    def row(self, caption: str) -> int | UnusableError:
        """Row of :meth:`features`, or why the tokenizer refused the caption."""
        return self._refused[caption] if caption in self._refused else self._rows[caption]

    def is_cut(self, caption: str) -> bool:
        """Whether the context is too short for the caption."""
        return caption in self._cut

    def features(self) -> torch.Tensor:
        """float16 ``[distinct captions, d]``."""
        if not self._features:
            width = self._extractor.encode_texts(["a"]).shape[1]
            return torch.empty((0, width), dtype=torch.float16)
        return torch.cat(self._features)

    def _tokenized(self, captions: list[str]) -> list[torch.Tensor | UnusableError]:
        if not captions:
            return []
        try:
            return list(self._extractor.tokenize(captions))
        except ValueError as error:
            if len(captions) == 1:
                return [UnusableError(Reason.LONG_CAPTION, str(error))]
            return [ids for caption in captions for ids in self._tokenized([caption])]


@embedding_memory
@torch.no_grad()
def encode_units(
    extractor: UniversalExtractor, tower: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
) -> torch.Tensor:
    """float16 ``[n, d]`` of unit length, on the extractor's device.

    Raises:
        ValueError: if memory does not suffice.
    """
    return functional.normalize(tower(inputs.to(extractor.device)).float(), dim=-1).half()
