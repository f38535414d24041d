#!/usr/bin/env python3
"""Measures how long a patient client of the `nntp` example waits beside hostile queries.

    cargo build --release --example nntp
    python3 tests/siege/neighbour.py target/release/examples/nntp
    python3 tests/siege/neighbour.py target/release/examples/nntp --articles 5000 --times 2000

It starts the server itself. For each query, hostile clients connect, pipeline the query
many times and read all replies, over and over. Meanwhile one client sends DATE, GROUP and
ARTICLE in turn and waits for each reply. A table has its waiting times; the first row is
without hostile clients. With `--most MILLISECONDS` the exit status is 1 when a p99 is above
that. The figures need an otherwise idle machine.
"""

import argparse
import multiprocessing
import socket
import sys
import tempfile
import threading
import time

from server import DEADLINE, Server

NEVER = "20990101 000000 GMT"
# Every pattern is tried on each group's name, and backtracks in it.
WILDMAT = ",".join(["*t*e*x"] * 65)
ARTICLE = "From: a <a@b.invalid>\r\nNewsgroups: misc.test\r\nSubject: s\r\n\r\ntext\r\n.\r\n"
HEAD = "".join(f"X-{n}: {'x' * 60}\r\n" for n in range(400))
QUERIES = {
    "NEWNEWS, future": f"NEWNEWS * {NEVER}",
    "NEWNEWS, all": "NEWNEWS * 19990101 000000 GMT",
    "NEWNEWS, wildmat": f"NEWNEWS {WILDMAT} {NEVER}",
    "HDR X-None 1-": "HDR X-None 1-",
    "HDR Subject 1-": "HDR Subject 1-",
    "OVER 1-": "OVER 1-",
    "OVER, last": "OVER 99999999-\r\nOVER 1",
    "LISTGROUP": "LISTGROUP misc.test",
    "LISTGROUP, none": "LISTGROUP misc.test 99999999-",
    "LIST ACTIVE": "LIST",
    "LIST, wildmat": f"LIST ACTIVE {WILDMAT}",
    "LIST OVERVIEW.FMT": "LIST OVERVIEW.FMT",
    "GROUP": "GROUP misc.test",
    "STAT, NEXT, LAST": "STAT\r\nNEXT\r\nLAST",
    "ARTICLE 1": "ARTICLE 1",
    "ARTICLE <id>": "ARTICLE <1@demo.invalid>",
    "HELP": "HELP",
    "XPAT": "XPAT Subject 1- *a*",
    "POST, short": f"POST\r\n{ARTICLE}".removesuffix("\r\n"),
    "POST, long head": f"POST\r\n{HEAD}{ARTICLE}".removesuffix("\r\n"),
}


def hostile(port, query, times, until):
    """Pipelines the query, reads all replies, and connects again."""
    batch = ("GROUP misc.test\r\n" + f"{query}\r\n" * times + "QUIT\r\n").encode()
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port)) as client:
            sender = threading.Thread(target=send, args=(client, batch), daemon=True)
            sender.start()
            client.settimeout(max(0.1, until - time.monotonic()))
            try:
                while time.monotonic() < until and client.recv(1 << 20):
                    pass
            except (TimeoutError, ConnectionError):
                pass


def send(client, batch):
    try:
        client.sendall(batch)
    except OSError:
        # The time is over, or the server has closed because of bad commands.
        pass


def waiting_times(port, until):
    """The duration in seconds of each exchange of a client that waits for every reply."""
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = client.makefile("rb")
        file.readline()
        while time.monotonic() < until:
            for command in (b"DATE", b"GROUP misc.test", b"ARTICLE 7"):
                began = time.perf_counter()
                client.sendall(command + b"\r\n")
                line = file.readline()
                if line.startswith(b"220"):
                    while line != b".\r\n":
                        line = file.readline()
                times.append(time.perf_counter() - began)
    return sorted(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the nntp example, built for release")
    parser.add_argument("--articles", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=100, help="how often a query is pipelined")
    parser.add_argument("--clients", type=int, default=1, help="hostile clients at a time")
    parser.add_argument("--seconds", type=float, default=3, help="for each query")
    parser.add_argument("--only", default="", help="queries whose name contains this")
    parser.add_argument("--mbox", action="store_true", help="articles of a mailbox, from the disk")
    parser.add_argument("--most", type=float, metavar="MILLISECONDS")
    arguments = parser.parse_args()
    worst = 0.0
    print(f"{'':20} {'exchanges':>9} {'p50':>9} {'p99':>9} {'max':>9}")
    for name, query in {"(none)": None, **QUERIES}.items():
        if query is not None and arguments.only not in name:
            continue
        # Each query has a server of its own, because posts are stored.
        with tempfile.NamedTemporaryFile("w") as mailbox:
            source = ["--demo", str(arguments.articles)]
            if arguments.mbox:
                mailbox.writelines(map(message, range(1, arguments.articles + 1)))
                mailbox.flush()
                source = ["--mbox", f"misc.test={mailbox.name}"]
            options = [*source, "--max-bad-commands", "1000000"]
            with Server(arguments.program, *options, log="warn") as server:
                times = measure(server, query, arguments)
        p50, p99, most = (1000 * times[int(q * (len(times) - 1))] for q in (0.5, 0.99, 1))
        print(f"{name:20} {len(times):>9,} {p50:>6.2f} ms {p99:>6.2f} ms {most:>6.1f} ms", flush=True)
        worst = max(worst, p99)
    if arguments.most is not None and worst > arguments.most:
        sys.exit(f"a p99 of {worst:.1f} ms is above {arguments.most} ms")


def message(n):
    return (
        "From demo@example.invalid Sat Jan  3 01:05:34 1996\n"
        f"From: Demo <demo@example.invalid>\nSubject: Message {n}\n"
        "Date: Sat, 03 Jan 1996 01:05:34 +0000\nNewsgroups: misc.test\n"
        f"Message-ID: <{n}@demo.invalid>\n\n{'The quick brown fox.' * 3}\n\n"
    )


def measure(server, query, arguments):
    context = multiprocessing.get_context("fork")
    until = time.monotonic() + arguments.seconds
    crowd = []
    if query is not None:
        for _ in range(arguments.clients):
            work = (server.port, query, arguments.times, until)
            crowd.append(context.Process(target=hostile, args=work))
            crowd[-1].start()
    times = waiting_times(server.port, until)
    for process in crowd:
        process.join()
    return times


if __name__ == "__main__":
    main()
