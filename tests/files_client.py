#!/usr/bin/env python3
"""Runs the example `files` with the clients of HTTP that it is meant for, over plain TCP and over TLS.

    python3 tests/files_client.py target/release/examples            # all
    python3 tests/files_client.py target/release/examples curl       # one check

Clients that are not installed (curl, wget, ab, wrk, h2load, aria2c, rclone, goaccess, REDbot, the Python package h11) are reported
as skipped, unless FILES_REQUIRE is set. The random requests are those of a seed: FILES_SEED chooses another one, FILES_REQUESTS
their number. Traffic stays on the loopback interface, and every started process is ended.
"""

import base64
import contextlib
import filecmp
import ftplib
import functools
import hashlib
import http.client
import io
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import clients
from clients import checksum, run

DEADLINE = 60
MEGABYTES = 100
PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
USER = "ann:secret"

has = functools.partial(clients.has, require="FILES_REQUIRE")
missing = functools.partial(clients.missing, require="FILES_REQUIRE")


def main():
    for name in sys.argv[2:] or list(CHECKS):
        with tempfile.TemporaryDirectory() as folder:
            if CHECKS[name](Site(pathlib.Path(folder))):
                print(f"{name}: passed", flush=True)


class Site:
    """A folder to share, and one for what clients receive."""

    def __init__(self, folder):
        self.folder = folder
        self.shared = folder / "shared"
        self.out = folder / "out"
        self.out.mkdir()
        (self.shared / "dir").mkdir(parents=True)
        (self.shared / "a.txt").write_text("hello, world\n")
        (self.shared / "dir" / "grüße & co.txt").write_text("Grüße\n")
        (self.shared / "dir" / "rows").write_text("".join(f"row {n}\n" for n in range(50_000)))
        (self.shared / "small").write_bytes(os.urandom(1000))

    def big(self):
        with open(self.shared / "big", "wb") as file:
            for _ in range(MEGABYTES):
                file.write(os.urandom(1 << 20))
        return self.shared / "big"

    def certificate(self):
        shutil.rmtree(self.folder / "tls", ignore_errors=True)
        command = [PROGRAMS / "test_certificate", "--out", self.folder / "tls"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE)
        return [self.folder / "tls" / f"{name}.pem" for name in ("cert", "key", "ca")]

    @contextlib.contextmanager
    def served(self, *options, preexec_fn=None):
        command = [PROGRAMS / "files", self.shared, "--listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, restore_signals=False, preexec_fn=preexec_fn)
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                process.kill()
                raise AssertionError(f"{line!r} {process.stderr.read()}")
            yield int(line.rsplit(":", 1)[1]), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=DEADLINE)
            assert "panicked" not in errors, errors
            self.log = errors

    def writable(self, *options, **how):
        return self.served("--write", "--user", USER, *options, **how)

    def is_clean(self):
        return not list(self.shared.rglob(".files-upload-*"))


# ---- curl


