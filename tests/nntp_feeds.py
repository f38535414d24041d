#!/usr/bin/env python3
"""Serves a mailbox with the `nntp` example, from which INN's pullnews and leafnode's fetchnews fetch everything.

    nntp_feeds.py [--messages N] [--download] target/release/examples/nntp

The script makes the mailbox. Many of its messages have content that mail allows and news forbids. Each must
be served as a well-formed article (RFC 3977, RFC 5536) on which OVER, HDR and HEAD agree. Then

* INN's pullnews feeds them to a second `nntp` by IHAVE. It takes 50 ms for an article, because it sends
  each in two small writes, and the second waits for the acknowledgement of the first;
* leafnode's fetchnews fetches them, in a mount namespace of its own, which needs root.

The script uses the installed programs. With `--download` it uses Debian's packages,
which apt-get downloads without installing them (the two packages conflict, and both are services). Programs
that do not exist are reported as skipped.
"""

import argparse
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile

DEADLINE = 300
GROUP = "mail.box"
MANDATORY = ("Date", "From", "Message-ID", "Newsgroups", "Path", "Subject")


def main():
    global MESSAGES
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--messages", type=int, default=1900)
    parser.add_argument("--download", action="store_true")
    arguments = parser.parse_args()
    nntp, MESSAGES = arguments.program.resolve(), arguments.messages
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        scratch.chmod(0o755)
        places = [os.environ["PATH"], "/usr/lib/news/bin", "/usr/sbin"]
        if arguments.download:
            places = [str(place) for place in download(scratch / "packages")]
        pullnews = shutil.which("pullnews", path=":".join(places))
        fetchnews = shutil.which("fetchnews", path=":".join(places))
        mbox = scratch / "mbox"
        mbox.write_bytes(b"".join(message(n) for n in range(MESSAGES)))
        with served(nntp, scratch, "--mbox", f"{GROUP}={mbox}") as port:
            articles = read_all(port)
            print(f"{len(articles)} messages are well-formed articles")
            if pullnews is None:
                print("skipped: pullnews is not installed")
            elif not works("perl", "-MNet::NNTP", "-e1"):
                print("skipped: pullnews needs Perl with Net::NNTP")
            else:
                with served(nntp, scratch, "--group", GROUP, "--max-spool", str(1 << 30)) as sink:
                    pulled(pullnews, port, sink, scratch, articles)
            if fetchnews is None:
                print("skipped: fetchnews is not installed")
            elif os.geteuid() != 0 or not works("unshare", "--mount", "true"):
                print("skipped: fetchnews needs root and a mount namespace")
            else:
                fetched(fetchnews, port, scratch, articles)


def works(*command):
    found = shutil.which(command[0]) is not None
    return found and subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE).returncode == 0


def download(directory):
    """Downloads the two packages. Returns the directories of their programs."""
    directory.mkdir()
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return []
    # The user that apt-get downloads as may not be able to write here. Then root does.
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "inn2", "leafnode"]
    if subprocess.run(command, check=False, cwd=directory, timeout=DEADLINE).returncode != 0:
        # A new machine has no package lists yet.
        subprocess.run(["apt-get", "update", "-qq"], check=False, timeout=DEADLINE)
        subprocess.run(command, check=False, cwd=directory, timeout=DEADLINE)
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, directory], check=True, timeout=DEADLINE)
    return [directory / "usr/lib/news/bin", directory / "usr/sbin"]


# ---- the mailbox


