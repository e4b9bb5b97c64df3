"""Hostile sources of pairs: rows of the table in test_hostile.py."""

import io
import os
import struct
import tarfile
import zlib

from PIL import Image

DEEP = "[" * 100_000
COLUMNS = ",".join(f"column{number}" for number in range(10**6))


def picture():
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(stream, "PNG")
    return stream.getvalue()


PNG = picture()


def beside(name, content, caption="x"):
    """A row's ``make``: a folder of one good pair and this one, and the command that imports it."""
    text = os.path.splitext(os.fsdecode(name))[0] + (".json" if caption is DEEP else ".txt")

    def make(folder):
        lay(folder / "in", {"good.png": PNG, "good.txt": b"a good pair", name: content, text: caption})
        return ["import", folder / "in", folder / "set", "--size", 16]

    return make


def lay(folder, files):
    for name, content in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def with_table(content, name="metadata.csv"):
    """A folder with one picture whose caption a table gives, if at all."""

    def make(folder):
        lay(folder / "in", {"1.png": PNG, name: content})
        return ["import", folder / "in", folder / "set", "--size", 16]

    return make


def huge_png(width, height):
    """A header that claims a size which its few bytes do not hold."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def bomb_png(side):
    """A picture of one colour that a few kilobytes hold in full."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def text_bomb():
    """A PNG whose compressed text unpacks to 100 MB."""
    data = b"k\0\0" + zlib.compress(bytes(100 * 2**20))
    whole = PNG
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return whole[:33] + chunk + whole[33:]


def _nothing_there(folder):
    return ["import", folder / "absent", folder / "set"]


def _pipe(folder):
    lay(folder / "in", {"good.png": PNG, "good.txt": b"x"})
    for name in ("pipe.png", "pipe.txt", "metadata.csv", ".hidden.png"):
        os.mkfifo(folder / "in" / name)
    return ["import", folder / "in", folder / "set", "--size", 16]


def _pipes_for_shards(folder):
    (folder / "in").mkdir()
    for name in ("0.tar", "0.parquet"):
        os.mkfifo(folder / "in" / name)
    return ["import", folder / "in", folder / "set"]


def _links_outside(folder):
    lay(folder, {"in/good.png": PNG, "in/good.txt": b"x", "secret/a.png": PNG, "secret/a.txt": b"x"})
    for name, target in (("a.png", "secret/a.png"), ("more", "secret"), ("up", ""), ("loop", "in/loop")):
        (folder / "in" / name).symlink_to(folder / target)
    return ["import", folder / "in", folder / "set", "--size", 16]


def _tar(*members):
    def make(folder):
        with tarfile.open(folder / "0.tar", "w") as archive:
            for name, content, kind in (("a.png", PNG, b"0"), ("a.txt", b"x", b"0"), *members):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, "/etc/passwd"
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return ["import", folder / "0.tar", folder / "set", "--size", 16]

    return make


def _parquet(**columns):
    def make(folder):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), folder / "0.parquet")
        return ["import", folder / "0.parquet", folder / "set", "--size", 16]

    return make


def _cut_parquet(folder):
    command = _parquet(image=[PNG], text=["x"])(folder)
    path = folder / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return command


def _gzip(folder):
    lay(folder, {"0.tar": b"\x1f\x8b\x08" + bytes(600)})
    return ["import", folder / "0.tar", folder / "set"]


def _empty(folder):
    (folder / "in").mkdir()
    return ["import", folder / "in", folder / "set"]


def _with_options(*options):
    return lambda folder: [*with_table("file_name,text\n1.png,x\n")(folder), *options]