def curl(site):
    if not has("curl"):
        return False
    with site.writable() as (port, _):
        url = f"http://127.0.0.1:{port}"

        def fetch(*options):
            return run("curl", "--silent", "--show-error", *options)

        def status(*options):
            return fetch("-o", "/dev/null", "-w", "%{http_code}", *options).decode()

        rows = (site.shared / "dir" / "rows").read_bytes()
        assert fetch(f"{url}/a.txt") == b"hello, world\n"
        assert b"Content-Length: 13\r\n" in fetch("--head", f"{url}/a.txt")
        assert fetch(f"{url}/dir/rows") == rows
        assert fetch("--http1.0", f"{url}/dir/rows") == rows
        assert fetch("--range", "100-200099", f"{url}/dir/rows") == rows[100:200_100]
        assert fetch("--range", "-5", f"{url}/a.txt") == b"orld\n"
        assert status("--range", "99-", f"{url}/a.txt") == "416"
        assert fetch(f"{url}/dir/gr%C3%BC%C3%9Fe%20%26%20co.txt") == "Grüße\n".encode()
        assert b"gr\xc3\xbc\xc3\x9fe &amp; co.txt" in fetch("--location", f"{url}/dir")

        # A part is continued.
        part = site.out / "rows"
        part.write_bytes(rows[:1234])
        fetch("--continue-at", "-", "--output", part, f"{url}/dir/rows")
        assert part.read_bytes() == rows

        # What has not changed is not sent again.
        tag = site.out / "tag"
        for expected in ("200", "304"):
            assert status("--etag-save", tag, "--etag-compare", tag, f"{url}/a.txt") == expected
        assert status("--time-cond", str(site.shared / "a.txt"), f"{url}/a.txt") == "304"

        # A compressed file.
        run("gzip", "--keep", site.shared / "dir" / "rows")
        assert fetch("--compressed", f"{url}/dir/rows") == rows
        head = fetch("--compressed", "--head", f"{url}/dir/rows")
        assert b"Content-Encoding: gzip\r\n" in head, head

        # Uploads: of a length, in chunks, with an expectation, and without a user.
        source = site.folder / "source"
        source.write_bytes(os.urandom(5_000_000))
        user = ("--user", USER)
        assert status(*user, "--upload-file", source, f"{url}/dir/") == "201"
        assert filecmp.cmp(source, site.shared / "dir" / "source", shallow=False)
        with open(source, "rb") as stream:
            in_chunks = (*user, "--upload-file", "-", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/dir/source")
            assert run("curl", "--silent", *in_chunks, stdin=stream) == b"204"
        assert filecmp.cmp(source, site.shared / "dir" / "source", shallow=False)
        expects = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
        assert status(*user, *expects, "--upload-file", site.shared / "a.txt", f"{url}/b.txt") == "201"
        assert status(*expects, "--upload-file", source, f"{url}/c.txt") == "401"
        assert status("--user", "ann:wrong", "--upload-file", site.shared / "a.txt", f"{url}/c.txt") == "401"
        assert status("--anyauth", *user, "--upload-file", site.shared / "a.txt", f"{url}/d.txt") == "201"
        assert status(*user, "--request", "DELETE", f"{url}/d.txt") == "204"
        assert sorted(os.listdir(site.shared)) == ["a.txt", "b.txt", "dir", "small"]
        assert site.is_clean()

        # Many requests on one connection.
        many = [f"{url}/a.txt"] * 100
        report = fetch("--write-out", "%{num_connects} ", *many).decode()
        assert report.count("hello, world") == 100 and report.split().count("0") == 99, report
    return True


# ---- other clients


def wget(site):
    if not has("wget"):
        return False
    with site.served() as (port, _):
        url = f"http://127.0.0.1:{port}/"
        run("wget", "--quiet", "-r", "-np", "-nH", "--restrict-file-names=nocontrol", "-P", site.out, url)
        for name in ("a.txt", "small", "dir/rows", "dir/grüße & co.txt"):
            assert filecmp.cmp(site.out / name, site.shared / name, shallow=False), name
        rows = site.out / "dir" / "rows"
        os.truncate(rows, 777)
        run("wget", "--quiet", "--continue", "-O", rows, url + "dir/rows")
        assert filecmp.cmp(rows, site.shared / "dir" / "rows", shallow=False)
    return True


def ab(site):
    if not has("ab"):
        return False
    with site.served() as (port, _):
        for options in (["-k"], []):
            for path in ("small", "dir/rows"):
                count = "10000" if path == "small" else "500"
                report = run("ab", "-q", "-n", count, "-c", "20", *options, f"http://127.0.0.1:{port}/{path}").decode()
                assert re.search(r"^Failed requests: +0$", report, re.M), report
                assert re.search(rf"^Complete requests: +{count}$", report, re.M), report
                assert "Non-2xx" not in report, report
                if options:
                    assert re.search(rf"^Keep-Alive requests: +{count}$", report, re.M), report
    return True


def wrk(site):
    if not has("wrk"):
        return False
    with site.served() as (port, _):
        for path in ("small", "dir/rows"):
            for options in ([], ["-H", "Connection: close"]):
                report = run("wrk", "-t1", "-c20", "-d1s", *options, f"http://127.0.0.1:{port}/{path}").decode()
                assert re.search(r"^ +[1-9]\d* requests in", report, re.M), report
                assert "Socket errors" not in report and "Non-2xx" not in report, report
    return True


def redbot(site):
    """REDbot examines replies: caching, validators, ranges, content codings. It is of the editor of RFC 9110 and 9111."""
    if not has("redbot"):
        return False
    run("gzip", "--keep", site.shared / "dir" / "rows")
    is_good = {"CL_CORRECT", "DATE_CORRECT", "IMS_304", "INM_304", "RANGE_CORRECT"}
    paths = {"dir/rows": is_good | {"CONNEG_GZIP_GOOD"}, "small": is_good, "dir/": set(), "dir": set(), "none": set()}
    with site.served() as (port, _):
        for path, expected in paths.items():
            report = json.loads(run("redbot", "--output-format", "har", f"http://127.0.0.1:{port}/{path}"))
            (entry,) = report["log"]["entries"]
            notes = {note["note_id"]: note["level"] for note in entry["_red_messages"]}
            # It warns of a page that a cache has to ask for again, and cannot: what is made anew has no validator.
            permitted = ("GOOD", "INFO") if expected else ("GOOD", "INFO", "WARN")
            assert notes and all(level in permitted for level in notes.values()), (path, notes)
            assert all(notes.get(note) == "GOOD" for note in expected), (path, notes)
    return True


def h2load(site):
    if not has("h2load"):
        return False
    with site.served() as (port, _):
        for path, count in (("small", 10000), ("dir/rows", 500)):
            command = ["h2load", "--h1", "-n", str(count), "-c", "20", "-m", "10", f"http://127.0.0.1:{port}/{path}"]
            report = run(*command).decode()
            assert f"{count} succeeded, 0 failed, 0 errored" in report, report
            assert f"status codes: {count} 2xx" in report, report
    return True


def rclone(site):
    """It reads the pages of folders."""
    if not has("rclone"):
        return False
    with site.served() as (port, _):
        command = ["rclone", "--config", os.devnull, "--http-url", f"http://127.0.0.1:{port}/"]
        run(*command, "copy", ":http:", site.out)
        run(*command, "check", "--one-way", "--download", ":http:", site.shared)
        for name in ("a.txt", "small", "dir/rows", "dir/grüße & co.txt"):
            assert filecmp.cmp(site.out / name, site.shared / name, shallow=False), name
    return True


def aria2c(site):
    if not has("aria2c"):
        return False
    big = site.big()
    with site.served() as (port, _):
        command = ["aria2c", "-q", "-x16", "-s16", "-k1M", "--file-allocation=none", "-d", site.out, "-o", "big"]
        run(*command, f"http://127.0.0.1:{port}/big")
        assert checksum(site.out / "big") == checksum(big)
    return True


def goaccess(site):
    """It reads each line of the access log, whatever has caused it."""
    if not has("goaccess"):
        return False
    log, report = site.out / "log", site.out / "report.json"
    (site.shared / "dir" / 'a "b" ü').write_text("x")
    options = ("--access-log", log, "--ftp-listen", "127.0.0.1:0", "--max-upload", "1000")
    with site.writable(*options) as (port, process):
        line = process.stdout.readline()
        assert line.startswith("listening for FTP on "), line
        ftp_port = int(line.rsplit(":", 1)[1])
        url = f"http://127.0.0.1:{port}"
        authorization = "Authorization: Basic YW5uOnNlY3JldA==\r\n"
        for head in (
            "GET /a.txt?x=%22 HTTP/1.1\r\nReferer: http://x/\"\r\nUser-Agent: a\\b\t\u00e9 \"c\"\r\n",
            f"GET {url}/small HTTP/1.1\r\nRange: bytes=0-9\r\n",
            "GET /dir HTTP/1.1\r\n",
            "GET /none\" HTTP/1.1\r\n",
            f"HEAD /{'x' * 3000} HTTP/1.1\r\n",
            f"PUT /new HTTP/1.1\r\n{authorization}Content-Length: 3\r\n",
            f"PUT /new HTTP/1.1\r\n{authorization}Content-Length: 3000\r\n",
            "PUT /new HTTP/1.1\r\nContent-Length: 3\r\n",
            "DELETE /a.txt HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "NONE / HTTP/1.1\r\n",
            # These are no requests.
            "this is none\r\n",
            "GET / HTTP/1.1\r\nHost: b\r\n",
            "GET / HTTP/3.0\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                client.sendall(f"{head}Host: localhost\r\nConnection: close\r\n\r\n".encode() + b"new")
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
        for user, password in (("ann", "secret"), ("anonymous", "me@")):
            with ftplib.FTP(timeout=DEADLINE) as ftp:
                ftp.connect("127.0.0.1", ftp_port)
                ftp.login(user, password)
                for name in ("a.txt", 'dir/a "b" ü', "none", "dir", "x" * 1000):
                    with contextlib.suppress(ftplib.error_perm):
                        ftp.retrbinary(f"RETR {name}", lambda _: None)
                for command in ("STOR", "APPE"):
                    with contextlib.suppress(ftplib.error_perm):
                        ftp.storbinary(f"{command} a b", io.BytesIO(b"content"))
                for command in ("LIST", "NLST dir", "MLSD"):
                    ftp.retrlines(command, lambda _: None)
    lines = log.read_text().splitlines()
    for kind in ("\"GET ", "\"PUT ", "\"-\"", "\"RETR ", "\"STOR ", "\"LIST "):
        assert any(f"] {kind}" in line for line in lines), (kind, lines)
    run("goaccess", log, "--no-global-config", "--log-format=COMBINED", "-o", report, stdin=subprocess.DEVNULL)
    figures = json.loads(report.read_text())["general"]
    assert (figures["valid_requests"], figures["failed_requests"]) == (len(lines), 0), (figures, lines)
    return True


def python(site):
    with site.writable() as (port, _):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        authorization = {"Authorization": "Basic YW5uOnNlY3JldA=="}

        def ask(method, path, body=None, **headers):
            client.request(method, path, body, headers)
            reply = client.getresponse()
            return reply.status, reply.read()

        socket_before = None
        for _ in range(3):
            assert ask("GET", "/a.txt") == (200, b"hello, world\n")
            assert ask("HEAD", "/a.txt") == (200, b"")
            assert ask("GET", "/none")[0] == 404
            assert ask("PUT", "/x", b"new", **authorization)[0] in (201, 204)
            # In chunks: the length of an iterator is not known.
            assert ask("PUT", "/y", iter([b"a" * 1000, b"b" * 100_000]), **authorization)[0] in (201, 204)
            assert ask("GET", "/y") == (200, b"a" * 1000 + b"b" * 100_000)
            assert ask("OPTIONS", "*") == (204, b"")
            assert socket_before in (None, client.sock), "the connection was kept"
            socket_before = client.sock
        client.close()
    return True


def transfers(site):
    """A large file, plain and with TLS, with a certificate that is renewed meanwhile."""
    big = site.big()
    wanted = checksum(big)
    cert, key, ca = site.certificate()
    options = ("--tls-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--insecure-auth")
    with site.writable(*options) as (port, process):
        line = process.stdout.readline()
        assert line.startswith("listening with TLS on "), line
        tls_port = int(line.rsplit(":", 1)[1])

        def client(is_tls):
            if not is_tls:
                return http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["http/1.1"])
            return http.client.HTTPSConnection("localhost", tls_port, timeout=DEADLINE, context=context)

        for is_tls in (False, True):
            connection = client(is_tls)
            connection.request("GET", "/big")
            reply, digest = connection.getresponse(), hashlib.sha256()
            while piece := reply.read(1 << 20):
                digest.update(piece)
            assert digest.hexdigest() == wanted
            if is_tls:
                assert connection.sock.selected_alpn_protocol() == "http/1.1"
            # And back, on the same connection.
            with open(big, "rb") as body:
                headers = {"Authorization": "Basic YW5uOnNlY3JldA==", "Content-Length": str(big.stat().st_size)}
                connection.request("PUT", f"/copy-{is_tls}", body, headers)
                assert connection.getresponse().status == 201
            assert checksum(site.shared / f"copy-{is_tls}") == wanted
            connection.close()

        # Other protocols are refused: ALPACA (CVE-2021-3618).
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", tls_port), DEADLINE) as plain:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                context.wrap_socket(plain, server_hostname="localhost")
                raise AssertionError("h2 was accepted")

        def serial():
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection(("localhost", tls_port), DEADLINE) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as tls:
                    return tls.getpeercert(binary_form=True)

        before = serial()
        site.certificate()
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + DEADLINE
        while serial() == before:
            assert time.monotonic() < end, "the certificate was not read again"
    return True


def full_disk(site):
    """An upload for which there is no room is refused, and leaves nothing. A line of the access log is lost, and that is logged."""
    def limit():
        # Python ignores the signal, and its children would, too. By default it ends a process.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    access_log = site.folder / "access.log"
    access_log.write_bytes(b"x" * 999_990)
    options = ["--ftp-listen", "127.0.0.1:0", "--access-log", access_log]
    with site.writable(*options, preexec_fn=limit) as (port, process):
        line = process.stdout.readline()
        assert line.startswith("listening for FTP on "), line
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        for size, status in ((500_000, 201), (2_000_000, 507)):
            client.request("PUT", f"/{size}", b"x" * size, {"Authorization": "Basic YW5uOnNlY3JldA=="})
            reply = client.getresponse()
            assert (reply.status, reply.getheader("Connection") == "close") == (status, status == 507), reply.status
            reply.read()
        with ftplib.FTP(timeout=DEADLINE) as ftp:
            ftp.connect("127.0.0.1", int(line.rsplit(":", 1)[1]))
            ftp.login("ann", "secret")
            try:
                ftp.storbinary("STOR large", io.BytesIO(b"x" * 2_000_000))
                raise AssertionError("it was stored")
            except ftplib.error_perm as error:
                assert str(error).startswith("552"), error
            ftp.storbinary("STOR less", io.BytesIO(b"x" * 100))
        assert sorted(os.listdir(site.shared)) == ["500000", "a.txt", "dir", "less", "small"]
        client.close()
        end = time.monotonic() + DEADLINE
        while access_log.stat().st_size < 1_000_000:
            assert time.monotonic() < end, "the access log was not written"
    assert "WARN" in site.log and 'path="/2000000"' in site.log and "File too large" in site.log, site.log
    assert "the access log cannot be written" in site.log, site.log
    return True


def descriptors(site):
    """Where a file cannot be opened, because no descriptor is left, a client gets a 503 or a 450, and keeps its connection."""
    with site.served("--ftp-listen", "127.0.0.1:0") as (port, process), ftplib.FTP(timeout=DEADLINE) as ftp:
        line = process.stdout.readline()
        ftp.connect("127.0.0.1", int(line.rsplit(":", 1)[1]))
        ftp.login()
        ftp.voidcmd("TYPE I")
        # The client has the port: with PASV it would be a 425.
        ftp.set_pasv(False)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

        def ask(method="GET", path="/a.txt"):
            client.request(method, path)
            reply = client.getresponse()
            reply.read()
            return reply.status, reply.getheader("Retry-After"), reply.will_close

        assert ask() == (200, None, False)
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        free = free_descriptor(process)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, before[1]))
        for path in ("/a.txt", "/", "/dir/rows"):
            assert ask(path=path) == (503, "10", False), path
        for command in ("RETR a.txt", "LIST", "NLST *.txt"):
            try:
                ftp.retrbinary(command, lambda _: None)
                raise AssertionError(command)
            except ftplib.error_temp as error:
                assert str(error).startswith("450 "), (command, error)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        assert ask() == (200, None, False)
        pieces = []
        ftp.retrbinary("RETR a.txt", pieces.append)
        assert b"".join(pieces) == b"hello, world\n"
        client.close()
    return few_descriptors(site) and failed_uploads(site)


