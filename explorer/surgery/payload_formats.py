"""The file that holds what a graft study measured; whoever reads it need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

KIND = "graft-study"
"""Of the manifest beside the file."""
GRAFT_STUDY = PayloadFormat(
    name="graft-study.json", version=1,
    fields=("request", "judge", "shown", "concepts", "directions"),
    entries={
        "concepts": ("concept", "group"),
        "directions": ("recipient", "donor", "group", "distance", "operations"),
    },
)  # fmt: skip
OPERATION_FIELDS = ("name", "role", "beside", "parts", "parameters", "distance", "right", "groups", "meter")
"""Of every entry of ``operations``: ``right`` is how many of the seeds' pictures show each concept. ``meter``,
and ``attention``, which files of before there was one are without, are null where they were not asked for."""
