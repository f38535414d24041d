"""A TLS connection of a client, with the calls of a socket that `clients.py` uses.

The handshake makes progress whenever the client sends or receives, so that one client whose server does not answer
does not hold up the others.
"""

import socket
import ssl


def trusting(certificates):
    """What all clients use: the server must have a certificate for localhost that these certify."""
    return ssl.create_default_context(cafile=certificates)


class Incomplete(BlockingIOError):
    """Something has arrived, but nothing for the client."""


class Secured:
    def __init__(self, plain, context):
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.unsent = b""
        self.is_up = False
        self.has_ended = False  # the server has announced the end of its output
        self.step()

    def step(self):
        """Takes a step of the handshake. Returns whether TLS is up."""
        if not self.is_up:
            try:
                self.tls.do_handshake()
                self.is_up = True
            except ssl.SSLWantReadError:
                pass
        self.unsent += self.outgoing.read()
        return self.is_up

    def flush(self):
        """Returns whether everything was sent."""
        self.unsent += self.outgoing.read()
        if self.unsent:
            try:
                self.unsent = self.unsent[self.plain.send(self.unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                self.unsent = b""
                raise
        return not self.unsent

    def send(self, data):
        if not self.flush() or not self.is_up:
            raise BlockingIOError
        count = self.tls.write(data) if data else 0
        self.flush()
        return count

    def sendall(self, data):
        while data:
            data = data[self.send(data) :]
        while not self.flush():
            pass

    def recv(self, most):
        """Everything that has arrived. Empty when the server has announced the end, and the stream has ended."""
        received = self.plain.recv(most)
        if not received and not self.has_ended:
            raise ConnectionError("end of file without close_notify")
        self.incoming.write(received)
        is_up = self.step()
        self.flush()
        if not is_up:
            raise Incomplete
        data = b""
        try:
            while not self.has_ended:
                piece = self.tls.read(most)
                self.has_ended = not piece
                data += piece
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        if not data and received:
            raise Incomplete
        return data

    def shutdown(self, _how):
        """Announces the end of the output. The input goes on."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # it would wait for the announcement of the server
        self.plain.settimeout(10)
        self.flush()
        self.plain.setblocking(False)
        self.plain.shutdown(socket.SHUT_WR)

    def __getattr__(self, name):
        return getattr(self.plain, name)