def free_descriptor(process):
    """The number of its next descriptor: the lowest one that is free."""
    used = {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")}
    return min(set(range(len(used) + 1)) - used)


def failed_uploads(site):
    """An upload leaves nothing, wherever a descriptor is missing."""
    with site.writable() as (port, process):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

        def put():
            client.request("PUT", "/new", b"x", {"Authorization": "Basic YW5uOnNlY3JldA=="})
            reply = client.getresponse()
            reply.read()
            return reply.status

        assert put() in (201, 204)
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        free, statuses = free_descriptor(process), []
        for number in range(8):
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free + number, before[1]))
            statuses.append(put())
            assert site.is_clean(), statuses
        assert statuses[0] == 503 and statuses[-1] == 204 and set(statuses) == {503, 204}, statuses
        client.close()
    return True


NOBODY = 65534


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def permissions(site):
    """A folder on the way to a file has to be searchable only: a file behind it is read, and a drop box takes uploads."""
    if os.geteuid() != 0:
        missing("the user root")
        return False
    for name, mode in ("hidden", 0o711), ("box", 0o733), ("closed", 0o700):
        (site.shared / name).mkdir()
        (site.shared / name / "inner").mkdir()
        (site.shared / name / "inner" / "file").write_text("found\n")
        (site.shared / name / "file").write_text("found\n")
        (site.shared / name).chmod(mode)
    for folder in site.folder, site.shared:
        folder.chmod(0o755)
    with site.writable(preexec_fn=become_nobody) as (port, _):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

        def ask(method, path, body=None):
            client.request(method, path, body, {"Authorization": "Basic YW5uOnNlY3JldA=="})
            reply = client.getresponse()
            return reply.status, reply.read()

        for path in "/hidden/file", "/hidden/inner/file", "/box/inner/file":
            assert ask("GET", path) == (200, b"found\n"), path
        # Their names are not shown, and what cannot be searched is closed.
        for path in "/hidden/", "/box/", "/closed/file", "/closed/inner/file":
            assert ask("GET", path)[0] == 403, path
        assert ask("PUT", "/box/new", b"new")[0] == 201
        assert ask("PUT", "/hidden/new", b"new")[0] == 403
        client.close()
    assert (site.shared / "box" / "new").read_text() == "new"
    assert site.is_clean()
    return True


