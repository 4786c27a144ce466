"""Which packets of an H.264 stream hold only the second field of a frame.

Cameras and broadcasters code interlaced pictures as two fields, and files then often have a packet
for each, but decoders give one frame for both. Read here is no more of a stream than says so: of
ITU-T H.264 the syntax of 7.3.2.1.1, 7.3.2.2 and 7.3.3, down to `bottom_field_flag`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SLICES, _SPS, _PPS = (1, 5), 7, 8  # nal_unit_type
_HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles of more colours
_HEADER = 64  # bytes, more than the part of a slice's header that is read


class Fields:
    """Follows one stream.

    Args:
        extradata: of the codec context, as MP4 (avcC) or as a stream of bytes (Annex B).
    """

    def __init__(self, extradata: bytes | None):
        self._length = 0  # bytes that say how long a unit is; 0: start codes
        self._sps: dict[int, _Sequence] = {}
        self._pps: dict[int, int] = {}  # number of its SPS
        self._open = None  # (frame_num, parity) of a field whose other one may follow
        if extradata and extradata[0] == 1:
            self._length = (extradata[4] & 3) + 1
            units = _listed(extradata)
        else:
            units = self._units(extradata or b"")
        self._pictures(units)

    @property
    def possible(self) -> bool:
        """Whether the stream may hold fields; where all frames are progressive it does not."""
        return not self._sps or any(not sps.frames_only for sps in self._sps.values())

    def completes(self, packet: bytes) -> bool:
        """Whether a packet is the second field of the frame that the one before it began.

        Packets come in the order of the file, each one once. What cannot be read completes nothing.
        """
        pictures = self._pictures(self._units(packet))
        alone = pictures[0] if len(pictures) == 1 and pictures[0][1] else None
        before, self._open = self._open, alone
        if alone is None or before is None or alone[0] != before[0] or alone[1] == before[1]:
            return False
        self._open = None
        return True

    def _pictures(self, units: Iterator[bytes]) -> list[tuple[int, int]]:
        """(frame_num, parity) of the pictures there; parity 1 is a top field, 2 a bottom one."""
        found = []
        try:
            for unit in units:
                kind = unit[0] & 31 if unit else 0
                if kind == _SPS:
                    sps = _sequence(_Bits(unit[1:]))
                    self._sps[sps.number] = sps
                elif kind == _PPS:
                    bits = _Bits(unit[1:])
                    self._pps[bits.golomb()] = bits.golomb()
                elif kind in _SLICES:
                    picture = self._picture(_Bits(unit[1:_HEADER]))
                    if not found or found[-1] != picture:  # else one more slice of it
                        found.append(picture)
        except (ValueError, LookupError):  # damaged
            return []
        return found

    def _picture(self, bits: "_Bits") -> tuple[int, int]:
        bits.golomb(), bits.golomb()  # first_mb_in_slice, slice_type
        sps = self._sps[self._pps[bits.golomb()]]
        if sps.planes_apart:
            bits.read(2)
        frame_num = bits.read(sps.frame_num_bits)
        is_field = not sps.frames_only and bits.read(1)
        return frame_num, 1 + bits.read(1) if is_field else 0

    def _units(self, data: bytes) -> Iterator[bytes]:
        if not self._length:
            yield from re.split(b"\0\0\1", data)[1:]
            return
        while len(data) > self._length:
            end = self._length + int.from_bytes(data[: self._length], "big")
            yield data[self._length : end]
            data = data[end:]


class _Sequence(NamedTuple):
    number: int
    planes_apart: int
    frame_num_bits: int
    frames_only: int


class _Bits:
    """Raises ValueError beyond the end."""

    def __init__(self, data: bytes):
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """ue(v); of se(v) the code."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _sequence(bits: _Bits) -> _Sequence:
    profile = bits.read(8)
    bits.read(16)
    number, planes_apart = bits.golomb(), 0
    if profile in _HIGH:
        chroma = bits.golomb()
        planes_apart = bits.read(1) if chroma == 3 else 0
        bits.golomb(), bits.golomb(), bits.read(1)  # depths, transform bypass
        if bits.read(1):
            for n in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling(bits, 16 if n < 6 else 64)
    frame_num_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.read(1), bits.golomb(), bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb(), bits.read(1), bits.golomb(), bits.golomb()  # references, gaps, width, height
    return _Sequence(number, planes_apart, frame_num_bits, bits.read(1))


def _skip_scaling(bits: _Bits, size: int):
    """scaling_list (7.3.2.1.1.1)."""
    last = 8
    for _ in range(size):
        code = bits.golomb()
        last = (last + (code // 2 + 1 if code % 2 else -(code // 2))) % 256
        if not last:
            return


def _listed(avcc: bytes) -> Iterator[bytes]:
    """Parameter sets of an avcC box (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (31, 255):
        count, at = avcc[at] & mask, at + 1
        for _ in range(count):
            end = at + 2 + int.from_bytes(avcc[at : at + 2], "big")
            yield avcc[at + 2 : end]
            at = end
