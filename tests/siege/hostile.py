"""Hostile clients. They report how the server ends their connections."""

import asyncio
import socket
import struct

from crowd import OVER, Kind

# The size of an article of a client that posts for ever.
BIG = 512 * 1024
# How long a client waits for its end: longer than every deadline of the server.
PATIENCE = 12


class Peer:
    """A connection of a hostile client."""

    def __init__(self, context, buffer=None):
        self.context, self.received = context, b""
        self.loop = asyncio.get_running_loop()
        self.socket = context.open_socket(buffer)

    async def __aenter__(self):
        await self.loop.sock_connect(self.socket, ("127.0.0.1", self.context.port))
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def send(self, data, requests=1):
        self.context.tally.requests += requests
        await self.loop.sock_sendall(self.socket, data)

    def try_send(self, data):
        """Sends as much as fits. False if the connection has ended."""
        try:
            self.socket.send(data)
        except BlockingIOError:
            pass
        except ConnectionError:
            return False
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def line(self):
        """One reply, within PATIENCE seconds; empty at the end."""
        line = b""
        while not line.endswith(b"\n"):
            octet = await asyncio.wait_for(self.loop.sock_recv(self.socket, 1), PATIENCE)
            if not octet:
                break
            line += octet
        return line

    async def end(self, each=None, pause=0.25):
        """Reads to the end, and sends `each` meanwhile. Returns how the connection ended."""
        waited = 0
        while waited < PATIENCE and not self.context.over:
            try:
                chunk = await asyncio.wait_for(self.loop.sock_recv(self.socket, 1 << 16), pause)
            except TimeoutError:
                waited += pause
                if each and not self.try_send(each):
                    return "reset"
                continue
            except ConnectionError:
                return self.refusal("reset")
            if not chunk:
                return self.refusal("closed")
            self.received = (self.received + chunk)[-200:]
        return OVER if self.context.over else "not ended"

    def refusal(self, end):
        last = self.received.rstrip().rpartition(b"\n")[2]
        return last.decode(errors="replace") if last.startswith(b"400") else end


async def never_reader(context):
    """Requests megabytes and reads nothing."""
    async with Peer(context, buffer=8192) as peer:
        await peer.send(b"GROUP misc.test\r\n")
        waited = 0
        while waited < PATIENCE and not context.over:
            context.tally.requests += 20
            if not peer.try_send(b"OVER 1-\r\n" * 20):
                return "reset"
            await asyncio.sleep(0.1)
            waited += 0.1
        return OVER if context.over else "not ended"


async def silent(context):
    async with Peer(context) as peer:
        return await peer.end()


async def slow_command(context):
    """Slowloris: an octet now and then, of an endless line."""
    async with Peer(context) as peer:
        await peer.send(b"G")
        return await peer.end(each=b"x", pause=0.1)


async def slow_article(context):
    async with Peer(context) as peer:
        await peer.send(b"POST\r\nFrom: a\r\n")
        return await peer.end(each=b"x", pause=0.1)


async def huge_article(context):
    """An endless article, sent as fast as the server reads."""
    async with Peer(context) as peer:
        await peer.send(b"POST\r\nFrom: a\r\n\r\n")
        return await peer.end(each=b"x" * 65_536, pause=0.01)