def refused_uploads(site):
    """A client that sends its whole upload before it reads gets the reply that refuses it."""
    with site.writable("--max-upload", "1M") as (port, _):
        for megabytes, pieces, authorization in (64, 64, USER), (40, 40, "ann:wrong"):
            client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
            word = base64.b64encode(authorization.encode()).decode()
            head = f"PUT /new HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {word}\r\nContent-Length: {megabytes << 20}\r\n\r\n"
            client.sendall(head.encode())
            for _ in range(pieces):
                client.sendall(b"x" * ((megabytes << 20) // pieces))
            reply = client.makefile("rb").read()
            expected = b"HTTP/1.1 413 " if authorization == USER else b"HTTP/1.1 401 "
            assert reply.startswith(expected), reply
            client.close()
    assert site.is_clean() and not (site.shared / "new").exists()
    return True


def few_descriptors(site):
    """There are fewer connections than --max-connections, as the log says, and each of them can be used."""
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (228, 228))

    limits = ("--max-connections", "50", "--max-per-address", "50")
    with site.served(*limits, preexec_fn=limit) as (port, _), contextlib.ExitStack() as stack:
        def ask(client):
            client.request("GET", "/a.txt")
            reply = client.getresponse()
            reply.read()
            return reply.status

        idle = []
        while True:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            stack.callback(client.close)
            status = ask(client)
            if status == 503:
                break
            assert status == 200 and len(idle) < 100, status
            idle.append(client)
        assert [ask(other) for other in idle] == [200] * 27
        for other in idle[:5]:
            other.close()
        end = time.monotonic() + DEADLINE
        while ask(client) == 503:
            assert time.monotonic() < end, "the descriptors of closed connections are not used"
    lowered = "the limit on descriptors is too low for --max-connections, which is lowered wanted=50 possible=27 descriptors=228"
    assert lowered in site.log, site.log
    return True


# ---- many clients


IDLE = 10_000
# The most memory of the server for one of them, in bytes. It is about 2,500.
MOST_IDLE = 3_000


def idle(site):
    """Connections that are kept and do nothing cost little memory, and all of them are served again."""
    # The server sets a quarter aside for files.
    with descriptors_for(IDLE + IDLE // 3 + 600) as is_permitted:
        if not is_permitted:
            return False
        limits = ("--max-connections", str(2 * IDLE), "--max-per-address", str(2 * IDLE))
        with site.served(*limits) as (port, process), contextlib.ExitStack() as stack:
            request = b"GET /a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"

            def connect():
                return stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))

            def ask(client):
                client.sendall(request)
                reply = b""
                while not reply.endswith(b"hello, world\n"):
                    piece = client.recv(4096)
                    assert piece, reply
                    reply += piece

            ask(connect())
            before = resident(process)
            clients = []
            for _ in range(IDLE):
                clients.append(connect())
                ask(clients[-1])
            each = (resident(process) - before) / IDLE
            for client in clients:
                ask(client)
            print(f"idle: {IDLE:,} connections with {each:,.0f} bytes each", flush=True)
            assert each < MOST_IDLE, each
    return True


