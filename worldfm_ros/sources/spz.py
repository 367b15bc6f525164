"""Gaussian splats of SPZ files (Niantic's packing): gsply unpacks them, once it is known that they unpack to what they
announce. Versions 2 and 3 are one gzip stream, version 4 is a header and zstd streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import struct
import zlib

import numpy as np

from worldfm_ros.sources.ply import Discs, splats, usable

MAGIC = b"NGSP"
GZIP = b"\x1f\x8b"
HEADER = struct.Struct("<4sIIBBBB")  # magic, version, splats, degree of the harmonics, fractional bits, flags, streams
MOST = 10_000_000  # splats; Niantic's own reader takes no more
EXTENSIONS = 1 << 20  # bytes that may follow the splats
STEP = 1 << 20  # bytes that are unpacked at a time
HARMONICS = (0, 3, 8, 15)  # beside the first, by degree


def read_spz(path: str | Path) -> Discs:
    """The splats of an SPZ file, as `read_ply` reads those of a PLY file.

    Raises FileNotFoundError or ValueError, naming the file and what is missing or wrong in it; a file that unpacks to
    more than it announces, or announces more than SPZ allows, is refused before it is unpacked.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or no file")
    with path.open("rb") as stream:
        packed = stream.read(len(GZIP)) == GZIP
    check_gzip(path) if packed else check_streams(path)
    try:
        import gsply
    except ModuleNotFoundError:
        raise ValueError(f"{path} is an SPZ file, which gsply reads: pip install gsply zstandard") from None

    gsply.use_backend("auto")  # compiled where its wheel is; numba would take half a minute for the first file
    data = gsply.read_spz(path)
    return usable(splats(np.asarray(data.means, np.float64), data.sh0, data.scales, data.opacities.reshape(-1)), path)


def check_header(path: Path, start: bytes, versions: tuple[int, ...]) -> int:
    """The bytes that a file's splats take when they are unpacked. Raises ValueError naming the field that is wrong."""
    if len(start) < HEADER.size:
        raise ValueError(f"{path} is no SPZ file, or cut short: its header has {len(start)} of {HEADER.size} bytes")
    magic, version, count, degree, bits, _, _ = HEADER.unpack(start[:HEADER.size])
    allowed = "the first version, of half floats, nobody reads any more" if version == 1 else "update worldfm_ros"
    for name, value, good, advice in [
        ("magic", magic, magic == MAGIC, f"expected {MAGIC!r}; is it an SPZ file?"),
        ("version", version, version in versions, f"expected {' or '.join(map(str, versions))}; {allowed}"),
        ("number of splats", count, 0 < count <= MOST, f"expected 1 to {MOST}, which is SPZ's limit"),
        ("degree of the harmonics", degree, degree < len(HARMONICS), f"expected 0 to {len(HARMONICS) - 1}"),
        ("fractional bits", bits, 0 < bits < 24, "expected 1 to 23"),
    ]:
        if not good:
            raise ValueError(f"{path}: the header's {name} is {value}; {advice}")
    return count * (9 + 1 + 3 + 3 + (4 if version > 2 else 3) + 3 * HARMONICS[degree])


def check_gzip(path: Path) -> None:
    """Raise ValueError unless the stream unpacks to its header and the splats that this announces."""
    start, pieces = b"", unpacked(path)
    while len(start) < HEADER.size and (piece := next(pieces, b"")):
        start += piece
    least, size = HEADER.size + check_header(path, start, (2, 3)), len(start)
    for piece in pieces:
        size += len(piece)
        if size > least + EXTENSIONS:
            raise ValueError(f"{path}: its header announces {least} bytes, it unpacks to {size} and more")
    if size < least:
        raise ValueError(f"{path}: its header announces {least} bytes, it unpacks to {size}; is it cut short?")


def unpacked(path: Path) -> Iterator[bytes]:
    """The pieces, of at most STEP bytes, of a file that is one gzip stream. Raises ValueError where it is not."""
    unpack = zlib.decompressobj(wbits=31)
    with path.open("rb") as stream:
        while not unpack.eof:
            left = unpack.unconsumed_tail or stream.read(STEP)
            if not left:
                raise ValueError(f"{path}: its gzip stream has no end; is it cut short?")
            try:
                piece = unpack.decompress(left, STEP)
            except zlib.error as error:
                raise ValueError(f"{path} is damaged: {error}") from None
            if piece:
                yield piece
        if unpack.unused_data or stream.read(1):
            raise ValueError(f"{path} goes on after the end of its gzip stream; an SPZ file is one stream")


def check_streams(path: Path) -> None:
    """Raise ValueError unless each zstd stream tells no more bytes than the table of version 4 allows it."""
    with path.open("rb") as stream:
        data = stream.read()
    size = check_header(path, data, (4,))
    count, table = data[15], int.from_bytes(data[16:20], "little")
    place = table + 16 * count
    if table < 32 or place > len(data):
        raise ValueError(f"{path}: its table of {count} streams at byte {table} does not fit into {len(data)} bytes")
    import zstandard

    for number in range(count):
        packed, whole = struct.unpack_from("<QQ", data, table + 16 * number)
        if place + packed > len(data):
            raise ValueError(f"{path}: stream {number} of {packed} bytes ends after the file; is it cut short?")
        told = zstandard.frame_content_size(data[place:place + 18]) if packed else 0
        if max(told, whole) > size:
            raise ValueError(f"{path}: stream {number} announces {max(told, whole)} bytes, all splats have {size}")
        place += packed