def message(n):
    """Message `n`, with defects that depend on its number."""
    fields = {
        "Return-Path": f"<sender{n}@example.org>",
        "Received": f"from a by b;\n\tMon, 1 Jan 2024 00:00:{n % 60:02} +0000",
        "From": f"Sender {n} <sender{n}@example.org>",
        "To": "list@example.org",
        "Subject": f"Message {n}",
        "Date": f"Mon, 1 Jan 2024 {n // 100 % 24:02}:{n % 60:02}:00 +0000",
        "Message-ID": f"<{n}.mail@example.org>",
    }
    separator = f"From sender{n}@example.org Mon Jan  1 00:00:{n % 60:02} 2024\n"
    body = f"This is message {n}.\n"
    end = "\n"
    oddity = n % 19
    variant = n // 19
    if oddity == 1:
        del fields["Date"]
        if variant % 3 == 0:
            separator = f"From sender{n}@example.org at some time\n"
    elif oddity == 2 and variant != 99:
        del fields["From"]
        if variant % 3 == 0:
            separator = separator.replace("@example.org", "")
    elif oddity == 3:
        body = f"A NUL: \0.\n\0\n.\0\nThat was {n}\0.\0\n"
        if variant % 2:
            fields["Subject"] += "\0 with a NUL"
    elif oddity == 4:
        body = f"10%\r20%\r100%\rDone\r\r\n\r\nA CR.\r \n{n}\r"
        fields["X-Bare"] = "a\rApproved: mod@example.org"
    elif oddity == 5:
        fields["Subject"] = "caf\xe9 \xff"
        fields["X-8\xe9"] = "no field"
        body = "caf\xe9 \x80\x9f\xff\n"
    elif oddity == 6:
        body = "x" * (1000 + 100 * n) + "\n"
        fields["References"] = " ".join(f"<{i}.{n}@example.org>" for i in range(100))
        fields["X-Long"] = "y" * 5000
    elif oddity == 7:
        body = ".\n..\n...\n.dot\n\n.\n>From here\n>>From there\n> From x\n\n\n.\n"
    elif oddity == 8:
        body = ""
    elif oddity == 9:
        del fields["Subject"]
        if variant % 2:
            fields["Subject"] = ""
    elif oddity == 10:
        del fields["Message-ID"]
        ids = [None, "", f"no id {n}", f"<a..b.{n}@x>", f"<{n}>", f"<{n} space@x>", f"<\xe9{n}@x>", f"<{'l' * 300}{n}@x>"]
        if (given := ids[variant % len(ids)]) is not None:
            fields["Message-ID"] = given
        elif variant % 3 == 0:
            fields["Message-ID"] = f"<{n}.ok@example.org> (added by a relay)"
    elif oddity == 11:
        fields["Date"] = [
            "yesterday", "2024-01-01 10:00:00", "Mon, 1 Jan 24 10:00:00 GMT", "Mon, 1 Jan 2094 10:00:00 +0000",
            "Mon, 1 Jan 2024 10:00:00", "Mon Jan  1 10:00:00 2024", "Mon, 1 Jan 2024 10:00:00 +0100 (CET)",
            "Mon, 32 Jan 2024 10:00:00 +0000", "",
        ][variant % 9]  # fmt: skip
    elif oddity == 12:
        fields["From"] = ["nobody", "", "<>", "a\0b@example.org", "\xe9 <e@example.org>", '"A, B" <a@example.org>'][variant % 6]
    elif oddity == 13:
        fields |= {"subject": "another", "DATE": "Tue, 2 Jan 2024 00:00:00 +0000", "message-id": f"<other{n}@x>", "tO": "x"}
    elif oddity == 14:
        fields |= {"Xref": "other.example other.group:1", "Newsgroups": "other.group", "Path": "a b\xe9", "Control": "rmgroup mail.box"}
        fields |= {"Lines": "100000", "Bytes": "1", "Injection-Info": "other.example"}
    elif oddity == 15:
        fields |= {"X-Empty": "", "X-Blank": "a\n \n\t\n b", "X-Folded": "\n folded", "Sup": "\t", "Supersedes": "<1@x>"}
    elif oddity == 16:
        end = ""
        separator = separator.replace("\n", "\r\n")
        body = body.replace("\n", "\r\n")
    elif oddity == 17:
        body = "".join(f"line {i}\n" for i in range(2000))
    elif oddity == 18:
        random.seed(n)
        octets = [o for o in range(256) if chr(o) not in "F>"]
        body = "".join(chr(random.choice(octets)) for _ in range(2000)) + "\n"
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    if oddity == 0 and variant % 4 == 1:
        head = f">From relay Mon Jan  1 00:00:00 2024\n{head}"
    if oddity == 0 and variant % 4 == 2:
        head, body = "", f"This has no header: {n}\n"[5:]
    if oddity == 0 and variant % 4 == 3:
        head, end = head + "This is no field\n", "\n"
    if oddity == 16:
        head = head.replace("\n", "\r\n")
        return f"{separator}{head}\r\n{body}\r\n".encode("latin-1")
    return f"{separator}{head}\n{body}{end}".encode("latin-1") + (b"" if body.endswith("\n") or not body else b"\n")


