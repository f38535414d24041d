#!/usr/bin/env python3
"""Measures the example `files` beside other servers of files, over HTTP/1.1 and FTP.

    cargo build --release --package examples --example files
    cargo build --release --package files_peers
    python3 benches/files/compare.py target/release/examples/files        # five rounds, about fifteen minutes
    python3 benches/files/compare.py target/release/examples/files --rounds 1 --only 1K

Prints the CPU time of a request (user and system time of the server and its processes, from /proc) and the rate, each as
the median of the rounds, and the median of the ratios of `files` to the other server within a round. Within a round all
servers do the same work, one right after the other, in random order. A server has the first processor, and its client
the second one. A request of a large file counts by its bytes, so that a download which the end of a round cuts counts in
part. Servers that are missing are left out, and reported. Needs Linux, and Debian's wrk. The servers listen on
loopback, and are ended.

The others: nginx with one worker, without sendfile and with it; hyper with tower-http, and tiny_http, which the package
files_peers builds; vsftpd, for which this needs root, because it always calls chroot(2). All write an access log to a
file, in blocks where they can, as `files` does.
"""

import argparse
import ftplib
import functools
import os
import pathlib
import random
import re
import statistics
import subprocess
import tempfile
import time

import servers

SIZES = {"1K": 1_000, "100K": 100_000, "100M": 100_000_000}
# The size of the file, the clients at a time, and how each of them asks.
HTTP = [
    ("1K", 16, "keep-alive"),
    ("1K", 16, "close"),
    ("1K", 16, "pipeline"),
    ("100K", 16, "keep-alive"),
    ("100K", 16, "close"),
    ("100M", 4, "keep-alive"),
    ("100M", 4, "close"),
]
# The size of the file, and how often it is fetched in a session. Each transfer has a data connection of its own.
FTP = [("1K", 2_000), ("100K", 2_000), ("100M", 20)]
DEPTH = 16
# The bytes are exact. wrk counts those of heads, too.
WRK = """
local depth = {depth}
init = function(args)
    local request = wrk.format("GET")
    batch = request:rep(depth)
end
request = function() return batch end
done = function(summary)
    local e = summary.errors
    local failed = e.connect + e.write + e.status + e.timeout
    io.write(string.format("figures %d %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration, failed, e.read))
end
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, help="the program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="for each server and workload of HTTP")
    parser.add_argument("--only", default="", help="the workloads whose name has this, such as 'http 1K'")
    arguments = parser.parse_args()
    # That of the clients.
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder:
        site = servers.Site(pathlib.Path(folder), arguments.files, SIZES)
        http, ftp = site.http(), site.ftp()
        for size, clients, how in HTTP if servers.has("wrk") else ():
            workload = functools.partial(get, site, size, clients, how, arguments.seconds)
            measure(arguments, f"http {size} {how}", http, workload)
        for size, count in FTP:
            measure(arguments, f"ftp {size}", ftp, functools.partial(retrieve, size, count))


def measure(arguments, name, peers, workload):
    """Each round asks every server, and each server is started anew."""
    if arguments.only not in name:
        return
    rounds = [one_round(peers, workload) for _ in range(arguments.rounds)]
    print(f"\n{name:<24}{'us of CPU':>12}{'ratio':>8}{'requests/s':>13}")
    for peer in peers:
        cost = statistics.median(figures[peer][0] for figures in rounds)
        ratio = statistics.median(figures["files"][0] / figures[peer][0] for figures in rounds)
        rate = statistics.median(figures[peer][1] for figures in rounds)
        print(f"  {peer:<22}{cost:>12,.1f}{ratio:>8.2f}{rate:>13,.1f}", flush=True)


def one_round(peers, workload):
    """Each server's CPU time of a request in us, and its requests a second."""
    figures = {}
    for name, start in random.sample(list(peers.items()), len(peers)):
        with start() as server:
            figures[name] = workload(server)
    return figures


# ---- HTTP


def get(site, size, clients, how, seconds, server):
    script = site.folder / "wrk.lua"
    script.write_text(WRK.format(depth=DEPTH if how == "pipeline" else 1))
    options = ["-H", "Connection: close"] if how == "close" else []

    def wrk(seconds):
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", script, *options]
        done = run([*command, f"http://127.0.0.1:{server.port}/{size}"])
        requests, received, micros, failed, cut = map(int, re.search(r"figures(.*)", done)[1].split())
        # tiny_http closes without a field that says so, which wrk counts as a failed read after the response.
        assert failed == 0 and (cut == 0 or how == "close"), done
        if SIZES[size] > 1e6:
            requests = received / SIZES[size]
        return requests, micros

    wrk(1)
    before = server.cpu_seconds()
    requests, micros = wrk(seconds)
    return (server.cpu_seconds() - before) / requests * 1e6, requests / micros * 1e6


# ---- FTP


def retrieve(size, count, server):
    """One session fetches the file again and again. Its CPU time is read before the session ends, because a server may not
    wait for its processes."""
    with ftplib.FTP() as client:
        client.connect("127.0.0.1", server.port, servers.DEADLINE)
        client.login()
        client.voidcmd("TYPE I")
        fetch(client, size)
        before, begin = server.cpu_seconds(), time.monotonic()
        for _ in range(count):
            fetch(client, size)
        seconds = time.monotonic() - begin
        return (server.cpu_seconds() - before) / count * 1e6, count / seconds


def fetch(client, size, buffer=bytearray(1 << 18)):
    received = 0
    with client.transfercmd(f"RETR {size}") as data:
        while count := data.recv_into(buffer):
            received += count
    client.voidresp()
    assert received == SIZES[size], received


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, (command, done)
    return done.stdout


if __name__ == "__main__":
    main()
