#!/usr/bin/env python3
"""Counts the instructions of the crate for each unit of work with callgrind, and compares them with
those in counts.json.

    python3 benches/instructions/check.py            # fails above 1.05 times the stored counts, or above a goal
    python3 benches/instructions/check.py --write    # stores the counts

Counts depend on the compiler, and on the code that memchr and the C library select for the processor.
The model of the processor does not matter: valgrind shows the program the same one on each machine
that has AVX2. A Xeon and an EPYC count the same. counts.json names what matters. Where something
else is installed, the limit is 1.15, and a goal may be exceeded by 2 %. Needs Linux and valgrind.
"""

import argparse
import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
COUNTS = HERE / "counts.json"

# Workload, its unit, and the number of units in a run.
WORKLOADS = {
    "ping-pong": ("request", 1000),
    "timed": ("request", 1000),
    "pipelined": ("line", 20_000),
    "article": ("reply", 500),
    "one-push": ("reply", 500),
    "broadcast": ("delivery", 5000),
    "gathered": ("delivery of 16 lines", 5000),
    "churn": ("connection", 200),
    "quit": ("connection", 200),
    "ended": ("connection", 200),
    "block": ("block", 500),
    "bulk": ("MiB", 50),
    "long": ("line of 16 KiB", 500),
    "cut": ("line of 64 KiB", 50),
    "cut-mib": ("line of 1 MiB", 10),
    "pipe": ("block of 64 KiB", 500),
    "hand-over": ("connection", 200),
    "on-worker": ("connection", 200),
    "shared": ("delivery", 5000),
}
# What is counted: the turns of the loop that the program runs itself, or those of all loops. Workers run theirs
# on threads of the crate. Their counts differ by less than 0.1 % between two runs, because the peer waits for them.
OWN_LOOP = "instructions::turn*"
ALL_LOOPS = "*Runtime>::turn"
ON_ALL_LOOPS = {"on-worker", "shared"}
# The goals of docs/performance.md.
GOALS = {"ping-pong": 1500, "pipelined": 105}
LIMIT = 1.05
# For another compiler, C library, valgrind or kind of processor than that of the stored counts. With Rust 1.88
# an article takes 5 % more, and a request 1.4 % more than its goal. With a C library that may not use AVX2 an
# article in one push takes 11 % more.
OTHER_LIMIT = 1.15
OTHER_GOAL_LIMIT = 1.02


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write counts.json")
    arguments = parser.parse_args()
    program = build()
    counts = {name: per_unit(program, name) for name in WORKLOADS}
    here = {
        "compiler": output("rustc", "--version").strip(),
        "C library": "-".join(platform.libc_ver()),
        "valgrind": output("valgrind", "--version").strip(),
        "processor": processor(),
    }
    if arguments.write:
        COUNTS.write_text(json.dumps({**here, "instructions": counts}, indent=4) + "\n")
    known = json.loads(COUNTS.read_text())
    if not known["processor"].startswith(platform.machine()):
        print(f"skipped: the stored counts are for {known['processor']}, this is {here['processor']}")
        return
    differences = [f"{key} {known[key]}, here {here[key]}" for key in here if known[key] != here[key]]
    limit, goal_limit = LIMIT, 1
    if differences:
        limit, goal_limit = OTHER_LIMIT, OTHER_GOAL_LIMIT
        print(f"the stored counts are for {'; '.join(differences)}")
        print(f"the limit here is {limit} times a count, and {goal_limit} times a goal")
    print(f"{'':<12}{'instructions':>14}{'stored':>12}{'ratio':>8}")
    failed = []
    for name, count in counts.items():
        expected = known["instructions"].get(name)
        if expected is None:
            sys.exit(f"{name}: no count is stored; see --write")
        ratio = count / expected
        print(f"{name:<12}{count:>14,.1f}{expected:>12,.1f}{ratio:>8.3f}")
        if ratio > limit:
            failed.append(f"{name}: more than {limit} times the stored count")
        goal = GOALS.get(name, count)
        if count > goal * goal_limit:
            failed.append(f"{name}: {count:.1f} instructions, the goal is {goal}")
    if failed:
        sys.exit("\n".join(failed))


def processor():
    """What valgrind shows to the program: it has AVX2 if this machine has."""
    flags = re.search(r"^flags\b.*", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    has_avx2 = flags and "avx2" in flags[0].split()
    return f"{platform.machine()}{' with AVX2' if has_avx2 else ''}"


def build():
    """Builds the benchmark. Returns the path of the program from cargo's messages."""
    messages = output(
        "cargo", "bench", "--quiet", "--bench", "instructions", "--no-run",
        "--message-format", "json",
    )  # fmt: skip
    for line in messages.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    sys.exit("cargo has not built the benchmark")


def per_unit(program, workload):
    """The difference between two runs, so that work done once in a run does not count."""
    count = WORKLOADS[workload][1]
    return (counted(program, workload, 2 * count) - counted(program, workload, count)) / count


def counted(program, workload, count):
    function = ALL_LOOPS if workload in ON_ALL_LOOPS else OWN_LOOP
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                "valgrind", "--tool=callgrind", f"--toggle-collect={function}",
                f"--callgrind-out-file={directory}/out", program, workload, str(count),
            ],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    collected = re.search(r"Collected : (\d+)", done.stderr)
    # Nothing is collected if the function has another name.
    if done.returncode or not collected or collected[1] == "0":
        sys.exit(f"{workload}: {done.stdout}{done.stderr}")
    return int(collected[1])


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    return done.stdout


if __name__ == "__main__":
    main()
