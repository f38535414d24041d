"""The peers of tests/tls_peers.rs: Python's ssl, which is OpenSSL. `tls_peers.py ACT HOST:PORT CERTIFICATE [KEY]`."""

import socket
import ssl
import sys


def context(certificate):
    made = ssl.create_default_context(cafile=certificate)
    made.check_hostname = True
    return made


def connect(address, certificate, **options):
    made = context(certificate)
    for name, value in options.items():
        setattr(made, name, value)
    plain = socket.create_connection(address)
    return made.wrap_socket(plain, server_hostname='localhost', suppress_ragged_eofs=False)


def read_to_end(stream):
    received = b''
    while chunk := stream.recv(65536):
        received += chunk
    return received


def short(address, certificate):
    """Connections that send a command, read the reply to its end, which has to be announced, and close."""
    for n in range(200):
        version = ssl.TLSVersion.TLSv1_2 if n % 2 else ssl.TLSVersion.TLSv1_3
        stream = connect(address, certificate, minimum_version=version, maximum_version=version)
        stream.sendall(b'echo %d\r\nquit\r\n' % n)
        # A cut stream would be an error here: suppress_ragged_eofs is off.
        assert read_to_end(stream) == b'echo %d\r\nbye\r\n' % n
        stream.close()


def hasty(address, certificate):
    """Connections that send a command and close at once, in three ways."""
    for n in range(150):
        stream = connect(address, certificate)
        stream.sendall(b'count\r\n')
        if n % 3 == 0:
            stream.close()
        elif n % 3 == 1:
            stream.shutdown(socket.SHUT_WR)
            stream.close()
        else:
            try:
                stream.unwrap()
            except (ssl.SSLError, OSError):
                pass
            stream.close()


def half(address, certificate):
    """Announces the end of its input, and reads what follows."""
    stream = connect(address, certificate)
    stream.sendall(b'echo half\r\n')
    # The announcement, without waiting for that of the other side. OpenSSL reports data that follows as an error.
    stream.setblocking(False)
    try:
        stream.unwrap()
    except (ssl.SSLError, OSError):
        pass
    # A close with unread input would be a reset.
    with socket.socket(fileno=stream.detach()) as plain:
        plain.setblocking(True)
        read_to_end(plain)


def plaintext(address, certificate):
    """Plaintext on a TLS port: an alert, and the end."""
    with socket.create_connection(address) as stream:
        stream.sendall(b'EHLO example.org\r\n')
        received = read_to_end(stream)
        assert received[:1] == b'\x15', received


def bulk(address, certificate):
    """Sends and receives 20 MB at the same time, in one thread."""
    stream = connect(address, certificate)
    line = b'x' * 998 + b'\r\n'
    out, received = line * 20000 + b'quit\r\n', 0
    stream.setblocking(False)
    import select
    while True:
        select.select([stream], [stream] if out else [], [])
        if out:
            try:
                out = out[stream.send(out[:100000]):]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
        try:
            chunk = stream.recv(65536)
            if not chunk:
                break
            received += len(chunk)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
    assert received == 20000 * 1000 + 5, received


def serve(certificate, key):
    """A server for one client: greets, answers one line, announces its end."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    listener = socket.create_server(('127.0.0.1', 0))
    print('listening on %s:%d' % listener.getsockname(), flush=True)
    plain, _ = listener.accept()
    stream = made.wrap_socket(plain, server_side=True)
    stream.sendall(b'200 hello\r\n')
    line = stream.recv(1000)
    stream.sendall(b'201 ' + line)
    try:
        stream.unwrap()
    except (ssl.SSLError, OSError):
        pass


def main():
    act, *arguments = sys.argv[1:]
    if act == 'serve':
        return serve(*arguments)
    host, port = arguments[0].rsplit(':', 1)
    globals()[act]((host, int(port)), arguments[1])


main()
