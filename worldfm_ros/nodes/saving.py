"""A map that grows, on the disk: every so often and at the end."""

from __future__ import annotations


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

    def save(self) -> None:
        """Save what is new. A full disk leaves the world that was saved before, and is told."""
        settings, revision = self._session.settings, self._revision
        if not settings.grow or not settings.save_folder or revision == self._saved:
            return
        try:
            folder = self._session.save()
        except (OSError, ValueError) as error:
            self._logger.error(f"the grown world is not saved: {error}")
            return
        self._saved = revision
        world = self._session.generator.world
        self._logger.info(f"saved {folder}: {len(world.anchors)} anchors, {len(world.keyframes)} keyframes")

    close = save
