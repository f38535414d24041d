#!/usr/bin/env python3
"""Runs clients of FTP with the example `files`: ftplib, curl, wget, lftp, tnftp, ncftp, rclone, and raw sockets.

    python3 tests/ftp_client.py target/release/examples/files             # all
    python3 tests/ftp_client.py target/release/examples/files tls         # one check

TLS needs target/release/examples/test_certificate beside it. curl, wget, lftp, tnftp, ncftp and rclone (packages of Debian)
are skipped with a message if they are not installed, unless FTP_REQUIRE is set. Traffic stays on the loopback interface, and
every started process is ended.
"""

import concurrent.futures
import contextlib
import ftplib
import functools
import hashlib
import io
import os
import pathlib
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

import clients
from clients import checksum

DEADLINE = 120
FILES = pathlib.Path(sys.argv[1]).resolve()
LARGE = 100_000_000

has = functools.partial(clients.has, require="FTP_REQUIRE")
run = functools.partial(clients.run, timeout=DEADLINE)


def main():
    for name in sys.argv[2:] or list(CHECKS):
        if CHECKS[name]():
            print(f"{name}: passed", flush=True)


# ---- the server


class Server:
    def __init__(self, folder, *options):
        command = [FILES, folder, "--listen", "127.0.0.1:0", "--ftp-listen", "127.0.0.1:0", *options]
        self.folder = pathlib.Path(folder)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.stderr = ""
        # It must not wait for a reader of its log.
        self.reader = threading.Thread(target=self.read_log)
        self.reader.start()
        prefix = "listening for FTP on "
        line = ""
        while not line.startswith(prefix):
            line = self.process.stdout.readline()
            if line.startswith("listening on "):
                self.http = int(line.rsplit(":", 1)[1])
            if not line:
                self.process.kill()
                self.reader.join()
                raise AssertionError(self.stderr)
        self.port = int(line.rsplit(":", 1)[1])
        if "--ftps-listen" in options:
            line = self.process.stdout.readline()
            assert line.startswith("listening for FTP with TLS on "), line
            self.ftps = int(line.rsplit(":", 1)[1])

    def read_log(self):
        for line in self.process.stderr:
            self.stderr += line

    def wait_for_uploads(self, count):
        """Until the log, which another thread reads, has so many. It never has more."""
        end = time.monotonic() + DEADLINE
        while (logged := self.stderr.count("uploaded names=")) != count:
            assert logged < count and time.monotonic() < end, f"{logged} uploads"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=DEADLINE)
        self.reader.join()
        assert self.process.returncode == 0, self.stderr
        assert "panicked" not in self.stderr, self.stderr

    def url(self, path, user=""):
        return f"ftp://{user}127.0.0.1:{self.port}/{path}"

    def names(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@contextlib.contextmanager
def serve(*options, write=True):
    """A server of a new folder, and another folder for its client."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        if write:
            options = ["--write", "--user", "ann:secret", *options]
        server = Server(folder, *options)
        try:
            yield server, pathlib.Path(other)
        finally:
            server.stop()


@contextlib.contextmanager
def certificate():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [FILES.with_name("test_certificate"), "--out", folder], check=True, capture_output=True, timeout=DEADLINE
        )
        folder = pathlib.Path(folder)
        yield folder / "ca.pem", ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]


def fill(path, size=LARGE):
    """Random bytes, and their checksum."""
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def client(server, user="ann", password="secret", kind=ftplib.FTP, **options):
    ftp = kind(timeout=DEADLINE, **options)
    ftp.connect("127.0.0.1", server.port)
    ftp.login(user, password)
    return ftp


def is_refused(server, user, password):
    try:
        client(server, user, password).close()
    except ftplib.error_perm:
        return True
    return False


def transfer_both_ways(ftp, folder, large):
    """Receives the large file, which has this checksum, and sends it back as a copy."""
    received = hashlib.sha256()
    ftp.retrbinary("RETR large", received.update)
    assert received.hexdigest() == large
    with open(folder / "large", "rb") as file:
        ftp.storbinary("STOR copy", file)
    assert checksum(folder / "copy") == large


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end


def refused(call, code):
    try:
        call()
    except ftplib.Error as error:
        assert str(error).startswith(code), (code, error)
    else:
        raise AssertionError(f"it is not refused with {code}")


def reset_at_close(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# ---- ftplib


def python_library():
    with serve() as (server, other):
        large = fill(server.folder / "large")
        (server.folder / "dir").mkdir()
        (server.folder / "ü.txt").write_text("one\ntwo\n")
        for passive in [True, False]:
            with client(server) as ftp:
                ftp.set_pasv(passive)
                assert ftp.nlst() == ["dir", "large", "ü.txt"], ftp.nlst()
                facts = dict(ftp.mlsd())
                assert facts["large"]["size"] == str(LARGE) and facts["dir"]["type"] == "dir", facts
                ftp.voidcmd("TYPE I")
                assert ftp.size("large") == LARGE
                assert ftp.sendcmd("MDTM large").startswith("213 20")
                received = hashlib.sha256()
                ftp.retrbinary("RETR large", received.update)
                assert received.hexdigest() == large
                lines = []
                ftp.retrlines("RETR ü.txt", lines.append)
                assert lines == ["one", "two"], lines
                with open(server.folder / "large", "rb") as file:
                    ftp.storbinary("STOR copy", file)
                assert checksum(server.folder / "copy") == large
                ftp.storlines("STOR lines", io.BytesIO(b"one\r\ntwo\r\n"))
                assert (server.folder / "lines").read_bytes() == b"one\ntwo\n"
                # Resumed, both ways.
                rest = []
                ftp.retrbinary("RETR large", rest.append, rest=LARGE - 1000)
                assert b"".join(rest) == (server.folder / "large").read_bytes()[-1000:]
                with open(server.folder / "large", "rb") as file:
                    os.truncate(server.folder / "copy", LARGE // 3)
                    file.seek(LARGE // 3)
                    # Not with REST: the server does not know whose part it is.
                    refused(lambda: ftp.storbinary("STOR copy", file, rest=LARGE // 3), "550")
                    # A cut APPE has left a part.
                    with ftp.transfercmd("APPE copy") as data:
                        data.sendall(file.read(LARGE // 3))
                        reset_at_close(data)
                    refused(ftp.voidresp, "426")
                    start = ftp.size("copy")
                    assert LARGE // 3 <= start <= LARGE // 3 * 2
                    file.seek(start)
                    ftp.storbinary("STOR copy", file, rest=start)
                    assert checksum(server.folder / "copy") == large
                    os.truncate(server.folder / "copy", LARGE // 2)
                    file.seek(LARGE // 2)
                    ftp.storbinary("APPE copy", file)
                assert checksum(server.folder / "copy") == large
                ftp.mkd("a b")
                ftp.cwd("a b")
                assert ftp.pwd() == "/a b"
                ftp.cwd("..")
                ftp.rename("copy", "a b/copy")
                ftp.delete("a b/copy")
                ftp.rmd("a b")
                ftp.delete("lines")
                refused(lambda: ftp.rmd("none"), "550")
                # The last byte of ABOR is urgent.
                data, _ = ftp.ntransfercmd("RETR large")
                with data:
                    assert data.recv(1000)
                    assert ftp.abort().startswith("426")
                    assert ftp.getmultiline().startswith("226")
                assert ftp.size("large") == LARGE
        assert server.names() == ["dir", "large", "ü.txt"]
    return True


def patterns():
    """`*.txt`, with ftplib. The other clients ask in the same way."""
    with serve() as (server, _):
        fill_with_texts(server.folder)
        with client(server) as ftp:
            for pattern, names in [
                ("*.txt", ["a.txt", "ü b.txt"]),
                ("dir/*.txt", ["dir/a.txt", "dir/ü b.txt"]),
                ("dir", ["dir/a.txt", "dir/c.dat", "dir/ü b.txt"]),
                ("*.none", []),
            ]:
                listed = ftp.nlst(pattern)
                assert listed == names, (pattern, listed)
                for name in listed:
                    lines = []
                    ftp.retrlines(f"RETR {name}", lines.append)
                    assert lines == ["text"], (name, lines)
            lines = []
            ftp.dir("dir/*.txt", lines.append)
            assert [line.endswith((" a.txt", " ü b.txt")) for line in lines] == [True, True], lines
            refused(lambda: ftp.nlst("none"), "550")
            refused(lambda: ftp.nlst("d*/a.txt"), "550")
            # RFC 3659 section 2.2.2: a path is literal.
            refused(lambda: list(ftp.mlsd("*.txt")), "550")
    return True


def fill_with_texts(folder):
    """In the folder and in one of it."""
    (folder / "dir").mkdir()
    for below in (folder, folder / "dir"):
        for name in ("a.txt", "ü b.txt", "c.dat"):
            (below / name).write_text("text\n")


def keep_alive():
    """NOOP during a transfer, as clients send them."""
    with serve() as (server, _):
        large = fill(server.folder / "large")
        with client(server) as ftp:
            ftp.voidcmd("TYPE I")
            data, _ = ftp.ntransfercmd("RETR large")
            received = hashlib.sha256()
            with data:
                for _ in range(1000):
                    ftp.putcmd("NOOP")
                    received.update(data.recv(1000))
                while piece := data.recv(1 << 20):
                    received.update(piece)
            assert received.hexdigest() == large
            assert ftp.getresp().startswith("226")
            for _ in range(1000):
                assert ftp.getresp().startswith("200")
            assert ftp.pwd() == "/"
    return True


def too_large():
    """A client that sends more than is permitted reads why, and may go on."""
    with serve("--max-upload", "1M") as (server, other):
        # More than a closed connection drops while it lingers: 16 MiB.
        fill(other / "large", 64 << 20)
        with client(server) as ftp:
            for _ in range(3):
                with open(other / "large", "rb") as file:
                    refused(lambda file=file: ftp.storbinary("STOR large", file), "552")
                ftp.storbinary("STOR small", io.BytesIO(b"small"))
        if has("curl"):
            command = ["curl", "-sv", "-u", "ann:secret", "-T", other / "large", server.url("large")]
            done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
            assert done.returncode == 70 and b"\n< 552 " in done.stderr, (done.returncode, done.stderr[-500:])
        assert server.names() == ["small"]
    return True


def texts():
    """What a mistake on the command line is answered with."""
    for options, given, text in [
        (["--hash-password", "bob"], b"", b"the standard input has no password"),
        (["--hash-password", "bob"], b"\n", b"the standard input has no password"),
        (["--hash-password", "bob"], b"x" * 72, b"a password for bcrypt has at most 71 bytes: use `openssl passwd -6`"),
        ([".", "--user", "ann:secret"], b"", b"have no effect without --write or --no-anonymous"),
    ]:
        done = subprocess.run([FILES, *options], input=given, capture_output=True, timeout=DEADLINE)
        assert done.returncode == 1 and text in done.stderr, done
    return True


def writers():
    """Nobody else writes."""
    with serve() as (server, _):
        (server.folder / "a").write_text("a")
        refused(lambda: client(server, "ann", "wrong"), "530")
        refused(lambda: client(server, "bob", "secret"), "530")
        with client(server, "anonymous", "me@") as ftp:
            refused(lambda: ftp.storbinary("STOR b", io.BytesIO(b"b")), "550")
            refused(lambda: ftp.storbinary("APPE a", io.BytesIO(b"b")), "550")
            refused(lambda: ftp.delete("a"), "550")
            refused(lambda: ftp.mkd("b"), "550")
            refused(lambda: ftp.rename("a", "b"), "550")
            assert ftp.nlst() == ["a"]
    with serve(write=False) as (server, _):
        refused(lambda: client(server), "530")
    with serve("--no-anonymous", "--max-per-address", "2") as (server, _):
        refused(lambda: client(server, "anonymous", "me@"), "530")
        with client(server), client(server):
            refused(lambda: client(server), "421")
    return True


def passwords():
    """Hashes of other programs, for FTP and HTTP. Many log-ins at once do not stop the server."""
    with tempfile.TemporaryDirectory() as folder:
        users = pathlib.Path(folder) / "users"
        entries = [run(FILES, "--hash-password", "ann", input=b"secret\n")]
        if has("htpasswd"):
            entries.append(run("htpasswd", "-nbB", "bob", "secret"))
        if has("openssl"):
            entries += (name + b":" + run("openssl", "passwd", kind, "secret") for name, kind in ((b"carl", "-5"), (b"dora", "-6")))
        users.write_bytes(b"# users\n\n" + b"".join(entries))
        users.chmod(0o600)
        names = [entry.split(b":")[0].decode() for entry in entries]
        with serve("--write", "--passwords", users, write=False) as (server, _):
            with concurrent.futures.ThreadPoolExecutor(len(names) * 12) as pool:
                for name in names:
                    if has("curl"):
                        url = f"http://127.0.0.1:{server.http}/{name}"
                        run("curl", "-sSf", "-u", f"{name}:secret", "-T", "-", url, "-T", "-", url + "2", input=b"x")
                for outcome in [pool.submit(client, server, name) for name in names for _ in range(12)]:
                    outcome.result().close()
                # Each is counted before the next one is checked.
                outcomes = [pool.submit(is_refused, server, names[0], f"wrong {n}") for n in range(16)]
                assert all(outcome.result() for outcome in outcomes)
            refused(lambda: client(server, names[0]), "530")
            refused(lambda: client(server, "nobody", "secret"), "530")
        reload(users)
        for text in (b"ann:secret\n", b"ann:$apr1$x$y\n"):
            users.write_bytes(entries[0] + text)
            started = subprocess.run([FILES, pathlib.Path(__file__).parent, "--write", "--passwords", users], capture_output=True, text=True, timeout=DEADLINE)
            assert started.returncode == 1 and "line 2: " in started.stderr and "htpasswd" in started.stderr, started
            assert "secret" not in started.stderr
    return True


def reload(users):
    """SIGHUP reads the file of passwords again. If it is broken, the old ones stay."""
    def entry(password):
        return run(FILES, "--hash-password", "ann", input=password)

    with serve("--write", "--passwords", users, write=False) as (server, _), client(server) as before:
        for content, outcome in ((entry(b"other\n"), "the passwords were read again"), (b"ann\n", "the old passwords stay")):
            users.write_bytes(content)
            server.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + DEADLINE
            while outcome not in server.stderr:
                assert time.monotonic() < end, server.stderr
                time.sleep(0.01)
            client(server, password="other").close()
            assert is_refused(server, "ann", "secret")
        # Whoever is logged in stays so.
        before.voidcmd("NOOP")
        assert before.mkd("folder") == "/folder"
    users.write_bytes(entry(b"secret\n"))


def bounce():
    """The list of attacks of RFC 2577, on real sockets."""
    with serve() as (server, _), socket.create_server(("127.0.0.2", 0)) as stranger:
        (server.folder / "a").write_text("a")
        stranger.settimeout(0.2)
        port = stranger.getsockname()[1]
        high, low = divmod(port, 256)
        with client(server) as ftp:
            for command in [
                f"PORT 127,0,0,2,{high},{low}",
                f"EPRT |1|127.0.0.2|{port}|",
                f"EPRT |2|::ffff:127.0.0.2|{port}|",
                "PORT 127,0,0,1,0,22",
                "EPRT |1|127.0.0.1|22|",
                "PORT 0,0,0,0,3,232",
            ]:
                refused(lambda command=command: ftp.sendcmd(command), "504")
                refused(lambda: ftp.sendcmd("RETR a"), "425")
            # Somebody else is faster than the client.
            host, port = ftp.makepasv()
            with socket.create_connection((host, port), DEADLINE, source_address=("127.0.0.3", 0)) as thief:
                ftp.putcmd("RETR a")
                assert ftp.getresp().startswith("150")
                with contextlib.suppress(ConnectionResetError):
                    assert thief.recv(100) == b""
            with socket.create_connection((host, port), DEADLINE) as data:
                assert data.recv(100) == b"a"
            assert ftp.getresp().startswith("226")
            try:
                accepted = stranger.accept()
            except TimeoutError:
                accepted = None
            assert accepted is None
    return True


def telnet():
    """Telnet's IP and Synch before ABOR, as the client of BSD sends them, in one segment or several."""
    with serve() as (server, _):
        fill(server.folder / "large", 50_000_000)
        for urgent, rest in [(b"\xff\xf4\xff", b"\xf2ABOR\r\n"), (b"\xff\xf4\xff\xf2", b"ABOR\r\n")]:
            with client(server) as ftp:
                data, _ = ftp.ntransfercmd("RETR large")
                with data:
                    assert data.recv(1000)
                    ftp.sock.send(urgent, socket.MSG_OOB)
                    ftp.sock.sendall(rest)
                    ftp.putcmd("STAT")
                    replies = [ftp.getmultiline()[:3] for _ in range(3)]
                    assert replies == ["426", "226", "211"], replies
                # STAT during a transfer.
                data, _ = ftp.ntransfercmd("RETR large")
                with data:
                    ftp.putcmd("STAT")
                    reply = ftp.getmultiline()
                    assert reply.startswith("211") and "bytes of /large: " in reply, reply
                refused(ftp.getresp, "426")
    return True


def tls():
    with certificate() as (ca, options), serve("--ftps-listen", "127.0.0.1:0", *options) as (server, other):
        large = fill(server.folder / "large")
        context = ssl.create_default_context(cafile=ca)
        # The certificate is for localhost, and ftplib connects to the address.
        context.check_hostname = False
        refused(lambda: client(server), "530")
        # A browser that is led to this server (ALPACA, CVE-2021-3618).
        browser = ssl.create_default_context(cafile=ca)
        browser.check_hostname = False
        browser.set_alpn_protocols(["http/1.1"])
        try:
            client(server, kind=ftplib.FTP_TLS, context=browser)
        except ssl.SSLError as error:
            assert "no application protocol" in str(error).lower().replace("_", " "), error
        else:
            raise AssertionError("it is served")
        with client(server, kind=ftplib.FTP_TLS, context=context) as ftp:
            for passive in [True, False]:
                ftp.set_pasv(passive)
                ftp.prot_p()
                transfer_both_ways(ftp, server.folder, large)
                # Without TLS for its data a user gets nothing.
                ftp.prot_c()
                refused(ftp.nlst, "521")
        if has("curl"):
            # With AUTH TLS, and with TLS from the beginning.
            for url in (f"ftp://localhost:{server.port}", f"ftps://localhost:{server.ftps}"):
                common = ["curl", "-sS", "--ssl-reqd", "--cacert", ca, "-u", "ann:secret"]
                run(*common, "-o", other / "large", f"{url}/large")
                assert checksum(other / "large") == large
                run(*common, "-T", other / "large", f"{url}/curl")
                assert checksum(server.folder / "curl") == large
                (server.folder / "curl").unlink()
        if has("lftp"):
            for url in (f"ftp://localhost:{server.port}", f"ftps://localhost:{server.ftps}"):
                # lftp protects data unless an option forbids it.
                script = f"set ssl:ca-file {ca}; set ftp:ssl-force true; open -u ann,secret {url}; get large -o {other}/lftp; "
                run("lftp", "-c", script + f"put {other}/lftp -o lftp; ls")
                assert checksum(other / "lftp") == large and checksum(server.folder / "lftp") == large
                (other / "lftp").unlink()
                (server.folder / "lftp").unlink()
    return True


class Resuming(ftplib.FTP_TLS):
    """ftplib whose data connections resume the TLS session of the control connection."""

    def ntransfercmd(self, cmd, rest=None):
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        name, session = self.host, self.sock.session
        return self.context.wrap_socket(data, server_hostname=name, session=session), size


class Stranger(ftplib.FTP_TLS):
    """ftplib whose data connections resume the TLS session of the data connection before, as that of a stranger would. With
    TLS 1.3 they have nothing to resume, because no data connection gets a ticket."""

    session = None

    def ntransfercmd(self, cmd, rest=None):
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        data = self.context.wrap_socket(data, server_hostname=self.host, session=self.session)
        self.session = data.session
        return data, size


def reuse():
    """--ftps-require-reuse: data connections that do not resume the session are refused."""
    options = ("--ftps-listen", "127.0.0.1:0", "--ftps-require-reuse")
    with certificate() as (ca, more), serve(*options, *more) as (server, other):
        large = fill(server.folder / "large")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=ca)
            context.check_hostname = False
            context.minimum_version = context.maximum_version = version
            with client(server, kind=Resuming, context=context) as ftp:
                ftp.prot_p()
                for _ in range(3):
                    transfer_both_ways(ftp, server.folder, large)
            with client(server, kind=Stranger, context=context) as ftp:
                ftp.prot_p()
                for _ in range(3):
                    # ftplib waits for the end of the data connection, which is a reset, before it reads the 522.
                    try:
                        ftp.retrbinary("RETR large", lambda _: None)
                    except OSError:
                        refused(ftp.getresp, "522")
                    except ftplib.error_perm as error:
                        assert str(error).startswith("522"), error
                    else:
                        raise AssertionError("it is served")
        for url in (f"ftp://localhost:{server.port}", f"ftps://localhost:{server.ftps}"):
            if has("curl"):
                command = ["curl", "-sS", "--ssl-reqd", "--cacert", ca, "-u", "ann:secret"]
                # OpenSSL uses a ticket of TLS 1.3 once, and curl has the last one of a connection.
                run(*command, "-o", other / "curl", f"{url}/large")
                run(*command, "-T", other / "curl", f"{url}/curl")
                assert checksum(server.folder / "curl") == large
                (server.folder / "curl").unlink()
                files = [["-o", other / f"curl{n}", f"{url}/large"] for n in range(4)]
                run(*command, "--tls-max", "1.2", *sum(files, []))
                assert all(checksum(other / f"curl{n}") == large for n in range(4))
            if has("lftp"):
                for version in ("", "set ssl:priority NORMAL:-VERS-TLS1.3; "):
                    script = f"set ssl:ca-file {ca}; set ftp:ssl-force true; {version}open -u ann,secret {url}; "
                    run("lftp", "-c", script + f"get large -o {other}/lftp; put {other}/lftp -o lftp; ls; ls; ls")
                    assert checksum(other / "lftp") == large and checksum(server.folder / "lftp") == large
                    (other / "lftp").unlink()
                    (server.folder / "lftp").unlink()
    return True


