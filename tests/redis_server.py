"""A redis-server beside which the example `kvd` is tested and measured."""

import contextlib
import socket
import subprocess
import time

DEADLINE = 60


@contextlib.contextmanager
def redis():
    """A server that keeps its data in memory only, on a free port of loopback: the port, and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.05)  # it has no other way to say that it listens
        yield port, process
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)
