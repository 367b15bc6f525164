"""What was made of a chunk of jobs, as one file: names and bytes, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import sys
import zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Made = Mapping[str, bytes]  # files or messages, by name
LEVEL = 1  # of zstd: the fastest


def pack(made: Sequence[Made]) -> bytes:
    """A line of JSON with the names and sizes and a checksum of the rest, which is packed."""
    body = zstd.compress(b"".join(data for one in made for data in one.values()), level=LEVEL)
    head = {"made": [[[name, len(data)] for name, data in one.items()] for one in made], "crc32": zlib.crc32(body)}
    return json.dumps(head).encode() + b"\n" + body


def unpack(part: bytes) -> list[dict[str, bytes]]:
    """The inverse. Raises ValueError for what is damaged."""
    head, _, body = part.partition(b"\n")
    try:
        listed = json.loads(head)
        if zlib.crc32(body) != listed["crc32"]:
            raise ValueError("its checksum is another one")
        data, at, made = memoryview(zstd.decompress(body)), 0, []
        for one in listed["made"]:
            made.append({})
            for name, size in one:
                made[-1][name] = bytes(data[at:at + size])
                at += size
    except (ValueError, KeyError, TypeError, zstd.ZstdError) as error:
        raise ValueError(f"no part of a rendering, or a damaged one: {error}") from None
    return made
