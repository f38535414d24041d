#!/usr/bin/env python3
"""Runs the built examples with the clients that they are meant for.

    python3 tests/examples.py target/release/examples            # all
    python3 tests/examples.py target/release/examples bridge     # one

Clients that are not installed (logger, socat, systemd-socket-activate) are reported as skipped. Traffic
stays on the loopback interface, and every started process is ended.
"""

import contextlib
import fcntl
import functools
import os
import pathlib
import pty
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty

from clients import has

DEADLINE = 20
# A line of a file of passwords: that of ann is "secret". bcrypt is quick with 4 as its cost.
ANN = "ann:$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi\n"


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:] or list(CHECKS)
    for name in wanted:
        CHECKS[name](directory)
        print(f"{name}: passed")


def smtpd(directory):
    with tempfile.TemporaryDirectory() as maildir:
        with served(directory / "smtpd", "--maildir", maildir) as (addr, _):
            client = pathlib.Path(__file__).with_name("smtpd_client.py")
            subprocess.run([sys.executable, client, addr, maildir], check=True, timeout=120)
        with tempfile.TemporaryFile("w+") as log:
            with served(directory / "smtpd", "--maildir", maildir, stderr=log) as (addr, _):
                os.rmdir(os.path.join(maildir, "tmp"))
                send_refused_messages(addr, 5000)
            log.seek(0)
            lines = log.readlines()
        # At most ten warnings a second, and 5,000 refusals take less than a minute.
        warnings = sum("could not be written" in line for line in lines)
        assert 10 <= warnings <= 600, warnings


def send_refused_messages(addr, count):
    """The maildir cannot be written, and a client causes that log event many times."""
    host, _, port = addr.rpartition(":")
    with socket.create_connection((host, port), DEADLINE) as client:
        replies = client.makefile("rb")
        client.sendall(b"HELO x\r\n")
        message = b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n"
        codes = [replies.readline()[:3] for _ in range(2)]
        assert codes == [b"220", b"250"], codes
        for _ in range(count // 100):
            client.sendall(message * 100)
            codes = [replies.readline()[:3] for _ in range(300)]
            assert codes == [b"250", b"250", b"451"] * 100, codes


def syslog(directory):
    if not has("logger"):
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "log")
        # The socket file of a server that was killed.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
            stale.bind(path)
        with served(directory / "syslog", "--unix", path) as (addr, server):
            port = addr.rpartition(":")[2]
            to = ["logger", "-n", "127.0.0.1", "-P", port]
            run([*to, "-d", "over UDP"])
            run([*to, "-T", "over TCP, a line"])
            run([*to, "-T", "--octet-count", "over TCP, counted"])
            run([*to, "-T", "--octet-count", "--rfc3164", "-p", "local3.err", "old form"])
            run(["logger", "-u", path, "over the Unix domain"])
            lines = sorted(server.stdout.readline().rstrip() for _ in range(5))
            check_refused(directory / "syslog", path, b"in use")
        ends = ["old form", "over TCP, a line", "over TCP, counted", "over UDP", "over the Unix domain"]
        for end in ends:
            assert any(line.endswith(end) for line in lines), (end, lines)
        assert sum(line.startswith("err ") for line in lines) == 1, lines
        assert not os.path.exists(path)
        pathlib.Path(path).write_text("a file")
        check_refused(directory / "syslog", path, b"in use")
        assert pathlib.Path(path).read_text() == "a file"
        check_unwritten(directory / "syslog", "exec {} >/dev/full", 3)
        check_unwritten(directory / "syslog", "{} | head -1", 3)
        check_blocked_output(directory / "syslog")
        if has("systemd-socket-activate"):
            path = os.path.join(scratch, "inherited")
            check_activation(directory / "syslog", ["-d", "-l", path], ["logger", "-u", path])
    if has("systemd-socket-activate"):
        port = free_port()
        to = ["logger", "-n", "127.0.0.1", "-P", port]
        check_activation(directory / "syslog", ["-l", f"127.0.0.1:{port}"], [*to, "-T"])
        check_activation(directory / "syslog", ["-d", "-l", f"127.0.0.1:{port}"], [*to, "-d"])


def check_refused(program, path, why):
    """The server refuses to use an existing file."""
    command = [program, "--listen", "127.0.0.1:0", "--unix", path]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
    assert done.returncode == 1 and why in done.stderr, done


def check_unwritten(program, shell, count):
    """Standard output fails: the server continues and counts the messages that it could not write."""
    port = free_port()
    command = f"{program} --listen 127.0.0.1:{port} --every 1"
    command = ["sh", "-c", shell.format(command)]
    with process(command, stderr=subprocess.PIPE) as server:
        eventually(lambda: subprocess.run(["logger", "-T", "-n", "127.0.0.1", "-P", port, "one"],
                   check=False, stderr=subprocess.DEVNULL).returncode == 0)
        for _ in range(count):
            run(["logger", "-T", "-n", "127.0.0.1", "-P", port, "more"])
        line = ""
        while not line.endswith("  not written\n") or int(line.split()[0]) < count:
            line = server.stderr.readline()
            assert line, "the server ended"