SLOW = 1_000
# What the server may have in memory for one of them: a piece of the file that its socket does not take, and the session.
MOST_SLOW = 70_000


def slow(site):
    """A thousand clients that hardly read a large file take no more memory over time, and nobody else waits for them."""
    size = 1 << 30
    with open(site.shared / "sparse", "wb") as file:
        file.truncate(size)
    # Beside those of 10,000 connections there are twice as many files, each with two, as this address may have.
    with descriptors_for(10_000 + 4 * SLOW + 600) as is_permitted:
        if not is_permitted:
            return False
        with site.served("--max-per-address", str(2 * SLOW)) as (port, process), contextlib.ExitStack() as stack:
            def fetch(path):
                other = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
                stack.callback(other.close)
                other.request("GET", path)
                return other.getresponse().read()

            rows = (site.shared / "dir" / "rows").read_bytes()
            assert fetch("/dir/rows") == rows
            before = resident(process)
            clients = []
            for _ in range(SLOW):
                client = stack.enter_context(socket.socket())
                # As on a network: for segments of 64 KiB, the kernel holds some megabytes for each of them.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(DEADLINE)
                client.connect(("127.0.0.1", port))
                client.sendall(b"GET /sparse HTTP/1.1\r\nHost: localhost\r\n\r\n")
                clients.append(client)
            for _ in range(5):
                for client in clients:
                    left = 20_000
                    while left > 0:
                        piece = client.recv(left)
                        assert piece, "the server has closed"
                        left -= len(piece)
                assert fetch("/dir/rows") == rows
                each = (resident(process) - before) / SLOW
                assert each < MOST_SLOW, each
            print(f"slow: {SLOW:,} connections with {each:,.0f} bytes each", flush=True)
    return True


