#!/usr/bin/env python3
"""Runs the examples that connect with TLS against openssl, Python's ssl and an IRC server.

    python3 tests/tls_clients.py target/release/examples            # all
    python3 tests/tls_clients.py target/release/examples forward    # one

Clients and servers that are not installed (openssl, ngircd) are reported as skipped. Traffic stays on the loopback
interface, and every started process is ended.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

from examples import DEADLINE, eventually, free_port, has, piped, process, served

MEGABYTES = 100
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(directory, pathlib.Path(folder))
        for name in sys.argv[2:] or list(CHECKS):
            CHECKS[name](directory, files)
            print(f"{name}: passed")


class Files:
    """A certificate for localhost and 127.0.0.1, its key, and the authority that has certified it."""

    def __init__(self, directory, folder):
        self.folder = folder
        self.cert, self.key, self.ca = make_certificate(directory, folder / "tls")
        self.big = folder / "big"
        with open(self.big, "wb") as file:
            for _ in range(MEGABYTES):
                file.write(os.urandom(1 << 20))
        self.sum = checksum(self.big.read_bytes())

    def server(self, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def client(self):
        return ssl.create_default_context(cafile=self.ca)


def make_certificate(directory, out):
    command = [directory / "test_certificate", "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE)
    return [out / f"{name}.pem" for name in ("cert", "key", "ca")]


def checksum(data):
    return hashlib.sha256(data).hexdigest()


# ---- netcat


def netcat(directory, files):
    command = [directory / "netcat", "--tls", "--tls-ca", files.ca]
    for version in VERSIONS:
        netcat_and_servers_that_end(command, files, version)
    netcat_and_failed_handshakes(directory / "netcat", files)
    netcat_and_itself(command, files)
    if has("openssl"):
        for version in ("-tls1_2", "-tls1_3"):
            netcat_and_openssl(command, files, version)


def netcat_and_servers_that_end(command, files, version):
    def replies(tls):
        line = tls.makefile("rb").readline()
        tls.sendall(b"got " + line)
        tls.unwrap()

    def replies_after_the_end(tls):
        received = read_all(tls)
        tls.sendall(b"got all of " + received)
        tls.unwrap()

    def is_cut(tls):
        tls.recv(100)
        tls.sendall(b"x" * 3_000_000)
        end_without_announcement(tls)

    def is_reset(tls):
        tls.recv(100)
        tls.sendall(b"partial")
        reset_on_close(tls)

    with serving(files.server(version), replies) as addr:
        done = ask(command, addr)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"got hello\n", b""), done
    with serving(files.server(version), replies_after_the_end) as addr:
        done = ask(command, addr)
        assert (done.returncode, done.stdout) == (0, b"got all of hello\n"), done
    # A reader that is slow gets everything that was received before the cut.
    for reader in ("cat", "sleep 0.5; cat"):
        with serving(files.server(version), is_cut) as addr:
            shell = ["bash", "-o", "pipefail", "-c", f'"$0" "$@" | ({reader})', *command]
            done = ask(shell, addr)
            assert done.returncode == 1 and len(done.stdout) == 3_000_000, done.stderr
            assert b"without a TLS close_notify" in done.stderr, done.stderr
    with serving(files.server(version), is_reset) as addr:
        done = ask(command, addr)
        assert done.returncode == 1 and b"reset" in done.stderr, done


def netcat_and_failed_handshakes(netcat, files):
    def fails(options, why, serve=None):
        handshake_only = serve or (lambda tls: tls.unwrap())
        with serving(None if serve else files.server(), handshake_only) as addr:
            done = ask([netcat, "--tls", *options], addr)
            assert done.returncode == 1 and not done.stdout, done
            assert why in done.stderr, done.stderr

    trusted = ["--tls-ca", files.ca]
    fails([*trusted, "--tls-name", "example.org"], b"is for another name")
    other, _, another_authority = make_certificate(netcat.parent, files.folder / "other")
    fails(["--tls-ca", other], b"is from an issuer that is not trusted")
    # It has the same name.
    fails(["--tls-ca", another_authority], b"the signature of the peer's certificate is wrong")
    fails(trusted, b"does not use TLS", lambda plain: plain.sendall(b"220 hello\r\n"))
    fails(trusted, b"closed the connection during the TLS handshake", lambda plain: plain.recv(1000))
    for options, why in (
        (["--tls-ca", files.folder / "none"], b"No such file"),
        (["--tls-ca", files.key], b"there is no certificate in the file"),
        ([*trusted, "--tls-name", "no name"], b"no name"),
    ):
        done = ask([netcat, "--tls", *options], "localhost:1")
        assert done.returncode == 1 and why in done.stderr, done
    with serving(files.server(), echo) as addr:
        done = ask([netcat, "--tls", "--tls-insecure"], addr)
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done
        assert b"is not checked" in done.stderr, done.stderr


def netcat_and_itself(command, files):
    """One waits for the other. Clients that complete no handshake are not the one that it waits for."""
    received = files.folder / "received"
    listen = [command[0], "--listen", "127.0.0.1:0", "--tls-cert", files.cert, "--tls-key", files.key]
    with open(files.big, "rb") as source, open(received, "wb") as sink:
        streams = {"stdin": subprocess.PIPE, "stdout": sink, "stderr": subprocess.PIPE}
        server = subprocess.Popen(listen, **streams)
        try:
            addr = local(server.stderr.readline().split()[-1].decode())
            for hello in (b"plaintext", b""):
                with connect(addr.replace("localhost", "127.0.0.1"), None) as client:
                    client.sendall(hello)
            server.stdin.write(b"an answer")
            server.stdin.close()
            done = subprocess.run([*command, addr], stdin=source, capture_output=True, timeout=120)
            assert (done.returncode, done.stdout) == (0, b"an answer"), done.stderr
            assert server.wait(DEADLINE) == 0
        finally:
            server.kill()
            server.wait()
    assert checksum(received.read_bytes()) == files.sum


def netcat_and_openssl(command, files, version):
    """A file from `openssl s_server`, and one to it."""
    port = free_port()
    server = ["openssl", "s_server", version, "-accept", f"127.0.0.1:{port}"]
    server += ["-cert", files.cert, "-key", files.key]
    # It serves files of its folder.
    serve = ["sh", "-c", 'cd "$0" && exec "$@"', files.folder, *server, "-HTTP"]
    with process(serve, stdout=subprocess.DEVNULL):
        wait_for(port)
        done = ask(command, f"localhost:{port}", b"GET /big HTTP/1.0\r\n\r\n")
        assert (done.returncode, checksum(done.stdout)) == (0, files.sum), done.stderr
    received = files.folder / "received"
    # The server ends a connection at the end of its own standard input. The probe is the first connection.
    receive = ["sh", "-c", 'exec "$@" >"$0" 2>/dev/null', received, *server, "-quiet", "-naccept", "2"]
    with piped(receive) as receiver:
        wait_for(port)
        with open(files.big, "rb") as source:
            subprocess.run([*command, f"localhost:{port}"], stdin=source, check=True, timeout=120)
        assert receiver.wait(DEADLINE) == 0
    assert checksum(received.read_bytes()) == files.sum


def ask(command, addr, question=b"hello\n"):
    return subprocess.run([*command, local(addr)], input=question, capture_output=True, timeout=120)


# ---- forward


def forward(directory, files):
    program = directory / "forward"
    tls_in = ["--tls-in", "--tls-cert", files.cert, "--tls-key", files.key]
    tls_out = ["--tls-out", "--tls-ca", files.ca]
    with contextlib.ExitStack() as stack:

        def start(to, *options):
            return stack.enter_context(served(program, "--to", to, *options))[0]

        plain = stack.enter_context(serving(None, echo))
        secured = stack.enter_context(serving(files.server(), echo))
        into = start(plain, *tls_in)
        ways = {
            "in": (into, True),
            "out": (start(secured, *tls_out), False),
            "in and out": (start(secured, *tls_in, *tls_out), True),
            "out and in again": (start(into, *tls_out), False),
        }
        for name, (addr, tls) in ways.items():
            assert echoed(directory / "netcat", addr, tls, files) == files.sum, name
        transfer(into, files)
    for version in VERSIONS:
        forward_and_streams_that_are_cut(program, files, version, tls_in, tls_out)
    forward_that_is_killed(program, files, tls_in)
    forward_and_a_new_certificate(program, files)


def echo(client):
    """Echoes until the end of the input."""
    while chunk := client.recv(1 << 16):
        client.sendall(chunk)
    finish(client)


def echoed(netcat, addr, tls, files):
    """Sends a file, half-closes, and receives at the same time."""
    options = ["--tls", "--tls-ca", files.ca] if tls else []
    received = files.folder / "received"
    with open(files.big, "rb") as source, open(received, "wb") as sink:
        command = [netcat, *options, local(addr)]
        subprocess.run(command, stdin=source, stdout=sink, check=True, timeout=120)
    return checksum(received.read_bytes())


def transfer(addr, files):
    """Python's ssl sends a large file in parts, and receives each of them before it sends the next."""
    part, total = 1 << 18, hashlib.sha256()
    with connect(addr, files.client()) as client, open(files.big, "rb") as file:
        while sent := file.read(part):
            client.sendall(sent)
            received = 0
            while received < len(sent):
                chunk = client.recv(part)
                received += len(chunk)
                total.update(chunk)
        # Which sends the announcement, and waits for that of the other side.
        client.unwrap()
    assert total.hexdigest() == files.sum


