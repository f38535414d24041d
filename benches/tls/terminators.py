#!/usr/bin/env python3
"""Measures `forward --tls-in` beside other programs that take TLS from clients and forward plaintext: stunnel, haproxy
and nginx (its stream module).

    cargo build --profile bench --package examples --example forward --example test_certificate
    sudo apt-get install stunnel4 haproxy nginx libnginx-mod-stream
    python3 benches/tls/terminators.py target/release/examples

All have the same certificate (ECDSA P-256), one thread for the connections (stunnel has one for each), no log, and
their defaults otherwise. The client is Python's ssl (OpenSSL), with TLS 1.3: its first choices are X25519 and
TLS_AES_256_GCM_SHA384. Behind each terminator is the same server, a part of this program.

The figures are processor time of the terminator alone, user and system, for one unit of work:

* download: 64 MiB from the server;
* lines: 1,000 lines that the client sends at once and the server echoes, on a connection that is up;
* full, resumed: a connection with a handshake, one line there and back, and the end. The figure is connections for
  each second of processor time.

A round measures each work with each terminator, so that whatever else the machine does meets all of them. The table
has the median of the rounds. Traffic stays on the loopback interface, and all processes are ended.
"""

import argparse
import contextlib
import pathlib
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

DOWNLOAD = 64 << 20
LINES = b"a line of some bytes\r\n" * 1000
CONNECTIONS = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("examples", type=pathlib.Path, help="the folder of the built examples")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        make = [arguments.examples / "test_certificate", "--out", folder / "tls"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        files = {name: folder / "tls" / f"{name}.pem" for name in ("cert", "key", "ca")}
        # haproxy reads both from one file.
        both = folder / "both.pem"
        both.write_bytes(files["cert"].read_bytes() + files["key"].read_bytes())
        backend = stack.enter_context(serve())
        terminators = {}
        for start in (forward, stunnel, haproxy, nginx):
            terminator = start(arguments.examples, folder, files, both, backend)
            if terminator is None:
                print(f"skipped: {start.__name__} is not installed", file=sys.stderr)
                continue
            terminators[start.__name__] = stack.enter_context(terminator)
        measure(terminators, files["ca"], arguments.rounds)


def measure(terminators, ca, rounds):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    works = {"download": download, "lines": lines, "full": full, "resumed": resumed}
    figures = {name: {work: [] for work in works} for name in terminators}
    for number in range(rounds + 1):
        for work, do in works.items():
            for name, terminator in terminators.items():
                before = terminator.cpu()
                units = do(terminator.port, context)
                spent = terminator.cpu() - before
                # The first round is for buffers that grow.
                if number > 0:
                    figures[name][work].append(spent / units)
    print(f"{'':10}{'64 MiB':>12}{'1,000 lines':>14}{'full':>12}{'resumed':>12}")
    for name in terminators:
        median = {work: statistics.median(figures[name][work]) for work in works}
        seconds, micros = median["download"], median["lines"] * 1e6
        rates = [1 / median[work] for work in ("full", "resumed")]
        print(f"{name:10}{seconds * 1e3:9.1f} ms{micros:11.0f} µs{rates[0]:10.0f}/s{rates[1]:10.0f}/s")


# ---- the work


def download(port, context):
    with connect(port, context) as client:
        client.sendall(b"G\r\n")
        buffer, left = bytearray(1 << 18), DOWNLOAD
        while left > 0:
            count = client.recv_into(buffer)
            assert count > 0, "the stream is not complete"
            left -= count
    return 1


def lines(port, context):
    units, buffer = 300, bytearray(1 << 16)
    with connect(port, context) as client:
        for _ in range(units):
            client.sendall(LINES)
            left = len(LINES)
            while left > 0:
                count = client.recv_into(buffer)
                assert count > 0, "the stream is not complete"
                left -= count
    return units


def full(port, context):
    for _ in range(CONNECTIONS):
        with connect(port, context) as client:
            exchange(client)
            assert not client.session_reused
    return CONNECTIONS


def resumed(port, context):
    session = None
    for number in range(CONNECTIONS + 1):
        with connect(port, context, session) as client:
            # The tickets arrive with the line, at the latest.
            exchange(client)
            session = client.session
            assert client.session_reused == (number > 0), number
    return CONNECTIONS


def exchange(client):
    client.sendall(b"hello\r\n")
    received = b""
    while len(received) < 7:
        received += client.recv(100)


def connect(port, context, session=None):
    client = socket.create_connection(("127.0.0.1", port), 20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = context.wrap_socket(client, server_hostname="localhost", session=session)
    suite = client.cipher()[0]
    assert suite == "TLS_AES_256_GCM_SHA384", suite
    return client


# ---- the server behind the terminators


@contextlib.contextmanager
def serve():
    """Sends 64 MiB to a client whose first byte is a G, and echoes what others send."""
    page = bytes(1 << 18)

    def talk(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(OSError):
            while chunk := client.recv(1 << 16):
                if chunk.startswith(b"G"):
                    for _ in range(DOWNLOAD // len(page)):
                        client.sendall(page)
                else:
                    client.sendall(chunk)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


# ---- the terminators


class Terminator:
    """A process that listens on a port. Ends with the block."""

    def __init__(self, command, port, is_forking=False):
        self.command, self.port, self.is_forking = command, port, is_forking

    def __enter__(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, env={"RUST_LOG": "error"}, **quiet)
        deadline = time.monotonic() + 20
        while not accepts(self.port):
            assert time.monotonic() < deadline and self.process.poll() is None, self.command
            time.sleep(0.05)
        self.worker = self.child() if self.is_forking else self.process.pid
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def child(self):
        pid = self.process.pid
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def cpu(self):
        """Seconds of processor time: the clock of another process, clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.worker << 3) | 2)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def found(name):
    return shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def forward(examples, folder, files, both, backend):
    port = free_port()
    command = [examples / "forward", "--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{backend}"]
    return Terminator([*command, "--tls-in", "--tls-cert", files["cert"], "--tls-key", files["key"]], port)


def stunnel(examples, folder, files, both, backend):
    program, port, config = found("stunnel4"), free_port(), folder / "stunnel.conf"
    config.write_text(
        "foreground = yes\ndebug = 0\npid =\n"
        "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        f"[forward]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{backend}\n"
        f"cert = {files['cert']}\nkey = {files['key']}\ncurves = X25519:P-256\n"
    )
    return program and Terminator([program, config], port)


def haproxy(examples, folder, files, both, backend):
    program, port, config = found("haproxy"), free_port(), folder / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 4000\n"
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
        f"frontend tls\n  bind 127.0.0.1:{port} ssl crt {both} curves X25519:P-256\n  default_backend plain\n"
        f"backend plain\n  server one 127.0.0.1:{backend}\n"
    )
    return program and Terminator([program, "-db", "-f", config], port)


def nginx(examples, folder, files, both, backend):
    program, port, config = found("nginx"), free_port(), folder / "nginx.conf"
    config.write_text(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
        f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr emerg;\n"
        "events { worker_connections 4000; }\n"
        f"stream {{ server {{ listen 127.0.0.1:{port} ssl; proxy_pass 127.0.0.1:{backend};\n"
        f"ssl_certificate {files['cert']}; ssl_certificate_key {files['key']};\n"
        "ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1; ssl_session_cache shared:one:10m; } }\n"
    )
    # Its worker cannot read the folder if it has another user.
    command = [program, "-p", folder, "-c", config, "-e", "stderr", "-g", "user root;"]
    return program and Terminator(command, port, is_forking=True)


if __name__ == "__main__":
    main()
