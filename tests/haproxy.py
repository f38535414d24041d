#!/usr/bin/env python3
"""Runs haproxy in front of the `nntp` and `smtpd` examples, with the PROXY protocol.

    python3 tests/haproxy.py target/release/examples

Each server has two haproxy listeners in front of it, for version 1 (`send-proxy`) and for version 2
(`send-proxy-v2`, with fields), and haproxy also checks whether it is alive. With TLS there are three: one that forwards
TLS and STARTTLS, one that ends TLS, and one that ends it and begins it again. The clients connect from 127.0.0.2 and
other addresses of the loopback interface, and haproxy from 127.0.0.1, so that the two can be told apart. Without
haproxy the script says so, and succeeds. Every process that it has started is ended.
"""

import contextlib
import pathlib
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import tempfile

import examples
from examples import ANN, DEADLINE, eventually, free_port, process, served
from tls_servers import certificate, context, logged, tls_served

PROXY = "127.0.0.1"
CLIENT = "127.0.0.2"
OTHER = "127.0.0.3"

DEFAULTS = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""

CONFIG = DEFAULTS + """
listen one
    bind 127.0.0.1:{one}
    server it {server} source 127.0.0.1 send-proxy check inter 200 check-send-proxy
listen two
    bind 127.0.0.1:{two}
    unique-id-format %[uuid]
    server it {server} source 127.0.0.1 send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 200 check-send-proxy
listen six
    bind [::1]:{six}
    server it {server} source 127.0.0.1 send-proxy-v2
"""

WITH_TLS = DEFAULTS + """
listen forwards
    bind 127.0.0.1:{forwards}
    server it {tls} source 127.0.0.1 send-proxy-v2 check inter 200 check-send-proxy
listen forwards_starttls
    bind 127.0.0.1:{starttls}
    server it {server} source 127.0.0.1 send-proxy
listen ends
    bind 127.0.0.1:{ends} ssl crt {pem}
    unique-id-format %[uuid]
    server it {server} source 127.0.0.1 send-proxy-v2-ssl-cn \
        proxy-v2-options ssl,cert-cn,cert-key,cert-sig,ssl-cipher,authority,unique-id,crc32c check inter 200 check-send-proxy
listen renews
    bind 127.0.0.1:{renews} ssl crt {pem}
    server it {tls} source 127.0.0.1 send-proxy-v2 ssl verify required ca-file {ca} sni str(localhost) check inter 200 check-send-proxy
"""


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    if not examples.has("haproxy"):
        return
    for check in (nntp, smtpd, forward, nntp_with_tls, smtpd_with_tls, forward_with_tls):
        check(directory)
        print(f"{check.__name__}: passed")


def nntp(directory):
    options = ["--proxy-protocol", PROXY, "--max-per-address", "3"]
    with tempfile.TemporaryFile("w+") as log:
        with served(directory / "nntp", *options, stderr=log) as (server, _):
            with haproxy(server) as ports:
                for port in ports[:2]:
                    with client(CLIENT, port) as (_, line, lines):
                        assert line.startswith(b"200 "), line
                        lines.send(b"DATE\r\nQUIT\r\n")
                        assert lines.readline().startswith(b"111 ")
                        assert lines.readline().startswith(b"205 ")
                check_quota(ports[1], b"200 ", b"400 ")
                with client("::1", ports[2]) as (_, line, _):
                    assert line.startswith(b"200 "), line
            byte_by_byte(server, b"200 ")
            check_refused(server)
        log.seek(0)
        text = log.read()
        assert "no trusted proxy" in text and "no valid PROXY header" in text, text


def smtpd(directory):
    with tempfile.TemporaryDirectory() as maildir:
        options = ["--maildir", maildir, "--proxy-protocol", PROXY, "--max-per-address", "3"]
        with served(directory / "smtpd", *options) as (server, _), haproxy(server) as ports:
            for port in ports[:2]:
                source = (CLIENT, 0)
                with smtplib.SMTP("127.0.0.1", port, "client", DEADLINE, source_address=source) as smtp:
                    smtp.sendmail("ann@localhost", ["bob@localhost"], "Subject: x\r\n\r\nbody\r\n")
            check_quota(ports[0], b"220 ", b"421 ")
            byte_by_byte(server, b"220 ")
            check_refused(server)
        messages = list(pathlib.Path(maildir, "new").iterdir())
        assert len(messages) == 2, messages
        for message in messages:
            # Where the message comes from.
            assert f"([{CLIENT}])" in message.read_text(), message.read_text()


