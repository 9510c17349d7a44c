"""What stands in the way of a format, and the nearest choice that does not."""

from typing import NamedTuple

from congling.core.errors import UserError


class Obstacle(NamedTuple):
    """Something a program cannot represent, and the nearest choice it can."""

    what: str
    nearest: str
    remedy: str = ""
    """What helps a model that is there already; empty: nothing does."""


class Unrepresentable(UserError):
    """A model that a format cannot hold exactly."""

    def __init__(self, obstacle: Obstacle) -> None:
        self.obstacle = obstacle
        super().__init__(obstacle.what, hint=obstacle.remedy or obstacle.nearest)
