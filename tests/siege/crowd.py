"""A crowd: kinds of clients, how many of each, and what became of them."""

import asyncio
import dataclasses
import socket
import time
from collections import Counter

# A reply that takes longer is one that is missing.
LATE = 5.0


@dataclasses.dataclass
class Kind:
    """`play(visit)` is one connection, from connect to close, and tells how it ended."""

    name: str
    play: object
    clients: int
    source: str
    # How a connection may end, before the siege is over.
    ends: tuple = ("goodbye",)
    # Seconds between two connections of one client, and the most it makes.
    pause: float = 0.05
    most: int = 2000


@dataclasses.dataclass
class Tally:
    connections: int = 0
    requests: int = 0
    ended: Counter = dataclasses.field(default_factory=Counter)
    latencies: list = dataclasses.field(default_factory=list)
    # What a good client must not see.
    faults: list = dataclasses.field(default_factory=list)


OVER, FAULT = "siege over", "fault"


class Wrong(Exception):
    """A reply that is not the right one, is missing, or came late."""


class Visit:
    """What one connection is given: where to go, for how long, and where to count."""

    def __init__(self, kind, port, until, tally):
        self.kind, self.port, self.until, self.tally = kind, port, until, tally

    @property
    def over(self):
        return time.monotonic() >= self.until

    def open_socket(self, buffer=None):
        """One to connect with, and with this room for what comes."""
        opened = socket.socket()
        opened.setblocking(False)
        if buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.bind((self.kind.source, 0))
        return opened


def run(kinds, port, seconds):
    """Lets the clients come again and again; a tally for each kind, by name."""
    return asyncio.run(together(kinds, port, time.monotonic() + seconds))


async def together(kinds, port, until):
    tallies = {kind.name: Tally() for kind in kinds}
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            visit = Visit(kind, port, until, tallies[kind.name])
            for _ in range(kind.clients):
                group.create_task(come_again(visit))
    return tallies


async def come_again(visit):
    tally = visit.tally
    for _ in range(visit.kind.most):
        tally.connections += 1
        try:
            ended = await visit.kind.play(visit)
        except Wrong as fault:
            tally.faults.append(f"{visit.kind.name}: {fault}")
            ended = FAULT
        except ConnectionError:
            ended = "reset"
        tally.ended[ended] += 1
        if visit.over:
            break
        await asyncio.sleep(visit.kind.pause)