def check_blocked_output(program):
    """Standard output is not read: the server still accepts messages, and ends with Ctrl-C."""
    with served(program, "--every", "1", stderr=subprocess.PIPE) as (addr, server):
        host, _, port = addr.rpartition(":")
        with socket.create_connection((host, port), DEADLINE) as client:
            client.sendall((b"<13>" + b"x" * 60_000 + b"\n") * 200)
        line = ""
        while not line.endswith("  not written\n"):
            line = server.stderr.readline()
            assert line, "the server ended"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def check_activation(program, how, command):
    """A server that inherits its socket, and is started by the first client."""
    with process(["systemd-socket-activate", *how, str(program)]) as server:
        # Until it listens, datagrams are lost and connections refused.
        eventually(lambda: logged([*command, "activated"], server))


def logged(command, server):
    subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE)
    output = server.stdout.fileno()
    os.set_blocking(output, False)
    try:
        return b"activated" in os.read(output, 65536)
    except BlockingIOError:
        return False


def bridge(directory):
    slow_device(directory)
    if not has("socat"):
        return
    with tempfile.TemporaryDirectory() as scratch:
        device, line = (os.path.join(scratch, name) for name in ("device", "line"))
        pair = ["socat", *(f"pty,raw,echo=0,link={path}" for path in (device, line))]
        with process(pair):
            eventually(lambda: os.path.exists(device) and os.path.exists(line))
            with served(directory / "bridge", "--device", line, "--baud", "19200") as (addr, _):
                converse(addr, device)


def slow_device(directory):
    """A device that accepts nothing for a while: its clients wait, and nothing is lost."""
    device, line = os.openpty()
    tty.setraw(line)
    with served(directory / "bridge", "--device", os.ttyname(line)) as (addr, _):
        host, _, port = addr.rpartition(":")
        client, late = (socket.create_connection((host, port), DEADLINE) for _ in range(2))
        records = [b"%08d" % number * 250 for number in range(10_000)]
        input = b"".join(record.hex().encode() + b"\n" for record in records)
        # More than all buffers hold.
        client.settimeout(2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(input):
                sent += client.send(input[sent : sent + 65536])
        assert sent < len(input), "there is no back-pressure"
        late.sendall(b"ff\n")
        rest = threading.Thread(target=client.sendall, args=[input[sent:]], daemon=True)
        client.settimeout(DEADLINE * 3)
        rest.start()
        wanted = len(b"".join(records)) + 1
        received = bytearray()
        while len(received) < wanted:
            assert select.select([device], [], [], DEADLINE)[0], f"{len(received)} of {wanted}"
            received += os.read(device, 65536)
        rest.join(DEADLINE)
        assert received.count(b"\xff") == 1
        assert received.replace(b"\xff", b"") == b"".join(records)
        assert not select.select([client, late], [], [], 0)[0], "the bridge has sent an error"
        client.close()
        late.close()
    os.close(device)
    os.close(line)


def converse(addr, device):
    host, _, port = addr.rpartition(":")
    clients = [socket.create_connection((host, port), DEADLINE).makefile("rwb") for _ in range(3)]
    # The bridge has registered each client once it has answered it.
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
        # More than the pipes and the sockets buffer.
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
    """Files and /dev/null cannot be polled."""
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
        # The reader of its output has ended, and its input continues.
        endless = ["sh", "-c", 'yes "$2" | "$0" "$1" | head -1', *command, "y\r"]
        done = subprocess.run(endless, capture_output=True, timeout=60)
        assert done.stdout == b"y\r\n" and not done.stderr, done
        # The error names the stream that fails.
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
    """The terminal has its original mode when the shell continues."""
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
    # A server that closes while the input stays open.
    with piped(command) as client:
        connection, _ = server.accept()
        connection.sendall(b"bye\n")
        connection.close()
        assert client.stdout.read() == b"bye\n"
        assert client.wait(DEADLINE) == 0
    # A server that only finishes sending still gets the input.
    with piped([*command, "--quiet", str(DEADLINE)]) as client:
        connection, _ = server.accept()
        connection.sendall(b"go on\n")
        connection.shutdown(socket.SHUT_WR)
        assert client.stdout.readline() == b"go on\n"
        client.stdin.write(b"the rest")
        client.stdin.close()
        with connection.makefile("rb") as received:
            assert received.read() == b"the rest"
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
    """Reads until `text` has arrived."""
    received, deadline = b"", time.monotonic() + DEADLINE
    while text not in received:
        wait = deadline - time.monotonic()
        assert wait > 0 and select.select([terminal], [], [], wait)[0], received
        received += os.read(terminal, 65536)


def output_full(directory):
    """Servers whose output and log cannot be written still serve clients, and end with Ctrl-C."""
    with tempfile.TemporaryDirectory() as scratch, open("/dev/full", "w") as full:
        programs = {
            "echo": [],
            "echo_dispatcher": [],
            "files": [scratch],
            "forward": ["--to", "127.0.0.1:1"],
            "frames": [],
            "gold": [],
            "nntp": ["--demo", "10"],
            "rooms": [],
            "smtpd": ["--maildir", scratch],
            "syslog": [],
            "threads": [],
        }
        for name, options in programs.items():
            port = int(free_port())
            command = [directory / name, "--listen", f"127.0.0.1:{port}", *options]
            with process(command, stdout=full, stderr=full) as server:
                eventually(lambda: accepts(port))
                answers(port)
                server.send_signal(signal.SIGINT)
                assert server.wait(DEADLINE) == 0, f"{name} exits with {server.returncode}"


def log_at_the_limit(directory):
    """A log at the limit on the size of files, at which the system ends a process that does not forbid it."""
    with tempfile.TemporaryDirectory() as scratch:
        options = {
            "files": [scratch],
            "kvd": [],
            "nntp": [],
            "proxy": [],
            "smtpd": ["--maildir", os.path.join(scratch, "mail")],
        }
        for program, arguments in options.items():
            with open(os.path.join(scratch, f"{program}.log"), "ab") as log:
                log.write(b"x" * 1000)
                log.flush()
                limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000))
                with served(directory / program, *arguments, stderr=log, preexec_fn=limit) as (addr, _):
                    assert accepts(int(addr.rpartition(":")[2])), program
                assert log.tell() == 1000, program