async def posts_for_ever(context):
    """Large articles one after another, until the server refuses one."""
    lines = b"x" * 998 + b"\r\n"
    head = b"From: a@client.invalid\r\nNewsgroups: asynchat.test\r\nSubject: more\r\n\r\n"
    async with Peer(context) as peer:
        await peer.line()
        while True:
            await peer.send(b"POST\r\n")
            reply = await peer.line()
            if reply.startswith(b"340"):
                await peer.send(head + lines * (BIG // len(lines)) + b".\r\n", 0)
                reply = await peer.line()
            if not reply.startswith(b"240"):
                return outcome(reply)
            if context.over:
                return OVER


async def endless_line(context):
    async with Peer(context) as peer:
        context.tally.requests += 1
        return await peer.end(each=b"x" * 65_536, pause=0.01)


async def flooder(context):
    """Thousands of valid commands. Other clients must be served meanwhile."""
    async with Peer(context) as peer:
        await peer.line()
        for _ in range(20):
            await peer.send(b"DATE\r\n" * 2000, 2000)
            replies = 0
            while replies < 2000:
                replies += (await peer.loop.sock_recv(peer.socket, 1 << 16)).count(b"\n")
        return "left"


async def empty_lines(context):
    async with Peer(context) as peer:
        context.tally.requests += 10_000
        peer.try_send(b"\r\n" * 10_000)
        return await peer.end()


async def bad_commands(context):
    async with Peer(context) as peer:
        await peer.send(b"\x1b[2J\xff NONSENSE\r\n" * 1000, 1000)
        return await peer.end()


async def http(context):
    """The request of a browser that a page has directed to the port, with commands in its body."""
    async with Peer(context) as peer:
        body = b"POST\r\nFrom: a\r\n" * 10
        await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return await peer.end()


async def resetter(context):
    """Connects, sends commands or not, and resets."""
    async with Peer(context) as peer:
        if context.tally.connections % 2:
            await peer.send(b"LIST\r\nGROUP misc.test\r\nOVER 1-\r\nDA")
        peer.reset()
        return "left"


async def leaver(context):
    """Sends half a command and closes, with replies in flight."""
    async with Peer(context) as peer:
        await peer.send(b"GROUP misc.test\r\nARTICLE 1\r\nGRO")
        return "left"


async def urgent(context):
    """Ends its commands with urgent octets. They arrive at their place, and the server must not spin."""
    async with Peer(context) as peer:
        await peer.line()
        for _ in range(20):
            await peer.send(b"DATE\r")
            peer.socket.send(b"\n", socket.MSG_OOB)
            reply = await peer.line()
            if not reply.startswith(b"111"):
                return f"DATE: {reply[:20]!r}"
        peer.socket.send(b"!", socket.MSG_OOB)
        return await peer.end()


async def too_many(context):
    """More connections at once than the quota of an address."""
    peers = [Peer(context) for _ in range(50)]
    try:
        for peer in peers:
            await peer.__aenter__()
        lines = await asyncio.gather(*(peer.line() for peer in peers))
    finally:
        for peer in peers:
            peer.socket.close()
    context.tally.connections += len(peers) - 1
    for line in lines[1:]:
        context.tally.ended[outcome(line)] += 1
    return outcome(lines[0])


def outcome(line):
    return "greeted, left" if line.startswith(b"200") else line.decode(errors="replace").strip()


GONE = ("closed", "reset")
TOO_BAD = ("400 too many bad commands",)
FULL = ("greeted, left", "400 too many connections, try again later")
NO_ROOM = ("441 no room for more posts",)
# Each kind has its own address, and thus its own quota.
KINDS = [
    Kind("never reads", never_reader, 6, "127.0.0.2", ("reset",)),
    Kind("silent", silent, 8, "127.0.0.3", ("closed",)),
    Kind("slow command", slow_command, 8, "127.0.0.3", GONE),
    Kind("slow article", slow_article, 4, "127.0.0.3", GONE),
    Kind("posts for ever", posts_for_ever, 6, "127.0.0.9", (*NO_ROOM, *GONE), pause=1),
    Kind("huge article", huge_article, 2, "127.0.0.4", GONE),
    Kind("endless line", endless_line, 3, "127.0.0.4", GONE),
    Kind("empty lines", empty_lines, 2, "127.0.0.4", TOO_BAD, pause=0.1),
    Kind("bad commands", bad_commands, 2, "127.0.0.5", TOO_BAD),
    Kind("HTTP request", http, 2, "127.0.0.5", ("400 this is a news server",)),
    Kind("resets", resetter, 3, "127.0.0.6", ("left",), pause=0.02),
    Kind("leaves", leaver, 3, "127.0.0.6", ("left",), pause=0.02),
    Kind("flood", flooder, 2, "127.0.0.7", ("left",)),
    Kind("out of band", urgent, 2, "127.0.0.7", GONE),
    Kind("too many", too_many, 1, "127.0.0.8", FULL, pause=0.5),
]