def forward(directory):
    """The `forward` example in the place of haproxy."""
    with served(directory / "nntp", "--proxy-protocol", PROXY, "--max-per-address", "3") as (server, _):
        for version in ("v1", "v2"):
            options = ["--to", server, "--send-proxy", version]
            with served(directory / "forward", *options) as (proxy, _):
                check_quota(int(proxy.rpartition(":")[2]), b"200 ", b"400 ")


def nntp_with_tls(directory):
    with certificate(directory) as files, tempfile.TemporaryFile("a+") as log:
        passwords = files["cert"] + ".passwords"
        pathlib.Path(passwords).write_text(ANN)
        options = ["--demo", "50", "--passwords", passwords, "--proxy-protocol", PROXY, "--max-per-address", "3"]
        with tls_served(directory / "nntp", files, *options, stderr=log) as (server, tls, _):
            with haproxy_with_tls(server, tls, files) as ports:
                for port in ports["forwards"], ports["ends"], ports["renews"]:
                    with secure_client(port, files) as (peer, lines):
                        assert lines.readline().startswith(b"200 ")
                        log_in(peer, lines)
                with client(CLIENT, ports["starttls"]) as (peer, line, lines):
                    assert line.startswith(b"200 "), line
                    lines.send(b"AUTHINFO USER ann\r\n")
                    assert lines.readline().startswith(b"483 ")
                    lines.send(b"STARTTLS\r\n")
                    assert lines.readline().startswith(b"382 ")
                    with context(files["ca"]).wrap_socket(peer, server_hostname="localhost") as secured:
                        log_in(secured, secured.makefile("rb"))
                eventually(lambda: check_quota_of_tls(ports["forwards"], files, b"200 "))
                eventually(lambda: logged(log, "too many connections") == 1)
                # Five checks a second have ended before TLS.
                assert logged(log, "TLS handshake failed") == 0


def log_in(peer, lines):
    peer.sendall(b"AUTHINFO USER ann\r\nAUTHINFO PASS secret\r\nGROUP misc.test\r\nQUIT\r\n")
    assert [lines.readline()[:3] for _ in range(4)] == [b"381", b"281", b"211", b"205"]


def smtpd_with_tls(directory):
    with certificate(directory) as files, tempfile.TemporaryDirectory() as maildir:
        options = ["--maildir", maildir, "--no-fsync", "--proxy-protocol", PROXY]
        with tls_served(directory / "smtpd", files, *options) as (server, tls, _):
            with haproxy_with_tls(server, tls, files) as ports:
                secure = {"context": context(files["ca"]), "source_address": (CLIENT, 0)}
                for port in ports["forwards"], ports["ends"], ports["renews"]:
                    with smtplib.SMTP_SSL("localhost", port, "client", timeout=DEADLINE, **secure) as smtp:
                        smtp.ehlo()
                        assert not smtp.has_extn("starttls")
                        smtp.sendmail("ann@localhost", ["bob@localhost"], "Subject: x\r\n\r\nbody\r\n")
                port, source = ports["starttls"], (CLIENT, 0)
                with smtplib.SMTP("localhost", port, "client", DEADLINE, source_address=source) as smtp:
                    smtp.starttls(context=secure["context"])
                    smtp.sendmail("ann@localhost", ["bob@localhost"], "Subject: x\r\n\r\nbody\r\n")
        messages = [path.read_text() for path in pathlib.Path(maildir, "new").iterdir()]
        assert len(messages) == 4, messages
        for message in messages:
            assert f"([{CLIENT}])" in message and " with ESMTPS id " in message, message


def forward_with_tls(directory):
    """The `forward` example in the place of haproxy: TLS from the client, to the server, and both."""
    with certificate(directory) as files:
        options = ["--demo", "50", "--proxy-protocol", PROXY, "--max-per-address", "3"]
        tls_in = ["--tls-in", "--tls-cert", files["cert"], "--tls-key", files["key"]]
        tls_out = ["--tls-out", "--tls-ca", files["ca"], "--tls-name", "localhost"]
        with tls_served(directory / "nntp", files, *options) as (server, tls, _):
            for version in ("v1", "v2"):
                for to, ways in (server, tls_in), (tls, tls_in + tls_out):
                    proxy = ["--to", to, "--send-proxy", version, *ways]
                    with served(directory / "forward", *proxy) as (addr, _):
                        port = int(addr.rpartition(":")[2])
                        eventually(lambda: check_quota_of_tls(port, files, b"200 "))
                with served(directory / "forward", "--to", tls, "--send-proxy", version, *tls_out) as (addr, _):
                    port = int(addr.rpartition(":")[2])
                    eventually(lambda: first_lines(CLIENT, port) == 3 * [b"200 "] + [b""])


def first_lines(source, port):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(source, port)) for _ in range(4)]
        return [line[:4] for _, line, _ in clients]


