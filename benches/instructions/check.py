#!/usr/bin/env python3
"""Counts the instructions that the crate's own code takes per unit of work, under callgrind, and
compares them with those in counts.json.

    python3 benches/instructions/check.py            # fails above 1.05 times what is written there
    python3 benches/instructions/check.py --write    # writes what it counts

Counts depend on the compiler, and on the processor, for which memchr and the C library choose their
code. counts.json says whose they are; with another of either the bound is 1.25. Linux, valgrind.
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

# Workload, unit, and how many: enough that what is done once does not show.
WORKLOADS = {
    "ping-pong": ("request", 1000),
    "pipelined": ("line", 20_000),
    "article": ("reply", 500),
    "broadcast": ("delivery", 5000),
    "churn": ("connection", 200),
    "block": ("block", 500),
    "bulk": ("MiB", 50),
}
BOUND = 1.05
ELSEWHERE = 1.25


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
        print(f"skipped: the counts are of {known['machine']}, this is {here['machine']}")
        return
    others = [f"{of}: {known[of]}" for of in here if known[of] != here[of]]
    bound = ELSEWHERE if others else BOUND
    if others:
        print(f"the counts are of {'; '.join(others)}. The bound here is {bound}.")
    print(f"{'':<12}{'instructions':>14}{'written':>10}{'ratio':>8}")
    failed = []
    for name, count in counted.items():
        written = known["instructions"].get(name)
        if written is None:
            sys.exit(f"{name}: nothing is written of it; see --write")
        ratio = count / written
        print(f"{name:<12}{count:>14,.1f}{written:>10,.1f}{ratio:>8.3f}")
        if ratio > bound:
            failed.append(name)
    if failed:
        sys.exit(f"more than {bound} times what is written: {', '.join(failed)}")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def build():
    """The path of the program, as cargo tells it."""
    messages = output(
        "cargo", "bench", "--quiet", "--bench", "instructions", "--no-run",
        "--message-format", "json",
    )  # fmt: skip
    for line in messages.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    sys.exit("cargo has built nothing")


def per_unit(program, workload):
    """The difference of two runs, so that what is done once does not count."""
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
