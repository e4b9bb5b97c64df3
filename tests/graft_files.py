"""Grafts of two models that lie beside one another."""

import json

PARTS = [{"group": "cross-attention", "weight": 0.5}, {"group": "convolutions"}, {"group": "feed-forward"}]


def write_graft(root, recipient, donor, parts=PARTS):
    """The folder of a graft of two of the models in ``root``, by their names there."""
    folder = root / f"{recipient}+{donor}"
    folder.mkdir(exist_ok=True)
    graft = {"recipient": f"../{recipient}", "donor": f"../{donor}", "parts": parts}
    (folder / "graft.json").write_text(json.dumps(graft), encoding="utf-8")
    return folder
