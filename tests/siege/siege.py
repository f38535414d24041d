#!/usr/bin/env python3
"""Runs hostile clients against the `nntp` example, and checks that good clients are not affected.

    cargo build --release --example nntp
    python3 tests/siege/siege.py target/release/examples/nntp
    python3 tests/siege/siege.py target/release/examples/nntp --seconds 5

The script starts the server on a free port with short deadlines. Good and
hostile clients connect from several addresses of 127.0.0.0/8, which needs Linux. Good
clients (`good.py`) know every reply in advance. Hostile ones (`hostile.py`) report
how they were ended. A table shows all of them. At the end the server gets SIGINT while
hostile clients are connected.

Exit status 1: a good client got a wrong, missing or late reply, a hostile one
was not ended as expected, or the server died, grew, leaked descriptors, or did not
end in time.
"""

import argparse
import contextlib
import multiprocessing
import socket
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import crowd
import good
import hostile
from server import Server

PER_ADDRESS = 40
GRACE = 3
# The clients that post for ever can store five articles. The room that is left is not enough for a
# sixth one, but enough for all posts of the good clients.
SPOOL = 6 * hostile.BIG - 65_536
OPTIONS = [
    *("--demo", str(good.ARTICLES), "--max-per-address", str(PER_ADDRESS)),
    *("--idle", "4", "--command-time", "2", "--article-time", "3"),
    *("--drain-time", "4", "--grace", str(GRACE)),
    *("--max-spool", str(SPOOL)),
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the nntp example, built")
    parser.add_argument("--seconds", type=float, default=30, help="how long (default 30)")
    parser.add_argument(
        "--growth", type=int, default=64, metavar="MIB", help="memory it may grow by (default 64)"
    )
    arguments = parser.parse_args()
    with Server(arguments.program, *OPTIONS) as server:
        faults = besiege(server, arguments.seconds, arguments.growth)
        if faults:
            print(*faults[:20], sep="\n", file=sys.stderr)
            print("the server's last lines:", *server.logged().splitlines()[-5:], sep="\n  ")
            sys.exit(1)
    print("the siege is over: all checks passed")


def besiege(server, seconds, growth):
    resident, _ = server.resident()
    descriptors = server.descriptors()
    # The patient clients run in a process of their own. Otherwise they would measure the work of
    # the others.
    crowds = [good.KINDS[:1], good.KINDS[1:], hostile.KINDS[:6], hostile.KINDS[6:]]
    tallies, most = {}, 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(crowds), context) as pool:
        began, used = time.monotonic(), server.processor_seconds()
        futures = [pool.submit(crowd.run, kinds, server.port, seconds) for kinds in crowds]
        while not all(future.done() for future in futures) and server.alive():
            most = max(most, server.descriptors())
            time.sleep(0.05)
        for future in futures:
            tallies |= future.result()
    if not server.alive():
        return [f"the server died: {server.process.returncode}"]
    elapsed = time.monotonic() - began
    used = server.processor_seconds() - used
    _, peak = server.resident()
    left = wait_for_descriptors(server, descriptors)
    took, status = interrupt_with_clients(server)

    for kinds in (good.KINDS, hostile.KINDS):
        report(kinds, tallies)
    mib = 1 << 20
    print(f"\nserver: {peak / mib:.1f} MiB at most, {resident / mib:.1f} at the start;", end=" ")
    print(f"{100 * used / elapsed:.0f} % of a processor;", end=" ")
    print(f"descriptors: {most} at most, {left} at the end, {descriptors} at the start;", end=" ")
    print(f"ended {took:.1f} s after Ctrl-C, exit status {status}")

    faults = [fault for kind in good.KINDS for fault in tallies[kind.name].faults]
    faults += [f"{kind.name}: never served" for kind in good.KINDS if not tallies[kind.name].requests]
    for kind in good.KINDS + hostile.KINDS:
        wrong = set(tallies[kind.name].ended) - {*kind.ends, crowd.OVER, crowd.FAULT}
        faults += [f"{kind.name}: ended with {how!r}" for how in sorted(wrong)]
    if peak - resident > growth * mib:
        faults.append(f"it grew by {(peak - resident) / mib:.0f} MiB")
    if left > descriptors:
        faults.append(f"{left - descriptors} descriptors were leaked")
    if status != 0 or took > GRACE + 2:
        faults.append(f"it ended {took:.1f} s after Ctrl-C, with status {status}")
    return faults


def wait_for_descriptors(server, descriptors):
    """Waits until the descriptors of all clients are closed. Returns how many are open."""
    until = time.monotonic() + 10
    while server.descriptors() > descriptors and time.monotonic() < until:
        time.sleep(0.05)
    return server.descriptors()


def interrupt_with_clients(server):
    """Sends SIGINT while clients are connected that do not close."""
    with contextlib.ExitStack() as stack:
        for n in range(30):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.recv(100)
            client.sendall([b"DAT", b"POST\r\n", b"GROUP misc.test\r\n" + b"OVER 1-\r\n" * 100][n % 3])
        began = time.monotonic()
        status = server.interrupt()
        return time.monotonic() - began, status


def report(kinds, tallies):
    print(f"\n{'':14} {'connections':>11} {'requests':>9} {'p50':>9} {'p99':>9}  ended")
    for kind in kinds:
        tally = tallies[kind.name]
        ended = ", ".join(f"{count} {how}" for how, count in tally.ended.most_common())
        print(
            f"{kind.name:14} {tally.connections:>11,} {tally.requests:>9,}"
            f" {quantile(tally, 0.5):>9} {quantile(tally, 0.99):>9}  {ended}"
        )


def quantile(tally, q):
    latencies = sorted(tally.latencies)
    return f"{1000 * latencies[int(q * len(latencies))]:.2f} ms" if latencies else ""


if __name__ == "__main__":
    main()