def forward_and_streams_that_are_cut(program, files, version, tls_in, tls_out):
    """A stream of TLS that ends without an announcement is a reset for the other end."""
    ends = []

    def note(client):
        ends.append(outcome(client))

    with serving(None, note) as plain, served(program, "--to", plain, *tls_in) as (addr, _):
        context = files.client()
        context.minimum_version = context.maximum_version = version
        for how in (lambda client: None, reset_on_close):
            client = connect(addr, context)
            client.sendall(b"x" * 100_000)
            how(client)
            # `close` of Python's ssl announces nothing.
            client.close()
            eventually(lambda: ends)
            assert ends == ["reset"], ends
            ends.clear()
        client = connect(addr, context)
        client.sendall(b"x" * 100_000)
        client.unwrap()
        client.close()
        eventually(lambda: ends)
        assert ends == [100_000], ends

    def is_cut(tls):
        tls.sendall(b"x" * 100_000)
        end_without_announcement(tls)

    with serving(files.server(version), is_cut) as secured:
        with served(program, "--to", secured, *tls_out) as (addr, _):
            with connect(addr, None) as client:
                assert outcome(client) == "reset"


def forward_that_is_killed(program, files, tls_in):
    """Its client can tell that the stream is not complete."""
    with serving(None, lambda client: client.sendall(b"x" * 100_000_000)) as plain:
        with process([program, "--listen", "127.0.0.1:0", "--to", plain, *tls_in]) as server:
            addr = server.stdout.readline().split()[-1]
            client = connect(addr, files.client())
            assert client.recv(100)
            server.kill()
            server.wait(DEADLINE)
            ended = outcome(client)
            assert ended in ("cut", "reset"), ended


