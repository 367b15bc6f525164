"""Clips in tar shards, local or remote, with random access."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
import io
from itertools import accumulate
import os
from pathlib import Path
import tarfile

from webdataset.gopen import gopen

from training.data.shard_index import INDEX, Index, Shard, read_index
from training.data.shard_writer import write_shards
from training.data.stored_clip import decode
from worldfm_ros.clips import Clip

__all__ = ["ShardedClips", "write_shards"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "worldfm_ros" / "shards"


class ShardedClips(Sequence[Clip]):
    """The clips of one or more folders of shards, local or at a URL that webdataset opens (http, s3, gs, ...).

    A remote shard is copied to `cache` when one of its clips is first asked for. Raises ValueError for a folder that is
    not finished, and for a shard that is missing or not as its index says.
    """

    def __init__(self, folders: str | Path | Sequence[str | Path], cache: str | Path = CACHE) -> None:
        folders = [folders] if isinstance(folders, (str, Path)) else folders
        self._shards = [shard for folder in folders for shard in _open(folder, Path(cache))]
        self._ends = list(accumulate(len(shard.facts.spans) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Clip:
        number = range(len(self))[number]
        place = bisect_right(self._ends, number)
        shard = self._shards[place]
        return shard.read(number - self._ends[place] + len(shard.facts.spans))

    def verify(self, track=iter) -> None:
        """Read every shard whole. Raises ValueError for one whose bytes are not those that were written."""
        for shard in track(self._shards):
            check_bytes(shard.local().read_bytes(), shard.facts, str(shard.path))


@dataclass(frozen=True)
class LocalShard:
    path: Path
    facts: Shard

    def local(self) -> Path:
        """The file."""
        return self.path

    def read(self, clip: int) -> Clip:
        """The clip at a position in the shard."""
        start, stop = self.facts.spans[clip]
        with self.local().open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        where = f"{self.path} clip {clip}"
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                files = {member.name.split(".", 1)[1]: tar.extractfile(member).read() for member in tar}
        except (tarfile.TarError, IndexError) as error:
            raise ValueError(f"{where} cannot be read ({error}); build or copy the shard again") from error
        return decode(files, where)


@dataclass(frozen=True)
class RemoteShard(LocalShard):
    """`path` is where its copy is kept."""

    url: str

    def local(self) -> Path:
        """The copy, made when it is not there yet; several processes may do so at once."""
        if not self.path.exists():
            data = _download(self.url)
            check_bytes(data, self.facts, self.url)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
            temporary.write_bytes(data)
            temporary.replace(self.path)
        return self.path


def check_bytes(data: bytes, facts: Shard, where: str) -> None:
    """Raise ValueError unless these are the bytes of a shard."""
    if len(data) != facts.bytes or hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ValueError(f"{where} is damaged: {len(data)} bytes of {facts.bytes}, or others than were written; "
                         "build or copy it again")


def _open(folder: str | Path, cache: Path) -> list[LocalShard]:
    if "://" in str(folder):
        url = str(folder).rstrip("/")
        index = Index.from_json(_download(f"{url}/{INDEX}").decode(), f"{url}/{INDEX}")
        return [RemoteShard(cache / facts.sha256[:16] / facts.name, facts, f"{url}/{facts.name}")
                for facts in index.shards]
    shards = [LocalShard(Path(folder) / facts.name, facts) for facts in read_index(folder).shards]
    for shard in shards:
        size = shard.path.stat().st_size if shard.path.exists() else 0
        if size != shard.facts.bytes:
            raise ValueError(f"{shard.path} is cut short or missing: {size} bytes, {INDEX} says {shard.facts.bytes}; "
                             "build or copy it again")
    return shards


def _download(url: str) -> bytes:
    try:
        with gopen(url, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise ValueError(f"{url} cannot be read: {error}") from error
