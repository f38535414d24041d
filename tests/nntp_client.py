#!/usr/bin/env python3
"""Sends the `nntp` example every command that RFC 3977 defines.

    nntp_client.py HOST:PORT [--auth USER:PASSWORD] [--ca FILE [--starttls]]

The server must be the example with its defaults (two groups that accept posts,
and `asynchat.docs`, which does not). With `--auth` it must have been started with
that `--user`, and the login is tested too. With `--ca` the
connections use TLS, and trust what the certificates in that file certify. Without
TLS, the login needs the server's option `--insecure-auth`. The checks use raw
sockets. Python's nntplib, removed from Python 3.13, is a second client if
it can be imported. The first difference ends the run with exit status 1. The
script `siege/bounds.py` tests the deadlines and limits of the server.
"""

import argparse
import socket
import ssl
import sys
import time
import warnings

DEADLINE = 60
DOCS = "asynchat.docs"
TALK, TEST = "asynchat.talk", "asynchat.test"
checks = 0


def check(what, got, wanted):
    global checks
    checks += 1
    if got != wanted:
        sys.exit(f"{what}:\n  got    {got!r}\n  wanted {wanted!r}")


def true(what, condition, about=""):
    check(f"{what} {about}", bool(condition), True)


class Client:
    """A connection that sends bytes and reads lines."""

    def __init__(self, auth=None):
        self.socket = socket.create_connection(ADDRESS, timeout=DEADLINE)
        if TLS and not STARTTLS:
            self.wrap()
        # Without a buffer, so that nothing is read before TLS begins.
        self.file = self.socket.makefile("rb", buffering=0 if STARTTLS else -1)
        self.code("greeting", self.line(), 200)
        if STARTTLS:
            self.ask("STARTTLS", 382)
            self.wrap()
            self.file = self.socket.makefile("rb")
        if auth:
            self.ask(f"AUTHINFO USER {auth[0]}", 381)
            self.ask(f"AUTHINFO PASS {auth[1]}", 281)

    def wrap(self):
        # The end of the stream has to be announced.
        self.socket = TLS.wrap_socket(
            self.socket, server_hostname=ADDRESS[0], suppress_ragged_eofs=False
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def line(self):
        line = self.file.readline()
        true("a line ends with CRLF", line.endswith(b"\r\n"), line)
        return line[:-2]

    def code(self, what, line, wanted):
        check(f"{what}: {line!r}", line[:3], str(wanted).encode())
        true("a code, a space and text", line[3:4] == b" ", line)
        return line[4:]

    def ask(self, command, wanted):
        """Sends a command with a reply of one line. Returns the text after the code."""
        self.send(command + (b"\r\n" if isinstance(command, bytes) else "\r\n"))
        return self.code(command, self.line(), wanted)

    def block(self, command, wanted):
        """Sends a command with a block in reply. Returns its lines, without dot-stuffing."""
        self.first = self.ask(command, wanted)
        return self.lines()

    def lines(self):
        lines = []
        while (line := self.line()) != b".":
            if line.startswith(b"."):
                true("a dot at the start of a line is doubled", line[1:2] == b".", line)
                line = line[1:]
            lines.append(line)
        return lines

    def group(self, name):
        count, low, high, echoed = self.ask(f"GROUP {name}", 211).split()[:4]
        check("GROUP repeats the name", echoed, name.encode())
        return int(count), int(low), int(high)

    def refused(self, command, wanted):
        """Sends a bad command, and then a good one, because too many bad ones in a row end the session."""
        self.ask(command, wanted)
        self.ask("DATE", 111)

    def ends(self, what):
        """Checks the last reply, and that nothing follows it."""
        self.code(what, self.line(), 400)
        check(f"{what}: the end", self.file.read(), b"")

    def post(self, text, command="POST", go=340, wanted=240):
        self.ask(command, go)
        self.send(stuff(text))
        return self.code(command, self.line(), wanted)


def stuff(text):
    """CRLF text with dot-stuffing and the final dot."""
    stuffed = text.replace(b"\r\n.", b"\r\n..")
    return (b"." if text.startswith(b".") else b"") + stuffed + b".\r\n"


serial = 0


def fresh_id():
    global serial
    serial += 1
    return f"<{time.time_ns():x}.{serial}@client.invalid>"


def article(body=b"text\r\n", groups=TEST, **fields):
    """An article with all mandatory fields. Fields that are None are omitted."""
    head = {
        "From": "Tester <tester@client.invalid>",
        "Newsgroups": groups,
        "Subject": "a test",
        "Message-ID": fresh_id(),
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    text = "".join(f"{k}: {v}\r\n" for k, v in head.items() if v is not None)
    return text.encode() + b"\r\n" + body, head["Message-ID"]


def session(c):
    capabilities = [line.split() for line in c.block("CAPABILITIES", 101)]
    check("VERSION is first", capabilities[0], [b"VERSION", b"2"])
    labels = {line[0] for line in capabilities}
    for label in (b"IMPLEMENTATION", b"READER", b"POST", b"IHAVE", b"NEWNEWS", b"HDR", b"OVER"):
        true("CAPABILITIES has", label in labels, label)
    lists = next(line for line in capabilities if line[0] == b"LIST")
    check(
        "CAPABILITIES LIST",
        set(lists[1:]),
        {b"ACTIVE", b"ACTIVE.TIMES", b"COUNTS", b"HEADERS", b"NEWSGROUPS", b"OVERVIEW.FMT", b"SUBSCRIPTIONS"},
    )
    true("no login is offered", b"AUTHINFO" not in labels)
    c.block("CAPABILITIES AUTOUPDATE", 101)
    c.ask("CAPABILITIES $x", 501)
    c.ask("mode reader", 200)
    c.ask("MODE STREAM", 501)
    c.ask("MODE", 501)
    date = c.ask("DATE", 111)
    true("DATE is 14 digits", date.isdigit() and len(date) == 14, date)
    drift = time.mktime(time.strptime(date.decode(), "%Y%m%d%H%M%S")) - time.mktime(time.gmtime())
    true("DATE is UTC and now", abs(drift) < 60, drift)
    true("HELP names OVER", any(b"OVER" in line for line in c.block("HELP", 100)))


def syntax(c):
    for command in ("NONSENSE", "NONSENSE with words", "", " ", "ARTICLES", "XYZZY " + "a " * 50):
        c.refused(command, 500)
    for command in (
        "GROUP", "GROUP a b", "QUIT now", "DATE x", "HELP x", "NEXT 1", "LAST 1", "POST x",
        "ARTICLE 1 2", "ARTICLE x", "ARTICLE -1", "ARTICLE <x", "HEAD <a b>", "STAT 12345678901234567",
        "BODY <>", "LISTGROUP a x", "LISTGROUP a 1-2 3", "OVER x", "OVER 1-x", "XOVER <a@b>", "HDR", "HDR Subject x",
        "HDR a:b 1", "LIST NONSENSE", "LIST ACTIVE a[b]", "LIST ACTIVE a b", "LIST OVERVIEW.FMT x", "LIST HEADERS x",
        "NEWGROUPS", "NEWGROUPS 20260231 000000", "NEWGROUPS 990101 000000 UTC", "NEWNEWS *",
        "NEWNEWS * 20260101 00000", "NEWNEWS [a] 20260101 000000", "IHAVE", "IHAVE x", "AUTHINFO", "AUTHINFO USER",
        "AUTHINFO SASL PLAIN",
    ):  # fmt: skip
        c.refused(command, 501)
    c.refused(b"GROUP \xff\xfe", 501)
    c.refused(b"GROUP a\0b", 501)
    c.refused(b"NONSENSE \xff\xfe", 500)
    c.refused("  GROUP x", 500)
    c.ask("group \t  no.such.group  ", 411)


def long_lines(c):
    """A line may have 512 octets with its CRLF. A longer one is answered with 501, and the next one is parsed."""
    longest = b"GROUP " + b"x" * (510 - 6)
    c.ask(longest, 411)
    c.ask(longest + b"x", 501)
    c.send(b"x" * 100_000 + b"\r\nDATE\r\n" + longest + b"x\r\n" + longest + b"\r\nDATE\r\n")
    for wanted in (501, 111, 501, 411, 111):
        c.code("after a long line", c.line(), wanted)


def bad_commands(c):
    """Ten bad commands in a row end the session. A command answered with 4xx is not a bad one."""
    for _ in range(3):
        for command, wanted in [("NONSENSE", 500), ("", 500), ("DATE x", 501)] * 3 + [("ARTICLE", 412)]:
            c.ask(command, wanted)
    long = b"x" * 600 + b"\r\n"
    c.send(b"DATE x\r\n" * 4 + long + b"\r\n" * 4 + b"DATE x\r\n" + b"DATE\r\n" * 1000)
    for wanted in [501] * 5 + [500] * 4:
        c.code("in a row", c.line(), wanted)
    c.ends("too many bad commands")


def other_protocols():
    """The first line of another protocol ends the session. POST and HEAD are NNTP commands too."""
    for line in (
        "GET / HTTP/1.1", "get /", "CONNECT a:1 HTTP/1.1", "POST / HTTP/1.1", "POST http://a/ HTTP/1.1",
        "HEAD / HTTP/1.0", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0", "EHLO a.invalid", "HELO a", "Host: a",
    ):  # fmt: skip
        with Client(AUTH) as c:
            c.ask("DATE", 111)
            c.send(f"{line}\r\nHost: a\r\n\r\nDATE\r\nPOST\r\n" + "x" * 100_000)
            c.ends(line)
    with Client(AUTH) as c:
        # The target is so long that the request line is not examined. Then the header shows the
        # protocol.
        c.send(b"GET /" + b"x" * 600 + b" HTTP/1.1\r\nHost: a\r\n\r\nDATE\r\n")
        c.code("a long request line", c.line(), 501)
        c.ends("its header")
    with Client(AUTH) as c:
        c.ask("HEAD <a/b@http.invalid>", 430)
        c.ask("POST x", 501)
        c.ask("NONSENSE http://a/", 500)


def groups(c):
    c.ask("ARTICLE", 412)
    c.ask("STAT 1", 412)
    c.ask("NEXT", 412)
    c.ask("LAST", 412)
    c.ask("LISTGROUP", 412)
    c.ask("OVER", 412)
    c.ask("OVER 1-", 412)
    c.ask("HDR Subject 1-", 412)
    c.ask("GROUP no.such.group", 411)
    c.ask("LISTGROUP no.such.group", 411)
    count, low, high = c.group(DOCS)
    true("the documentation is there", count >= 3, count)
    check("the numbers are dense", (low, high), (1, count))
    numbers = [int(line) for line in c.block("LISTGROUP", 211)]
    check("LISTGROUP", numbers, list(range(1, count + 1)))
    check("LISTGROUP 2-3", c.block(f"LISTGROUP {DOCS} 2-3", 211), [b"2", b"3"])
    check("LISTGROUP 3-", c.block(f"LISTGROUP {DOCS} 3-", 211)[0], b"3")
    check("LISTGROUP 3-2", c.block(f"LISTGROUP {DOCS} 3-2", 211), [])
    true("the first is current after LISTGROUP", c.ask("STAT", 223).startswith(b"1 <"))
    c.ask("LAST", 422)
    true("NEXT", c.ask("NEXT", 223).startswith(b"2 <"))
    true("LAST", c.ask("LAST", 223).startswith(b"1 <"))
    true("STAT n moves", c.ask(f"STAT {high}", 223).startswith(b"%d <" % high))
    c.ask("NEXT", 421)
    c.ask(f"STAT {high + 1}", 423)
    true("a 423 does not move", c.ask("STAT", 223).startswith(b"%d <" % high))
    c.ask("GROUP no.such.group", 411)
    true("a 411 does not move", c.ask("STAT", 223).startswith(b"%d <" % high))


def articles(c):
    c.group(DOCS)
    number, message_id = c.ask("STAT 2", 223).split()[:2]
    message_id = message_id.decode()
    whole = c.block("ARTICLE 2", 220)
    check("the first line", c.first.split()[:2], [b"2", message_id.encode()])
    empty = whole.index(b"")
    check("HEAD 2", c.block("HEAD 2", 221), whole[:empty])
    check("BODY 2", c.block("BODY 2", 222), whole[empty + 1 :])
    for command, code in (("ARTICLE", 220), ("HEAD", 221), ("BODY", 222)):
        current = c.block(command, code)
        check("the current one", c.first.split()[:2], [b"2", message_id.encode()])
        check("by message-id", c.block(f"{command} {message_id}", code), current)
        check("a message-id has number 0", c.first.split()[0], b"0")
        c.ask(f"{command} <none@x.invalid>", 430)
        c.ask(f"{command} 999999", 423)
    check("STAT by message-id", c.ask(f"STAT {message_id}", 223).split()[0], b"0")
    c.ask("STAT <none@x.invalid>", 430)
    true("a message-id does not move", c.ask("STAT", 223).startswith(b"2 "))
    head = dict(line.split(b": ", 1) for line in whole[:empty])
    check("Message-ID", head[b"Message-ID"], message_id.encode())
    return whole


def overview(c):
    c.group(DOCS)
    whole = c.block("ARTICLE 2", 220)
    head = dict(line.split(b": ", 1) for line in whole[: whole.index(b"")])
    lines = len(whole) - whole.index(b"") - 1
    octets = sum(len(line) + 2 for line in whole)
    row = c.block("OVER 2", 224)[0].split(b"\t")
    wanted = [b"2", head[b"Subject"], head[b"From"], head[b"Date"], head[b"Message-ID"], b""]
    check("OVER 2", row[:6], wanted)
    check(":bytes and :lines", [int(row[6]), int(row[7])], [octets, lines])
    true("Xref is the last", row[8].startswith(b"Xref: ") and row[8].endswith(b"%s:2" % DOCS.encode()), row[8])
    check("OVER, the current one", c.block("OVER", 224), [b"\t".join(row)])
    by_id = c.block(f"OVER {head[b'Message-ID'].decode()}", 224)
    check("OVER by message-id", by_id, [b"\t".join([b"0"] + row[1:])])
    rows = c.block("OVER 1-", 224)
    check("OVER and XOVER", c.block("XOVER 1-", 224), rows)
    check("OVER 1-: the numbers", [row.split(b"\t")[0] for row in rows], c.block("LISTGROUP", 211))
    c.ask("OVER 9999-", 423)
    c.ask("OVER 3-2", 423)
    c.ask("XOVER 9999-", 420)
    c.ask("OVER <none@x.invalid>", 430)
    fields = c.block("LIST OVERVIEW.FMT", 215)
    check(
        "LIST OVERVIEW.FMT",
        fields[:7],
        [b"Subject:", b"From:", b"Date:", b"Message-ID:", b"References:", b"Bytes:", b"Lines:"],
    )
    c.ask("STAT 2", 223)
    for field in ("Subject", "from", "Date", "Message-ID", "Content-Type"):
        value = next(v for k, v in head.items() if k.lower() == field.lower().encode())
        check("HDR", c.block(f"HDR {field} 2", 225), [b"2 " + value])
        check("HDR, the current one", c.block(f"HDR {field}", 225), [b"2 " + value])
        check("XHDR", c.block(f"XHDR {field} 2", 221), [b"2 " + value])
    message_id = head[b"Message-ID"]
    by_id = message_id.decode()
    check("HDR by message-id", c.block(f"HDR Subject {by_id}", 225), [b"0 " + head[b"Subject"]])
    check("XHDR by message-id", c.block(f"XHDR Subject {by_id}", 221), [message_id + b" " + head[b"Subject"]])
    check("HDR :bytes", c.block("HDR :bytes 2", 225), [b"2 %d" % octets])
    check("HDR :lines", c.block("HDR :lines 2", 225), [b"2 %d" % lines])
    check("a field that is not there", c.block("HDR X-None 2", 225), [b"2 "])
    true("HDR Xref", DOCS.encode() in c.block("HDR Xref 2", 225)[0])
    c.ask("HDR :nonsense 2", 503)
    c.ask("HDR Subject 9999-", 423)
    c.ask("XHDR Subject 9999-", 420)
    c.ask("HDR Subject <none@x.invalid>", 430)
    for command in ("LIST HEADERS", "LIST HEADERS MSGID", "list headers range"):
        check(command, c.block(command, 215), [b":", b":bytes", b":lines"])


def lists(c):
    count, low, high = c.group(DOCS)
    active = c.block("LIST", 215)
    check("LIST is LIST ACTIVE", c.block("LIST ACTIVE", 215), active)
    status = {line.split()[0].decode(): line.split()[1:] for line in active}
    check("LIST ACTIVE", status[DOCS], [b"%d" % high, b"%d" % low, b"n"])
    check("a group for posts", status[TALK][2], b"y")
    check("a wildmat", len(c.block("LIST ACTIVE asynchat.t*", 215)), 2)
    check("a negation", len(c.block("LIST ACTIVE asynchat.t*,!*.test", 215)), 1)
    check("no match", c.block("LIST ACTIVE no.such.group", 215), [])
    counts = c.block(f"LIST COUNTS {DOCS}", 215)
    check("LIST COUNTS", counts, [f"{DOCS} {high} {low} {count} n".encode()])
    names = c.block(f"LIST NEWSGROUPS {DOCS}", 215)
    check("LIST NEWSGROUPS", names[0].split(b"\t")[0], DOCS.encode())
    times = c.block("LIST ACTIVE.TIMES", 215)
    check("LIST ACTIVE.TIMES", len(times), len(active))
    true("a time", times[0].split()[1].isdigit(), times[0])
    subscriptions = c.block("LIST SUBSCRIPTIONS", 215)
    check("LIST SUBSCRIPTIONS", subscriptions, [line.split()[0] for line in active])
    c.ask("LIST DISTRIB.PATS", 503)
    check("all groups are newer than 1970", len(c.block("NEWGROUPS 19700101 000000", 231)), len(active))
    check("no group is newer than the future", c.block("NEWGROUPS 29990101 000000 GMT", 231), [])
    news = c.block(f"NEWNEWS {DOCS} 19700101 000000 GMT", 230)
    ids = [row.split(b"\t")[4] for row in c.block("OVER 1-", 224)]
    check("NEWNEWS", sorted(news), sorted(ids))
    check("no new articles", c.block("NEWNEWS * 29990101 000000", 230), [])
    # A year of two digits that would be in the future belongs to the last century.
    later = (time.gmtime().tm_year + 1) % 100
    check("the century", len(c.block(f"NEWNEWS {DOCS} {later:02}0101 000000", 230)), count)


def posting(c):
    count, low, high = c.group(TEST)
    if count == 0:
        check("the marks of an empty group", low, high + 1)
        c.ask("STAT", 420)
        c.ask("NEXT", 420)
    every_octet = bytes(b for b in range(1, 256) if b not in b"\r\n")
    body = b"\r\n".join(
        [b"plain", b".", b"..", b".dot", b"", b"caf\xc3\xa9 caf\xe9", every_octet, b"x" * 5000, b"", b""]
    )
    before = time.strftime("%Y%m%d %H%M%S", time.gmtime(time.time() - 60))
    text, message_id = article(body, groups=f"{TEST},{TALK},else.where", Subject="two\r\n\tlines\there")
    c.post(text)
    back = b"".join(line + b"\r\n" for line in c.block(f"ARTICLE {message_id}", 220))
    head, _, came = back.partition(b"\r\n\r\n")
    check("the body is byte-equal", came, body)
    given = text.partition(b"\r\n\r\n")[0]
    true("the head is kept", given in head, head)
    true("a Path is added", head.startswith(b"Path: "), head)
    true("a Date is added", b"\r\nDate: " in head, head)
    true("it is a new article", message_id.encode() in c.block(f"NEWNEWS asynchat.* {before} GMT", 230))
    row = c.block(f"OVER {message_id}", 224)[0].split(b"\t")
    check("a folded subject", row[1], b"two lines here")
    check(":bytes", int(row[6]), len(back))
    check(":lines", int(row[7]), body.count(b"\r\n"))
    true("it is in two groups", len(row[8].split()) == 4, row[8])
    _, _, now = c.group(TEST)
    check("the high water mark", now, high + 1)
    check("by number", c.block(f"BODY {now}", 222), body.split(b"\r\n")[:-1])

    for command in (b"POST\r\n", f"IHAVE {fresh_id()}\r\n".encode()):
        # The empty article: the terminator is the first line.
        c.send(command)
        c.line()
        c.send(b".\r\n")
        c.code("no article", c.line(), 441 if command == b"POST\r\n" else 437)
    c.post(text, wanted=441)
    for wrong in (
        {"From": None}, {"Subject": None}, {"Newsgroups": None}, {"From": "nobody"}, {"Date": "soon"},
        {"Message_ID": "none"}, {"Newsgroups": "else.where"}, {"Newsgroups": DOCS},
    ):  # fmt: skip
        c.post(article(**wrong)[0], wanted=441)
    c.post(b"no header at all\r\n", wanted=441)
    c.post(b"Subject: x\r\nnonsense\r\n\r\ntext\r\n", wanted=441)
    c.post(article(b"x" * 70 + b"\r\n", Big="y" * 40_000)[0], wanted=441)
    c.post(article(b"0123456789abcde\r\n" * 200_000)[0], wanted=441)
    c.ask("DATE", 111)
    c.post(article(Message_ID=None)[0])
    c.post(article(b"")[0])
    check("a refused post takes no number", c.group(TEST)[2], high + 3)


def forgery(c):
    """Text that would be another article, reply or field for a client with other line ends."""
    forged = b"second\n.\n220 3 <forged@client.invalid>\nFrom: Mallory <m@client.invalid>\n\nboo\r\n"
    peer = {"Date": "Sat, 21 Nov 2026 10:00:00 +0000", "Path": "there!not-for-mail"}
    for body, fields in (
        (forged, {}), (b"a\rb\r\n", {}), (b"a\0b\r\n", {}), (b"a\r\r\n", {}), (b"\n.\n\r\n", {}),
        (b"text\r\n", {"Subject": "hi\nApproved: mod@x"}), (b"text\r\n", {"Subject": "hi\rApproved: mod@x"}),
        (b"text\r\n", {"Subject": "hi\0"}), (b"text\r\n", {"X": "y\r\nSubject: two"}),
        (b"text\r\n", {"X": "y\r\nfrom: a@b.invalid"}), (b"text\r\n", {"X": "y\r\nPath: a\r\nPath: b"}),
        (b"text\r\n", {"X": "y\r\nReferences: <a@b>\r\nReferences: <c@d>"}), (b"text\r\n", {"X": "y" * 996}),
        (b"text\r\n", {"X": "y\r\n \t"}), (b"text\r\n", {"Newsgroups": f"{TEST},,{TALK}"}),
    ):  # fmt: skip
        text, message_id = article(body, **peer | fields)
        c.post(text, wanted=441)
        c.post(text, f"IHAVE {message_id}", 335, 437)
        c.ask(f"STAT {message_id}", 430)
    for bad in ("<a>", "<a..b@c>", "<a@b@c>", "<a@b.>"):
        c.post(article(Message_ID=bad)[0], wanted=441)
        c.ask(f"IHAVE {bad}", 435)
    text, message_id = article(X="y\r\nInjection-Info: bank.invalid\r\n\tx\r\nNNTP-Posting-Host: bank.invalid\r\nXref: a b:1")
    c.post(text)
    head = c.block(f"HEAD {message_id}", 221)
    true("a poster's traces are dropped", b"bank.invalid" not in b"".join(head) and b"\tx" not in head, head)
    xref = [line for line in head if line.startswith(b"Xref:")]
    row = c.block(f"OVER {message_id}", 224)[0].split(b"\t")
    check("OVER and HEAD agree on Xref", xref, [row[8]])
    check("HDR and HEAD agree on Xref", c.block(f"HDR Xref {message_id}", 225), [b"0 " + xref[0][6:]])
    c.post(article(Path="x!.POSTED.bank.invalid!y")[0], wanted=441)


def slow_posting(c):
    """An article that is sent in small pieces while another client is served."""
    text, message_id = article(b"0123456789abcde.\r\n.\r\n" * 2000)
    stuffed = stuff(text)
    c.ask("POST", 340)
    with Client(AUTH) as other:
        for at in range(0, len(stuffed), 1009):
            c.send(stuffed[at : at + 1009])
            other.ask("DATE", 111)
    c.code("slow POST", c.line(), 240)
    c.ask(f"STAT {message_id}", 223)
    # An article that is never completed leaves nothing behind.
    text, message_id = article()
    with Client(AUTH) as other:
        other.ask("POST", 340)
        other.send(text)
    c.ask(f"STAT {message_id}", 430)


def ihave(c):
    text, message_id = article(Date="Sat, 21 Nov 2026 10:00:00 +0000", Path="there!not-for-mail")
    c.post(text, f"IHAVE {message_id}", 335, 235)
    true("Path grows", any(line.endswith(b"!there!not-for-mail") for line in c.block(f"HEAD {message_id}", 221)))
    c.ask(f"IHAVE {message_id}", 435)
    c.post(text, f"IHAVE {fresh_id()}", 335, 437)
    text, message_id = article(Date=None)
    c.post(text, f"IHAVE {message_id}", 335, 437)
    c.ask(f"STAT {message_id}", 430)


def pipelining(c):
    """A client that pipelines: all commands first, then all replies."""
    c.group(DOCS)
    wanted, commands = [], []
    for n in range(250):
        commands += [f"STAT {1 + n % 3}", "DATE", "NONSENSE", "HEAD 1"]
        wanted += [223, 111, 500, 221]
    c.send("".join(command + "\r\n" for command in commands))
    for n, code in enumerate(wanted):
        c.code(f"reply {n}", c.line(), code)
        if code == 221:
            c.lines()
    # Posts among commands: no command is parsed before the post is stored. The RFC requires a
    # client to wait after POST, but data that arrives at once must not be lost.
    ids, burst = [], b""
    for _ in range(20):
        text, message_id = article()
        ids.append(message_id)
        burst += b"POST\r\n" + stuff(text) + f"STAT {message_id}\r\n".encode()
    c.send(burst + b"DATE\r\n")
    for message_id in ids:
        for code in (340, 240, 223):
            c.code(f"{message_id} in a burst", c.line(), code)
    c.code("after the burst", c.line(), 111)


def quitting(c):
    c.send("DATE\r\nQUIT\r\nDATE\r\n")
    c.code("before QUIT", c.line(), 111)
    c.code("QUIT", c.line(), 205)
    check("nothing after QUIT", c.file.read(), b"")


def half_close():
    """A client that sends everything and half-closes receives all replies."""
    with Client(AUTH) as c:
        text, message_id = article()
        c.send(b"POST\r\n" + stuff(text) + f"STAT {message_id}\r\n".encode())
        c.socket.shutdown(socket.SHUT_WR)
        for code in (340, 240, 223):
            c.code("after a half-close", c.line(), code)
        check("then the end", c.file.read(), b"")


def login():
    with Client() as c:
        true("AUTHINFO is offered", b"AUTHINFO USER" in c.block("CAPABILITIES", 101))
        for command in ("LIST", f"GROUP {DOCS}", "POST", "ARTICLE 1"):
            c.ask(command, 480)
        c.ask("NONSENSE", 500)
        c.ask("GROUP", 501)
        c.ask("DATE", 111)
        c.ask("MODE READER", 200)
        c.ask(f"AUTHINFO PASS {AUTH[1]}", 482)
        c.ask(f"AUTHINFO USER {AUTH[0]}", 381)
        c.ask("AUTHINFO PASS wrong-password", 481)
        c.ask(f"AUTHINFO PASS {AUTH[1]}", 482)
        c.ask("AUTHINFO USER nobody", 381)
        c.ask(f"AUTHINFO PASS {AUTH[1]}", 481)
        c.ask(f"authinfo user {AUTH[0]}", 381)
        c.ask(f"authinfo pass {AUTH[1]}", 281)
        c.ask("AUTHINFO USER again", 502)
        true("AUTHINFO is not offered twice", b"AUTHINFO USER" not in c.block("CAPABILITIES", 101))
        c.group(DOCS)
    with Client() as c:
        for n in range(3):
            c.ask(f"AUTHINFO USER {AUTH[0]}", 381)
            c.send(f"AUTHINFO PASS wrong-{n}\r\nDATE\r\n")
            if n < 2:
                c.code("a wrong password", c.line(), 481)
                c.code("DATE", c.line(), 111)
        c.ends("three wrong passwords")


def connected(nntplib, user, password):
    if not TLS:
        return nntplib.NNTP(*ADDRESS, user=user, password=password, timeout=DEADLINE)
    if not STARTTLS:
        return nntplib.NNTP_SSL(
            *ADDRESS, user=user, password=password, ssl_context=TLS, timeout=DEADLINE
        )
    client = nntplib.NNTP(*ADDRESS, timeout=DEADLINE)
    true("nntplib: STARTTLS is offered", "STARTTLS" in client.getcapabilities())
    client.starttls(TLS)
    true("nntplib: and once only", "STARTTLS" not in client.getcapabilities())
    if user:
        client.login(user, password)
    return client


def with_nntplib():
    """The client of Python's standard library."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import nntplib
    except ImportError:
        return "not available"
    user, password = AUTH or (None, None)
    with connected(nntplib, user, password) as n:
        check("nntplib: version", n.nntp_version, 2)
        true("nntplib: capabilities", "READER" in n.getcapabilities())
        _, found = n.list()
        true("nntplib: list", DOCS in [group.group for group in found], found)
        _, count, first, last, name = n.group(DOCS)
        _, overviews = n.over((first, last))
        check("nntplib: over", len(overviews), count)
        _, info = n.article(overviews[0][1]["message-id"])
        check("nntplib: article", len(info.lines) > int(overviews[0][1][":lines"]), True)
        n.head(first), n.body(first), n.stat(first), n.next(), n.last()
        check("nntplib: xhdr", len(n.xhdr("subject", f"{first}-{last}")[1]), count)
        true("nntplib: descriptions", n.descriptions("asynchat.*")[1][DOCS])
        true("nntplib: date", n.date()[1])
        true("nntplib: help", n.help()[1])
        text, message_id = article(b".\r\n..\r\ncaf\xe9\r\n")
        n.post(text)
        check("nntplib: post", n.body(message_id)[1].lines, [b".", b"..", b"caf\xe9"])
        import datetime

        since = datetime.datetime(1970, 1, 1)
        true("nntplib: newnews", message_id in n.newnews("*", since)[1])
        true("nntplib: newgroups", n.newgroups(since)[1])
        text, message_id = article(Date="Sat, 21 Nov 2026 10:00:00 +0000", Path="x")
        n.ihave(message_id, text)
        try:
            n.article("<none@x.invalid>")
            sys.exit("nntplib: an article that does not exist was returned")
        except nntplib.NNTPTemporaryError as error:
            check("nntplib: an error", error.response[:3], "430")
    return "used"


def main():
    global ADDRESS, AUTH, TLS, STARTTLS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--auth", metavar="USER:PASSWORD")
    parser.add_argument("--ca", metavar="FILE")
    parser.add_argument("--starttls", action="store_true")
    arguments = parser.parse_args()
    host, _, port = arguments.address.rpartition(":")
    ADDRESS = (host.strip("[]"), int(port))
    AUTH = tuple(arguments.auth.split(":", 1)) if arguments.auth else None
    TLS = ssl.create_default_context(cafile=arguments.ca) if arguments.ca else None
    STARTTLS = arguments.starttls
    if AUTH:
        login()
    for part in (
        session, syntax, long_lines, bad_commands, groups, articles, overview, lists, posting,
        forgery, slow_posting, ihave, pipelining, quitting,
    ):  # fmt: skip
        with Client(AUTH) as client:
            part(client)
    if not TLS:  # Python's ssl cannot announce the end of its output and read on
        half_close()
    other_protocols()
    print(f"nntp_client: {checks} checks passed; nntplib: {with_nntplib()}")


main()
