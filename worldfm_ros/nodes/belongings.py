"""What a node makes while it is in a state, so that all of it can be taken away again. The rest is the node's."""

from __future__ import annotations

from collections.abc import Callable


class Belongings:
    """Stands in for a node: whatever is created through it is destroyed together."""

    def __init__(self, node) -> None:
        self._node = node
        self._destroy: list[Callable[[], object]] = []

    def __getattr__(self, name: str):
        made = getattr(self._node, name)
        kind = name.removeprefix("create_")
        if kind == name or not hasattr(self._node, f"destroy_{kind}"):
            return made

        def create(*arguments, **options):
            entity = made(*arguments, **options)
            self._destroy.append(lambda: getattr(self._node, f"destroy_{kind}")(entity))
            return entity

        return create

    def destroy(self) -> None:
        """Take all away, the newest first."""
        while self._destroy:
            self._destroy.pop()()
