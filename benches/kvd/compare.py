#!/usr/bin/env python3
"""Measures the example `kvd` beside redis-server, with redis-benchmark.

    cargo build --release --package examples --example kvd
    python3 benches/kvd/compare.py target/release/examples/kvd              # five rounds, about eight minutes
    python3 benches/kvd/compare.py target/release/examples/kvd --rounds 1
    python3 benches/kvd/compare.py target/release/examples/kvd --collections    # only the memory of small collections

Prints the table of docs/performance.md: the CPU time of a request (user and system time of the server, from /proc), as
the median of the rounds; the median of the ratios of kvd to Redis within a round, and that of the rates; then the memory
of a million small keys. Within a round both servers do the same work, one right after the other. Both keep their data
in memory only, and neither writes to the disk. Needs Linux and Debian's redis-tools and redis-server, or Redis's own build of both. The servers
listen on loopback, and are ended.
"""

import argparse
import contextlib
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests"))
from redis_server import DEADLINE, redis  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
COMMANDS = "get", "set", "incr", "lpush", "mset"
# How many commands are in flight on each connection, and how many are sent in all.
DEPTHS = {1: 200_000, 16: 1_000_000, 64: 2_000_000}
CLIENTS = 50
KEYS = 1_000_000
COLLECTIONS = 50_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kvd", help="the program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--collections", action="store_true", help="measure the memory of small collections instead")
    parser.add_argument("--workers", type=int, default=1, help="those of kvd")
    arguments = parser.parse_args()
    servers = {"kvd": lambda: kvd(arguments.kvd, arguments.workers), "redis": redis}
    if arguments.collections:
        collections(servers)
        return
    print("| command | in flight | kvd | Redis | ratio | ratio of the rates |")
    print("|---|--:|--:|--:|--:|--:|")
    for depth, count in DEPTHS.items():
        for command in COMMANDS:
            rounds = [one_round(servers, command, depth, count) for _ in range(arguments.rounds)]
            print(f"| {command.upper()} | {depth} | {row(rounds)} |", flush=True)
    print(f"\nMemory of {KEYS:,} keys, in MB (median):")
    memory = {name: [] for name in servers}
    for _ in range(arguments.rounds):
        for name, server in shuffled(servers):
            memory[name].append(memory_of_keys(server))
    for name, sizes in memory.items():
        print(f"{name:<8}{statistics.median(sizes) / 1e6:>8.1f}")


def row(rounds):
    times = [statistics.median(figures[name][0] for figures in rounds) for name in ("kvd", "redis")]
    ratios = [statistics.median(it["kvd"][part] / it["redis"][part] for it in rounds) for part in (0, 1)]
    return " | ".join([*(f"{time:.2f} µs" for time in times), *(f"{ratio:.2f}" for ratio in ratios)])


def one_round(servers, command, depth, count):
    """Each server's CPU time of a request in us, and its requests a second."""
    figures = {}
    for name, server in shuffled(servers):
        with server() as (port, process):
            run_benchmark(port, command, depth, count // 10)
            before = cpu_seconds(process.pid)
            rate = run_benchmark(port, command, depth, count)
            figures[name] = (cpu_seconds(process.pid) - before) / count * 1e6, rate
    return figures


def shuffled(servers):
    return random.sample(list(servers.items()), len(servers))


def run_benchmark(port, command, depth, count):
    options = ["-q", "-p", str(port), "-c", str(CLIENTS), "-P", str(depth), "-n", str(count), "-r", "100000"]
    done = subprocess.run(
        ["redis-benchmark", *options, "-t", command], capture_output=True, text=True, timeout=600, check=True
    )
    # The progress is on the same line, behind carriage returns.
    rates = re.findall(r": ([0-9.]+) requests per second", done.stdout)
    return float(rates[-1])


def collections(servers):
    commands = {
        "hash": ("HSET", lambda n: f"field{n} value{n}"),
        "list": ("RPUSH", lambda n: f"element{n}"),
        "set": ("SADD", lambda n: f"member{n}"),
        "set of numbers": ("SADD", str),
        "sorted set": ("ZADD", lambda n: f"{n} member{n}"),
    }
    print("| collection | elements | kvd | Redis | ratio |")
    print("|---|--:|--:|--:|--:|")
    for kind, (command, element) in commands.items():
        for number in 1, 5, 50:
            elements = " ".join(element(n) for n in range(number))
            lines = [f"{command} key:{n:09} {elements}\r\n" for n in range(COLLECTIONS)]
            own, other = (memory_of(server, lines) / COLLECTIONS for server in servers.values())
            print(f"| {kind} | {number} | {own:.0f} | {other:.0f} | {own / other:.1f} |", flush=True)


def memory_of_keys(server):
    return memory_of(server, (f"SET key:{n:09} value:{n:09}\r\n" for n in range(KEYS)))


def memory_of(server, commands):
    with server() as (port, process):
        before = resident(process.pid)
        load = subprocess.Popen(
            ["redis-cli", "-p", str(port), "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        load.stdin.writelines(commands)
        load.stdin.close()
        assert load.wait(timeout=DEADLINE) == 0
        return resident(process.pid) - before


@contextlib.contextmanager
def kvd(program, workers):
    # Its log would be among the rows of the table.
    command = [program, "--listen", "127.0.0.1:0", "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield int(line.rsplit(":", 1)[1]), process
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) * 1024


if __name__ == "__main__":
    main()