ROWS = {
    "a folder that is not there": (_nothing_there, "absent names nothing"),
    "a picture of sixty thousand squared": (beside("1.png", huge_png(60_000, 60_000)), "image too large"),
    "a thin picture of gigabytes": (beside("1.png", huge_png(16, 2**22)), "image too large"),
    "a picture that unpacks to 69 megapixels": (beside("1.png", bomb_png(8300)), "image too large"),
    "text that unpacks to 100 MB": (beside("1.png", text_bomb()), "undecodable image"),
    "a truncated picture": (beside("1.png", PNG[:-30]), "truncated image|undecodable image"),
    "an empty picture": (beside("1.png", b""), "no image"),
    "an empty caption": (beside("1.png", PNG, b""), "empty caption"),
    "a caption of zeros": (beside("1.png", PNG, bytes(50)), "not UTF-8"),
    "a caption in UTF-16": (beside("1.png", PNG, "a cat".encode("utf-16")), "not UTF-8"),
    "a caption of 2 MB": (beside("1.png", PNG, b"x" * 2**21), "caption too long"),
    "a name that is not UTF-8": (beside(b"\xff\xfe.png", PNG), r"pairs +2"),
    "a nested sidecar": (beside("1.png", PNG, DEEP), "unreadable metadata"),
    "pipes in the folder": (_pipe, "no regular file.*3"),
    "pipes for shards": (_pipes_for_shards, "holds no pictures"),
    "links that lead out": (_links_outside, "link.*4"),
    "a table of a million columns": (with_table(f"file_name,{COLUMNS}\n1.png,x\n"), "1000001 columns: expected"),
    "a row of a million fields": (with_table(f"file_name,text\n1.png,{COLUMNS}\n"), "1000001 fields, where the header"),
    "a table of quotation marks": (with_table("file_name,text\n" + '1.png,"\n' * 5_000), "quotation mark"),
    "a table of zeros": (with_table(bytes(10_000)), "expected one of file_name"),
    "a table that is not UTF-8": (with_table(b"file_name,text\n1.png,caf\xe9"), "text is not UTF-8|unexpected end"),
    "a nested line": (with_table(DEEP, "metadata.jsonl"), "recursion"),
    "a number of 5000 digits": (
        with_table('{"file_name": "1.png", "text": ' + "9" * 5000 + "}", "metadata.jsonl"), "limit|expected text"),
    "rows that lead out": (
        with_table("file_name,text\n../../etc/passwd,x\n/etc/passwd,x\n1.png,y\n"), "path outside the folder.*2"),
    "a row with a NUL in its name": (with_table("file_name,text\n1.png\0,x\n1.png,y\n"), "no image"),
    "a folder of nothing": (_empty, "holds no pictures"),
    "a tar of devices and links": (
        _tar(("b.png", b"", tarfile.CHRTYPE), ("b.txt", b"", tarfile.FIFOTYPE), ("c.png", b"", tarfile.SYMTYPE),
             ("d.png", b"", tarfile.LNKTYPE)), "no caption.*3"),
    "a tar that names places outside": (
        _tar(("/etc/x.png", PNG, b"0"), ("/etc/x.txt", b"x", b"0"), ("../../y.png", PNG, b"0")), r"pairs +2"),
    "a tar of unknown members": (_tar(("b.png", PNG, b"Z"), ("b.txt", b"x", b"Z")), "no caption.*1"),
    "a tar that is gzip": (_gzip, "unreadable shard"),
    "parquet with numbers for pictures": (_parquet(image=[1.5], text=["x"]), "expected encoded pictures"),
    "parquet with a nested caption": (_parquet(image=[b"x"], text=[{"a": "x"}]), "expected text"),
    "parquet with a list of captions": (_parquet(image=[b"x"], text=[["a", "b"]]), "expected text"),
    "parquet with two captions": (_parquet(image=[b"x"], text=["a"], caption=["b"]), "name it with --caption"),
    "parquet with two pictures": (_parquet(image=[b"x"], jpg=[b"x"], text=["a"]), "name it with --image"),
    "parquet without rows": (_parquet(image=[b"x"][:0], text=["x"][:0]), "expected encoded pictures|is empty"),
    "parquet cut short": (_cut_parquet, "no readable parquet file"),
    "a field that no row has": (_with_options("--caption", "alt"), "expected 'alt'"),
    "captions from nowhere": (_with_options("--captions", "cloud"), "expected one of auto"),
}  # fmt: skip
