"""Risk: the four tiers of what a call can do to the machine."""

from enum import IntEnum


class Risk(IntEnum):
    """What a plan can do to the machine, in rising order; `TALK` runs nothing at all."""

    TALK = 0
    READ = 1
    CHANGE = 2
    DESTROY = 3

    def __str__(self) -> str:
        return self.name.lower()
