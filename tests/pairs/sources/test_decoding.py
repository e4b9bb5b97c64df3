"""What a usable pair is: pictures of every kind of damage, captions, order and threads; the quarantine's file."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from explorer.pairs.quarantine import (
    QuarantinedRecord,
    Reason,
    UnusableError,
    count_reasons,
    read_quarantine,
    write_quarantine,
)
from explorer.pairs.sources.decoding import MAX_ASPECT_RATIO, Limits, check_caption, decode_image, in_order


def encoded(kind="JPEG", mode="RGB", size=(40, 30)):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(stream, kind)
    return stream.getvalue()


def huge_png(width, height):
    """A PNG whose header claims a size that its data do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "1"), ("PNG", "L"), ("WEBP", "RGB"), ("GIF", "P")]
)
def test_plain_pictures_are_what_pillow_makes_of_them(kind, mode):
    data = encoded(kind, mode)
    decoded = decode_image(data, Limits()).pixels
    assert decoded.shape == (30, 40, 3)
    assert (decoded == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, Reason.NO_IMAGE),
        (b"", Reason.NO_IMAGE),
        (b"<html>not found</html>", Reason.UNDECODABLE_IMAGE),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n", Reason.UNDECODABLE_IMAGE),
        (encoded("JPEG")[:-300], Reason.TRUNCATED_IMAGE),
        (encoded("PNG")[:-900], Reason.TRUNCATED_IMAGE),
        (encoded(size=(40, 15)), Reason.SMALL_IMAGE),
        (huge_png(9000, 9000), Reason.LARGE_IMAGE),
        (huge_png(60_000, 60_000), Reason.LARGE_IMAGE),
        (huge_png(16, 4_194_304), Reason.LARGE_IMAGE),
        (np.zeros((15, 40, 3), np.uint8), Reason.SMALL_IMAGE),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_cannot_be_used_says_why(data, reason):
    with pytest.raises(UnusableError) as found:
        decode_image(data, Limits())
    assert found.value.reason == reason
    assert "0x" not in found.value.detail, "the same in every run"


def test_a_thin_picture_is_refused_from_the_limit_on():
    longest = 16 * MAX_ASPECT_RATIO
    assert decode_image(encoded(size=(longest, 16)), Limits()).pixels.shape == (16, longest, 3)
    for thin in (encoded(size=(16, longest + 1)), np.zeros((longest + 1, 16, 3), np.uint8)):
        with pytest.raises(UnusableError, match="16 x 801: expected the longer side to be at most 50 times"):
            decode_image(thin, Limits())


def test_no_damage_is_fatal():
    """Every cut and a flip in every eighth byte of small pictures: decoded, or set aside with a reason."""
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        good = encoded(kind, size=(16, 16))
        cuts = [good[:length] for length in range(1, len(good), 37)]
        flips = [good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :] for at in range(0, len(good), 8)]
        outcomes = in_order(
            lambda data: decode_image(data, Limits(max_pixels=10_000)), cuts + flips, workers=1, ahead=1
        )
        kinds = [
            outcome.reason if isinstance(outcome, UnusableError) else outcome.pixels.dtype for _, outcome in outcomes
        ]
        assert len(kinds) == len(cuts + flips)
        assert kinds[0] == Reason.UNDECODABLE_IMAGE, "one byte is no picture"


@pytest.mark.parametrize(
    ("caption", "reason"),
    [(" \n", Reason.EMPTY_CAPTION), ("x" * 10_001, Reason.LONG_CAPTION), ("\ud800", Reason.NOT_UTF8)],
)
def test_a_caption_that_cannot_be_used_says_why(caption, reason):
    assert check_caption(" a cat\n", Limits()) == " a cat\n"
    with pytest.raises(UnusableError) as found:
        check_caption(caption, Limits())
    assert found.value.reason == reason


def test_order_is_kept_whichever_thread_is_first():
    first_may_end = threading.Event()

    def work(number):
        if number == 0:
            first_may_end.wait(10)
        if number == 2:
            first_may_end.set()
        if number == 3:
            raise UnusableError(Reason.NO_IMAGE, "three")
        return number * 10

    results = list(in_order(work, range(6), workers=3, ahead=4))
    assert [item for item, _ in results] == list(range(6))
    assert [str(outcome) for _, outcome in results] == ["0", "10", "20", "no image: three", "40", "50"]


def test_no_more_than_asked_for_is_read_ahead():
    read = []
    stream = in_order(lambda item: item, (read.append(item) or item for item in range(100)), workers=1, ahead=3)
    next(stream)
    assert read == [0, 1, 2, 3]
    stream.close()


def test_a_record_that_memory_does_not_suffice_for_is_set_aside():
    def work(number):
        if number == 1:
            raise MemoryError
        return number

    results = [outcome for _, outcome in in_order(work, range(3), workers=2, ahead=2)]
    assert [str(outcome) for outcome in results] == ["0", "image too large: memory does not suffice", "2"]


def test_another_error_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [1, 0], workers=1, ahead=1))
    with pytest.raises(ValueError, match="workers is 0: expected at least 1"):
        in_order(str, [], workers=0, ahead=1)
    with pytest.raises(ValueError, match="min_side is 0: expected at least 1"):
        Limits(min_side=0)


def test_the_quarantine_is_a_table(tmp_path):
    records = [
        QuarantinedRecord(uid=f"{number}", place="a.tar:0", reason=reason, detail="é")
        for number, reason in enumerate([Reason.NO_IMAGE, Reason.NO_CAPTION, Reason.NO_IMAGE])
    ]
    assert count_reasons(records) == {"no caption": 1, "no image": 2}
    for written in (records, []):
        write_quarantine(tmp_path / "quarantine.parquet", written)
        assert read_quarantine(tmp_path / "quarantine.parquet") == written
    assert [path.name for path in tmp_path.iterdir()] == ["quarantine.parquet"]
