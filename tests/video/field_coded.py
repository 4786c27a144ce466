"""H.264 coded in fields, written bit by bit: no encoder in PyAV writes it.

Every macroblock is raw samples (I_PCM), so that what is decoded is what was written.
"""

from fractions import Fraction

import av
import numpy as np

SIDE = 32  # pixels; a field has 32 x 16, two macroblocks


class Writer:
    def __init__(self):
        self.bits = ""

    def put(self, value, count):
        self.bits += f"{value:0{count}b}"

    def golomb(self, *values):
        for value in values:
            self.bits += "0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}"

    def unit(self, header: int) -> bytes:
        """The NAL unit, with stop bit, emulation prevention and start code."""
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        raw, out, zeros = int(bits, 2).to_bytes(len(bits) // 8, "big"), bytearray([header]), 0
        for byte in raw:
            if zeros == 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes(out)


def parameters(scaling=False) -> bytes:
    sps = Writer()
    sps.put(100, 8), sps.put(0, 8), sps.put(40, 8)  # High
    sps.golomb(0, 1, 0, 0)  # number, 4:2:0, 8 bits
    sps.put(0, 1), sps.put(int(scaling), 1)
    if scaling:
        sps.put(1, 1), sps.golomb(*[0] * 16)  # the first list: no differences
        sps.put(1, 1), sps.golomb(16)  # the second: to 0 at once, the default
        sps.put(0, 6)
    sps.golomb(4, 0, 4, 1)  # frame_num of 8 bits, order of type 0 in 8 bits, a reference
    sps.put(0, 1), sps.golomb(SIDE // 16 - 1, SIDE // 32 - 1)
    sps.put(0b0, 1), sps.put(0b0, 1), sps.put(0b1, 1)  # fields and frames, no MBAFF, direct 8x8
    sps.put(0b00, 2)  # no crop, no VUI
    pps = Writer()
    pps.golomb(0, 0), pps.put(0, 2), pps.golomb(0, 0, 0), pps.put(0, 3), pps.golomb(0, 0, 0)
    pps.put(0b100, 3)  # deblocking is controlled by the slice
    return sps.unit(0x67) + pps.unit(0x68)


def picture(y: np.ndarray, frame: int, field: int | None) -> bytes:
    """A picture of uint8 [h, SIDE] luma and grey chroma; field 0 is the top one, None a frame."""
    first = frame == 0 and not field  # IDR: the rest are I pictures
    out = Writer()
    out.golomb(0, 7, 0)
    out.put(frame % 256, 8)
    out.put(int(field is not None), 1)
    if field is not None:
        out.put(field, 1)
    if first:
        out.golomb(0)
    out.put((2 * frame + (field or 0)) % 256, 8)
    out.put(0, 2 if first else 1)  # dec_ref_pic_marking
    out.golomb(0)  # slice_qp_delta
    out.golomb(1)  # no deblocking
    for row in range(0, len(y), 16):
        for column in range(0, SIDE, 16):
            out.golomb(25)
            out.bits += "0" * (-len(out.bits) % 8)
            samples = y[row : row + 16, column : column + 16].tobytes() + bytes([128]) * 128
            out.put(int.from_bytes(samples, "big"), 8 * len(samples))
    return out.unit(0x65 if first else 0x61)


def luma(n: int) -> np.ndarray:
    """uint8 [SIDE, SIDE], never 0: another picture for each frame and each field."""
    y = np.full((SIDE, SIDE), 40 + 5 * n, np.uint8)
    y[1::2] = 200 - 3 * n
    return y


def write(path, kinds: str, *, fps=25, together=False, scaling=False):
    """A file of frames: `f` two fields, `p` a whole frame, in this order; times are 1 / fps apart.

    Args:
        together: both fields of a frame in one packet. (FFmpeg takes them apart again in transport
            streams, where the second one then has no time.)
        scaling: with scaling lists, which a reader has to get past.
    """
    raw = path.with_suffix(".h264")
    packets = []
    for n, kind in enumerate(kinds):
        y, start = luma(n), parameters(scaling) if n == 0 else b""
        if kind == "p":
            packets.append((2 * n, 2, start + picture(y, n, None)))
            continue
        top, bottom = start + picture(y[::2], n, 0), picture(y[1::2], n, 1)
        if together:
            packets.append((2 * n, 2, top + bottom))
        else:
            packets += [(2 * n, 1, top), (2 * n + 1, 1, bottom)]
    raw.write_bytes(b"".join(data for *_, data in packets))
    with av.open(str(raw)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for n, (time, duration, data) in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 2 * fps)
            packet.pts = packet.dts = time
            packet.duration = duration
            packet.is_keyframe = n == 0
            new.mux(packet)
    return path