def forward_and_a_new_certificate(program, files):
    """SIGHUP reads the certificate again for new connections. Those that are up stay."""
    folder = files.folder / "renewed"
    cert, key, old_ca = make_certificate(program.parent, folder)
    options = ["--tls-in", "--tls-cert", cert, "--tls-key", key]
    with serving(None, echo) as plain, served(program, "--to", plain, *options) as (addr, server):
        old = connect(addr, ssl.create_default_context(cafile=old_ca))
        shutil.copy(files.cert, cert)
        shutil.copy(files.key, key)
        server.send_signal(signal.SIGHUP)

        def is_renewed():
            with contextlib.suppress(ssl.SSLCertVerificationError):
                with connect(addr, files.client()) as client:
                    return exchanged(client)
            return False

        eventually(is_renewed)
        # Files that do not fit together: the certificate stays.
        key.write_text("no key")
        server.send_signal(signal.SIGHUP)
        assert is_renewed() and exchanged(old)
        old.unwrap()


def exchanged(client):
    client.sendall(b"hello")
    return client.recv(100) == b"hello"


def outcome(client):
    """How many bytes a complete stream has, or how it ends."""
    received = 0
    try:
        while chunk := client.recv(1 << 16):
            received += len(chunk)
    except ConnectionResetError:
        return "reset"
    except ssl.SSLEOFError:
        return "cut"
    return received