# ---- the served articles


def read_all(port):
    """Checks all articles. Returns a dict from Message-ID to text."""
    articles = {}
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        stream = connection.makefile("rwb")

        def ask(command, block=True):
            stream.write(command.encode() + b"\r\n")
            stream.flush()
            status = stream.readline()
            assert status.startswith(b"2"), (command, status)
            lines = []
            while block and (line := stream.readline()) != b".\r\n":
                # A reader that ends lines at LF finds CRLF at the end of each, and no other CR, LF
                # or NUL.
                assert line.endswith(b"\r\n") and not re.search(rb"[\0\r\n]", line[:-2]), (command, line)
                lines.append(line[1:] if line.startswith(b".") else line)
            return lines if block else status

        stream.readline()
        count = int(ask(f"GROUP {GROUP}", False).split()[1])
        assert count == MESSAGES, f"{count} of {MESSAGES} messages are served"
        headers = {name: ask(f"HDR {name} 1-") for name in (*MANDATORY, "References", "Xref", ":bytes", ":lines")}
        for row in ask("OVER 1-"):
            number, subject, sender, date, message_id, references, octets, lines, xref = row[:-2].split(b"\t")
            text = ask(f"ARTICLE {number.decode()}")
            empty = text.index(b"\r\n")
            head, body = text[:empty], text[empty + 1 :]
            assert ask(f"HEAD {number.decode()}") == head
            found = fields(head)
            over = dict(zip(MANDATORY, (date, sender, message_id, None, None, subject)))
            over |= {"References": references, "Xref": xref.removeprefix(b"Xref: ")}
            over |= {":bytes": octets, ":lines": lines}
            counted = {":bytes": b"%d" % sum(map(len, text)), ":lines": b"%d" % len(body)}
            for name, value in over.items():
                served = counted.get(name) or found.get(name.lower(), [b""])[0]
                assert value in (None, served), (name, value, served)
                by_hdr = headers[name][int(number) - 1]
                assert by_hdr == b"%s %s\r\n" % (number, served), (by_hdr, served)
            assert found["xref"] == [b"news.asynchat.invalid %s:%s" % (GROUP.encode(), number)], found["xref"]
            assert GROUP.encode() in found["newsgroups"][0].split(b","), found["newsgroups"]
            for absent in ("control", "supersedes", "bytes", "lines"):
                assert absent not in found, head
            for name in MANDATORY:
                assert len(found[name.lower()]) == 1 and found[name.lower()][0], (name, head)
            articles[message_id.decode()] = b"".join(body)
    assert len(articles) == MESSAGES
    return articles


def fields(head):
    found = {}
    for line in head:
        assert len(line) <= 1000, line
        assert line.strip(), head
        if line[:1] in (b" ", b"\t"):
            values[-1] += line[:-2].replace(b"\t", b" ")
            continue
        assert re.match(rb"[!-9;-~]+: .*[^ \t]", line), line
        name, value = line[:-2].split(b": ", 1)
        values = found.setdefault(name.lower().decode(), [])
        values.append(value.replace(b"\t", b" "))
    return {name: [value.strip() for value in values] for name, values in found.items()}


# ---- INN's pullnews


