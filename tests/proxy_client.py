#!/usr/bin/env python3
"""Runs curl, ab, git, pip and apt-get through the example `proxy`, and plain sockets for what these do not do.

    python3 tests/proxy_client.py target/release/examples/proxy             # all
    python3 tests/proxy_client.py target/release/examples/proxy curl cpu    # some

Clients that are not installed are reported as skipped, and so are the registries of pip and apt-get where they cannot be
reached without the proxy. All other traffic stays on the loopback interface, and every started process is ended.
"""

import contextlib
import hashlib
import http.server
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

from clients import has

DEADLINE = 120
PROXY = pathlib.Path(sys.argv[1]).resolve()
MIB = 1 << 20
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def main():
    for name in sys.argv[2:] or list(CHECKS):
        if CHECKS[name]():
            print(f"{name}: passed", flush=True)


# ---- the proxy and servers


@contextlib.contextmanager
def proxy(*options, log="warn"):
    """The port of a proxy, and its process, whose `log` returns what it has logged so far."""
    command = [PROXY, "--listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "RUST_LOG": log}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        # At a position: the process writes at that of the file.
        process.log = lambda: os.pread(errors.fileno(), 1 << 30, 0).decode()
        try:
            line = process.stdout.readline().decode()
            assert line.startswith("listening on "), line
            yield int(line.rsplit(":", 1)[1]), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)
            process.stdout.close()
            assert "panick" not in process.log(), process.log()


LOCAL = ("--allow", "127.0.0.0/8")


