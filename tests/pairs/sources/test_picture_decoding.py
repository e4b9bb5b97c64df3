"""Pictures as a viewer shows them: one picture, stored in every way that looks the same, gives the same pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.decoding import Limits, decode_image
from explorer.pairs.sources.picture_decoding import Conversion

RAMP = np.tile(np.arange(0, 256, 4, np.uint8), (32, 1))
"""Grey, 32 x 64: no two columns and no two orientations are alike."""
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.repeat(np.arange(0, 256, 8, np.uint8)[:, None], 64, 1)], axis=-1)


def stored(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG written chunk by chunk."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*pair) for pair in chunks) + data + chunk(b"IEND", b"")


def grey16(dtype="<u2"):
    return (RAMP.astype(np.uint32) * 257).astype(dtype)


def grey_png16(*chunks):
    return png(64, 32, 16, 0, [row.tobytes() for row in grey16(">u2")], *chunks)


def shown(data, **limits):
    return decode_image(data, Limits(**limits))


@pytest.mark.parametrize(
    "data",
    [
        grey_png16(),
        stored(Image.fromarray(grey16()), "TIFF"),
        stored(Image.fromarray(grey16()), "TIFF", compression="tiff_lzw"),
        stored(Image.frombytes("I;16B", (64, 32), grey16(">u2").tobytes()), "TIFF"),
        stored(Image.fromarray((65535 - grey16()).astype("<u2")), "TIFF", tiffinfo={262: 0}),
    ],
)
def test_sixteen_bit_greys_are_scaled(data):
    decoded = shown(data)
    assert (decoded.pixels == np.repeat(RAMP[..., None], 3, axis=2)).all()
    assert decoded.converted == (Conversion.SIXTEEN_BITS,)


@pytest.mark.parametrize(
    "picture", [Image.fromarray(RAMP.astype(np.float32) / 255), Image.fromarray(RAMP.astype(np.int32))]
)
def test_samples_without_a_range_are_set_aside(picture):
    with pytest.raises(UnusableError, match="expected 8 or 16 bits") as found:
        shown(stored(picture, "TIFF"))
    assert found.value.reason == Reason.UNDEFINED_RANGE


TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_270}  # fmt: skip
"""By the orientation that undoes it, how a picture lies in the file."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_pictures_are_turned_upright(orientation, kind, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(Image.fromarray(COLOURS).transpose(TURNS[orientation]), kind, exif=exif, **options)
    decoded = shown(data)
    assert (decoded.pixels == COLOURS).all()
    assert decoded.converted == (Conversion.ORIENTATION,)


def test_avif_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(COLOURS).transpose(TURNS[6])
    decoded = shown(stored(lying, "AVIF", quality=100, subsampling="4:4:4", exif=exif))
    assert decoded.converted == (Conversion.ORIENTATION,)
    assert np.abs(decoded.pixels.astype(int) - COLOURS).max() < 16


