"""Addresses at which the page asks for what a screen makes while it is looked at.

They stand apart from what answers them, so that the server knows its addresses before anything that answers is loaded.
"""

from __future__ import annotations

SENSITIVITY = "/live/sensitivity.json"
GIVEN = "/live/given.json"
GRAFT = "/live/graft.json"
"""These three lie beside the live results, none of which is called so."""
FILM_STRIP_GIF = "/export/film-strip.gif"
SELECTION = "/export/graphs"
"""And the file's ending, as in the next."""
FILTERED = "/export/filter"
FILTER_ANSWER = "/export/filter-answer.json"
FILTER_HALVES = "/export/filter-halves.json"
BLAME = "/export/blame.json"

MOST_PICTURES = 64
"""Pairs whose pictures one answer holds."""
ROWS = rf"\d{{1,10}}(,\d{{1,10}}){{0,{MOST_PICTURES - 1}}}"
"""Rows of an arm's table as an address lists them."""
