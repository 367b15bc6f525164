"""The map of a running camera and the disk: written every so often and at the end, and merged with what is there."""

from __future__ import annotations

from functools import partial
import os

from worldfm_ros.world.storage import read_world


def merge_folder(session, folder: str) -> None:
    """Merge a world folder into the map of a CameraSession. Takes its time, in a thread of its own; images go on.

    Raises ValueError or OSError, nothing changed.
    """
    from worldfm_ros.world.merge import merge_into  # compiled code takes seconds to load

    path, generator = os.path.abspath(os.path.expanduser(folder)), session.generator
    session.settings.check_folder("map_url", path)
    merge_into(generator.world, read_world(path), partial(session.change, generator))
    session.tell_world()


class Saving:
    """Writes a session's world to its `save_folder` (`CameraSession.save`) when it has grown since."""

    def __init__(self, node, session) -> None:
        self._session, self._logger = session, node.get_logger()
        self._saved = self._revision
        if session.settings.autosave:
            node.create_timer(session.settings.autosave, self.save)

    @property
    def _revision(self) -> int:
        return self._session.generator.world.anchors.revision

    def save(self) -> bool:
        """Save what is new; False if it cannot be. A full disk leaves the world that was saved before, and is told."""
        settings, revision = self._session.settings, self._revision
        if not settings.grows or not settings.save_folder or revision == self._saved:
            return True
        try:
            folder = self._session.save()
        except (OSError, ValueError) as error:
            self._logger.error(f"the grown world is not saved: {error}")
            return False
        self._saved = revision
        world = self._session.generator.world
        self._logger.info(f"saved {folder}: {len(world.anchors)} anchors, {len(world.keyframes)} keyframes")
        return True