def test_no_other_orientation_turns_a_picture():
    for orientation in (0, 1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert shown(stored(Image.fromarray(COLOURS), exif=exif)).converted == ()
    assert shown(stored(Image.fromarray(COLOURS), exif=b"Exif\0\0nonsense")).converted == ()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert shown(stored(Image.fromarray(COLOURS), "WEBP", lossless=True, xmp=xmp)).converted == (), "no browser does"


def with_alpha(mode):
    hidden = np.random.default_rng(0).integers(0, 256, (32, 64, 4), np.uint8)
    hidden[..., 3] = 0
    hidden[8:24, 8:24] = (0, 200, 0, 255)
    return Image.fromarray(hidden).convert(mode)


def palette(transparency):
    pixels = np.zeros((32, 64), np.uint8)
    pixels[8:24, 8:24] = 1
    picture = Image.fromarray(pixels).convert("P")
    picture.putpalette([255, 0, 0, 0, 200, 0])
    return stored(picture, transparency=transparency)


def shades(depth, transparent):
    """A grey PNG of ``depth`` bits with one square in the middle and a transparent level around it."""
    per_byte = 8 // depth
    rows = np.full((32, 64), transparent, np.uint8)
    rows[8:24, 8:24] = 0
    packed = sum(rows[:, at::per_byte].astype(int) << (8 - depth * (at + 1)) for at in range(per_byte))
    return png(64, 32, depth, 0, [bytes(row.tolist()) for row in packed], (b"tRNS", struct.pack(">H", transparent)))


@pytest.mark.parametrize(
    ("data", "square"),
    [
        (stored(with_alpha("RGBA")), (0, 200, 0)),
        (stored(with_alpha("RGBA"), "WEBP", lossless=True, exact=True), (0, 200, 0)),
        (stored(with_alpha("RGBA"), "TIFF"), (0, 200, 0)),
        (stored(with_alpha("LA")), (117, 117, 117)),
        (palette(0), (0, 200, 0)),
        (palette(bytes([0, 255])), (0, 200, 0)),
        *((shades(depth, 2**depth - 2), (0, 0, 0)) for depth in (2, 4, 8)),
    ],
)
def test_what_is_transparent_is_white(data, square):
    decoded = shown(data)
    assert (decoded.pixels[8:24, 8:24] == square).all()
    outside = np.ones((32, 64), bool)
    outside[8:24, 8:24] = False
    assert (decoded.pixels[outside] == 255).all(), "colours under full transparency are seen by nobody"
    assert decoded.converted == (Conversion.TRANSPARENCY,)


def test_a_transparent_grey_of_sixteen_bits_is_white():
    decoded = shown(grey_png16((b"tRNS", struct.pack(">H", 0))))
    assert (decoded.pixels[:, 0] == 255).all()
    assert (decoded.pixels[:, 1:] == np.repeat(RAMP[:, 1:, None], 3, axis=2)).all()
    assert set(decoded.converted) == {Conversion.SIXTEEN_BITS, Conversion.TRANSPARENCY}


def test_half_transparency_is_mixed_with_white_and_an_opaque_alpha_is_none():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 3] = 128
    assert (shown(stored(Image.fromarray(pixels))).pixels == 127).all()
    pixels[..., 3] = 255
    assert shown(stored(Image.fromarray(pixels))).converted == ()


def test_forms_without_a_choice_are_no_conversion():
    for mode in ("1", "L", "P", "RGB"):
        data = stored(Image.fromarray(COLOURS).convert(mode))
        assert shown(data).converted == ()
        assert (shown(data).pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_of_several_frames_the_first_is_taken_and_counted(kind, options):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    decoded = shown(stored(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (decoded.pixels == (255, 0, 0)).all()
    assert decoded.converted == (Conversion.FIRST_FRAME,)


def swapped_profile():
    """sRGB with red and blue exchanged: what a viewer shows is another picture than the stored numbers."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def test_a_colour_profile_is_followed():
    decoded = shown(stored(Image.fromarray(COLOURS), icc_profile=swapped_profile()))
    assert np.abs(decoded.pixels.astype(int) - COLOURS[..., ::-1]).max() <= 2
    assert decoded.converted == (Conversion.PROFILE,)
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = shown(stored(Image.fromarray(COLOURS), icc_profile=plain))
    assert (same.pixels == COLOURS).all()
    assert same.converted == ()


@pytest.mark.parametrize("profile", [b"nonsense" * 20, swapped_profile()[:200]])
def test_an_unusable_profile_is_passed_over_and_counted(profile):
    decoded = shown(stored(Image.fromarray(COLOURS), icc_profile=profile))
    assert (decoded.pixels == COLOURS).all()
    assert decoded.converted == (Conversion.PROFILE_UNUSABLE,)


def test_a_profile_of_other_samples_is_unusable():
    decoded = shown(stored(Image.fromarray(RAMP), icc_profile=swapped_profile()))
    assert decoded.converted == (Conversion.PROFILE_UNUSABLE,)
    assert (decoded.pixels[..., 0] == RAMP).all()


def test_a_gamma_value_is_followed():
    rows = [RAMP[0].tobytes()] * 32
    dark = shown(png(64, 32, 8, 0, rows, (b"gAMA", struct.pack(">I", 1_000_000))))
    assert dark.converted == (Conversion.GAMMA,)
    assert dark.pixels[0, 1, 0] > 200, "a browser shows it far lighter than its numbers"
    for same in ((b"gAMA", struct.pack(">I", 45455)), (b"gAMA", struct.pack(">I", 0))):
        assert shown(png(64, 32, 8, 0, rows, same)).converted == ()


def test_cmyk_is_counted():
    data = stored(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=95)
    assert shown(data).converted == (Conversion.CMYK,)


def test_formats_that_are_not_read_are_named():
    for head, name in ((b"\0\0\0\x18ftypheic", "HEIC"), (b"\xff\x0a", "JPEG XL"), (b"8BPS\0\1", "PSD")):
        with pytest.raises(UnusableError, match=f"undecodable image: {name}: expected one of JPEG"):
            shown(head + bytes(100))
