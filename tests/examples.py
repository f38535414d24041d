#!/usr/bin/env python3
"""Runs the built examples as their users would, with the clients that they are for.

    python3 tests/examples.py target/release/examples            # all
    python3 tests/examples.py target/release/examples bridge     # one

What is not installed (logger, socat, systemd-socket-activate) is skipped, and said so. Only
loopback; whatever is started is ended.
"""

import contextlib
import fcntl
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEADLINE = 20


def main():
    directory = pathlib.Path(sys.argv[1])
    wanted = sys.argv[2:] or list(CHECKS)
    for name in wanted:
        CHECKS[name](directory)
        print(f"{name}: as it should be")


def smtpd(directory):
    with tempfile.TemporaryDirectory() as maildir:
        with served(directory / "smtpd", "--maildir", maildir) as (addr, _):
            client = pathlib.Path(__file__).with_name("smtpd_client.py")
            subprocess.run([sys.executable, client, addr, maildir], check=True, timeout=120)


def syslog(directory):
    if not has("logger"):
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "log")
        with served(directory / "syslog", "--unix", path) as (addr, server):
            port = addr.rpartition(":")[2]
            to = ["logger", "-n", "127.0.0.1", "-P", port]
            run([*to, "-d", "over UDP"])
            run([*to, "-T", "over TCP, a line"])
            run([*to, "-T", "--octet-count", "over TCP, counted"])
            run([*to, "-T", "--octet-count", "--rfc3164", "-p", "local3.err", "old form"])
            run(["logger", "-u", path, "over the Unix domain"])
            lines = sorted(server.stdout.readline().rstrip() for _ in range(5))
        ends = ["old form", "over TCP, a line", "over TCP, counted", "over UDP", "over the Unix domain"]
        for end in ends:
            assert any(line.endswith(end) for line in lines), (end, lines)
        assert sum(line.startswith("err ") for line in lines) == 1, lines
        assert not os.path.exists(path)
    if has("systemd-socket-activate"):
        activated(directory / "syslog", [], ["-T"])
        activated(directory / "syslog", ["-d"], ["-d"])