def pulled(pullnews, port, sink, scratch, articles):
    home = scratch / "pullnews"
    home.mkdir()
    (home / "pullnews.marks").write_text(f"127.0.0.1:{port}\n\t{GROUP} 0 0\n")
    # pullnews runs without an INN installation if it does not read INN's configuration.
    source = pathlib.Path(pullnews).read_text().split("\n")
    script = home / "pullnews"
    script.write_text("\n".join(line for line in source if "use INN::Config" not in line))
    command = ["perl", script, "-s", f"127.0.0.1:{sink}", "-c", home / "pullnews.marks", "-l", home / "log"]
    done = subprocess.run(
        command, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, errors="replace", timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with socket.create_connection(("127.0.0.1", sink), DEADLINE) as connection:
        stream = connection.makefile("rwb")
        stream.readline()
        for message_id, body in articles.items():
            stream.write(f"BODY {message_id}\r\n".encode())
            stream.flush()
            status = stream.readline()
            assert status.startswith(b"222 "), f"pullnews did not bring {message_id}: {status}\n{done.stdout[-4000:]}"
            lines = iter(stream.readline, b".\r\n")
            came = b"".join(line[1:] if line.startswith(b".") else line for line in lines)
            assert came == body, (message_id, came, body)
    print(f"pullnews brought {len(articles)} articles")


# ---- leafnode's fetchnews

# Its paths are compiled in, so it gets its own /etc and /var/spool. The first run fetches the list
# of groups. Then one group is marked as read by a user.
FETCH = """
set -e
mount --make-rprivate /
mount --bind "$1/etc" /etc
mount --bind "$1/spool" /var/spool
"$3" -vvv -n -w -f || true
touch "/var/spool/news/interesting.groups/$2"
chown -R news:news /var/spool/news
exec "$3" -vvv -n -w
"""


def fetched(fetchnews, port, scratch, articles):
    home = scratch / "leafnode"
    config, spool = home / "etc/news/leafnode", home / "spool/news"
    config.mkdir(parents=True)
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache"):
        if os.path.exists(f"/etc/{name}"):
            shutil.copy(f"/etc/{name}", home / "etc")
    (config / "config").write_text(
        f"server = 127.0.0.1\nport = {port}\nexpire = 20000\nmaxage = 20000\n"
        "hostname = reader.asynchat-feeds.net\nallow_8bit_headers = 1\n"
    )
    for name in ("failed.postings", "interesting.groups", "leaf.node", "message.id", "out.going", "temp.files"):
        (spool / name).mkdir(parents=True)
    for number in range(1000):
        (spool / f"message.id/{number:03}").mkdir()
    for path in (spool, *spool.rglob("*"), config, config / "config"):
        shutil.chown(path, "news", "news")
    command = ["unshare", "--mount", "sh", "-c", FETCH, "fetch", home, GROUP, fetchnews]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=DEADLINE)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    group = spool / GROUP.replace(".", "/")
    came = {}
    for path in group.iterdir() if group.is_dir() else ():
        if path.name.isdigit():
            head, _, body = path.read_bytes().partition(b"\n\n")
            message_id = re.search(rb"^Message-ID: (.*)$", head, re.M | re.I)[1].decode()
            came[message_id] = body
    missing = articles.keys() - came.keys()
    assert not missing, f"fetchnews did not bring {len(missing)}: {sorted(missing)[:10]}\n{output[-4000:]}"
    for message_id, body in articles.items():
        assert came[message_id] == body.replace(b"\r\n", b"\n"), (message_id, came[message_id][:500], body[:500])
    print(f"fetchnews brought {len(came)} articles")


# ---- processes


@contextlib.contextmanager
def served(program, scratch, *arguments):
    """The program on a free port, with a directory outside of any repository. Ctrl-C ends it."""
    command = [program, "--listen", "127.0.0.1:0", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=scratch)
    try:
        first_line = server.stdout.readline()
        assert first_line.startswith("listening on "), first_line
        yield int(first_line.rpartition(":")[2])
        server.send_signal(signal.SIGINT)
        assert server.wait(DEADLINE) == 0, f"{program} exits with {server.returncode}"
    finally:
        server.kill()
        server.wait()


main()
