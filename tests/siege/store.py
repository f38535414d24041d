#!/usr/bin/env python3
"""Fills, cuts and breaks the database of the `nntp` example.

    cargo build --release --example nntp
    python3 tests/siege/store.py target/release/examples/nntp

The script starts the server. The case of a full disk mounts a small tmpfs: it needs Linux and
root, and is otherwise reported as skipped. The first difference ends the run with exit
status 1.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from server import DEADLINE, NoServer, Server

GROUP = "asynchat.test"
KIB, MIB = 1 << 10, 1 << 20


def check(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}:\n  got    {got!r}\n  wanted {wanted!r}")


class Client:
    """A client that posts and reads."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")
        check("the greeting", self.line()[:3], b"200")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def line(self):
        return self.file.readline()

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        return self.line().decode().rstrip()

    def post(self, n, size):
        """Posts an article. Returns the last response: to POST, or to the article."""
        first = self.ask("POST")
        if not first.startswith("340"):
            return first
        head = (
            f"From: a <a@client.invalid>\r\nNewsgroups: {GROUP}\r\nSubject: {n}\r\n"
            f"Message-ID: <{n}@client.invalid>\r\n\r\n"
        )
        self.socket.sendall(head.encode() + body(n, size) + b".\r\n")
        return self.line().decode().rstrip()

    def has(self, n, size):
        first = self.ask(f"BODY <{n}@client.invalid>")
        if not first.startswith("222"):
            return first
        lines = bytearray()
        while (line := self.line()) != b".\r\n":
            if not line:
                return "cut off"
            lines += line
        return "" if lines == body(n, size) else "wrong text"

    def high(self):
        return int(self.ask(f"GROUP {GROUP}").split()[3])


