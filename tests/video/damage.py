"""Damaged videos, a pure function of (kind, seed): bits turned, ends cut off, headers edited."""

import numpy as np

# Fields of headers whose values decoders trust: boxes of MP4, elements of Matroska, chunks of AVI,
# pages of Ogg, packs and sequences of MPEG.
HEADERS = (
    b"moov", b"trak", b"mdhd", b"hdlr", b"stbl", b"stsd", b"stts", b"ctts", b"stss", b"stsc",
    b"stsz", b"stco", b"avcC", b"elst", b"tkhd", b"mvhd", b"ftyp", b"\x1a\x45\xdf\xa3",
    b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"RIFF", b"avih", b"strh", b"strf", b"movi", b"idx1",
    b"GIF8", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3",
)  # fmt: skip
HOWS = ("bits", "burst", "cut", "header", "zeros", "splice", "suffix", "double")


def damaged(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """The bytes of a video after one kind of damage."""
    out = bytearray(data)
    size = len(out)
    if how == "bits":  # anywhere, a few to many
        for at in rng.integers(0, size, int(rng.integers(1, 200))):
            out[at] ^= 1 << int(rng.integers(8))
    elif how == "burst":  # a stretch of noise
        start, length = int(rng.integers(size)), int(rng.integers(1, 4000))
        out[start : start + length] = rng.bytes(len(out[start : start + length]))
    elif how == "cut":
        out = out[: int(rng.integers(size))]
    elif how == "header":  # numbers behind a name
        found = [at for name in HEADERS if (at := data.find(name)) >= 0]
        for at in rng.choice(found, min(3, len(found)), replace=False):
            start = int(at) + 4 + int(rng.integers(0, 24))
            value = rng.choice([0, 1, 0xFF, 0x7F, 0x80])
            length = int(rng.integers(1, 5))
            out[start : start + length] = bytes([int(value)]) * length
    elif how == "zeros":
        start, length = int(rng.integers(size)), int(rng.integers(1, size // 2))
        out[start : start + length] = bytes(len(out[start : start + length]))
    elif how == "splice":  # a piece is missing
        start, length = int(rng.integers(size)), int(rng.integers(1, size // 2))
        del out[start : start + length]
    elif how == "double":  # a piece is there twice
        start, length = int(rng.integers(size)), int(rng.integers(1, size // 2))
        out[start:start] = out[start : start + length]
    return bytes(out)


SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".ts", ".gif", ".mpg", ".mov")


def plan(number: int, kinds: tuple[str, ...]) -> tuple[str, str, str, np.random.Generator]:
    """What damaged video `number` is made of: kind, damage, suffix, and its random numbers."""
    rng = np.random.default_rng([20_26, number])
    kind = kinds[number % len(kinds)]
    how = HOWS[(number // len(kinds)) % len(HOWS)]
    suffix = str(rng.choice(SUFFIXES)) if how == "suffix" else "." + kind.rpartition(".")[2]
    return kind, how, suffix, rng
