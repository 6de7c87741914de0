"""What ``reviewpulse bench detector`` answers. Apart, so that ``--help`` need not load numpy."""

from enum import StrEnum


class Part(StrEnum):
    """One question."""

    RUN_LENGTH = "run-length"
    DELAY = "delay"
    PEERS = "peers"
    LIFECYCLE = "lifecycle"
