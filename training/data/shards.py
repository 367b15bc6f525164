"""Clips in tar shards, local or remote, with random access."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
import hashlib
import io
from itertools import accumulate
import os
from pathlib import Path
import tarfile

from webdataset.gopen import gopen

from training.data.shard_index import INDEX, VIEWS, Index, Shard, is_whole, read_index
from training.data.shard_writer import write_shards
from training.data.stored_clip import decode
from worldfm_ros.clips import Clip
from worldfm_ros.files import write_whole

__all__ = ["ShardedClips", "write_shards"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "worldfm_ros" / "shards"


class ShardedClips(Sequence[Clip]):
    """The clips of one or more folders of shards, local or at a URL that webdataset opens (http, s3, gs, ...).

    films: whether the 16 frames of each clip follow each other; else some are views of several scenes.
    A remote shard is copied to `cache` when one of its clips is first asked for. Raises ValueError for a folder that is
    not finished, and for a shard that is missing or not as its index says; its bytes are compared with their checksum
    when a process first reads one of its clips.
    """

    def __init__(self, folders: str | Path | Sequence[str | Path], cache: str | Path = CACHE) -> None:
        folders = [folders] if isinstance(folders, (str, Path)) else folders
        opened = [_open(folder, Path(cache)) for folder in folders]
        self._shards = [shard for _, shards in opened for shard in shards]
        self.films = all(not index.source.get(VIEWS) for index, _ in opened)
        self._ends = list(accumulate(len(shard.facts.spans) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Clip:
        number = range(len(self))[number]
        place = bisect_right(self._ends, number)
        shard = self._shards[place]
        return shard.read(number - self._ends[place] + len(shard.facts.spans))

    @property
    def fingerprint(self) -> str:
        """Tells these clips from others: a sha256 (hexadecimal) over the checksums of the shards, in order."""
        return hashlib.sha256("\n".join(shard.facts.sha256 for shard in self._shards).encode()).hexdigest()

    def verify(self, track=iter) -> None:
        """Read every shard whole. Raises ValueError for one whose bytes are not those that were written."""
        for shard in track(self._shards):
            shard.find()


@dataclass(frozen=True)
class LocalShard:
    path: Path
    facts: Shard

    def find(self) -> Path:
        """The file. Raises ValueError unless it has the bytes that were written."""
        if not is_whole(self.path, self.facts):
            raise ValueError(f"{self.path} is damaged: its bytes are not those that were written; "
                             "build or copy it again")
        return self.path

    @cached_property
    def _found(self) -> Path:
        return self.find()

    def read(self, clip: int) -> Clip:
        """The clip at a position in the shard."""
        start, stop = self.facts.spans[clip]
        with self._found.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        where = f"{self.path} clip {clip}"
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
                files = {member.name.split(".", 1)[1]: tar.extractfile(member).read() for member in tar}
        except (tarfile.TarError, IndexError) as error:
            raise ValueError(f"{where} cannot be read ({error}); its index is wrong, build both again") from error
        return decode(files, where)


@dataclass(frozen=True)
class RemoteShard(LocalShard):
    """`path` is where its copy is kept."""

    url: str

    def find(self) -> Path:
        """The copy, made when it is not there yet or damaged; several processes may do so at once."""
        if not is_whole(self.path, self.facts):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, _download(self.url))
            if not is_whole(self.path, self.facts):
                self.path.unlink(missing_ok=True)
                raise ValueError(f"{self.url} is damaged: its bytes are not those that were written; copy it again")
        return self.path


def _open(folder: str | Path, cache: Path) -> tuple[Index, list[LocalShard]]:
    if "://" in str(folder):
        url = str(folder).rstrip("/")
        index = Index.from_json(_download(f"{url}/{INDEX}"), f"{url}/{INDEX}")
        return index, [RemoteShard(cache / facts.sha256[:16] / facts.name, facts, f"{url}/{facts.name}")
                       for facts in index.shards]
    index = read_index(folder)
    shards = [LocalShard(Path(folder) / facts.name, facts) for facts in index.shards]
    for shard in shards:
        size = shard.path.stat().st_size if shard.path.exists() else 0
        if size != shard.facts.bytes:
            raise ValueError(f"{shard.path} is cut short or missing: {size} bytes, {INDEX} says {shard.facts.bytes}; "
                             "build or copy it again")
    return index, shards


def _download(url: str) -> bytes:
    try:
        with gopen(url, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise ValueError(f"{url} cannot be read: {error}") from error