def body(n, size):
    line = f"{n:<62}\r\n".encode()
    return line * (size // len(line))


def full_disk(program):
    """Posts are refused while the disk is full and accepted when it has room, and none is lost."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        print("SKIPPED: a full disk (it needs Linux and root, to mount a tmpfs)")
        return
    size = 100 * KIB
    with tmpfs("8m") as directory:
        options = ["--store", f"{directory}/posts.redb"]
        with Server(program, *options) as server, Client(server) as client:
            stored, answers = [], set()
            for n in range(200):
                answer = client.post(n, size)
                if answer.startswith("240"):
                    stored.append(n)
                answers.add(answer[:3])
            check("answers", answers, {"240", "440", "441"})
            check("the first ones are stored", len(stored) > 20 and stored[0] == 0, True)
            until = time.monotonic() + DEADLINE
            # The server may be reopening the database. It answers 403 until that is done.
            while (missing := client.has(stored[-1], size)) and time.monotonic() < until:
                time.sleep(0.05)
            for n in stored:
                check(f"article {n} on a full disk", missing or client.has(n, size), "")
            subprocess.run(["mount", "-o", "remount,size=64m", directory], check=True)
            n = 1000
            while not client.post(n, size).startswith("240"):
                if time.monotonic() > until:
                    sys.exit(f"no post is accepted although there is room:\n{server.logged()}")
                n += 1
                time.sleep(0.05)
            stored.append(n)
            check("the next post", client.post(2000, size)[:3], "240")
            stored.append(2000)
            for n in stored:
                check(f"article {n} after a full disk", client.has(n, size), "")
            high = client.high()
            no_panic(server)
            check("exit status", server.interrupt(), 0)
        with Server(program, *options) as server, Client(server) as client:
            check("the high mark after a restart", client.high(), high)
            for n in stored:
                check(f"article {n} after a restart", client.has(n, size), "")
            check("a post after a restart", client.post(3000, size)[:3], "240")
            check("its number", client.high() > high, True)
    print(f"a full disk: {len(stored)} articles, none lost, posts accepted again")


@contextlib.contextmanager
def tmpfs(size):
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "nntp-store-test", directory]
        subprocess.run(mount, check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", directory], check=True)


def limit(program):
    """The server refuses a post above the limit before the article is sent, and the file stays within the limit."""
    size, most = 500_000, 20 * MIB
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/posts.redb"
        options = ["--store", path, "--max-store", "20M", "--max-article", "600000"]
        for round in range(2):
            with Server(program, *options) as server, Client(server) as client:
                answers = [client.post(100 * round + n, size) for n in range(60)]
                if round == 0:
                    stored = sum(answer.startswith("240") for answer in answers)
                    check(f"{stored} articles are stored", 38 <= stored <= 42, True)
                    high = client.high()
                check("no room", answers[-1], "440 no room for more posts")
                check("after a restart, too", answers.count(answers[-1]), 60 - (0 if round else stored))
                answer = client.ask("IHAVE <x@client.invalid>")
                check("IHAVE", answer, "436 no room for more articles")
                check("all else goes on", client.has(0, size), "")
                check("the high mark", client.high(), high)
                check("exit status", server.interrupt(), 0)
            used = os.stat(path).st_blocks * 512
            check(f"the file takes {used} octets of the disk", used <= most * 5 // 4, True)
    print(f"a limit of 20 MiB: {stored} articles of 500 kB, {used / MIB:.1f} MiB of disk")


def growth(program):
    """The database is little larger than the text of its posts."""
    count, size = 300, 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/posts.redb"
        with Server(program, "--store", path) as server, Client(server) as client:
            for n in range(count):
                check("a post", client.post(n, size)[:3], "240")
            check("exit status", server.interrupt(), 0)
        stat = os.stat(path)
    used, text = stat.st_blocks * 512, count * size
    print(
        f"{count} posts of 1 MB: {used / MIB:.0f} MiB of disk,"
        f" file length {stat.st_size / MIB:.0f} MiB"
    )
    check(f"{used} octets of disk for {text} of text", used < text * 3 // 2, True)


def damage(program):
    """With a truncated or overwritten file, the server prints one line and exits with 1, or serves without a panic."""
    with tempfile.TemporaryDirectory() as directory:
        path, broken = f"{directory}/posts.redb", f"{directory}/broken.redb"
        with Server(program, "--store", path) as server, Client(server) as client:
            for n in range(40):
                check("a post", client.post(n, 20 * KIB)[:3], "240")
            # The open file is marked as open, as it is after a power failure.
            shutil.copyfile(path, f"{directory}/open.redb")
            check("exit status", server.interrupt(), 0)
        outcomes = {}
        for source in (path, f"{directory}/open.redb"):
            length = os.path.getsize(source)
            cuts = {*range(1, 5), *range(60, 70), *range(500, 8000, 499)}
            cuts |= {length * n // 40 for n in range(1, 40)} | {length - n for n in (1, 4095, 4096)}
            for cut in sorted(cuts):
                shutil.copyfile(source, broken)
                os.truncate(broken, cut)
                started = starts(program, broken, f"cut at {cut} of {length}")
                outcomes[started] = outcomes.get(started, 0) + 1
            for at in range(0, length, length // 60):
                shutil.copyfile(source, broken)
                with open(broken, "r+b") as file:
                    file.seek(at)
                    file.write(b"\xa5" * 64)
                started = starts(program, broken, f"overwritten at {at} of {length}")
                outcomes[started] = outcomes.get(started, 0) + 1
        with open(broken, "w") as file:
            file.write("Dear diary, this is no database.\n" * 300)
        check("a text file", starts(program, broken, "a text file"), False)
    print(f"damaged files: {outcomes[False]} were an error, {outcomes.get(True, 0)} were served")


def starts(program, path, what):
    """Whether the server starts. If it does, requests everything."""
    try:
        server = Server(program, "--store", path)
    except NoServer as failed:
        lines = [line for line in failed.logged.splitlines() if " INFO " not in line]
        check(f"{what}: lines of {lines}", len(lines), 1)
        check(f"{what}: {lines[0]}", lines[0].startswith("nntp: --store "), True)
        check(f"{what}: exit status", failed.status, 1)
        return False
    with server:
        for n in range(40):
            with Client(server) as client:
                with contextlib.suppress(ConnectionError):
                    client.has(n, 20 * KIB)
        with Client(server) as client:
            client.post("more", 20 * KIB)
        check(f"{what}: exit status", server.interrupt(), 0)
        no_panic(server)
    return True


def no_panic(server):
    lines = [line for line in server.logged().splitlines() if "panic" in line.replace("panic: 0", "")]
    check("panics in the log", lines, [])


CASES = [limit, growth, damage, full_disk]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the nntp example, built")
    parser.add_argument("cases", nargs="*", choices=[[], *(case.__name__ for case in CASES)])
    arguments = parser.parse_args()
    for case in CASES:
        if not arguments.cases or case.__name__ in arguments.cases:
            case(arguments.program)


if __name__ == "__main__":
    main()
