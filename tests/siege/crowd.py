"""Kinds of clients, how many of each, and how their connections ended."""

import asyncio
import dataclasses
import socket
import time
from collections import Counter

# A reply that takes longer counts as missing.
LATE = 5.0


@dataclasses.dataclass
class Kind:
    """`play(context)` is one connection, from connect to close. It returns how the connection ended."""

    name: str
    play: object
    clients: int
    source: str
    # How a connection may end before the siege is over.
    ends: tuple = ("goodbye",)
    # Seconds between two connections of one client, and the most connections that it makes.
    pause: float = 0.05
    most: int = 2000


@dataclasses.dataclass
class Tally:
    connections: int = 0
    requests: int = 0
    ended: Counter = dataclasses.field(default_factory=Counter)
    latencies: list = dataclasses.field(default_factory=list)
    # Failures that a good client must not see.
    faults: list = dataclasses.field(default_factory=list)


OVER, FAULT = "siege over", "fault"


class BadReply(Exception):
    """A reply that is wrong, missing or late."""


class Context:
    """The parameters of one connection: port, end of the siege, and counters."""

    def __init__(self, kind, port, until, tally):
        self.kind, self.port, self.until, self.tally = kind, port, until, tally

    @property
    def over(self):
        return time.monotonic() >= self.until

    def open_socket(self, buffer=None):
        """A socket to connect with, and with a receive buffer of this size."""
        opened = socket.socket()
        opened.setblocking(False)
        if buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.bind((self.kind.source, 0))
        return opened


def run(kinds, port, seconds):
    """Lets the clients connect repeatedly. Returns a tally for each kind, by name."""
    return asyncio.run(together(kinds, port, time.monotonic() + seconds))


async def together(kinds, port, until):
    tallies = {kind.name: Tally() for kind in kinds}
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            context = Context(kind, port, until, tallies[kind.name])
            for _ in range(kind.clients):
                group.create_task(connect_repeatedly(context))
    return tallies


async def connect_repeatedly(context):
    tally = context.tally
    for _ in range(context.kind.most):
        tally.connections += 1
        try:
            ended = await context.kind.play(context)
        except BadReply as fault:
            tally.faults.append(f"{context.kind.name}: {fault}")
            ended = FAULT
        except ConnectionError:
            ended = "reset"
        tally.ended[ended] += 1
        if context.over:
            break
        await asyncio.sleep(context.kind.pause)
