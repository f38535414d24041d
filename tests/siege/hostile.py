"""Those who do what no client should. How the server ends it is theirs to tell."""

import asyncio
import socket
import struct

from crowd import OVER, Kind

# Octets of an article of those who post for ever.
BIG = 512 * 1024
# How long they wait for their end: more than any deadline the server is given.
PATIENCE = 12


class Peer:
    """A connection without manners."""

    def __init__(self, visit, buffer=None):
        self.visit, self.said = visit, b""
        self.loop = asyncio.get_running_loop()
        self.socket = visit.open_socket(buffer)

    async def __aenter__(self):
        await self.loop.sock_connect(self.socket, ("127.0.0.1", self.visit.port))
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def send(self, data, requests=1):
        self.visit.tally.requests += requests
        await self.loop.sock_sendall(self.socket, data)

    def try_send(self, data):
        """As much as fits; False when the connection is gone."""
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
        """One reply, at most PATIENCE later; empty at the end."""
        line = b""
        while not line.endswith(b"\n"):
            octet = await asyncio.wait_for(self.loop.sock_recv(self.socket, 1), PATIENCE)
            if not octet:
                break
            line += octet
        return line

    async def end(self, each=None, pause=0.25):
        """Reads to the end, and sends `each` meanwhile; what the end was."""
        waited = 0
        while waited < PATIENCE and not self.visit.over:
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
            self.said = (self.said + chunk)[-200:]
        return OVER if self.visit.over else "not ended"

    def refusal(self, end):
        last = self.said.rstrip().rpartition(b"\n")[2]
        return last.decode(errors="replace") if last.startswith(b"400") else end


async def never_reader(visit):
    """Asks for megabytes and takes nothing."""
    async with Peer(visit, buffer=8192) as peer:
        await peer.send(b"GROUP misc.test\r\n")
        waited = 0
        while waited < PATIENCE and not visit.over:
            visit.tally.requests += 20
            if not peer.try_send(b"OVER 1-\r\n" * 20):
                return "reset"
            await asyncio.sleep(0.1)
            waited += 0.1
        return OVER if visit.over else "not ended"


async def silent(visit):
    async with Peer(visit) as peer:
        return await peer.end()


async def slow_command(visit):
    """Slowloris: an octet now and then, of a line that never ends."""
    async with Peer(visit) as peer:
        await peer.send(b"G")
        return await peer.end(each=b"x", pause=0.1)


async def slow_article(visit):
    async with Peer(visit) as peer:
        await peer.send(b"POST\r\nFrom: a\r\n")
        return await peer.end(each=b"x", pause=0.1)


async def huge_article(visit):
    """An article that never ends either, as fast as it is taken."""
    async with Peer(visit) as peer:
        await peer.send(b"POST\r\nFrom: a\r\n\r\n")
        return await peer.end(each=b"x" * 65_536, pause=0.01)


async def posts_for_ever(visit):
    """One big article after the other, as long as they are kept."""
    lines = b"x" * 998 + b"\r\n"
    head = b"From: a@client.invalid\r\nNewsgroups: asynchat.test\r\nSubject: more\r\n\r\n"
    async with Peer(visit) as peer:
        await peer.line()
        while True:
            await peer.send(b"POST\r\n")
            reply = await peer.line()
            if reply.startswith(b"340"):
                await peer.send(head + lines * (BIG // len(lines)) + b".\r\n", 0)
                reply = await peer.line()
            if not reply.startswith(b"240"):
                return said(reply)
            if visit.over:
                return OVER


async def endless_line(visit):
    async with Peer(visit) as peer:
        visit.tally.requests += 1
        return await peer.end(each=b"x" * 65_536, pause=0.01)


async def flooder(visit):
    """Nothing but good commands, by the thousand: the others have their turns too."""
    async with Peer(visit) as peer:
        await peer.line()
        for _ in range(20):
            await peer.send(b"DATE\r\n" * 2000, 2000)
            replies = 0
            while replies < 2000:
                replies += (await peer.loop.sock_recv(peer.socket, 1 << 16)).count(b"\n")
        return "left"


async def empty_lines(visit):
    async with Peer(visit) as peer:
        visit.tally.requests += 10_000
        peer.try_send(b"\r\n" * 10_000)
        return await peer.end()


async def bad_commands(visit):
    async with Peer(visit) as peer:
        await peer.send(b"\x1b[2J\xff NONSENSE\r\n" * 1000, 1000)
        return await peer.end()


async def http(visit):
    """What a browser sends that a page has made to: commands in the body."""
    async with Peer(visit) as peer:
        body = b"POST\r\nFrom: a\r\n" * 10
        await peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return await peer.end()


async def resetter(visit):
    """Comes, asks or does not, and is gone."""
    async with Peer(visit) as peer:
        if visit.tally.connections % 2:
            await peer.send(b"LIST\r\nGROUP misc.test\r\nOVER 1-\r\nDA")
        peer.reset()
        return "left"


async def leaver(visit):
    """Says half a command and closes, with replies on their way."""
    async with Peer(visit) as peer:
        await peer.send(b"GROUP misc.test\r\nARTICLE 1\r\nGRO")
        return "left"


async def urgent(visit):
    """Urgent octets end its commands: they come in their place, and are no reason to spin."""
    async with Peer(visit) as peer:
        await peer.line()
        for _ in range(20):
            await peer.send(b"DATE\r")
            peer.socket.send(b"\n", socket.MSG_OOB)
            reply = await peer.line()
            if not reply.startswith(b"111"):
                return f"DATE: {reply[:20]!r}"
        peer.socket.send(b"!", socket.MSG_OOB)
        return await peer.end()


async def too_many(visit):
    """All of one address's places and then some, at once."""
    peers = [Peer(visit) for _ in range(50)]
    try:
        for peer in peers:
            await peer.__aenter__()
        lines = await asyncio.gather(*(peer.line() for peer in peers))
    finally:
        for peer in peers:
            peer.socket.close()
    visit.tally.connections += len(peers) - 1
    for line in lines[1:]:
        visit.tally.ended[said(line)] += 1
    return said(lines[0])


def said(line):
    return "greeted, left" if line.startswith(b"200") else line.decode(errors="replace").strip()


GONE = ("closed", "reset")
TOO_BAD = ("400 too many bad commands",)
FULL = ("greeted, left", "400 too many connections, try again later")
NO_ROOM = ("441 no room for more posts",)
# By address, so that each kind has its own places.
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
