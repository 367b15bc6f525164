"""What a folder of shards must hold.

The index is written last, so a folder without it is not finished, and a shard that was cut short is an error and never
a shorter epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
import hashlib
import json
from pathlib import Path
import re

FORMAT = 1
INDEX, UNFINISHED = "index.json", "unfinished.json"
VIEWS = "views_per_scene"  # in a source: its clips are no films


@dataclass(frozen=True)
class Shard:
    """A tar file: name, bytes, sha256; the span of bytes (start, stop) of each clip, a whole tar archive by itself but
    for its end; and how far the source had been read after it."""

    name: str
    bytes: int
    sha256: str
    spans: list[list[int]]
    read: int

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.read < 1:
            raise ValueError(f"shard {self.name!r} has sha256 {self.sha256!r}, read {self.read}")
        if not self.spans or not all(0 <= start < stop <= self.bytes for start, stop in self.spans):
            raise ValueError(f"the clips of {self.name} are not within its {self.bytes} bytes")


@dataclass(frozen=True)
class Index:
    """What a folder of shards holds. skipped: how many of the source's clips were left out, by reason."""

    source: dict
    shards: list[Shard] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        return sum(len(shard.spans) for shard in self.shards)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "clips": self.clips, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Index:
        """Raises ValueError naming `where` for what is no index."""
        try:
            data = json.loads(text)
            shards = [Shard(**shard) for shard in data["shards"]]
            index = cls(data["source"], shards, data["skipped"])
            if data["format"] != FORMAT or data["clips"] != index.clips or not shards:
                raise ValueError(f"format {data['format']} (expected {FORMAT}), {data['clips']} clips of {index.clips} "
                                 f"in {len(shards)} shards")
            return index
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where} is no index of shards ({error}); build the shards again") from error


def read_index(folder: str | Path) -> Index:
    """The index of a finished folder of shards. Raises ValueError for one that is not finished or no such folder."""
    folder = Path(folder)
    if (folder / UNFINISHED).exists():
        raise ValueError(f"{folder} is not finished: run the command that builds it again, it goes on where it stopped")
    if not (folder / INDEX).exists():
        raise ValueError(f"{folder} is no folder of shards: {INDEX} is missing (see python -m training.data build)")
    return Index.from_json((folder / INDEX).read_bytes(), str(folder / INDEX))


def is_whole(path: Path, shard: Shard) -> bool:
    """Whether a file has the bytes of a shard."""
    if not path.exists() or path.stat().st_size != shard.bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest() == shard.sha256
