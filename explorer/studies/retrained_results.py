"""What the step ``retrained`` found, with the paper's recovery beside it."""

from __future__ import annotations

from typing import Any

from explorer.core.bounded_files import load_json, parse_json
from explorer.core.provenance import ROOT
from explorer.defence.payload_formats import RETRAINED as FORMAT
from explorer.studies.results import RETRAINED, result_file, step_command
from explorer.studies.study import Study

PAPER_TABLE = ROOT / "assets" / "paper" / "table6.json"
"""Ding et al. (2024), Table 6, in the definitions that the file states."""


def retrained_results(study: Study) -> dict[str, Any]:
    """``retrained.json`` of a study, and the paper's table under ``paper_recovery``.

    Raises:
        ManifestError: if the step is not done; the message names the command that does it.
    """
    path = result_file(study, RETRAINED, FORMAT.name)
    hint = f"Run `{step_command(study, RETRAINED)}`."
    return FORMAT.checked(parse_json(path.read_bytes()), hint) | {"paper_recovery": load_json(PAPER_TABLE)}