class Handler(http.server.BaseHTTPRequestHandler):
    """`/size/N` has N bytes. What is sent with PUT is counted and hashed. `/git/` is a smart server of git."""

    protocol_version = "HTTP/1.1"
    root = None

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            left = int(self.headers.get("Content-Length", 0))
            while left:
                piece = self.rfile.read(min(left, MIB))
                left -= len(piece)
                yield piece
            return
        while length := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(length)
            self.rfile.readline()
        assert self.rfile.readline() == b"\r\n"

    def do_GET(self):
        if self.path.startswith("/git/"):
            return self.git()
        if not self.path.startswith("/size/"):
            return self.file()
        size = int(self.path.split("/")[2])
        self.reply(200, size)
        if self.command == "GET":
            piece = bytes(range(256)) * 4096
            for start in range(0, size, MIB):
                self.wfile.write(piece[: size - start])

    do_HEAD = do_GET

    def file(self):
        path = self.root and os.path.join(self.root, self.path.split("?")[0].strip("/"))
        if path and os.path.isdir(path):
            links = "".join(f'<a href="{name}">{name}</a>\n' for name in os.listdir(path))
            content = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        elif path and os.path.isfile(path):
            content = pathlib.Path(path).read_bytes()
        else:
            return self.reply(404, 0)
        self.reply(200, len(content), "text/html" if os.path.isdir(path) else "application/octet-stream")
        if self.command == "GET":
            self.wfile.write(content)

    def do_PUT(self):
        digest, count = hashlib.sha256(), 0
        for piece in self.body():
            digest.update(piece)
            count += len(piece)
        reply = f"{count} {digest.hexdigest()} {self.headers.get('Via')}\n".encode()
        self.reply(201, len(reply))
        self.wfile.write(reply)

    def do_POST(self):
        self.git()

    def git(self):
        path, _, query = self.path.removeprefix("/git").partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1",
        }
        content = b"".join(self.body())
        environment["CONTENT_LENGTH"] = str(len(content))
        command = ["git", "http-backend"]
        done = subprocess.run(command, input=content, env=environment, capture_output=True, timeout=DEADLINE)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200 OK").split()[0])
        # Without a length, so that the proxy has to frame it.
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def reply(self, status, length, kind="application/octet-stream"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # With the default of 5 the kernel drops some of the ten connections of ab, and the proxy replies 504 on a busy machine.
    request_queue_size = 128


@contextlib.contextmanager
def origin(root=None):
    """The port of a server in this process."""
    server = Server(("127.0.0.1", 0), type("Rooted", (Handler,), {"root": root}))
    server.handle_error = lambda *_: None  # A client that leaves.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def raw_server(serve):
    """The port of a server that calls `serve` with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                peer = listener.accept()[0]
                threading.Thread(target=guarded, args=(peer,), daemon=True).start()

    def guarded(peer):
        with peer, contextlib.suppress(OSError):
            peer.settimeout(DEADLINE)
            serve(peer)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


# ---- helpers of the checks


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_curl(*options):
    return run(["curl", "-sS", "-q", "--noproxy", "", "--max-time", str(DEADLINE), *options])


def ways(port, user=""):
    """The options of curl for each way through the proxy."""
    return {
        "forward": ["-x", f"http://{user}127.0.0.1:{port}"],
        "CONNECT": ["-p", "-x", f"http://{user}127.0.0.1:{port}"],
        "SOCKS 5": ["-x", f"socks5://{user}127.0.0.1:{port}"],
        "SOCKS 5 with names": ["-x", f"socks5h://{user}127.0.0.1:{port}"],
    }


def connect(port, data=b""):
    peer = socket.create_connection(("127.0.0.1", port), DEADLINE)
    peer.sendall(data)
    return peer


def read(peer, count):
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        assert piece, data
        data += piece
    return data


def read_to_end(peer):
    return b"".join(iter(lambda: peer.recv(MIB), b""))


def tunnels(port, to):
    """A tunnel to the local port `to`, by CONNECT and by SOCKS."""
    peer = connect(port, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % to)
    assert read(peer, len(ESTABLISHED)) == ESTABLISHED
    yield peer
    peer = connect(port, b"\5\1\0\5\1\0\1\x7f\0\0\1" + struct.pack("!H", to))
    assert read(peer, 12)[:5] == b"\5\0\5\0\0"
    yield peer


def wait_for_log(process, pattern):
    """The first match in the log of a proxy, once there is one."""
    give_up = time.monotonic() + DEADLINE
    while not (found := re.search(pattern, process.log())):
        assert time.monotonic() < give_up, (pattern, process.log())
        time.sleep(0.01)
    return found


# A request that was forwarded with success, and a tunnel that has ended.
CARRIED = r"GET http://[^ ]+: 200\b|CONNECT: (client|server): .* received=[1-9]"


def rss(process):
    """Resident memory in bytes."""
    fields = pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_time(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- the checks


def curl():
    """Two URLs on one connection, HEAD, names, 404, and uploads of a known and of an unknown length."""
    if not has("curl"):
        return False
    with proxy(*LOCAL) as (port, _), origin() as server:
        for way, options in ways(port).items():
            url = f"http://localhost:{server}"
            out = run_curl(*options, "-w", "%{num_connects} ", f"{url}/size/5", "-o/dev/null", f"{url}/size/6", "-o/dev/null")
            assert out == "1 0 ", (way, out)
            out = run_curl(*options, "-I", f"{url}/size/1234")
            assert "Content-Length: 1234" in out and ("Via: 1.0 asynchat" in out or "Via: 1.1 asynchat" in out) == (way == "forward"), out
            assert run_curl(*options, "-o/dev/null", "-w", "%{http_code}", f"{url}/nothing") == "404"
            for upload in (["-T", "-"], ["-X", "PUT", "--data-binary", "@-"], ["-T", "-", "-H", "Expect: 100-continue"]):
                done = subprocess.run(
                    ["curl", "-sS", "-q", "--noproxy", "", *options, *upload, url + "/"], input=b"hello", capture_output=True, timeout=DEADLINE
                )
                assert done.stdout.startswith(b"5 2cf24dba"), (way, done)
                assert (b"asynchat" in done.stdout) == (way == "forward"), done
    return True


def large():
    """100 MB each way, in each way through the proxy."""
    if not has("curl"):
        return False
    size = 100 * MIB
    content = bytes(range(256)) * (size // 256)
    digest = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory() as folder, proxy(*LOCAL) as (port, process), origin() as server:
        path = os.path.join(folder, "file")
        pathlib.Path(path).write_bytes(content)
        for way, options in ways(port).items():
            run_curl(*options, f"http://127.0.0.1:{server}/size/{size}", "-o", path + ".down")
            received = pathlib.Path(path + ".down").read_bytes()
            assert hashlib.sha256(received).hexdigest() == digest, way
            for chunked in ([], ["-H", "Transfer-Encoding: chunked"]):
                out = run_curl(*options, *chunked, "-T", path, f"http://127.0.0.1:{server}/")
                assert out.startswith(f"{size} {digest}"), (way, out)
        assert rss(process) < 32 * MIB, rss(process)
    return True


def ab():
    """Many requests of HTTP/1.0, each with connections of its own."""
    if not has("ab"):
        return False
    with proxy(*LOCAL) as (port, _), origin() as server:
        report = run(["ab", "-q", "-n", "1000", "-c", "10", "-X", f"127.0.0.1:{port}", f"http://127.0.0.1:{server}/size/1000"])
        assert re.search(r"^Complete requests: +1000$", report, re.M), report
        assert re.search(r"^Failed requests: +0$", report, re.M) and "Non-2xx" not in report, report
        assert re.search(r"^HTML transferred: +1000000 bytes$", report, re.M), report
    return True


def users():
    if not has("curl"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "users"
        file.write_bytes(subprocess.run([PROXY, "--hash-password", "ann"], input=b"se:cret\n", capture_output=True, check=True).stdout)
        return all(serves_users(*options) for options in (("--user", "ann:se:cret"), ("--passwords", file)))


def serves_users(*options):
    with proxy(*LOCAL, *options) as (port, _), origin() as server:
        url = f"http://127.0.0.1:{server}/size/3"
        for way, options in ways(port, "ann:se%3Acret@").items():
            assert len(run_curl(*options, url)) == 3, way
        # curl asks for the method first, and uses the same connection again.
        out = run_curl(*ways(port, "ann:se%3Acret@")["forward"], "--proxy-anyauth", "-o/dev/null", "-w", "%{num_connects}", url)
        assert out == "1", out
        for user in ("", "ann:wrong@"):
            for way, options in ways(port, user).items():
                done = subprocess.run(
                    ["curl", "-sS", "-f", "-q", "--noproxy", "", *options, url], capture_output=True, timeout=DEADLINE
                )
                assert done.returncode in (22, 56, 97), (way, done)
    return True


def access_list():
    """The system's resolver knows more forms of an address than the access list has to know."""
    with proxy() as (port, _), origin() as server:
        for host in ("127.0.0.1", "localhost", "127.1", "0", "0.0.0.0", "0x7f000001", "017700000001", "2130706433", "[::1]",
                     "[::ffff:127.0.0.1]", "[::]", "10.0.0.1", "169.254.169.254"):
            name = host.strip("[]").encode()
            for request, refusal in (
                (f"GET http://{host}:{server}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"HTTP/1.1 403"),
                (f"CONNECT {host}:{server} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"HTTP/1.1 403"),
                (b"\5\1\0\5\1\0\3%c%s" % (len(name), name) + struct.pack("!H", server), b"\5\0\5\2"),
            ):
                with connect(port, request) as peer:
                    assert read(peer, len(refusal)) == refusal, host
    return True


def git():
    """Clones from a dumb and from a smart server, and pushes to the smart one."""
    if not has("git"):
        return False
    with tempfile.TemporaryDirectory() as folder, proxy(*LOCAL) as (port, _), origin(folder) as server:
        environment = {
            **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "no_proxy": "",
            **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        git = lambda *args, at=folder: run(["git", "-C", at, *args], env=environment)
        source, bare = os.path.join(folder, "source"), os.path.join(folder, "bare.git")
        git("init", "-q", source)
        # More than the buffer of a push, so that it is sent in chunks.
        pathlib.Path(source, "file").write_bytes(os.urandom(3 * MIB))
        git("add", ".", at=source)
        git("commit", "-qm", "one", at=source)
        git("clone", "-q", "--bare", source, bare)
        git("update-server-info", at=bare)
        git("config", "http.receivepack", "true", at=bare)
        head = git("rev-parse", "HEAD", at=source)
        for scheme in ("http", "socks5", "socks5h"):
            through = ["-c", f"http.proxy={scheme}://127.0.0.1:{port}"]
            for kind, url in (("dumb", f"http://127.0.0.1:{server}/bare.git"), ("smart", f"http://localhost:{server}/git/bare.git")):
                clone = os.path.join(folder, f"{kind}-{scheme}")
                git(*through, "clone", "-q", url, clone)
                assert git("rev-parse", "HEAD", at=clone) == head
            pathlib.Path(clone, scheme).write_bytes(os.urandom(2 * MIB))
            git("add", ".", at=clone)
            git("commit", "-qm", scheme, at=clone)
            git(*through, "push", "-q", "origin", "HEAD", at=clone)
            head = git("rev-parse", "HEAD", at=clone)
            assert git("rev-parse", "HEAD", at=bare) == head
            git("update-server-info", at=bare)
    return True


def pip():
    """Installs a package from a local index by absolute URIs, and one from the registry through CONNECT."""
    command = [sys.executable, "-m", "pip"]
    with tempfile.TemporaryDirectory() as folder, proxy(*LOCAL, log="info") as (port, process), origin(folder) as server:
        os.makedirs(os.path.join(folder, "simple", "tiny"))
        wheel = os.path.join(folder, "simple", "tiny", "tiny-1.0-py3-none-any.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny.py", "size = 1\n")
            archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
            archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        environment |= {"no_proxy": "", "PIP_CONFIG_FILE": "/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        through = ["--proxy", f"http://127.0.0.1:{port}", "--no-cache-dir", "-q"]
        target = os.path.join(folder, "target")
        run([*command, "install", *through, "--index-url", f"http://127.0.0.1:{server}/simple/", "--target", target, "tiny"], env=environment)
        assert os.path.exists(os.path.join(target, "tiny.py"))
        # Without the proxy it would work, too.
        wait_for_log(process, f"GET http://127.0.0.1:{server}: 200\\b")
    # The registry may have a private address here.
    with tempfile.TemporaryDirectory() as folder, proxy("--allow", "0.0.0.0/0", "--allow", "::/0", log="info") as (port, process):
        download = [*command, "download", "-q", "--no-deps", "--no-cache-dir", "-d", folder, "six==1.16.0"]
        direct = subprocess.run(download, capture_output=True, text=True, timeout=DEADLINE)
        if direct.returncode != 0:
            print("skipped: pip reaches no registry without the proxy")
            return True
        for path in pathlib.Path(folder).iterdir():
            path.unlink()
        environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
        run([*download, "--proxy", f"http://127.0.0.1:{port}"], env=environment | {"no_proxy": ""})
        assert len(os.listdir(folder)) == 1
        wait_for_log(process, CARRIED)
    return True


def apt():
    """Downloads a small package."""
    if not has("apt-get"):
        return False
    with tempfile.TemporaryDirectory() as folder, proxy("--allow", "0.0.0.0/0", "--allow", "::/0", log="info") as (port, process):
        os.chmod(folder, 0o777)
        download = ["apt-get", "-qq", "-o", "Acquire::Retries=0", "download", "hostname"]
        direct = subprocess.run(download, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
        if direct.returncode != 0 or not os.listdir(folder):
            print(f"skipped: apt-get reaches no registry without the proxy: {direct.stderr.strip()[-200:]}")
            return False
        for path in pathlib.Path(folder).iterdir():
            path.unlink()
        through = [f"Acquire::{scheme}::Proxy=http://127.0.0.1:{port}" for scheme in ("http", "https")]
        run([*download, *[it for option in through for it in ("-o", option)]], cwd=folder)
        assert len(os.listdir(folder)) == 1
        wait_for_log(process, CARRIED)
    return True


def half_close():
    """Each side may finish first, and the other one still sends."""

    def after_client(peer):
        question = read_to_end(peer)
        peer.sendall(question.upper())

    def before_client(peer):
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b"question" * 100_000
        heard.set()

    with proxy(*LOCAL) as (port, _):
        with raw_server(after_client) as server:
            for peer in tunnels(port, server):
                with peer:
                    peer.sendall(b"question" * 100)
                    peer.shutdown(socket.SHUT_WR)
                    assert read_to_end(peer) == b"QUESTION" * 100
        with raw_server(before_client) as server:
            for peer in tunnels(port, server):
                with peer:
                    heard = threading.Event()
                    assert read_to_end(peer) == b"hello"
                    peer.sendall(b"question" * 100_000)
                    peer.shutdown(socket.SHUT_WR)
                    assert heard.wait(DEADLINE)
    return True


def cut():
    """A response that its server cuts. A client must not take it for complete."""
    if not has("curl"):
        return False
    bodies = [
        b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000,
        b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n",
        b"\r\n" + b"x" * 1000,
    ]

    def serve(peer):
        peer.recv(MIB)
        peer.sendall(b"HTTP/1.1 200 OK\r\n" + bodies[0])
        time.sleep(0.1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with proxy(*LOCAL) as (port, _), raw_server(serve) as server:
        while bodies:
            for version in ("--http1.1", "--http1.0"):
                command = ["curl", "-sS", "-q", "--noproxy", "", version, "-x", f"http://127.0.0.1:{port}", f"http://127.0.0.1:{server}/"]
                done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
                assert done.returncode in (18, 56), done
                assert done.stdout == b"x" * 1000
            bodies.pop(0)
    return True


def mutated(rng, port):
    """A few pipelined requests, most of them with something that two parsers may understand in two ways."""
    fields = [
        "Content-Length: 5", "Content-Length: 0", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length:5", "Content-Length : 5",
        "content-length:\t5", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity", "Transfer-Encoding:\x0bchunked", " Transfer-Encoding: chunked", "X: y\n\tz", "X:", "X: \x7f",
        "Connection: keep-alive, x-a", "Connection: content-length, transfer-encoding, host", "X-A: 1", "Host: other", "Expect: 100-continue",
        "TE: trailers", "Upgrade: websocket", "Keep-Alive: 1", "Max-Forwards: 0", "Via: 1.1 x", "Proxy-Connection: close", "X: \xe9",
    ]
    bodies = ["", "hello", "5\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n", "5\nhello\n0\n\n", "0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n",
              "5 \r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n"]
    text = ""
    for _ in range(rng.randrange(1, 4)):
        method = rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH"])
        version = rng.choice(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/1.2", "http/1.1"])
        path = rng.choice(["/", "", "/x?y", "/%0d%0a", "?q", "/\t", "//x", "/a b"])
        end = rng.choice(["\r\n"] * 12 + ["\n", "\r", "\r\r\n"])
        chosen = ["Host: a", *(rng.choice(fields) for _ in range(rng.randrange(4)))]
        rng.shuffle(chosen)
        lines = [f"{method} http://127.0.0.1:{port}{path} {version}", *chosen]
        text += end.join(lines) + end + "\r\n" + rng.choice(bodies)
    data = bytearray(text.encode("latin-1"))
    if rng.random() < 0.3:
        data[rng.randrange(len(data))] = rng.choice(b"\r\n\t \0:;,5\xff")
    return bytes(data)


def h11():
    """What reaches a server and a client is unambiguous for h11, whatever the two have sent. PROXY_SEED chooses other
    messages."""
    try:
        import h11
    except ImportError:
        print("skipped: h11 is not installed")
        return False
    import random

    seed = int(os.environ.get("PROXY_SEED", "1"))
    failures, counts = [], {"requests": 0, "responses": 0}
    hop_by_hop = {b"te", b"upgrade", b"keep-alive", b"proxy-connection", b"connection", b"trailer"}
    responses = [
        b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n", b"\r\nhello", b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: 9\r\n\r\nhello", b"X: y\n\r\n\r\n",
    ]

    def serve(peer):
        rng = random.Random(f"{seed} {peer.getpeername()}")
        connection, received = h11.Connection(h11.SERVER), b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = peer.recv(MIB)
                    received += data
                    if not data and (not received or connection.their_state is not h11.IDLE):
                        return  # A request that the proxy has cut.
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    counts["requests"] += 1
                    names = [name for name, _ in event.headers]
                    assert names.count(b"host") == 1 and not hop_by_hop & set(names), event
                    assert b"smuggled" not in dict(event.headers)[b"host"], event
                elif isinstance(event, h11.EndOfMessage):
                    response = rng.choice(responses)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n" + response)
                    if response in responses[:4]:
                        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                        connection.send(h11.EndOfMessage())
                        connection.start_next_cycle()
                    else:
                        return
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except (h11.RemoteProtocolError, AssertionError) as error:
            failures.append((error, received))

    rng = random.Random(seed)
    with proxy(*LOCAL, "--idle", "1", log="error") as (port, _), raw_server(serve) as server:
        for _ in range(5000):
            data = mutated(rng, server)
            with connect(port, data) as peer:
                peer.shutdown(socket.SHUT_WR)
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := peer.recv(MIB):
                        received += piece
            rest = received
            while rest:
                connection = h11.Connection(h11.CLIENT)
                connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
                connection.send(h11.EndOfMessage())
                connection.receive_data(rest)
                try:
                    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                        if event is h11.NEED_DATA:
                            break  # A response that was cut.
                except h11.RemoteProtocolError as error:
                    failures.append((error, data, received))
                    break
                if event is h11.NEED_DATA:
                    break
                counts["responses"] += 1
                rest = connection.trailing_data[0]
            assert not failures, failures
    print(f"h11: {counts}")
    assert min(counts.values()) > 500, counts
    return True


def slow_reader():
    """A body of 1 GiB, of which the client reads little at first. The proxy's memory stays constant."""
    size = 1 << 30

    def serve(peer):
        # One of CONNECT has no head that would be read here.
        peer.recv(MIB)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(MIB)
        for _ in range(size // MIB):
            peer.sendall(piece)
            sent[0] += MIB

    with proxy(*LOCAL) as (port, process), raw_server(serve) as server:
        request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % server
        openings = [lambda: connect(port, request)]
        openings += [lambda n=n: list(tunnels(port, server))[n] for n in (0, 1)]
        for opening in openings:
            sent, before = [0], rss(process)
            with opening() as peer:
                if opening is not openings[0]:
                    peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                count, most = 0, 0
                for _ in range(100):
                    count += len(peer.recv(10_000))
                    most = max(most, rss(process))
                    time.sleep(0.01)
                # What the kernel's buffers hold on the way.
                assert sent[0] < 64 * MIB, sent
                buffer = bytearray(MIB)
                while count < size:
                    received = peer.recv_into(buffer)
                    assert received, count
                    count += received
                    most = max(most, rss(process))
            assert most - before < 4 * MIB and most < 24 * MIB, (before, most)
    return True


def ctrl_c():
    """A request in progress is completed, and the program ends with status 0."""
    go = threading.Event()

    def serve(peer):
        peer.recv(MIB)
        go.wait(DEADLINE)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    with proxy(*LOCAL, log="info") as (port, process), raw_server(serve) as server:
        idle = connect(port)
        with connect(port, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % server) as peer:
            tunnel = next(iter(tunnels(port, server)))
            process.send_signal(signal.SIGINT)
            said = process.stdout.readline()
            assert said == b"shutting down: 2 connections may go on for 30 s, Ctrl-C again cuts them\n", said
            assert idle.recv(1) == b""
            go.set()
            response = read_to_end(peer)
            assert response.endswith(b"\r\n\r\ndone") and b"\r\nConnection: close\r\n" in response, response
            with tunnel:
                tunnel.sendall(b"x")
                assert tunnel.recv(MIB).endswith(b"done")
        idle.close()
        assert process.wait(DEADLINE) == 0
        assert re.search("stopped stats.accepted=3 ", process.log()), process.log()
    return True


def refusals():
    """A client that floods the proxy with requests that are refused fills no log, and has to connect again."""
    floods = {
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n": ["--user", "ann:secret"],
        b"GET http://10.0.0.1:25/ HTTP/1.1\r\nHost: a\r\n\r\n": [],
        b"GET http://10.0.0.1/ HTTP/1.1\r\nHost: a\r\n\r\n": [],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": [],
        b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n": [],
    }
    for request, options in floods.items():
        with proxy(*options, log="info") as (port, process):
            for _ in range(100):
                with connect(port, request * 100) as peer:
                    replies = read_to_end(peer)
                    assert 0 < replies.count(b"HTTP/1.1 ") <= 32, replies
            log = process.log()
            assert 0 < len(log) < 50_000, (request, len(log))
    return True


def cpu():
    """The CPU time of the proxy for each GiB, and that of an idle tunnel."""
    size = 2 << 30

    def serve(peer):
        request = peer.recv(MIB)
        piece = bytes(4 * MIB)
        if b"HTTP" in request:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            peer.sendall(piece)

    with proxy(*LOCAL) as (port, process), raw_server(serve) as server:
        forward = lambda: connect(port, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % server)
        for way, opening in (
            ("CONNECT", lambda: next(iter(tunnels(port, server)))),
            ("SOCKS 5", lambda: list(tunnels(port, server))[1]),
            ("forward", forward),
        ):
            with opening() as peer:
                before, start = cpu_time(process), time.monotonic()
                if way != "forward":
                    peer.sendall(b"go")
                count, buffer = 0, bytearray(4 * MIB)
                while count < size:
                    received = peer.recv_into(buffer)
                    assert received, count
                    count += received
                used, passed = cpu_time(process) - before, time.monotonic() - start
            gib = size >> 30
            print(f"{way}: {used / gib:.3f} s of CPU time for each GiB, {gib * 1024 / passed:.0f} MiB/s")
        with next(iter(tunnels(port, server))):
            before = cpu_time(process)
            time.sleep(2)
            assert cpu_time(process) - before <= 0.02
    return True


CHECKS = {
    "curl": curl,
    "ab": ab,
    "large": large,
    "users": users,
    "access_list": access_list,
    "git": git,
    "pip": pip,
    "apt": apt,
    "half_close": half_close,
    "cut": cut,
    "h11": h11,
    "slow_reader": slow_reader,
    "ctrl_c": ctrl_c,
    "refusals": refusals,
    "cpu": cpu,
}

if __name__ == "__main__":
    main()
