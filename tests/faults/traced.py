"""A server under strace: its process, its state in /proc, and the output of strace."""

import os
import re
import select
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")

# Calls of this name on an event counter only: a program reads files when it starts, and how many
# differs from machine to machine. (A write to an event counter fails only if the counter is full.
# Then it wakes the loop anyway, which an injection would not.)
ON_EVENTFD = {"eventfd-read": "read"}


@dataclass(frozen=True)
class Fault:
    """An injection: the call fails with the error whenever strace's `when` applies."""

    call: str
    error: str
    when: str

    def __str__(self):
        return f"{self.call},{self.error},{self.when}"

    @property
    def for_good(self):
        return self.when.endswith("+")

    def options(self):
        call = ON_EVENTFD.get(self.call, self.call)
        return ["-e", f"inject={call}:error={self.error}:when={self.when}"]


@dataclass(frozen=True)
class Hit:
    """A call that was made to fail. `port` is that of the client at the other end, if the call
    concerned a connection."""

    call: str
    error: str
    port: int | None
    text: str


class Traced:
    """The server, a child of this process, in its own process group. strace is its sibling (-D),
    not its parent, so the server runs on after strace has detached."""

    def __init__(self, program, faults, calls, directory):
        self.log_path = Path(directory, "strace")
        self.error_path = Path(directory, "stderr")
        names = {ON_EVENTFD.get(call, call) for call in calls}
        paths = ["-P", "anon_inode:[eventfd]"] if set(calls) & set(ON_EVENTFD) else []
        if not paths:
            names |= {"accept4", "close", *WAITS}
        # -I2: a signal makes strace detach. Without it strace ignores signals while it writes to a
        # file.
        command = ["strace", "-D", "-I2", "-f", "-qq", "-s", "0", "-o", str(self.log_path)]
        command += ["-e", "trace=" + ",".join(f"?{name}" for name in sorted(names)), *paths]
        for fault in faults:
            command += fault.options()
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(
                command + program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.output = b""

    # ---- start and end

    def address(self, seconds):
        """The address it listens on, or None if it has ended or printed nothing within `seconds`."""
        pipe = self.process.stdout
        while select.select([pipe], [], [], seconds)[0]:
            piece = os.read(pipe.fileno(), 4096)
            self.output += piece
            found = re.search(rb"^listening on ([^\n]*):(\d+)\n", self.output)
            if found:
                # Drains the rest of its output, which must not fill the pipe.
                threading.Thread(target=pipe.read, daemon=True).start()
                return found[1].decode(), int(found[2])
            if not piece:
                return None
        return None

    def exited(self, seconds=0.0):
        """Waits for it to end. Returns its exit status, or None if it still runs after `seconds`."""
        if select.select([self.pidfd], [], [], seconds)[0]:
            return self.process.wait()
        return None

    def interrupt(self):
        signal.pidfd_send_signal(self.pidfd, signal.SIGINT)

    def kill(self):
        if self.process.returncode is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.process.wait()
        os.close(self.pidfd)

    def detach(self, seconds):
        """Ends the tracing and thereby the faults. Returns whether that worked."""
        tracer = self.tracer()
        if tracer:
            os.kill(tracer, signal.SIGINT)
        for _ in range(int(seconds / 0.002)):
            if not self.tracer():
                return True
            if self.exited(0.002) is not None:
                return False
        return False

    def tracer(self):
        return self.number("status", "TracerPid")

    # ---- state

    def number(self, file, field):
        text = self.proc(file).read_text()
        return int(re.search(rf"^{field}:\s*(\d+)", text, re.M)[1])

    def proc(self, *parts):
        return Path("/proc", str(self.pid), *parts)

    def descriptors(self):
        found = {}
        for entry in self.proc("fd").iterdir():
            try:
                found[int(entry.name)] = os.readlink(entry)
            except FileNotFoundError:
                pass  # closed in the meantime
        return found

    def activity(self):
        """How often its threads have slept or been stopped, and their CPU time in ticks.
        A traced thread stops twice in each system call: the first figure shows a loop that spins with
        system calls, and the second figure shows any."""
        switches = 0
        for task in self.proc("task").iterdir():
            status = (task / "status").read_text()
            switches += sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", status)))
        after_name = self.proc("stat").read_text().rpartition(")")[2].split()
        return switches, int(after_name[11]) + int(after_name[12])

    def errors(self):
        return self.error_path.read_text(errors="replace")

    # ---- the output of strace

    def trace(self):
        return Trace(self.log_path.read_text(errors="replace"))


class Trace:
    """The calls that were traced, and the faults among them."""

    CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
    REST = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
    RESULT = re.compile(r"\) += (-?\d+)")

    def __init__(self, text):
        self.counts = {}
        self.hits = []
        self.ports = {}
        self.left_in = set()  # descriptors whose removal from epoll failed and that are not closed
        begun = {}
        for row in text.splitlines():
            if call := self.CALL.match(row):
                thread, name, rest = call.groups()
                if rest.endswith("<unfinished ...>"):
                    begun[thread] = rest.removesuffix("<unfinished ...>")
                    continue
            elif more := self.REST.match(row):
                thread, name, rest = more.groups()
                rest = begun.pop(thread, "") + rest
            else:
                continue
            self.take(name, rest, row)

    def take(self, name, rest, row):
        self.counts[name] = self.counts.get(name, 0) + 1
        if "(INJECTED)" in row:
            error = re.search(r"= -1 (\w+)", rest)
            port = self.ports.get(self.descriptor(name, rest))
            self.hits.append(Hit(name, error[1] if error else "?", port, row))
            if "EPOLL_CTL_DEL" in rest:
                self.left_in.add(self.descriptor(name, rest))
            return
        result = self.RESULT.search(rest)
        if name == "accept4" and result and int(result[1]) >= 0:
            if port := re.search(r"sin_port=htons\((\d+)\)", rest):
                self.ports[int(result[1])] = int(port[1])
        elif name == "close":
            closed = self.descriptor(name, rest)
            self.ports.pop(closed, None)
            self.left_in.discard(closed)

    @staticmethod
    def descriptor(name, arguments):
        fields = re.split(r"[,)]", arguments)
        field = fields[2 if name == "epoll_ctl" else 0].strip()
        return int(field) if field.isdigit() else None

    @property
    def waits(self):
        return sum(self.counts.get(name, 0) for name in WAITS)