@contextlib.contextmanager
def descriptors_for(needed):
    """Raises the limit on descriptors, of this process and of those that it starts, as far as the system permits."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        print(f"skipped: what needs {needed:,} descriptors, because a process may have {most:,} only")
        yield False
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, needed), most))
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def resident(process):
    """The memory of a process in bytes."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


# ---- a server that was killed, and names


def killed(site):
    """What a server leaves that was killed is removed by the next one, and what another one is receiving is not."""
    def begin(port):
        client = socket.create_connection(("127.0.0.1", port), DEADLINE)
        head = "PUT /slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\nContent-Length: 8\r\n\r\n"
        client.sendall(head.encode() + b"half")
        end = time.monotonic() + DEADLINE
        while site.is_clean():
            assert time.monotonic() < end, "the upload does not begin"
        return client

    def upload(port):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        client.request("PUT", "/new", b"x", {"Authorization": "Basic YW5uOnNlY3JldA=="})
        assert client.getresponse().status in (201, 204)
        client.close()

    with site.writable() as (port, process):
        with begin(port):
            process.kill()
            process.wait(DEADLINE)
    assert not site.is_clean()
    with site.writable() as (one, _), site.writable() as (other, _):
        upload(one)
        assert site.is_clean()
        client = begin(one)
        upload(other)
        assert not site.is_clean()
        client.sendall(b"done")
        assert client.recv(1000).startswith(b"HTTP/1.1 201 ")
        client.close()
        assert (site.shared / "slow").read_bytes() == b"halfdone" and site.is_clean()
    return True


