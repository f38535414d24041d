#!/usr/bin/env python3
"""Checks the status page of the example `files`: its metrics with the parser of Prometheus, its events over a restart,
and the pages in Chromium.

    python3 tests/status_page.py target/release/examples                # all
    python3 tests/status_page.py target/release/examples browser        # one check
    SCREENSHOTS=/tmp python3 tests/status_page.py target/release/examples browser

What is not installed (the Python packages prometheus_client and playwright, the program chromium) is reported as
skipped, unless STATUS_REQUIRE is set. Traffic stays on the loopback interface, and every started process is ended.
"""

import contextlib
import ftplib
import functools
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import clients

DEADLINE = 20
PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
USER, PASSWORD = "ann", "secret"
BIG = 200 << 20

# Ends its quotes in each text that it gets into.
FOLDER = 'a "folder" with \\ and <b>'
# A request of a hostile client. It must be shown as it is.
HOSTILE = "/<img/src=x/onerror=document.title='defaced'>"

missing = functools.partial(clients.missing, require="STATUS_REQUIRE")


def main():
    for name in sys.argv[2:] or list(CHECKS):
        with tempfile.TemporaryDirectory() as folder:
            if CHECKS[name](Site(pathlib.Path(folder))):
                print(f"{name}: passed", flush=True)


