"""Clients of the `yardstick` example that know every byte of the replies in advance.

A client has a list of exchanges (a request and its exact reply) and keeps several of them in
flight. Received bytes are compared at once: they are a prefix of the expected replies at any
moment, or the client is `corrupt`.
"""

import errno
import select
import socket
import struct

from secured import Incomplete, Secured

ARTICLE = b"".join(bytes([ord("a") + line % 26]) * 70 + b"\r\n" for line in range(30)) + b".\r\n"


def line(text):
    return text + b"\r\n", b"200 " + text + b"\r\n"


def numbered(name, number, size=0):
    """A line that differs from every other line; its number is repeated in it."""
    mark = b"%s.%d " % (name.encode(), number)
    return line((mark * (size // len(mark) + 1))[: max(size, len(mark))])


def bulk(size):
    """A short request with a long reply: a buffer and a large chunk, sent with one gathered write."""
    return b"BULK %d\r\n" % size, b"211 %d\r\n%s\r\n" % (size, b"x" * size)


def article(number):
    return b"ARTICLE %d\r\n" % number, b"220 %d\r\n" % number + ARTICLE


class Client:
    """One connection to the server.

    `ending` says what it does after its last reply: `stay` open, `close`, or `reset` with
    a reply in flight. With `quit` and `half-close` (sent at once) it waits for the server to close.
    A `reluctant` client reads only when no client has anything else to do, so that the server
    meets full buffers. While it is `deaf` it does not read at all. With `tls`, a context of `ssl`, neither has an effect
    before the handshake is over.
    """

    def __init__(self, address, name, exchanges, window=4, ending="stay", reluctant=False, tls=None):
        self.name = name
        self.left = list(exchanges)
        self.window = window
        self.ending = ending
        self.reluctant = reluctant
        self.deaf = False
        if ending == "quit":
            self.left.append((b"QUIT\r\n", b"205 bye\r\n"))
        self.outgoing = b""
        self.expected = bytearray()
        self.ends = []  # where in `expected` each reply in flight ends
        self.received = 0
        self.finished = False
        self.lost = None  # why it ended early
        self.corrupt = None
        self.socket = socket.socket()
        if reluctant:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        # On the loopback interface the connection is up as soon as it is in the listener's backlog.
        self.socket.settimeout(10)
        self.socket.connect(address)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        if tls:
            self.socket = Secured(self.socket, tls)
        self.refill()

    def __str__(self):
        return f"{self.name} (port {self.port}, {self.received} of {len(self.expected)} bytes)"

    def ask(self, *exchanges):
        self.left.extend(exchanges)
        self.finished = False
        self.refill()

    def pending(self):
        return not self.finished and not self.lost

    def events(self):
        """The events to poll for."""
        if self.lost or self.socket.fileno() < 0:
            return 0
        reads, writes = not self.reluctant, self.outgoing
        if isinstance(self.socket, Secured):
            reads = reads or not self.socket.is_up
            writes = self.socket.unsent or (writes and self.socket.is_up)
        return (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)

    def refill(self):
        while self.left and len(self.ends) < self.window:
            request, reply = self.left.pop(0)
            self.outgoing += request
            self.expected += reply
            self.ends.append(len(self.expected))

    def send(self):
        try:
            sent = self.socket.send(self.outgoing)
        except BlockingIOError:
            return
        except OSError as error:
            # What arrived before the reset is still to be read, and the reset after it.
            self.outgoing = b""
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self.lose(str(error))
            return
        self.outgoing = self.outgoing[sent:]
        if self.ending == "half-close" and not self.outgoing and not self.left:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self.lose(str(error))

    def receive(self):
        """Reads once. Returns whether anything was received, including the end."""
        try:
            data = self.socket.recv(256 * 1024)
        except Incomplete:
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            self.lose(str(error))
            return True
        if not data:
            whole = not self.ends and not self.left
            if whole and self.ending in ("quit", "half-close"):
                self.finish()
            else:
                self.lose("end of file")
            return True
        expected = self.expected[self.received : self.received + len(data)]
        if data != expected:
            at = next((i for i, (a, b) in enumerate(zip(data, expected)) if a != b), len(expected))
            self.corrupt = f"wrong byte at {self.received + at}: {data[at : at + 24]!r}"
            self.lose(self.corrupt)
            return True
        self.received += len(data)
        while self.ends and self.ends[0] <= self.received:
            self.ends.pop(0)
        self.refill()
        if not self.ends and self.ending in ("stay", "close", "reset"):
            self.finish()
        return True

    def finish(self):
        self.finished = True
        if self.ending == "reset":
            self.socket.settimeout(10)
            self.socket.sendall(bulk(200_000)[0])
            self.reset()
        elif self.ending != "stay":
            self.close()

    def lose(self, why):
        self.lost = why
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def pump(clients, until, patience):
    """Runs all clients until `until()`. False if nothing was transferred for `patience` seconds."""
    quiet = 0.0
    while not until():
        poll = select.poll()
        by_fd = {}
        for client in clients:
            if client.events():
                by_fd[client.socket.fileno()] = client
                poll.register(client.socket, client.events())
        moved = False
        step = 0.005 if any(c.reluctant and c.pending() for c in clients) else 0.05
        for fd, events in poll.poll(step * 1000):
            client = by_fd[fd]
            if events & select.POLLOUT:
                client.send()
                moved = True
            if not client.lost and events & ~select.POLLOUT:
                moved |= client.receive()
        if not moved:
            for client in clients:
                willing = client.reluctant and not client.deaf
                while willing and client.pending() and client.receive():
                    moved = True
        quiet = 0.0 if moved else quiet + step
        if quiet >= patience:
            return False
    return True
