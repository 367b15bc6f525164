"""Options that name a bag's topics, of every command that reads posed frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from worldfm_ros.sources.bag import Topics


@dataclass(frozen=True)
class TopicOptions(Topics):
    """A bag's topics; those that are not named are found by name and type."""

    color: Annotated[str | None, tyro.conf.arg(name="color-topic", help="of a bag; by default found by type")] = None
    depth: Annotated[str | None, tyro.conf.arg(name="depth-topic", help="of a bag, registered to the colour")] = None
    camera_info: Annotated[str | None, tyro.conf.arg(name="camera-info-topic", help="of a bag's colour camera")] = None
    tf: Annotated[str | None, tyro.conf.arg(name="tf-topic", help="of a bag; of several robots one")] = None