class Site:
    """A server of a folder that can be started again on its ports."""

    def __init__(self, folder):
        self.shared = folder / FOLDER
        (self.shared / "dir").mkdir(parents=True)
        (self.shared / "a.txt").write_text("hello, world\n")
        with open(self.shared / "big", "wb") as file:
            file.truncate(BIG)
        self.port = self.ftp_port = 0

    @contextlib.contextmanager
    def served(self):
        options = ["--listen", f"127.0.0.1:{self.port}", "--ftp-listen", f"127.0.0.1:{self.ftp_port}", "--grace", "1"]
        options += ["--write", "--user", f"{USER}:{PASSWORD}", "--max-upload", "10M"]
        command = [PROGRAMS / "files", self.shared, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, restore_signals=False)
        try:
            lines = [process.stdout.readline() for _ in range(2)]
            if not lines[1].startswith("listening for FTP on "):
                process.kill()
                raise AssertionError(f"{lines} {process.stderr.read()}")
            self.port, self.ftp_port = (int(line.rsplit(":", 1)[1]) for line in lines)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=DEADLINE)
            assert "panicked" not in errors, errors

    def get(self, path, method="GET", **fields):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers=fields)
        reply = connection.getresponse()
        body = reply.read().decode()
        connection.close()
        return reply, body

    @contextlib.contextmanager
    def slow_client(self):
        """Requests a large file and does not read it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as client:
            client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(1)
            yield

    @contextlib.contextmanager
    def hostile_client(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as client:
            client.sendall(f"GET {HOSTILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 404"
            yield

    @contextlib.contextmanager
    def ftp_client(self):
        with ftplib.FTP(timeout=DEADLINE) as ftp:
            ftp.connect("127.0.0.1", self.ftp_port)
            ftp.login()
            assert ftp.retrbinary("RETR a.txt", lambda _: None).startswith("226")
            yield


# ---- metrics


def metrics(site):
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        return missing("the Python package prometheus_client")

    def read():
        reply, text = site.get("/-/metrics")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(text)}
        for family in families.values():
            assert family.name.startswith("files_") and family.documentation and family.type != "unknown", family
            assert family.samples or family.name == "files_requests", family
        samples = [sample for family in families.values() for sample in family.samples]
        return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}

    def requests(protocol, method, code):
        return ("files_requests_total", ("code", code), ("method", method), ("protocol", protocol))

    with site.served():
        before = read()
        info = next(key for key in before if key[0] == "files_info")
        assert dict(info[1:])["folder"] == FOLDER, info
        for _ in range(3):
            assert site.get("/a.txt")[0].status == 200
        assert site.get("/missing", method="HEAD")[0].status == 404
        with site.slow_client(), site.ftp_client():
            after = read()
        assert after[requests("http", "GET", "200")] == 4, after  # with that for the metrics
        assert after[requests("http", "HEAD", "404")] == 1, after
        assert after[requests("ftp", "RETR", "226")] == 1, after
        assert after[("files_transferring_connections",)] == 1, after
        assert after[("files_connections", ("protocol", "ftp"))] == 1, after
        assert after[("files_loop_turns_total",)] > before[("files_loop_turns_total",)] > 0
        assert after[("files_sent_bytes_total",)] > before[("files_sent_bytes_total",)]
        for name, value in before.items():
            assert not name[0].endswith("_total") or after[name] >= value, name
    return True


# ---- events


def events(site):
    with site.served() as process:
        assert site.get("/-/health")[1] == "ok\n"
        # What a reverse proxy asks for may be for anybody.
        assert site.get("/-/events", X_Forwarded_For="192.0.2.1")[0].status == 403
        head, body = site.get("/-/events", method="HEAD")
        assert head.headers["Content-Type"] == "text/event-stream" and body == ""
        with site.slow_client(), site.hostile_client(), subscription(site) as stream:
            first = next(stream)
            second = next(stream)
            assert second["run"] == first["run"] and second["uptime"] > first["uptime"]
            assert second["folder"] == FOLDER
            rows = {row["request"]: row for row in second["connections"]}
            assert f"GET {HOSTILE}" in rows, rows
            slow = rows["GET /big"]
            assert slow["active"] and 0 < slow["done"] < slow["total"] == BIG, slow
            process.send_signal(signal.SIGTERM)
            # It ends, after at most one more event.
            assert len(list(stream)) <= 1
    with site.served(), subscription(site) as stream:
        assert next(stream)["run"] != first["run"]
    return True


@contextlib.contextmanager
def subscription(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=DEADLINE)
    connection.request("GET", "/-/events")
    reply = connection.getresponse()
    assert reply.status == 200 and reply.headers["Cache-Control"] == "no-store"
    lines = (line for line in reply if line.startswith(b"data: "))
    yield (json.loads(line.removeprefix(b"data: ")) for line in lines)
    connection.close()


# ---- the pages in a browser


def browser(site):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        return missing("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return missing("the Python package playwright")
    with sync_playwright() as playwright:
        # The sandbox needs a user who is not root. These are our own pages.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            with site.served():
                folder_page(site, chromium)
                fingers(site, chromium)
            status_page(site, chromium)
            with site.served():
                chart(site, chromium)
                silence(site, chromium)
                slow_connection(site, chromium)
        finally:
            chromium.close()
    return True


def context(chromium, **options):
    made = chromium.new_context(**options)
    made.set_default_timeout(DEADLINE * 1000)
    return made


def watched(page):
    """The errors of a page, which are collected from now on."""
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def folder_page(site, chromium):
    """The page of a folder, and an upload."""
    credentials = {"username": USER, "password": PASSWORD}
    with context(chromium, http_credentials=credentials) as session:
        page = session.new_page()
        errors = watched(page)
        page.goto(f"http://127.0.0.1:{site.port}/")
        links = page.locator("tbody a").all_inner_texts()
        assert links == ["a.txt", "big", "dir/"], links
        page.get_by_role("link", name="dir/").click()
        upload = {"name": "new <b> & ü.txt", "mimeType": "text/plain", "buffer": os.urandom(8 << 20)}
        # The server does not want so long a body without a password. An empty request asks for it before.
        empty = []
        page.on("request", lambda it: empty.append("if-match" in it.headers) if it.method == "PUT" else None)
        page.get_by_label("Upload files").set_input_files(upload)
        page.get_by_role("link", name=upload["name"]).wait_for()
        assert (site.shared / "dir" / upload["name"]).read_bytes() == upload["buffer"]
        assert empty == [True, False], empty
        # A file of the same name is replaced only if the user says so.
        other = {**upload, "buffer": b"another one"}
        page.once("dialog", lambda it: it.dismiss())
        page.get_by_label("Upload files").set_input_files(other)
        page.get_by_text("not uploaded: there is a file of this name").wait_for()
        assert (site.shared / "dir" / upload["name"]).read_bytes() == upload["buffer"]
        page.once("dialog", lambda it: it.accept())
        with page.expect_navigation():
            page.get_by_label("Upload files").set_input_files(other)
        assert (site.shared / "dir" / upload["name"]).read_bytes() == other["buffer"]
        assert empty == [True, False, True, True, False], empty
        # What is too long is not sent at all.
        too_long = {"name": "long", "mimeType": "text/plain", "buffer": bytes((10 << 20) + 1)}
        page.get_by_label("Upload files").set_input_files(too_long)
        page.get_by_text("long: larger than what the server takes").wait_for()
        page.get_by_text("up to 10485760 bytes each").wait_for()
        assert len(empty) == 5, empty
        screenshot(page, "folder")
        page.set_viewport_size({"width": 360, "height": 740})
        fits(page)
        # The browser reports the request that asks for the password, which changes nothing: a 401, and then a 412. It also
        # reports the question whether the file is there: once it was not, a 404.
        assert sum("404" in error for error in errors) == 1, errors
        errors = [error for error in errors if not any(status in error for status in ("401", "404", "412"))]
        assert not errors, errors


def fingers(site, chromium):
    """What is touched is large enough (WCAG 2.5.5), and not wider than a phone."""
    with context(chromium, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as session:
        page = session.new_page()
        for path, targets in (("", "tbody a, input"), ("-/", "button")):
            page.goto(f"http://127.0.0.1:{site.port}/{path}")
            fits(page)
            page.locator(targets).first.wait_for()
            heights = page.locator(targets).evaluate_all("all => all.map(it => it.getBoundingClientRect().height)")
            assert heights and min(heights) >= 44, (path, heights)


def status_page(site, chromium):
    with context(chromium, color_scheme="light") as session:
        page = session.new_page()
        errors = watched(page)
        state = page.locator("#state")

        def wait_for(text):
            state.filter(has_text=text).wait_for()

        with contextlib.ExitStack() as running:
            running.enter_context(site.served())
            for client in (site.slow_client, site.hostile_client, site.ftp_client):
                running.enter_context(client())
            page.goto(f"http://127.0.0.1:{site.port}/-/")
            wait_for("Live")
            rows = page.locator("#connections tbody tr")
            rows.filter(has_text=f"GET {HOSTILE}").wait_for()
            assert page.title() == "Status of files" and page.locator("img").count() == 0
            assert rows.filter(has_text="GET /big").locator("progress").evaluate("bar => bar.max") == BIG
            assert rows.filter(has_text="RETR /a.txt").count() == 1
            # The charts have a text.
            page.get_by_role("img", name="Requests per second").wait_for()
            page.get_by_role("img", name="Bytes per second").wait_for()
            page.locator("#requests-chart polyline").wait_for(state="attached")
            for _ in range(3):
                for _ in range(40):
                    site.get("/a.txt")
                page.evaluate("() => new Promise(done => source.addEventListener('message', done, { once: true }))")

            # With the keyboard only.
            page.locator("body").press("Tab")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == "pause"
            page.keyboard.press("Space")
            wait_for("Paused")
            page.keyboard.press("Space")
            wait_for("Live")

            looks(page, "status")
            assert not errors, errors
        wait_for("Disconnected")
        # The browser reports the attempts to connect.
        errors.clear()
        with site.served():
            wait_for("Live")
            page.locator("#notice").filter(has_text="was restarted").wait_for()
            page.locator("#requests-rate").filter(has_text="/s").wait_for()
            assert page.locator("#uptime").inner_text() in [f"{seconds} s" for seconds in range(DEADLINE)]
            looks(page, "restarted")
        unexpected = [error for error in errors if "net::ERR_" not in error]
        assert not unexpected, unexpected


def chart(site, chromium):
    """The charts have three minutes."""
    with context(chromium) as session:
        page = session.new_page()
        errors = watched(page)
        page.clock.install()
        page.goto(f"http://127.0.0.1:{site.port}/-/")

        def times():
            """When the samples were taken, after one more event."""
            page.evaluate("() => new Promise(done => source.addEventListener('message', done, { once: true }))")
            return page.evaluate("samples.map(sample => sample.time)")

        while len(before := times()) < 3:
            pass
        page.clock.fast_forward(120_000)
        while (after := times())[-1] == before[-1]:
            pass
        assert after[:3] == before[:3] and 120 <= after[-1] - before[0] < 180, (before, after)
        page.clock.fast_forward(120_000)
        while (later := times())[-1] == after[-1]:
            pass
        assert not set(later) & set(before) and later[-1] - later[0] < 180, (before, after, later)
        # There is nothing to see between two events that are far apart.
        assert page.locator("#requests-chart polyline").count() >= 2
        assert not errors, errors


def silence(site, chromium):
    """A connection on which nothing comes any more, as after a sleep of the computer, is replaced."""
    with Relay(site.port) as relay, context(chromium) as session:
        page = session.new_page()
        errors = watched(page)
        page.goto(f"http://127.0.0.1:{relay.port}/-/")
        page.locator("#state").filter(has_text="Live").wait_for()
        for _ in range(2):
            page.evaluate("before = source")
            relay.silence(b"GET /-/events ")
            end = time.monotonic() + DEADLINE
            while page.evaluate("source === before || at('state').dataset.state !== 'live'"):
                assert time.monotonic() < end, "the page does not connect again"
        assert not errors, errors


def slow_connection(site, chromium):
    """A connection that is not up yet has half a minute. The time is that of the page."""
    with Relay(site.port, silent=b"GET /-/events ") as relay, context(chromium) as session:
        page = session.new_page()
        page.clock.install()
        page.goto(f"http://127.0.0.1:{relay.port}/-/")
        page.evaluate("before = source")
        page.clock.run_for(20_000)
        assert page.evaluate("source === before && source.readyState === EventSource.CONNECTING")
        page.clock.run_for(15_000)
        assert page.evaluate("source !== before && before.readyState === EventSource.CLOSED")


class Relay:
    """Passes connections on to a port. Some of them can be silenced, as by a network that has lost them, also from their
    beginning."""

    def __init__(self, port, silent=None):
        self.target = port
        self.silent = silent
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The thread would still accept after a close alone.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def silence(self, start):
        """The connections whose last request begins so."""
        with self.lock:
            for connection in self.connections:
                if connection["request"].startswith(start):
                    connection["silent"] = True

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            connection = {"request": b"", "silent": False}
            with self.lock:
                self.connections.append(connection)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(connection, *ends, ends[0] is client), daemon=True).start()

    def copy(self, connection, source, target, is_request):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                with self.lock:
                    if is_request:
                        connection["request"] = piece
                        if self.silent and piece.startswith(self.silent):
                            connection["silent"] = True
                    is_silent = connection["silent"]
                if not is_silent:
                    target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def looks(page, name):
    """In both themes, and on a narrow screen."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width in (1200, 360):
            page.set_viewport_size({"width": width, "height": 800})
            fits(page)
            screenshot(page, f"{name}-{theme}-{width}")
    page.set_viewport_size({"width": 1200, "height": 800})


def fits(page):
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], f"the page is wider than the screen: {widths}"


def screenshot(page, name):
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=pathlib.Path(folder) / f"{name}.png", full_page=True)


CHECKS = {"metrics": metrics, "events": events, "browser": browser}

if __name__ == "__main__":
    main()