# ---- ircbot


def ircbot(directory, files):
    """The bot registers, answers, and connects again when the server was restarted."""
    ngircd = shutil.which("ngircd", path=os.environ["PATH"] + ":/usr/sbin")
    if not ngircd:
        print("skipped: ngircd is not installed")
        return
    port = free_port()
    config = files.folder / "ngircd.conf"
    config.write_text(
        "[Global]\nName = irc.test\nInfo = test\nListen = 127.0.0.1\n"
        f"Ports = {free_port()}\n[Options]\nPAM = no\nIdent = no\n"
        f"[SSL]\nCertFile = {files.cert}\nKeyFile = {files.key}\nPorts = {port}\n"
    )
    server = [ngircd, "-n", "-f", config]
    command = [directory / "ircbot", "--tls", "--tls-ca", files.ca, "--max-pause", "1"]
    command += ["--server", f"localhost:{port}", "--nick", "robin", "--channel", "#test"]
    with process(command) as bot:
        for _ in range(2):
            with process(server, stdout=subprocess.DEVNULL):
                wait_for(port)
                ask_the_bot(f"127.0.0.1:{port}", files)
        bot.send_signal(signal.SIGINT)
        assert bot.wait(DEADLINE) == 0


def ask_the_bot(addr, files):
    with connect(addr, files.client()) as human:
        lines = human.makefile("rw", newline="\r\n")
        lines.write("NICK human\r\nUSER human 0 * :human\r\nJOIN #test\r\n")
        lines.flush()
        for line in lines:
            # The bot may come later, or be there already.
            if " JOIN " in line and line.startswith(":robin!") or " 353 " in line and "robin" in line:
                lines.write("PRIVMSG #test :!uptime\r\n")
                lines.flush()
            if line.startswith(":robin!") and " PRIVMSG #test :up for " in line:
                return
    raise AssertionError("the server has closed the connection")


# ---- sockets


@contextlib.contextmanager
def serving(context, serve):
    """A server on a free port, with TLS if there is a `context`. What it raises is raised at the end."""
    errors = []

    def serve_one(client):
        try:
            with client:
                client.settimeout(DEADLINE)
                if context:
                    client = context.wrap_socket(client, server_side=True, suppress_ragged_eofs=False)
                with client:
                    serve(client)
        except ssl.SSLError as error:
            # The client has refused the handshake.
            if "alert" not in str(error).lower():
                errors.append(error)
        except (ConnectionResetError, BrokenPipeError):
            pass
        except Exception as error:
            errors.append(error)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        # It does not wake a thread that accepts, if it is closed only.
        listener.shutdown(socket.SHUT_RDWR)
    assert not errors, errors


def connect(addr, context):
    host, _, port = addr.rpartition(":")
    client = socket.create_connection((host, int(port)), DEADLINE)
    if context is None:
        return client
    return context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False)


def finish(client):
    """Ends the output in order."""
    if isinstance(client, ssl.SSLSocket):
        client.unwrap()
    else:
        client.shutdown(socket.SHUT_WR)


def end_without_announcement(tls):
    """Half-closes the socket below TLS, and waits until the other side has closed it: a close with unread input is a
    reset."""
    socket.socket.shutdown(tls, socket.SHUT_WR)
    while socket.socket.recv(tls, 1 << 16):
        pass


def reset_on_close(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_all(client):
    received = b""
    while chunk := client.recv(1 << 16):
        received += chunk
    return received


def local(addr):
    """The address with the name that is in the certificate."""
    return addr.replace("127.0.0.1", "localhost")


def wait_for(port):
    def accepts():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(port))) == 0

    eventually(accepts)


CHECKS = {check.__name__: check for check in (netcat, forward, ircbot)}

if __name__ == "__main__":
    main()
