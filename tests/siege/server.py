"""The server under test: one process of the `nntp` example."""

import os
import re
import signal
import subprocess
import tempfile

DEADLINE = 60


class NoServer(SystemExit):
    """A server that does not listen."""

    def __init__(self, server, first):
        self.status = server.process.wait(DEADLINE)
        self.logged = server.logged()
        super().__init__(f"the server does not listen; it printed {first!r}\n{self.logged}")


class Server:
    """Runs during the `with` block, on a free port."""

    def __init__(self, program, *options, log="info"):
        """`log` is a filter as in RUST_LOG; "info" is the default of the example."""
        self.log = tempfile.TemporaryFile("w+")
        # Not in the repository that this script may be run from: its history is not needed.
        self.process = subprocess.Popen(
            [os.path.abspath(program), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "RUST_LOG": log},
            cwd=tempfile.gettempdir(),
            text=True,
        )
        first = self.process.stdout.readline()
        listening = re.fullmatch(r"listening on .*:(\d+)\n", first)
        if not listening:
            raise NoServer(self, first)
        self.port = int(listening[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def alive(self):
        return self.process.poll() is None

    def interrupt(self):
        """Sends SIGINT. Returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def logged(self):
        self.log.flush()
        with open(f"/proc/self/fd/{self.log.fileno()}") as log:
            return log.read()

    def resident(self):
        """The resident memory now and its peak, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            kib = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB$", status.read(), re.MULTILINE))
        return int(kib["VmRSS"]) * 1024, int(kib["VmHWM"]) * 1024

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
