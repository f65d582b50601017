"""Reading pictures that a browser took."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # by colour type: red, green, blue, perhaps opacity


def pixels(path: Path) -> NDArray[np.uint8]:
    """Red, green and blue of a PNG file of 8 bits a channel: [height, width, 3]."""
    data = path.read_bytes()
    assert data.startswith(_SIGNATURE)
    chunks = list(_chunks(data))
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    assert (bits, interlaced) == (8, 0)
    channels = _CHANNELS[kind]
    raw = np.frombuffer(zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT")), np.uint8)
    lines = raw.reshape(height, 1 + width * channels)
    found = np.zeros((height + 1, width, channels), np.uint8)
    for row, line in enumerate(lines):
        _unfilter(int(line[0]), line[1:].reshape(width, channels), found[row], found[row + 1])
    return found[1:, :, :3]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += size + 12


def _unfilter(kind: int, line: NDArray[np.uint8], above: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Undo the filter of a line (PNG specification, section 9): 0 none, 1 left, 2 up, 3 mean, 4 Paeth."""
    if kind == 1:
        out[:] = np.cumsum(line, axis=0, dtype=np.uint8)
    elif kind in (0, 2):
        out[:] = line + above if kind == 2 else line
    else:
        left = corner = np.zeros(line.shape[1], np.int64)
        for x, (given, up) in enumerate(zip(line.astype(np.int64), above.astype(np.int64), strict=True)):
            left = (given + ((left + up) // 2 if kind == 3 else _paeth(left, up, corner))) % 256
            out[x], corner = left, up


def _paeth(left: NDArray[np.int64], up: NDArray[np.int64], corner: NDArray[np.int64]) -> NDArray[np.int64]:
    a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    return np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