# ---- programs


def curl():
    if not has("curl"):
        return False
    with serve("--ftp-ports", "50000-50010") as (server, other):
        large = fill(server.folder / "large")
        (server.folder / "dir").mkdir()
        (server.folder / "dir" / "ü.txt").write_text("hello\n")
        assert run("curl", "-sS", server.url("dir/ü.txt")) == b"hello\n"
        assert b"large" in run("curl", "-sS", "--list-only", server.url(""))
        for options in [[], ["--disable-epsv"], ["-P", "-"], ["-P", "-", "--disable-eprt"]]:
            run("curl", "-sS", *options, "-o", other / "large", server.url("large"))
            assert checksum(other / "large") == large, options
            run("curl", "-sS", *options, "-u", "ann:secret", "-T", other / "large", server.url("dir/copy"))
            assert checksum(server.folder / "dir" / "copy") == large, options
        # Resumed.
        os.truncate(other / "large", LARGE // 3)
        run("curl", "-sS", "-C", "-", "-o", other / "large", server.url("large"))
        assert checksum(other / "large") == large
        os.truncate(server.folder / "dir" / "copy", LARGE // 3)
        run("curl", "-sS", "-C", "-", "-u", "ann:secret", "-T", other / "large", server.url("dir/copy"))
        assert checksum(server.folder / "dir" / "copy") == large
        # A part: curl ends the data connection when it has it.
        part = run("curl", "-sS", "-r", "1000-1999", server.url("large"))
        assert part == (server.folder / "large").read_bytes()[1000:2000]
        quotes = ["-Q", "MKD new", "-Q", "RNFR dir/copy", "-Q", "RNTO new/copy", "-Q", "DELE new/copy"]
        run("curl", "-sS", "-u", "ann:secret", *quotes, server.url(""))
        run("curl", "-sS", "-u", "ann:secret", "--ftp-create-dirs", "-T", "-", server.url("x/y/z"), input=b"z")
        assert server.names() == ["dir", "dir/ü.txt", "large", "new", "x", "x/y", "x/y/z"], server.names()
        denied = subprocess.run(["curl", "-sS", "-T", other / "large", server.url("x")], capture_output=True)
        assert denied.returncode != 0 and not (server.folder / "x").is_file()
    return True


def killed():
    """What a client has sent that is killed does not replace its file, and cannot be continued."""
    if not has("curl"):
        return False
    with serve() as (server, other):
        file = server.folder / "file"
        file.write_text("old")
        large = fill(other / "large", 1 << 20)
        upload = ["curl", "-sS", "-u", "ann:secret", "-T", other / "large", server.url("file")]

        def parts():
            return list(server.folder.glob(".files-upload-*"))

        client = subprocess.Popen([*upload, "--limit-rate", "64K"])
        wait_until(lambda: any(part.stat().st_size > 0 for part in parts()))
        client.kill()
        client.wait(timeout=DEADLINE)
        wait_until(lambda: not parts())
        assert file.read_text() == "old"
        # curl asks for the size of the file, and sends what is behind it.
        resumed = subprocess.run([*upload, "-C", "-"], capture_output=True, timeout=DEADLINE)
        assert resumed.returncode == 25 and b"550" in resumed.stderr, resumed
        assert file.read_text() == "old"
        run(*upload)
        assert checksum(file) == large
        server.wait_for_uploads(1)
    return True


def wget():
    if not has("wget"):
        return False
    with serve() as (server, other):
        large = fill(server.folder / "large")
        (server.folder / "dir" / "sub").mkdir(parents=True)
        (server.folder / "dir" / "sub" / "a b.txt").write_text("a")
        run("wget", "-q", "-r", "-nH", "-P", other, server.url(""))
        assert checksum(other / "large") == large
        assert (other / "dir" / "sub" / "a b.txt").read_text() == "a"
        os.truncate(other / "large", LARGE // 3)
        run("wget", "-q", "-c", "-P", other, server.url("large"))
        assert checksum(other / "large") == large
        run("wget", "-q", "--no-passive-ftp", "-O", other / "again", server.url("large"))
        assert checksum(other / "again") == large
    return True


def lftp():
    if not has("lftp"):
        return False
    with serve() as (server, other):
        large = fill(server.folder / "large")
        (server.folder / "dir" / "ü").mkdir(parents=True)
        for n in range(300):
            (server.folder / "dir" / f"{n}.txt").write_text(str(n) * n)
        opening = f"open -u ann,secret ftp://127.0.0.1:{server.port}; "
        run("lftp", "-c", opening + f"mirror --parallel=4 / {other}/mirror")
        run("lftp", "-c", opening + f"mirror -R --parallel=4 {other}/mirror /back")
        for folder in [other / "mirror", server.folder / "back"]:
            assert checksum(folder / "large") == large
            for n in range(300):
                assert (folder / "dir" / f"{n}.txt").read_text() == str(n) * n
        # It continues with REST and STOR what it takes for its part. The server refuses that, and lftp sends the whole file.
        for command in ["put -c", "reput"]:
            (server.folder / "old").write_text("of another client")
            run("lftp", "-c", opening + f"{command} {other}/mirror/large -o old")
            assert checksum(server.folder / "old") == large, command
        (server.folder / "old").unlink()
        # Several connections for one file, with REST.
        run("lftp", "-c", opening + f"pget -n 4 large -o {other}/large")
        assert checksum(other / "large") == large
        # The times are those of the originals, so that a file of the same size that was changed is found.
        changed = other / "mirror" / "dir" / "5.txt"
        changed.write_text("later")
        os.utime(changed, (2_000_000_000, 2_000_000_000))
        run("lftp", "-c", opening + f"mirror -R {other}/mirror /back")
        assert (server.folder / "back" / "dir" / "5.txt").read_text() == "later"
        for name in ["large", "dir/5.txt", "dir/299.txt"]:
            times = [int((folder / name).stat().st_mtime) for folder in (other / "mirror", server.folder / "back")]
            assert times[0] == times[1], (name, times)
        run("lftp", "-c", opening + "rm -r back")
        assert not (server.folder / "back").exists()
    return True


def tnftp():
    """`mget` and `mdelete` with patterns."""
    if not has("tnftp"):
        return False
    with serve() as (server, other):
        fill_with_texts(server.folder)
        (other / "dir").mkdir()
        script = "user ann secret\nmget *.none *.txt\nmget dir/*\nmdelete *.txt\nmdelete dir/*.dat\nquit\n"
        run("tnftp", "-n", "-i", "127.0.0.1", str(server.port), input=script.encode(), cwd=other)
        texts = ["a.txt", "dir", "dir/a.txt", "dir/c.dat", "dir/ü b.txt", "ü b.txt"]
        names = sorted(str(path.relative_to(other)) for path in other.rglob("*"))
        assert names == texts, names
        assert (other / "dir" / "ü b.txt").read_text() == "text\n"
        assert server.names() == ["c.dat", "dir", "dir/a.txt", "dir/ü b.txt"], server.names()
    return True


def ncftp():
    """Patterns and whole folders."""
    if not has("ncftpget"):
        return False
    with serve() as (server, other):
        fill_with_texts(server.folder)
        get = ["ncftpget", "-V", "-u", "ann", "-p", "secret", "-P", str(server.port)]
        run(*get, "127.0.0.1", other, "*.txt", "dir/c.*")
        assert sorted(path.name for path in other.iterdir()) == ["a.txt", "c.dat", "ü b.txt"]
        run(*get, "-R", "127.0.0.1", other, "dir")
        assert (other / "dir" / "ü b.txt").read_text() == "text\n"
        none = subprocess.run([*get, "127.0.0.1", other, "*.none"], capture_output=True, timeout=DEADLINE)
        assert none.returncode != 0 and b"no match" in none.stderr + none.stdout, none
    return True


def rclone():
    if not has("rclone"):
        return False
    with certificate() as (_, options), serve(*options) as (server, other):
        large = fill(other / "large")
        (other / "dir" / "ü").mkdir(parents=True)
        for n in range(100):
            (other / "dir" / "ü" / f"{n} x.txt").write_text(str(n) * n)
        password = run("rclone", "obscure", "secret").decode().strip()
        remote = f":ftp,host=127.0.0.1,port={server.port},user=ann,pass='{password}'"
        remote += ",explicit_tls,no_check_certificate:"
        rclone = ["rclone", "--config", os.devnull]
        run(*rclone, "sync", other, remote)
        assert checksum(server.folder / "large") == large
        run(*rclone, "check", "--download", other, remote)
        # A file of the same size that was changed is found by its time, and the others are not sent again.
        changed = other / "dir" / "ü" / "5 x.txt"
        changed.write_text("later")
        os.utime(changed, (1_000_000_000, 1_000_000_000))
        server.wait_for_uploads(101)
        run(*rclone, "sync", other, remote)
        server.wait_for_uploads(102)
        assert (server.folder / "dir" / "ü" / "5 x.txt").read_text() == "later"
        assert int((server.folder / "dir" / "ü" / "5 x.txt").stat().st_mtime) == 1_000_000_000
        (server.folder / "large").unlink()
        run(*rclone, "sync", remote, other)
        assert not (other / "large").exists() and len(list((other / "dir" / "ü").iterdir())) == 100
        run(*rclone, "moveto", f"{remote}dir/ü", f"{remote}moved")
        assert (server.folder / "moved" / "99 x.txt").read_text() == "99" * 99
    return True


# ---- the end


def shutdown():
    """Ctrl-C during a transfer: it is finished, or cut at the end of the grace."""
    with serve("--grace", "60") as (server, _):
        large = fill(server.folder / "large")
        with client(server) as ftp, client(server) as idle:
            ftp.voidcmd("TYPE I")
            data, _ = ftp.ntransfercmd("RETR large")
            with data:
                received = hashlib.sha256(data.recv(1000))
                server.process.send_signal(signal.SIGINT)
                refused(idle.getresp, "421")
                said = server.process.stdout.readline()
                assert said == "shutting down: 1 transfer may go on for 60 s, Ctrl-C again cuts it\n", said
                while piece := data.recv(1 << 20):
                    received.update(piece)
            assert received.hexdigest() == large
            assert ftp.getresp().startswith("226")
            refused(ftp.getresp, "421")
            server.process.wait(timeout=DEADLINE)
            ftp.close()
            idle.close()
    with serve("--grace", "2") as (server, _):
        (server.folder / "new").write_text("old")
        with client(server) as ftp:
            data, _ = ftp.ntransfercmd("STOR new")
            with data:
                data.sendall(b"a part")
                server.process.send_signal(signal.SIGINT)
                refused(ftp.getresp, "426")
                refused(ftp.getresp, "421")
            ftp.close()
        server.process.wait(timeout=DEADLINE)
        assert server.names() == ["new"] and (server.folder / "new").read_text() == "old"
    return True


def slow():
    """Memory stays, whatever readers do not read."""
    with serve() as (server, _), contextlib.ExitStack() as stack:
        fill(server.folder / "large")
        status = pathlib.Path(f"/proc/{server.process.pid}/status")
        if not status.exists():
            print("skipped: no /proc")
            return False
        clients = []
        for _ in range(50):
            ftp = stack.enter_context(client(server))
            data, _ = ftp.ntransfercmd("RETR large")
            stack.enter_context(data)
            stack.callback(ftp.close)
            clients.append(ftp)
        for ftp in clients:
            assert ftp.sendcmd("STAT").startswith("211")
        memory = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        assert int(memory.split()[1]) < 60_000, memory
    return True


CHECKS = {
    "python_library": python_library,
    "patterns": patterns,
    "keep_alive": keep_alive,
    "too_large": too_large,
    "texts": texts,
    "writers": writers,
    "passwords": passwords,
    "bounce": bounce,
    "telnet": telnet,
    "tls": tls,
    "reuse": reuse,
    "curl": curl,
    "killed": killed,
    "wget": wget,
    "lftp": lftp,
    "tnftp": tnftp,
    "ncftp": ncftp,
    "rclone": rclone,
    "shutdown": shutdown,
    "slow": slow,
}

if __name__ == "__main__":
    main()
