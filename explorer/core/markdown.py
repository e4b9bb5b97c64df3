"""Names that users gave, on pages in Markdown."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*\[\]<>|&~]")


def literal(text: str) -> str:
    """Text with names in it (of models, arms, studies, attacks, concepts) as it reads on a page and in a table's cell:
    one line, and nothing in it is markup."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
