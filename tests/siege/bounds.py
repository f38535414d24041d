#!/usr/bin/env python3
"""Reaches each limit and each deadline of the `nntp` example, one at a time.

    cargo build --release --example nntp
    python3 tests/siege/bounds.py target/release/examples/nntp

The script starts the server with short deadlines, and reads from its log why it
closed each connection. It needs Linux, because it connects from several addresses of 127.0.0.0/8.
The first difference ends the run with exit status 1.
"""

import argparse
import concurrent.futures
import select
import socket
import sys
import time

from server import DEADLINE, Server

LIMITS = ["--demo", "10", "--max-connections", "6", "--max-per-address", "4"]
# The article time is so much longer than the command time that even a slow machine does not confuse
# them.
TIMES = [
    *("--demo", "1000", "--idle", "3", "--command-time", "1"),
    *("--article-time", "8", "--drain-time", "2", "--grace", "2"),
]  # fmt: skip
TRICKLE = 0.1


def check(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}:\n  got    {got!r}\n  wanted {wanted!r}")


class Client:
    """A connection that sends bytes and reads lines."""

    def __init__(self, server, source="127.0.0.1", buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(DEADLINE)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", server.port))
        self.name = "{}:{}".format(*self.socket.getsockname())
        self.file = self.socket.makefile("rb")

    def greeted(self):
        check("the greeting", self.line()[:3], b"200")
        return self

    def line(self):
        return self.file.readline()

    def ask(self, command, wanted):
        self.socket.sendall(command + b"\r\n")
        check(command, self.line()[:3], wanted)

    def trickle(self, octets):
        """Sends one octet at a time. False if the server closes before all are sent."""
        for octet in octets:
            try:
                self.socket.sendall(bytes([octet]))
            except ConnectionError:
                return False
            if select.select([self.socket], [], [], TRICKLE)[0]:
                return False
        return True

    def ended(self):
        """Everything that arrives until the end."""
        try:
            return self.file.read()
        except ConnectionResetError:
            return b""

    def close(self):
        self.file.close()
        self.socket.close()


def connections(program):
    """One connection too many from one address, one too many in all, and slots that become free."""
    with Server(program, *LIMITS) as server:
        first = [Client(server).greeted() for _ in range(4)]
        refused(Client(server), "a fifth from one address")
        others = [Client(server, f"127.0.0.{n}").greeted() for n in (2, 3)]
        refused(Client(server, "127.0.0.4"), "a seventh in all")
        first[0].ask(b"DATE", b"111")
        others[0].close()
        # The slot is free as soon as the server has noticed the end, which no event tells the
        # client.
        while True:
            again = Client(server, "127.0.0.4")
            if again.line().startswith(b"200"):
                break
            again.close()
        refused(Client(server), "still a fifth from one address")
        for client in (*first, *others[1:], again):
            client.close()
        check("exit status", server.interrupt(), 0)


def refused(client, what):
    check(what, client.line(), b"400 too many connections, try again later\r\n")
    check(what, client.ended(), b"")
    client.close()


def times(program):
    """Each deadline: what the client sees, and what the server logs."""
    # The reason of a close is logged at the level debug only.
    server = Server(program, *TIMES, log="info,nntp=debug")
    with server, concurrent.futures.ThreadPoolExecutor() as pool:
        cases = [idle, slow_command, busy, slow_article, endless_article, never_reads, reads_slowly]
        cases = [pool.submit(case, Client(server, buffer=BUFFERS.get(case))) for case in cases]
        closed = dict(case.result() for case in concurrent.futures.as_completed(cases))
        # A connected client at Ctrl-C receives the last reply, and does not delay the end.
        waiting = Client(server).greeted()
        half = Client(server).greeted()
        half.socket.sendall(b"POST\r\n")
        half.line()
        check("exit status", server.interrupt(), 0)
        check("the end", (waiting.ended(), half.ended()), (b"400 the server shuts down\r\n", b""))
        log = server.logged().splitlines()
        for name, why in closed.items():
            closes = [line for line in log if f"peer={name}}}" in line and " closed why=" in line]
            check(f"closes of {name}", len(closes), 1)
            check("closed because", closes[0].partition(" closed why=")[2], why)


def idle(client):
    """RFC 3977, section 3.1: the server closes without a reply."""
    client.greeted()
    check("idle", client.ended(), b"")
    return client.name, "timed out: idle"


def slow_command(client):
    """A command that is never complete, from a client that is never idle."""
    client.greeted()
    check("a slow command", client.trickle(b"x" * 500), False)
    check("a slow command", client.ended(), b"")
    return client.name, "timed out: a record was not complete in time"


def busy(client):
    """The deadline applies to each command, not to their sum."""
    client.greeted()
    for _ in range(20):
        check("not cut off", client.trickle(b"DAT"), True)
        client.ask(b"E", b"111")
    client.ask(b"QUIT", b"205")
    return client.name, "closed by this side"


def article(client):
    return (
        "From: Tester <tester@client.invalid>\r\nNewsgroups: asynchat.test\r\nSubject: slow\r\n"
        f"Message-ID: <{client.name.replace(':', '.')}@client.invalid>\r\n\r\n"
    ).encode()


def slow_article(client):
    """An article may take longer than a command. The command after it may not."""
    client.greeted()
    client.ask(b"POST", b"340")
    client.socket.sendall(article(client))
    check("a slow article", client.trickle(b"x" * 25), True)
    client.ask(b"\r\n.", b"240")
    check("a slow command after it", client.trickle(b"x" * 500), False)
    return client.name, "timed out: a record was not complete in time"


def endless_article(client):
    client.greeted()
    client.ask(b"POST", b"340")
    client.socket.sendall(article(client))
    check("an endless article", client.trickle(b"x" * 10_000), False)
    return client.name, "timed out: a record was not complete in time"


def never_reads(client):
    """Requests more than the buffers of both ends hold, and reads nothing."""
    client.socket.setblocking(False)
    poll = select.poll()
    poll.register(client.socket, select.POLLOUT)
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        # poll reports an error or a hang-up even without interest in it.
        for _, events in poll.poll(1000):
            if events & (select.POLLERR | select.POLLHUP):
                return client.name, "timed out: the peer did not take its output in time"
            client.socket.send(b"GROUP misc.test\r\n" + b"OVER 1-\r\n" * 20)
    sys.exit("a client that never reads is not closed")


def reads_slowly(client):
    """Reads slowly, and receives everything."""
    client.greeted()
    client.socket.sendall(b"GROUP misc.test\r\n" + b"OVER 1-\r\n" * 40 + b"QUIT\r\n")
    came = b""
    while chunk := client.socket.recv(64 * 1024):
        came += chunk
        select.select([], [], [], TRICKLE / 2)
    check("overviews", came.count(b"\r\n.\r\n"), 40)
    check("the last reply", came[-13:], b"205 goodbye\r\n")
    return client.name, "closed by this side"


BUFFERS = {never_reads: 16 * 1024, reads_slowly: 64 * 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the nntp example, built")
    program = parser.parse_args().program
    connections(program)
    times(program)
    print("bounds: all limits and deadlines apply")


main()