def check_quota_of_tls(port, files, greeting):
    """Whether three clients of an address are served, and the fourth is refused: with an alert, or in its TLS."""
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            _, lines = stack.enter_context(secure_client(port, files))
            # Those of the call before may still count.
            if not lines.readline().startswith(greeting):
                return False
        try:
            _, lines = stack.enter_context(secure_client(port, files))
            line = lines.readline()
            assert not line or line.startswith(b"400 "), line
        except ssl.SSLError as error:
            assert "internal error" in str(error).lower(), error
        except ConnectionError:
            pass
    return True


@contextlib.contextmanager
def secure_client(port, files):
    with connected(CLIENT, f"127.0.0.1:{port}") as (peer, _):
        with context(files["ca"]).wrap_socket(peer, server_hostname="localhost") as secured:
            yield secured, secured.makefile("rb")


def check_quota(port, greeting, refusal):
    """The clients of an address are counted, and not those of the proxy."""
    with contextlib.ExitStack() as stack:
        for source in (CLIENT, OTHER):
            clients = [stack.enter_context(client(source, port)) for _ in range(4)]
            lines = [line for _, line, _ in clients]
            assert [line[:4] for line in lines] == 3 * [greeting] + [refusal], lines

    # Until the server has noticed that they are gone.
    def is_free():
        with client(CLIENT, port) as (_, line, _):
            return line.startswith(greeting)
    eventually(is_free)


def byte_by_byte(server, greeting):
    """A proxy that sends its header in pieces of one byte. What follows the header is not lost."""
    source, destination = (socket.inet_aton(addr) for addr in (CLIENT, PROXY))
    addresses = source + destination + struct.pack(">HH", 40000, 119)
    headers = [
        b"PROXY TCP4 127.0.0.2 127.0.0.1 40000 119\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(addresses)) + addresses,
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ]
    for header in headers:
        with connected(PROXY, server) as (peer, lines):
            for byte in header:
                peer.send(bytes([byte]))
            peer.sendall(b"QUIT\r\n")
            assert lines.readline().startswith(greeting)
            assert lines.readline()[:3] in (b"205", b"221")
            assert lines.readline() == b""


def check_refused(server):
    """Who is no proxy, or sends no header, gets no greeting."""
    header = b"PROXY TCP4 127.0.0.2 127.0.0.1 40000 119\r\n"
    others = [(OTHER, header), (OTHER, b"QUIT\r\n")]
    for source, begins in [*others, (PROXY, b"QUIT\r\n"), (PROXY, header[:-1] + b"x")]:
        with connected(source, server) as (peer, lines):
            with contextlib.suppress(ConnectionError):
                peer.sendall(begins)
                assert lines.readline() == b"", (source, begins)


@contextlib.contextmanager
def haproxy(server):
    ports = [free_port() for _ in range(3)]
    one, two, six = ports
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(CONFIG.format(one=one, two=two, six=six, server=server))
        config.flush()
        with process(["haproxy", "-db", "-f", config.name], stderr=None) as running:
            def is_up():
                assert running.poll() is None, "haproxy has ended"
                with contextlib.suppress(ConnectionError):
                    return all(connect("127.0.0.1", port) for port in (one, two)) and connect("::1", six)
            eventually(is_up)
            yield [int(port) for port in ports]


@contextlib.contextmanager
def haproxy_with_tls(server, tls, files):
    ports = {name: int(free_port()) for name in ("forwards", "starttls", "ends", "renews")}
    # haproxy reads both from one file.
    pem = files["cert"] + ".both"
    pathlib.Path(pem).write_text(pathlib.Path(files["cert"]).read_text() + pathlib.Path(files["key"]).read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(WITH_TLS.format(**ports, server=server, tls=tls, pem=pem, ca=files["ca"]))
        config.flush()
        with process(["haproxy", "-db", "-f", config.name], stderr=None) as running:
            def is_up():
                assert running.poll() is None, "haproxy has ended"
                with contextlib.suppress(ConnectionError):
                    return all(connect("127.0.0.1", port) for port in ports.values())
            eventually(is_up)
            yield ports


def connect(host, port):
    socket.create_connection((host, port), DEADLINE).close()
    return True


class Lines:
    def __init__(self, peer):
        self.send = peer.sendall
        self.readline = peer.makefile("rb").readline


@contextlib.contextmanager
def connected(source, server):
    host, _, port = server.rpartition(":")
    host = "::1" if ":" in source else host
    with socket.create_connection((host, int(port)), DEADLINE, (source, 0)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield peer, Lines(peer)


@contextlib.contextmanager
def client(source, port):
    """A client with this address, and the first line that it receives."""
    with connected(source, f"127.0.0.1:{port}") as (peer, lines):
        yield peer, lines.readline(), lines


if __name__ == "__main__":
    main()
