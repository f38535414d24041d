#!/usr/bin/env python3
"""Counts the instructions of the crate for each unit of work with callgrind, and compares them with
those in counts.json.

    python3 benches/instructions/check.py            # fails above 1.05 times the stored counts, or above a goal
    python3 benches/instructions/check.py --write    # stores the counts

Counts depend on the compiler and on the processor, because memchr and the C library select code for
the processor. counts.json names both; with another compiler or processor the limit is 1.25. Needs
Linux and valgrind.
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
    "broadcast": ("delivery", 5000),
    "churn": ("connection", 200),
    "block": ("block", 500),
    "bulk": ("MiB", 50),
    "long": ("line of 16 KiB", 500),
    "cut": ("line of 64 KiB", 50),
    "pipe": ("block of 64 KiB", 500),
}
# The goals of docs/performance.md, which hold for the compiler and the processor of the stored counts.
GOALS = {"ping-pong": 1500, "pipelined": 105}
LIMIT = 1.05
# For another compiler or processor than that of the stored counts.
OTHER_LIMIT = 1.25


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write counts.json")
    arguments = parser.parse_args()
    program = build()
    counted = {name: per_unit(program, name) for name in WORKLOADS}
    here = {
        "compiler": output("rustc", "--version").strip(),
        "machine": platform.machine(),
        "processor": processor(),
    }
    if arguments.write:
        COUNTS.write_text(json.dumps({**here, "instructions": counted}, indent=4) + "\n")
    known = json.loads(COUNTS.read_text())
    if known["machine"] != here["machine"]:
        print(f"skipped: the stored counts are for {known['machine']}, this is {here['machine']}")
        return
    differences = [f"{key}: {known[key]}" for key in here if known[key] != here[key]]
    limit = OTHER_LIMIT if differences else LIMIT
    if differences:
        print(f"the stored counts are for {'; '.join(differences)}. The limit here is {limit}.")
    print(f"{'':<12}{'instructions':>14}{'stored':>10}{'ratio':>8}")
    failed = []
    for name, count in counted.items():
        expected = known["instructions"].get(name)
        if expected is None:
            sys.exit(f"{name}: no count is stored; see --write")
        ratio = count / expected
        print(f"{name:<12}{count:>14,.1f}{expected:>10,.1f}{ratio:>8.3f}")
        if ratio > limit or (not differences and count > GOALS.get(name, count)):
            failed.append(name)
    if failed:
        sys.exit(f"more than {limit} times the stored count, or more than the goal: {', '.join(failed)}")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


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
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--toggle-collect=instructions::turn*",
                f"--callgrind-out-file={directory}/out", program, workload, str(count),
            ],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not collected:
        sys.exit(f"{workload}: {done.stdout}{done.stderr}")
    return int(collected[1])


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    return done.stdout


if __name__ == "__main__":
    main()
