"""The socket of a client with TLS: the calls of a socket that `Client` uses, with the same outcomes.

The TLS of Python's sockets cannot half-close while replies are on their way, so this has its own buffers.
"""

import socket
import ssl

RECORD = 16 * 1024


class Secured:
    def __init__(self, context):
        self.raw = socket.socket()
        self.arrived, self.leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.arrived, self.leaving, server_hostname="localhost")
        self.unsent = b""
        self.handshaking = True
        for name in ("close", "fileno", "getsockname", "setsockopt", "settimeout"):
            setattr(self, name, getattr(self.raw, name))

    def connect(self, address):
        self.raw.connect(address)

    def setblocking(self, blocks):
        self.raw.setblocking(blocks)
        self.advance()

    def advance(self):
        """Takes a step of the handshake. The server may accept this connection much later."""
        try:
            self.tls.do_handshake()
            self.handshaking = False
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def flush(self):
        self.unsent += self.leaving.read()
        if self.unsent:
            self.unsent = self.unsent[self.raw.send(self.unsent) :]

    def send(self, data):
        self.flush()
        if self.unsent or self.handshaking:
            raise BlockingIOError
        count = self.tls.write(data[:RECORD])
        try:
            self.flush()
        except BlockingIOError:
            pass  # it is encrypted, and leaves before the next data
        return count

    def sendall(self, data):
        self.tls.write(data)
        self.raw.sendall(self.unsent + self.leaving.read())

    def recv(self, size):
        while True:
            if self.handshaking:
                self.advance()
            try:
                if not self.handshaking:
                    return self.read(size)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return b""  # the server has announced the end
            data = self.raw.recv(2 * RECORD)
            if data:
                self.arrived.write(data)
            else:
                # The stream was cut: the next read fails.
                self.arrived.write_eof()

    def read(self, size):
        """All that has arrived: the poller does not report it again."""
        data = self.tls.read(size)
        try:
            while self.arrived.pending:
                data += self.tls.read(size)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data

    def shutdown(self, _):
        """Announces the end, and goes on receiving."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()
