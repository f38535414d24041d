#!/usr/bin/env python3
"""Makes system calls of a server fail, one at a time, and checks that other connections are unaffected.

    sweep.py --short                        what CI runs
    sweep.py --short --tls                  the same with TLS
    sweep.py --full                         every call, every error, N = 1 to 12
    sweep.py --only accept4,EMFILE,3        one run; a slash joins two faults

The server is the `yardstick` example. Build it first: `cargo build --release --example yardstick`. With `--tls`
also `test_certificate`.
README.md says what this proves. If a run fails, the exit status is 1 and a line shows how to replay it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True  # leaves nothing in the tree

import secured
import trial
from traced import ON_EVENTFD, WAITS, Fault

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "target/release/examples/yardstick"
ANY_PORT = ["0"]

# The errors that every call is made to fail with, even impossible ones.
ERRORS = "EMFILE ENFILE ECONNABORTED ENOBUFS ENOMEM EINTR ECONNRESET EPIPE EAGAIN".split()

# The errors that a call can fail with, on this system or another. They are run for every N and
# every form below.
STARVED = "EMFILE ENFILE ENOBUFS ENOMEM".split()
SENDING = "EPIPE ECONNRESET ENOBUFS ENOMEM EINTR EAGAIN".split()
LIKELY = {
    "accept4": [*STARVED, *"ECONNABORTED EPROTO EOPNOTSUPP EPERM ENETDOWN EINTR EAGAIN".split()],
    "recvfrom": "ECONNRESET ENOBUFS ENOMEM ETIMEDOUT EINTR EAGAIN".split(),
    "sendto": SENDING,
    "sendmsg": SENDING,
    "writev": SENDING,
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    **{wait: ["EINTR", "ENOMEM"] for wait in WAITS},
    "timerfd_settime": ["ENOMEM"],
    "setsockopt": ["ENOMEM", "ENOBUFS"],
    "shutdown": ["ENOTCONN", "ENOBUFS"],
    "eventfd-read": ["EAGAIN", "ENOMEM"],
}
EVERY = [str(n) for n in range(1, 13)] + ["16", "40", "3..6", "3+5", "8+5"]
ODD = ["2", "5", "9", "8+5"]

# Calls that a server makes a few times, when it starts and when it ends.
FEW_CALLS = {"setsockopt": ["1", "2", "3"], "shutdown": ["1", "2", "3"], "eventfd-read": ["1", "2"]}

# `polling` waits again if a call within its wait is interrupted, and loses the events that it had.
# epoll_ctl cannot be interrupted.
IMPOSSIBLE = [("epoll_ctl", "EINTR")]

# Faults that last until strace detaches. Only where a server can wait for the fault to pass, or
# where only the connections that fail are affected. An accept that is always aborted, or a send
# that always would block on a ready socket, is an endless loop that the injection causes.
FOR_GOOD = [
    *(Fault("accept4", error, when) for error in STARVED for when in ("1+", "3+", "9+")),
    *(Fault("accept4", error, "9+") for error in ("EPERM", "ENETDOWN")),
    *(Fault("recvfrom", error, "9+") for error in ("ECONNRESET", "ENOMEM")),
    *(Fault(call, error, "9+") for call in ("sendto", "sendmsg") for error in ("EPIPE", "ENOBUFS")),
    Fault("epoll_ctl", "ENOMEM", "9+"),
    Fault("epoll_ctl", "ENOSPC", "12+"),
    *(Fault(wait, "ENOMEM", "9+") for wait in WAITS),
]

# Fewer failures in a row than the loop takes for a broken poller.
NEARLY_BROKEN = [Fault(wait, "ENOMEM", "5..60") for wait in WAITS]

# The accept that waits for descriptors, and the registration that fails when it resumes.
PAIRS = [
    (Fault("accept4", "EMFILE", "3"), Fault("epoll_ctl", "ENOMEM", str(n))) for n in range(5, 13)
]

SHORT = """
accept4,EMFILE,1  accept4,EMFILE,4  accept4,ENFILE,3..4  accept4,ENOBUFS,2  accept4,ENOMEM,3+5
accept4,ECONNABORTED,1  accept4,ECONNABORTED,3..6  accept4,EINTR,3+5  accept4,EAGAIN,3+5
accept4,EMFILE,3+  accept4,ENOBUFS,1+  accept4,EPIPE,2  accept4,EOPNOTSUPP,3  accept4,EPERM,9+
recvfrom,ECONNRESET,1  recvfrom,ECONNRESET,9+  recvfrom,ENOMEM,5  recvfrom,EINTR,1
recvfrom,EINTR,3+5  recvfrom,EAGAIN,3+5
sendto,EPIPE,1  sendto,ECONNRESET,5  sendto,ENOBUFS,4  sendto,EINTR,3+5  sendto,EAGAIN,3+5
sendto,EAGAIN,20
sendmsg,EPIPE,2  sendmsg,ENOMEM,6  sendmsg,EINTR,3+5  sendmsg,EAGAIN,3+5  sendmsg,ENOBUFS,9+
epoll_ctl,ENOMEM,1  epoll_ctl,ENOMEM,3  epoll_ctl,ENOMEM,4  epoll_ctl,ENOMEM,5
epoll_ctl,ENOSPC,9  epoll_ctl,ENOMEM,12  epoll_ctl,ENOMEM,20  epoll_ctl,ENOMEM,8+5
epoll_ctl,ENOMEM,9+
accept4,EMFILE,3/epoll_ctl,ENOMEM,7
epoll_wait,EINTR,1  epoll_wait,EINTR,3+5  epoll_wait,ENOMEM,4  epoll_wait,ENOMEM,5..60
epoll_pwait,EINTR,1  epoll_pwait,EINTR,3+5  epoll_pwait,ENOMEM,4  epoll_pwait,ENOMEM,5..60
epoll_pwait2,EINTR,1  epoll_pwait2,EINTR,3+5  epoll_pwait2,ENOMEM,4  epoll_pwait2,ENOMEM,5..60
timerfd_settime,ENOMEM,3  timerfd_settime,ENOMEM,3+5
setsockopt,ENOMEM,1  eventfd-read,ENOMEM,1
"""

# With TLS. The first calls of a connection are those of its handshake.
SHORT_TLS = """
accept4,EMFILE,3  accept4,ECONNABORTED,3..6
recvfrom,ECONNRESET,1  recvfrom,ECONNRESET,2  recvfrom,ECONNRESET,3  recvfrom,ECONNRESET,9+
recvfrom,ENOMEM,5  recvfrom,EINTR,1  recvfrom,EINTR,2+3  recvfrom,EAGAIN,1  recvfrom,EAGAIN,2+3
sendto,EPIPE,1  sendto,EPIPE,2  sendto,ECONNRESET,3  sendto,ECONNRESET,20  sendto,ENOBUFS,1  sendto,ENOMEM,2
sendto,EINTR,1  sendto,EINTR,2+3  sendto,EAGAIN,1  sendto,EAGAIN,2  sendto,EAGAIN,3+5  sendto,EAGAIN,20
sendto,ENOBUFS,9+
epoll_ctl,ENOMEM,4  epoll_ctl,ENOMEM,5  epoll_ctl,ENOMEM,8+5  epoll_ctl,ENOSPC,9
epoll_wait,EINTR,3+5  epoll_pwait,EINTR,3+5  epoll_pwait2,EINTR,3+5
timerfd_settime,ENOMEM,3+5  shutdown,ENOTCONN,1
"""

# The server must make one call of each of these sets. Otherwise a list that names it proves
# nothing.
NEEDED = [{"accept4"}, {"recvfrom"}, {"sendto"}, {"epoll_ctl"}, set(WAITS)]
NEEDED_IN_CLEAR = [*NEEDED, {"sendmsg"}]


def main():
    arguments = parse()
    why_not = obstacle()
    if why_not:
        return why_not
    program = [str(arguments.server), *ANY_PORT]
    if not os.access(arguments.server, os.X_OK):
        sys.exit(f"{arguments.server}: not found. Build it: cargo build --release --example yardstick")
    if not arguments.tls:
        return sweep(arguments, program, None)
    with tempfile.TemporaryDirectory(prefix="faults-") as files:
        certificate = arguments.server.with_name("test_certificate")
        subprocess.run([certificate, "--out", files], check=True, stdout=subprocess.DEVNULL, timeout=60)
        program += ["--tls-cert", f"{files}/cert.pem", "--tls-key", f"{files}/key.pem"]
        return sweep(arguments, program, secured.trusting(f"{files}/ca.pem"))


def sweep(arguments, program, tls):
    """Runs everything. Returns the exit status."""
    # A run without a fault must succeed. It shows which calls the server makes.
    plain = trial.run(program, (), [call for call in LIKELY if call not in ON_EVENTFD], tls=tls)
    if plain.failures:
        sys.exit("the run without a fault failed:\n  " + "\n  ".join(plain.failures))
    made = {call for call, count in plain.trace.counts.items() if count} | set(ON_EVENTFD)
    missing = [names for names in (NEEDED if tls else NEEDED_IN_CLEAR) if not names & made]
    if missing:
        sys.exit(f"the server makes none of these calls: {missing}")

    plan = chosen(arguments)
    never = sorted({fault.call for faults in plan for fault in faults} - made)
    if not arguments.only:
        plan = [faults for faults in plan if all(fault.call in made for fault in faults)]
    outcomes = []
    started = time.monotonic()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        waits = plain.trace.waits
        for outcome in pool.map(lambda faults: timed(program, faults, waits, tls), plan):
            if arguments.short and outcome.verdict in ("not reached", "impossible"):
                outcome.failures.append(f"{outcome.verdict}: every fault of the short list must be reached")
                outcome.verdict = "FAILED"
            report(outcome)
            outcomes.append(outcome)
    summary(outcomes, never, time.monotonic() - started)
    failed = [outcome for outcome in outcomes if outcome.failures]
    for outcome in failed:
        print(f"replay: {replay(arguments, outcome)}")
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--short", action="store_true", help="the list that CI runs")
    which.add_argument("--full", action="store_true", help="everything")
    which.add_argument("--only", metavar="CALL,ERROR,WHEN", help="one run; WHEN is strace's")
    parser.add_argument("--server", type=Path, default=SERVER, help="the yardstick to run")
    parser.add_argument("--tls", action="store_true", help="the clients and the server use TLS")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    return parser.parse_args()


def obstacle():
    """The exit status if nothing can run here: 0 on systems without strace or ptrace."""
    if not sys.platform.startswith("linux"):
        print("skipped: strace is for Linux")
        return 0
    if not shutil.which("strace"):
        print("strace is not installed: apt-get install strace")
        return 1
    # In the same way as the server is traced, so that this fails for the same reasons.
    probe = ["strace", "-D", "-I2", "-f", "-qq", "-o", "/dev/null", "true"]
    tried = subprocess.run(probe, capture_output=True, text=True, timeout=60)
    if tried.returncode == 0 and not tried.stderr:
        return None
    if "Operation not permitted" in tried.stderr:
        print(f"skipped: ptrace is not permitted here: {tried.stderr.strip()}")
        return 0
    print(f"strace does not work: {tried.stderr.strip()}")
    return 1


def chosen(arguments):
    """The runs that the arguments select, each a tuple of faults."""
    if arguments.only:
        return [parsed(arguments.only)]
    if arguments.short:
        return [parsed(word) for word in (SHORT_TLS if arguments.tls else SHORT).split()]
    plan = []
    for call, likely in LIKELY.items():
        odd = [e for e in ERRORS if e not in likely and (call, e) not in IMPOSSIBLE]
        for errors, whens in ((likely, EVERY), (odd, ODD)):
            whens = FEW_CALLS.get(call, whens)
            plan += [(Fault(call, error, when),) for error in errors for when in whens]
    return plan + [(fault,) for fault in FOR_GOOD + NEARLY_BROKEN] + PAIRS


def parsed(word):
    try:
        return tuple(Fault(*part.split(",")) for part in word.split("/"))
    except TypeError:
        sys.exit(f"{word}: not CALL,ERROR,WHEN")


def named(faults):
    return "/".join(map(str, faults))


def timed(program, faults, waits, tls):
    started = time.monotonic()
    outcome = trial.run(program, faults, usual_waits=waits, tls=tls)
    if outcome.verdict == "ok" and not all(outcome.reached.values()):
        outcome.verdict = "not reached"
    outcome.seconds = time.monotonic() - started
    return outcome


def report(outcome):
    hits = "+".join(map(str, outcome.reached.values()))
    what = named(outcome.faults)
    print(f"{outcome.verdict:12} {what:40} hit {hits:>5}  {outcome.seconds:5.1f} s")
    for failure in outcome.failures:
        print(f"    {failure}")
    sys.stdout.flush()


def summary(outcomes, never, seconds):
    verdicts = ("ok", "no start", "gave up", "impossible", "not reached", "FAILED")
    rows = {}
    for outcome in outcomes:
        call = "/".join(fault.call for fault in outcome.faults)
        rows.setdefault(call, dict.fromkeys(verdicts, 0))[outcome.verdict] += 1
    print(f"\n{'call':24}" + "".join(f"{verdict:>13}" for verdict in verdicts))
    for call, row in rows.items():
        print(f"{call:24}" + "".join(f"{row[verdict]:13}" for verdict in verdicts))
    totals = [sum(row[verdict] for row in rows.values()) for verdict in verdicts]
    print(f"{'all':24}" + "".join(f"{total:13}" for total in totals))
    if never:
        print("never made by this server, so not run: " + ", ".join(never))
    print(f"{len(outcomes)} runs in {seconds:.0f} s")


def replay(arguments, outcome):
    here = Path(__file__).resolve().relative_to(ROOT)
    server = "" if arguments.server == SERVER else f" --server {arguments.server}"
    tls = " --tls" if arguments.tls else ""
    return f"python3 {here} --only {named(outcome.faults)}{tls}{server}"


if __name__ == "__main__":
    sys.exit(main())