def activated(program, how, over):
    """A server that is started for the first thing that comes to a socket it inherits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = ["systemd-socket-activate", *how, "-l", f"127.0.0.1:{port}", str(program)]
    with process(command) as server:
        # Until it listens, a datagram is lost and a connection refused.
        eventually(lambda: logged(["logger", *over, "-n", "127.0.0.1", "-P", port, "activated"], server))


def logged(command, server):
    subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE)
    output = server.stdout.fileno()
    os.set_blocking(output, False)
    try:
        return b"activated" in os.read(output, 65536)
    except BlockingIOError:
        return False


def bridge(directory):
    if not has("socat"):
        return
    with tempfile.TemporaryDirectory() as scratch:
        device, line = (os.path.join(scratch, name) for name in ("device", "line"))
        pair = ["socat", *(f"pty,raw,echo=0,link={path}" for path in (device, line))]
        with process(pair):
            eventually(lambda: os.path.exists(device) and os.path.exists(line))
            with served(directory / "bridge", "--device", line, "--baud", "19200") as (addr, _):
                converse(addr, device)


def converse(addr, device):
    host, _, port = addr.rpartition(":")
    clients = [socket.create_connection((host, port), DEADLINE).makefile("rwb") for _ in range(3)]
    # Each is known to the bridge once it has been answered.
    for client in clients:
        client.write(b"no hexadecimal\n")
        client.flush()
        assert client.readline() == b"not hexadecimal\r\n"
    end = os.open(device, os.O_RDWR)
    os.write(end, b"\x01\x03\x02\x00\x2a")
    assert [client.readline() for client in clients] == [b"010302002a\r\n"] * 3
    os.write(end, b"\xff" * 300)
    assert [client.readline() for client in clients] == [b"ff" * 300 + b"\r\n"] * 3
    clients[0].write(b"01 03 00 00 00 01\n")
    clients[0].flush()
    assert os.read(end, 100) == bytes.fromhex("010300000001")
    os.close(end)
    for client in clients:
        client.close()


def netcat(directory):
    netcat = directory / "netcat"
    with served(directory / "echo") as (addr, _):
        # More than the pipes and the sockets hold.
        lines = b"".join(b"%d\r\n" % number for number in range(200_000))
        command = [netcat, addr]
        done = subprocess.run(command, input=lines, capture_output=True, timeout=60)
        assert done.returncode == 0 and done.stdout == lines, done.stderr
        netcat_and_files(command, lines)
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    assert done.returncode == 1 and addr.encode() in done.stderr, done.stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        addr = f"127.0.0.1:{server.getsockname()[1]}"
        netcat_in_a_terminal(netcat, addr, server)
        netcat_and_servers_that_end([netcat, addr], server)


def netcat_and_files(command, lines):
    """Files cannot be waited for, nor can /dev/null."""
    with tempfile.TemporaryDirectory() as scratch:
        source, sink = (os.path.join(scratch, name) for name in ("source", "sink"))
        with open(source, "wb") as file:
            file.write(lines)

        def shell(redirections, status=0):
            line = f'"$0" "$1" {redirections}'
            done = subprocess.run(
                ["sh", "-c", line, *command], capture_output=True, timeout=60, cwd=scratch
            )
            assert done.returncode == status, (redirections, done)
            return done

        assert shell("<source").stdout == lines
        done = shell("<source >sink")
        assert pathlib.Path(sink).read_bytes() == lines and not done.stderr, done.stderr
        assert shell("</dev/null").stdout == b""
        assert shell("<source >/dev/null").stderr == b""
        assert shell("<source | head -1").stdout == b"0\r\n"
        # What fails is named.
        done = shell("<.", 1)
        assert b"standard input: Is a directory" in done.stderr, done.stderr
        if os.path.exists("/dev/full"):
            done = shell("<source >/dev/full", 1)
            assert b"standard output: No space left on device" in done.stderr, done.stderr
        # The write before the one that fails is a short one.
        limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$1\" <source >sink"
        done = subprocess.run(
            ["sh", "-c", limited, *command], capture_output=True, timeout=60, cwd=scratch
        )
        assert done.returncode == 1, done
        assert b"standard output: File too large" in done.stderr, done.stderr


def netcat_in_a_terminal(netcat, addr, server):
    """The shell that started it has its terminal as it was."""
    script = f'"{netcat}" {addr}; echo over; read -r line; echo "got $line"'
    terminal, end = pty.openpty()
    before = fcntl.fcntl(end, fcntl.F_GETFL)
    shell = subprocess.Popen(["sh", "-c", script], stdin=end, stdout=end, stderr=end)
    try:
        connection, _ = server.accept()
        with connection:
            os.write(terminal, b"hello\n")
            assert connection.recv(100) == b"hello\n"
            connection.sendall(b"welcome\n")
            expect(terminal, b"welcome")
            assert fcntl.fcntl(end, fcntl.F_GETFL) & os.O_NONBLOCK
            os.write(terminal, b"\x04")
            assert connection.recv(100) == b""
        expect(terminal, b"over")
        assert fcntl.fcntl(end, fcntl.F_GETFL) == before
        os.write(terminal, b"on\n")
        expect(terminal, b"got on")
        assert shell.wait(DEADLINE) == 0
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
        os.close(end)


def netcat_and_servers_that_end(command, server):
    # A server that closes, while the input stays open.
    with piped(command) as client:
        connection, _ = server.accept()
        connection.sendall(b"bye\n")
        connection.close()
        assert client.stdout.read() == b"bye\n"
        assert client.wait(DEADLINE) == 0
    # One that only has nothing more to say still gets the input.
    with piped([*command, "--quiet", str(DEADLINE)]) as client:
        connection, _ = server.accept()
        connection.sendall(b"go on\n")
        connection.shutdown(socket.SHUT_WR)
        assert client.stdout.readline() == b"go on\n"
        client.stdin.write(b"the rest")
        client.stdin.close()
        with connection.makefile("rb") as heard:
            assert heard.read() == b"the rest"
        connection.close()
        assert client.wait(DEADLINE) == 0


@contextlib.contextmanager
def piped(command):
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def expect(terminal, text):
    """Reads until this has come."""
    heard, deadline = b"", time.monotonic() + DEADLINE
    while text not in heard:
        wait = deadline - time.monotonic()
        assert wait > 0 and select.select([terminal], [], [], wait)[0], heard
        heard += os.read(terminal, 65536)


# ---- processes


@contextlib.contextmanager
def served(program, *arguments):
    """The program, listening on a port of its own; ended with Ctrl-C, at which it exits with 0."""
    with process([program, "--listen", "127.0.0.1:0", *arguments]) as server:
        said = server.stdout.readline()
        assert said.startswith("listening on "), said
        yield said.split()[-1], server
        server.send_signal(signal.SIGINT)
        assert server.wait(DEADLINE) == 0, f"{program} exits with {server.returncode}"


@contextlib.contextmanager
def process(command):
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def run(command):
    subprocess.run(command, check=True, timeout=DEADLINE)


def eventually(done):
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def has(program):
    there = shutil.which(program) is not None
    if not there:
        print(f"skipped: {program} is not installed")
    return there


CHECKS = {check.__name__: check for check in (smtpd, syslog, bridge, netcat)}

if __name__ == "__main__":
    main()