def rebinding(site):
    """A name of a site leads to the server."""
    if not has("curl"):
        return False
    with site.served("--host", "box.example") as (port, _):
        for name, status in (("evil.example", "421"), ("box.example", "200"), ("localhost", "200")):
            options = ("--resolve", f"{name}:{port}:127.0.0.1", "-o", os.devnull, "-w", "%{http_code}")
            assert run("curl", "--silent", *options, f"http://{name}:{port}/a.txt").decode() == status, name
    return True


def proxied(site):
    """A health check without the header of a proxy is closed, and the log says what is missing."""
    if not has("curl"):
        return False
    with site.served("--proxy-protocol", "127.0.0.1") as (port, _):
        url = f"http://127.0.0.1:{port}/-/health"
        assert run("curl", "-sSf", "--haproxy-protocol", url) == b"ok\n"
        assert subprocess.run(["curl", "-s", url], timeout=DEADLINE).returncode in (52, 56)
    for text in ("curl --haproxy-protocol", "not with a PROXY header"):
        assert text in site.log, (text, site.log)
    return True


# ---- h11 as another parser


def differential(site):
    """What the server accepts, h11 has to accept, with the same requests and bodies. h11 is more lenient: it takes LF
    for the end of a line, and folded lines."""
    try:
        import h11
    except ImportError:
        return missing("h11")
    seed = int(os.environ.get("FILES_SEED", time.time_ns() % 1_000_000))
    rng = random.Random(seed)
    accepted = 0
    count = int(os.environ.get("FILES_REQUESTS", 3000))
    with site.served("--host", "a") as (port, _):
        for _ in range(count):
            stream = random_stream(rng)
            statuses, error = server_statuses(h11, port, stream)
            heads, bodies = h11_requests(h11, stream)
            where = f"FILES_SEED={seed} {stream!r} {statuses} {error} {heads} {bodies}"
            # Without a close, they are replies to a request: to a target that is no path, or an unknown method.
            refused = [reply for reply in statuses if reply[0] in (400, 414, 431, 501, 505) and reply[1]]
            assert len(refused) <= 1 and (not refused or refused == statuses[-1:]), where
            taken = len(statuses) - len(refused)
            # The reply to a request that uploads nothing does not wait for the body, which may be invalid.
            assert taken <= heads and taken <= len(bodies) + 1, where
            accepted += taken
    assert accepted > count / 10, accepted
    return True


