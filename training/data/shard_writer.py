"""Writing clips as tar shards (webdataset's layout, stored_clip.py): whole or not at all, and resumable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
import hashlib
import io
from pathlib import Path
import tarfile

from training.data.shard_index import INDEX, UNFINISHED, Index, Shard, is_whole
from training.data.stored_clip import encode
from worldfm_ros.clips import Clip
from worldfm_ros.files import write_whole
from worldfm_ros.sources.checks import problem
from worldfm_ros.sources.sources import ClipSource

SHARD = "shard-"


def write_shards(clips: ClipSource, folder: str | Path, clips_per_shard: int = 32, source: dict | None = None,
                 track: Callable[[Iterable], Iterable] = iter, fault: Callable[[Clip], str | None] = problem) -> Index:
    """Write the good clips of a source; those with a fault are left out and counted. `track`: a progress bar.

    A build that was stopped goes on behind its last whole shard, if `source` (what tells one source from another,
    JSON-ready) is the same. Raises ValueError when it is not, when a shard that is there is damaged, for a folder of
    other things, and when no clip is good; OSError when the disk is full: whole shards are kept.
    """
    if clips_per_shard < 1:
        raise ValueError(f"a shard holds 1 clip or more, got clips_per_shard {clips_per_shard}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = _begun(folder, {**(source or {}), "clips": len(clips), "clips_per_shard": clips_per_shard})
    if (folder / INDEX).exists():
        (folder / UNFINISHED).unlink(missing_ok=True)
        return index
    skipped, waiting = Counter(index.skipped), []
    for number in track(range(index.shards[-1].read if index.shards else 0, len(clips))):
        reason, files = _encoded(clips, number, skipped, fault)
        if reason:
            skipped[reason] += 1
            continue
        waiting.append(files)
        if len(waiting) == clips_per_shard:
            index, waiting = _with_shard(index, waiting, number + 1, skipped, folder), []
    if waiting:
        index = _with_shard(index, waiting, len(clips), skipped, folder)
    if not index.clips:
        raise ValueError(f"none of the {len(clips)} clips is good: {dict(skipped)}")
    index = Index(index.source, index.shards, dict(skipped))
    _write(folder / INDEX, index.to_json().encode())
    (folder / UNFINISHED).unlink(missing_ok=True)
    return index


def _begun(folder: Path, source: dict) -> Index:
    """What is there already of a build from this source."""
    for name in (INDEX, UNFINISHED):
        if (folder / name).exists():
            index = Index.from_json((folder / name).read_bytes(), str(folder / name))
            if index.source != source:
                raise ValueError(f"{folder} holds clips of another build: {index.source}, not {source}; "
                                 "remove it or name another folder")
            for shard in index.shards:
                if not is_whole(folder / shard.name, shard):
                    raise ValueError(f"{folder / shard.name} is damaged or missing; remove {folder} and build again")
            return index
    others = [entry.name for entry in folder.iterdir() if not entry.name.startswith((SHARD, "."))]
    if others:
        raise ValueError(f"{folder} is no folder of shards, it holds {others[0]}; name a new folder")
    return Index(source)


def _encoded(clips: ClipSource, number: int, known: Iterable[str],
             fault: Callable[[Clip], str | None]) -> tuple[str | None, dict[str, bytes]]:
    """The reason to leave a clip out, or its files. All clips that cannot be read have one reason, with the first's
    message: each names another file."""
    try:
        clip = clips[number]
    except (ValueError, FileNotFoundError) as error:
        kind = "a file is missing" if isinstance(error, FileNotFoundError) else "a frame cannot be used"
        return next((reason for reason in known if reason.startswith(kind)), f"{kind}, first: {error}"), {}
    reason = fault(clip)
    return (reason, {}) if reason else (None, encode(clip))


def _with_shard(index: Index, samples: list[dict[str, bytes]], read: int, skipped: Counter, folder: Path) -> Index:
    """The index with one more shard, which is written."""
    data, spans = _tar(samples, index.clips)
    shard = Shard(f"{SHARD}{len(index.shards):06d}.tar", len(data), hashlib.sha256(data).hexdigest(), spans, read)
    index = Index(index.source, [*index.shards, shard], dict(skipped))
    _write(folder / shard.name, data)
    _write(folder / UNFINISHED, index.to_json().encode())
    return index


def _tar(samples: list[dict[str, bytes]], first: int) -> tuple[bytes, list[list[int]]]:
    """A tar archive of the samples, numbered from `first`, the same bytes for the same samples; and each one's span."""
    buffer, spans = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, files in enumerate(samples, start=first):
            start = tar.offset
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{number:08d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            spans.append([start, tar.offset])
    return buffer.getvalue(), spans


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} while writing {path.name}; whole shards are kept: make room and "
                                   "run the command again, it goes on there", str(path)) from error