def closed_output(directory):
    """Programs whose reader has left end quietly, and an error that cannot be written is still an exit status."""
    impatient = [directory / "impatient", "--commands", "100"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as left, open("/dev/full", "w") as full:
        done = subprocess.run(impatient, stdout=left, stderr=subprocess.PIPE, timeout=DEADLINE)
        assert (done.returncode, done.stderr) == (0, b""), done
        done = subprocess.run(impatient, stdout=full, stderr=subprocess.PIPE, timeout=DEADLINE)
        assert done.returncode == 1 and b"impatient: write the report: " in done.stderr, done
        with served(directory / "gold", "--rounds", "1") as (addr, _):
            run([directory / "gold", "--try", addr], stdout=left)
        bad = ["--listen", "256.0.0.0:0"]
        programs = {
            "bridge": ["--device", "/dev/null", *bad],
            "files": ["/dev/null"],
            "forward": ["--to", "127.0.0.1:1", *bad],
            "frames": bad,
            "gold": bad,
            "impatient": bad,
            "ircbot": ["--tls", "--tls-ca", "/dev/null"],
            "netcat": ["256.0.0.0:1"],
            "nntp": bad,
            "rooms": bad,
            "smtpd": ["--maildir", "/dev/null"],
            "syslog": bad,
            "test_certificate": ["--out", "/dev/null"],
        }
        for name, options in programs.items():
            for stream in left, full:
                command = [directory / name, *options]
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=DEADLINE)
                assert done.returncode == 1, done


def second_ctrl_c(directory):
    """A long grace: the second Ctrl-C ends it."""
    with socket.create_server(("127.0.0.1", 0)) as source:
        to = f"127.0.0.1:{source.getsockname()[1]}"
        options = ["--to", to, "--grace", "3600"]
        with process([directory / "forward", "--listen", "127.0.0.1:0", *options]) as server:
            port = int(server.stdout.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), DEADLINE):
                sender = source.accept()[0]
                sender.settimeout(1)
                with contextlib.suppress(TimeoutError):
                    while True:
                        sender.send(b"x" * 65536)
                server.send_signal(signal.SIGINT)
                eventually(lambda: not accepts(port))
                assert server.poll() is None, "the server ended before its output was sent"
                server.send_signal(signal.SIGINT)
                assert server.wait(DEADLINE) == 0, server.returncode
                sender.close()


def answers(port):
    """Receives a reply or an end."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.sendall(b"QUIT\r\n")
        client.shutdown(socket.SHUT_WR)
        client.recv(1)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---- processes


@contextlib.contextmanager
def served(program, *arguments, **streams):
    """The program, listening on a free port. Ctrl-C ends it, and its exit status must be 0."""
    with (
        tempfile.TemporaryFile("w+") as log,
        process([program, "--listen", "127.0.0.1:0", *arguments], **{"stderr": log, **streams}) as server,
    ):
        first_line = server.stdout.readline()
        if not first_line.startswith("listening on "):
            code = server.wait(DEADLINE)
            log.seek(0)
            raise AssertionError(f"{program} prints {first_line!r} and exits with {code}: {log.read()}")
        yield first_line.split()[-1], server
        server.send_signal(signal.SIGINT)
        assert server.wait(DEADLINE) == 0, f"{program} exits with {server.returncode}"


@contextlib.contextmanager
def process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=None):
    """The process. At the end it is killed with all processes that it has started."""
    started = subprocess.Popen(
        command, stdout=stdout, stderr=stderr, text=True, start_new_session=True, preexec_fn=preexec_fn
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def run(command, stdout=None):
    subprocess.run(command, check=True, timeout=DEADLINE, stdout=stdout)


def eventually(done, what=lambda: ""):
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, f"the deadline has passed {what()}"
        time.sleep(0.02)


CHECKS = {
    check.__name__: check
    for check in (smtpd, syslog, bridge, netcat, output_full, log_at_the_limit, closed_output, second_ctrl_c)
}

if __name__ == "__main__":
    main()