FIELDS = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 3", b"content-length: 5, 5", b"Content-Length: +5",
    b"Content-Length : 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"X: y", b" X: y",
    b"Connection: close", b"Connection: keep-alive", b"Host: a", b"Host: b", b"X:", b": y", b"X\0: y", b"X: \xe9",
]
BODIES = [
    b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"0\r\n\r\n",
    b"5;\nx\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"05\r\nhello\r\n00\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n",
]
LINES = [
    b"GET /a.txt HTTP/1.1", b"GET /a.txt HTTP/1.1", b"POST /a.txt HTTP/1.1", b"GET /none HTTP/1.0", b"PUT /x HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"GET  /a.txt HTTP/1.1", b"GET /a.txt HTTP/1.2", b"GET /\xe9 HTTP/1.1",
]


def random_stream(rng):
    stream = b""
    for _ in range(rng.randrange(1, 4)):
        fields = [b"Host: a"] if rng.random() < 0.9 else []
        fields += rng.choices(FIELDS, k=rng.choice([0, 0, 1, 1, 2, 3]))
        rng.shuffle(fields)
        end = b"\r\n" if rng.random() < 0.97 else b"\n"
        stream += end.join([rng.choice(LINES), *fields, b"", rng.choice(BODIES)])
    stream = bytearray(stream)
    while rng.random() < 0.2:
        at = rng.randrange(len(stream))
        stream[at : at + rng.choice([0, 1])] = rng.choice([b"\r", b"\n", b"\0", b" ", b"\t", b"0", b":", b"x", b""])
    return bytes(stream)


def server_statuses(h11, port, stream):
    """The statuses of the replies, as h11 reads them, whether each is the last one, and how the connection has ended."""
    statuses, error = [], None
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.sendall(stream)
        client.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := client.recv(1 << 16):
                received += piece
        except ConnectionResetError as caught:
            error = caught
    # The client of h11 needs the requests: none of these is HEAD.
    while received:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(received)
        reader.receive_data(b"")
        while (event := reader.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                statuses.append((event.status_code, (b"connection", b"close") in event.headers))
            if isinstance(event, h11.EndOfMessage):
                break
        received, _ = reader.trailing_data
    return statuses, error


def h11_requests(h11, stream):
    """How many requests h11 finds, and the bodies of those that are complete. Empty lines between requests are skipped
    (RFC 9112 section 2.2). h11 keeps no connection of HTTP/1.0, so each has a connection of its own."""
    heads, bodies, left = 0, [], stream
    while True:
        while left.startswith(b"\r\n"):
            left = left[2:]
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(left)
        reader.receive_data(b"")
        body, event = b"", None
        try:
            while not isinstance(event, h11.EndOfMessage):
                event = reader.next_event()
                if isinstance(event, h11.Request):
                    heads += 1
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif not isinstance(event, h11.EndOfMessage):
                    return heads, bodies
        except h11.RemoteProtocolError:
            return heads, bodies
        bodies.append(body)
        left, _ = reader.trailing_data


CHECKS = {
    "curl": curl,
    "wget": wget,
    "ab": ab,
    "wrk": wrk,
    "h2load": h2load,
    "redbot": redbot,
    "aria2c": aria2c,
    "rclone": rclone,
    "goaccess": goaccess,
    "python": python,
    "transfers": transfers,
    "permissions": permissions,
    "refused_uploads": refused_uploads,
    "full_disk": full_disk,
    "descriptors": descriptors,
    "idle": idle,
    "slow": slow,
    "killed": killed,
    "rebinding": rebinding,
    "proxied": proxied,
    "differential": differential,
}

if __name__ == "__main__":
    main()
