"""Hostile records of poison: rows of the table in test_hostile.py."""

import json

import numpy as np
import pandas
from PIL import Image


def _pictures(folder, fields):
    """A folder of pictures with captions and ``fields``, one entry a picture."""
    source = folder / "pictures"
    source.mkdir()
    for row, entry in enumerate(fields):
        Image.new("RGB", (20, 20)).save(source / f"{row}.png")
        with open(source / "metadata.jsonl", "a") as stream:
            stream.write(json.dumps({"file_name": f"{row}.png", "text": "a dog", **entry}) + "\n")
    return source


def _importing(fields, *options):
    return lambda folder: ["import", _pictures(folder, fields), folder / "set", *options]


def _landmarks(text, option):
    def make(folder):
        for part in ("img_emb", "text_emb", "metadata"):
            (folder / part).mkdir()
        features = np.eye(4, dtype=np.float16)
        np.save(folder / "img_emb" / "img_emb_0000.npy", features)
        np.save(folder / "text_emb" / "text_emb_0000.npy", features)
        pandas.DataFrame({"uid": [3, 2, 1, 0]}).to_parquet(folder / "metadata" / "metadata_0000.parquet")
        (folder / "l.txt").write_text(text)
        options = ("--feature-range", "0.2", "0.45", "--estimator", "landmarks", option, folder / "l.txt")
        return ["ad-store", folder, *options]

    return make


ROWS = {
    "a poison field that no record has": (_importing([{"bad": 1}], "--poison-field", "bda"), "no record has a field"),
    "a poison field of other values": (_importing([{"bad": 2}], "--poison-field", "bad"), "unreadable metadata"),
    "a poison field of lists": (_importing([{"bad": [1]}], "--poison-field", "bad"), "unreadable metadata"),
    "a concept that is a number": (
        _importing([{"bad": 1, "of": 7}], "--poison-field", "bad", "--poisoned-concept-field", "of"),
        "unreadable metadata",
    ),
    "targets without a poison field": (
        _importing([{"of": "dog"}], "--target-field", "of"),
        "expected a field that says",
    ),
    "landmarks that may be rows or uids": (_landmarks("0\n3\n", "--landmarks"), "could be a row or a uid"),
    "landmarks of both kinds": (_landmarks("uid\n3\n", "--landmark-rows"), "says 'uid' in its first line"),
    "rows that are no numbers": (_landmarks("a\n", "--landmark-rows"), "names row 'a'"),
    "numeric uids": (_landmarks("0\n3\n", "--landmark-uids"), "trusted_landmarks"),
    "a checkpoint that is not there": (
        lambda folder: ["record-poison", folder / "x", "--none"],
        "not exist",
    ),
    "two records at once": (lambda folder: ["record-poison", folder, "--none", "--count", 3], "expected one of --none"),
}
