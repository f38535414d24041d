"""What a hostile peer can send to a TLS port, byte by byte: Python's ssl with its records in our hands.

    tls_adversary.py HOST:PORT CA [starttls]

The server is the `nntp` example, or that of `tls_adversary.rs`. The port has TLS from the beginning, or after
STARTTLS. Whatever has happened, the last session has to work. `tls_servers.py` runs this, too.
"""

import contextlib
import os
import socket
import ssl
import struct
import sys
import typing

DEADLINE = 20
SESSION = b"GROUP misc.test\r\nSTAT 1\r\nQUIT\r\n"
ALERT, HANDSHAKE, APPLICATION = 21, 22, 23


def main():
    host, _, port = sys.argv[1].rpartition(":")
    attack(Target(host, int(port), sys.argv[3:] == ["starttls"]), sys.argv[2])


class Target(typing.NamedTuple):
    host: str
    port: int
    starttls: bool

    def connect(self):
        plain = socket.create_connection((self.host, self.port), DEADLINE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.starttls:
            # Without a buffer, so that nothing of TLS is read.
            replies = plain.makefile("rb", buffering=0)
            assert replies.readline().startswith(b"200 ")
            plain.sendall(b"STARTTLS\r\n")
            assert replies.readline().startswith(b"382 ")
        return plain

    def check_replies(self, plaintext):
        codes = [line[:3] for line in plaintext.split(b"\r\n")]
        greeting = [] if self.starttls else [b"200"]
        assert codes == [*greeting, b"211", b"223", b"205", b""], plaintext


def attack(target, ca):
    contexts = [context(ca, version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    for made in contexts:
        one_byte_segments(target, made)
        one_byte_records(target, made)
        truncated(target, made)
        broken_records(target, made)
        changed_bytes(target, made)
    before_the_handshake(target)
    renegotiation(target, contexts[0])
    for made in contexts:
        check_session(target, made)


def context(ca, version):
    made = ssl.create_default_context(cafile=ca)
    made.minimum_version = made.maximum_version = version
    return made


class Peer:
    """A client that decides how its records are sent."""

    def __init__(self, target, made):
        self.socket = target.connect()
        self.received, self.made = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.wrap_bio(self.received, self.made, server_hostname="localhost")
        self.plaintext = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def output(self):
        """What is to be sent, as a list of records."""
        return list(records(self.made.read()))

    def write(self, data):
        """The records for this data."""
        self.tls.write(data)
        return self.output()

    def read(self):
        """Receives once. Returns whether the stream goes on."""
        data = self.socket.recv(65536)
        self.received.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            while chunk := self.tls.read(65536):
                self.plaintext += chunk
        return bool(data)

    def handshake(self, send):
        """`send` gets each record of this side, and returns whether to go on."""
        while True:
            try:
                self.tls.do_handshake()
                return all(send(record) for record in self.output())
            except ssl.SSLWantReadError:
                if not all(send(record) for record in self.output()):
                    return False
            self.received.write(self.socket.recv(65536))

    def send(self, data):
        self.socket.sendall(data)
        return True

    def read_to_end(self):
        """Reads the rest. The end has to be announced, which read() of ssl checks."""
        while not self.plaintext.endswith(b"\r\n205 goodbye\r\n"):
            assert self.read(), self.plaintext
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while True:
                assert self.socket_or_tls_end(), "the end was not announced"

    def socket_or_tls_end(self):
        data = self.socket.recv(65536)
        self.received.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            if self.tls.read(1) == b"":
                raise ssl.SSLZeroReturnError
        return data


def records(data):
    while data:
        size = 5 + struct.unpack("!H", data[3:5])[0]
        yield data[:size]
        data = data[size:]


def record(kind, body, size=None):
    return struct.pack("!BHH", kind, 0x0303, len(body) if size is None else size) + body


def check_session(target, made):
    """The server serves others."""
    with Peer(target, made) as peer:
        assert peer.handshake(peer.send)
        for part in peer.write(SESSION):
            peer.send(part)
        peer.read_to_end()
        target.check_replies(peer.plaintext)


def drain(peer):
    """The server ends the connection. Returns what it has sent, which a reset may cut."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(65536):
            received += data
    return received


def one_byte_segments(target, made):
    """Each byte of the handshake and of the commands on its own."""
    with Peer(target, made) as peer:
        one_by_one = lambda data: all(peer.send(data[n : n + 1]) for n in range(len(data)))
        assert peer.handshake(one_by_one)
        for part in peer.write(SESSION):
            one_by_one(part)
        peer.read_to_end()
        target.check_replies(peer.plaintext)


def one_byte_records(target, made):
    """A record for each byte, and in TLS 1.2 empty records between them."""
    with Peer(target, made) as peer:
        assert peer.handshake(peer.send)
        parts = [part for n in range(len(SESSION)) for part in peer.write(SESSION[n : n + 1])]
        assert len(parts) >= len(SESSION)
        peer.send(b"".join(parts))
        peer.read_to_end()
        target.check_replies(peer.plaintext)


def truncated(target, made):
    """The stream ends behind each record, and within it, with FIN and with a reset."""
    done = False
    count = 0
    while not done:
        for cut in ("behind", "within"):
            for ending in ("finish", "reset"):
                done = cut_stream(target, made, count, cut, ending)
        count += 1
    assert count > 4, count


def cut_stream(target, made, count, cut, ending):
    """Sends `count` records, and ends the stream. Returns whether the session has no more records."""
    with Peer(target, made) as peer:
        left = count

        def send(data):
            nonlocal left
            if left == 0:
                if cut == "within":
                    peer.send(data[: len(data) // 2])
                return False
            left -= 1
            return peer.send(data)

        complete = peer.handshake(send)
        if complete:
            lines = SESSION.splitlines(keepends=True)
            complete = all(send(part) for line in lines for part in peer.write(line))
        if ending == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
            drain(peer.socket)
        return complete and left == 0


def broken_records(target, made):
    """After the handshake: records that are too long, empty, of unknown kinds, or not encrypted."""
    bodies = {
        "too long": record(APPLICATION, b"x" * 18_433),
        "too long by its header": record(APPLICATION, b"x" * 100, 0xFFFF),
        "empty": record(APPLICATION, b""),
        "an unknown kind": record(99, b"GROUP misc.test\r\n"),
        "an alert in clear": record(ALERT, b"\x01\x00"),
        "a fatal alert in clear": record(ALERT, b"\x02\x28"),
        "a handshake in clear": record(HANDSHAKE, b"\x01\x00\x00\x00"),
        "commands in clear": SESSION,
        "commands in a record in clear": record(APPLICATION, SESSION),
        "noise": record(APPLICATION, os.urandom(1000)),
        "1,000 alerts": record(ALERT, b"\x01\x5a") * 1000,
        "1,000 empty records": record(APPLICATION, b"") * 1000,
    }
    for name, body in bodies.items():
        with Peer(target, made) as peer:
            assert peer.handshake(peer.send)
            for part in peer.write(b"DATE\r\n"):
                peer.send(part)
            while b"111 " not in peer.plaintext or not peer.plaintext.endswith(b"\r\n"):
                assert peer.read(), name
            before = len(peer.plaintext)
            with contextlib.suppress(ConnectionError):
                peer.send(body)
                for part in peer.write(SESSION):
                    peer.send(part)
                peer.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while peer.read():
                    pass
            # Nothing behind a broken record is served.
            assert b"211 " not in peer.plaintext[before:], (name, peer.plaintext)


def changed_bytes(target, made):
    """A bit of each record of the handshake, and of the session, is changed on its way."""
    count = 0
    while True:
        with Peer(target, made) as peer:
            left, is_changed = count, False

            def send(data):
                nonlocal left, is_changed
                left -= 1
                if left < 0 and not is_changed:
                    is_changed = True
                    at = len(data) - 1
                    data = data[:at] + bytes([data[at] ^ 1])
                return peer.send(data)

            with contextlib.suppress(ConnectionError, ssl.SSLError):
                if peer.handshake(send):
                    for line in SESSION.splitlines(keepends=True):
                        for part in peer.write(line):
                            send(part)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                peer.socket.shutdown(socket.SHUT_WR)
                while peer.read():
                    pass
            if not is_changed:
                target.check_replies(peer.plaintext)
                return
            assert b"205 " not in peer.plaintext, (count, peer.plaintext)
        count += 1


def before_the_handshake(target):
    """What comes instead of a ClientHello gets an alert, or the end of the connection."""
    hello = next(records(client_hello()))
    attempts = {
        "commands": SESSION,
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "SSH": b"SSH-2.0-x\r\n",
        "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01\x00\x80" * 7 + b"x" * 16,
        "zeros": bytes(5000),
        "noise": b"\x16\x03\x01" + os.urandom(5000),
        "an alert": record(ALERT, b"\x02\x28"),
        "data": record(APPLICATION, b"x" * 100),
        "too long": record(HANDSHAKE, b"\x01\x00\xff\xff", 0xFFFF) + b"x" * 70_000,
        "a message of 16 MB": record(HANDSHAKE, b"\x01\xff\xff\xff" + b"x" * 1000) * 100,
        "empty records": record(HANDSHAKE, b"") * 1000,
        "a ClientHello twice": hello + hello,
        "a ClientHello and data": hello + SESSION,
        "a ClientHello that is cut": hello[:-10],
    }
    for name, data in attempts.items():
        with target.connect() as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
            received = drain(peer)
            kinds = {kind[0] for kind in records(received)}
            assert not kinds or kinds <= {ALERT, HANDSHAKE, APPLICATION, 20}, (name, received)
            assert b"200 " not in received, (name, received)


def client_hello():
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def renegotiation(target, made):
    """TLS 1.2: a second ClientHello within the session. The server refuses it (CVE-2009-3555, CVE-2011-1473)."""
    with Peer(target, made) as peer:
        assert peer.handshake(peer.send)
        with contextlib.suppress(ConnectionError):
            peer.send(client_hello())
            peer.send(b"".join(peer.write(SESSION)))
            peer.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while peer.read():
                pass
        assert b"205 " not in peer.plaintext, peer.plaintext


if __name__ == "__main__":
    main()
