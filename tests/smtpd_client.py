#!/usr/bin/env python3
"""Sends mail to the `smtpd` example with Python's smtplib, and checks its maildir.

    smtpd_client.py HOST:PORT MAILDIR

The server must be the example with its defaults, and must have been started with
that maildir. It must not receive other mail meanwhile. The first difference ends the run
with exit status 1.
"""

import mailbox as maildir_module
import pathlib
import random
import smtplib
import socket
import sys

DEADLINE = 60
TO = "ann@localhost"
MAX_SIZE = 32 << 20
checks = 0


def check(what, got, wanted):
    global checks
    checks += 1
    if got != wanted:
        sys.exit(f"{what}:\n  got    {str(got)[:500]}\n  wanted {str(wanted)[:500]}")


def text(path):
    """A message without the header lines that the server has added."""
    data = path.read_bytes()
    received = data[data.index(b"\nReceived: ") + 1 :]
    return received.split(b"\n", 3)[3]


def filed(sent):
    """The text as it is stored in a maildir: its lines end with LF."""
    return sent.replace(b"\r\n", b"\n")


def lines(rng, count):
    """Text with dots at all places and with every octet but CR and LF, which smtplib converts
    to line ends."""
    octets = bytes(set(range(256)) - set(b"\r\n"))
    pieces = [b".", b"..", b"\r\n.", b"\r\n..", b"\r\n\r\n", b"", octets]
    return b"".join(rng.choice(pieces) for _ in range(count)) + b"\r\n"


class Mailbox:
    def __init__(self, maildir):
        self.new, self.tmp = maildir / "new", maildir / "tmp"
        self.seen = set(self.new.iterdir())

    def latest(self):
        """The message that was stored since the last call: exactly one."""
        came = set(self.new.iterdir()) - self.seen
        self.seen |= came
        check("messages", len(came), 1)
        return text(*came)


def letters(address, mailbox):
    rng = random.Random(7)
    for count in (0, 1, 2, 10, 100, 1000, 20_000):
        sent = lines(rng, count)
        with smtplib.SMTP(*address, timeout=DEADLINE) as client:
            refused = client.sendmail("bob@example.org", [TO], sent, ["BODY=8BITMIME"])
            check("refused", refused, {})
        check(f"a letter of {len(sent)} octets", mailbox.latest() == filed(sent), True)


def refusals(address, mailbox):
    client = smtplib.SMTP(*address, timeout=DEADLINE)
    client.ehlo()
    check("SIZE", client.esmtp_features["size"], str(MAX_SIZE))
    check("PIPELINING", client.has_extn("pipelining"), True)
    large = b"x" * MAX_SIZE + b"\r\n"
    try:
        client.sendmail("bob@example.org", [TO], large)
        sys.exit("a message over the size was accepted")
    except smtplib.SMTPSenderRefused as error:
        check("too large, as announced", error.smtp_code, 552)
    client.mail("bob@example.org")
    check("a stranger", client.rcpt("ann@elsewhere.example")[0], 550)
    check("ann", client.rcpt(TO)[0], 250)
    check("too large, at its end", client.data(large)[0], 552)
    check("in sync", client.noop()[0], 250)
    check("VRFY", client.verify("ann")[0], 252)
    check("QUIT", client.quit()[0], 221)
    check("unfinished", list(mailbox.tmp.iterdir()), [])


def smuggling(address, mailbox):
    """CVE-2023-51764: none of these ends a message."""
    for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\n.\r"):
        envelope = b"MAIL FROM:<b@x>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n"
        inside = b"Subject: x\r\n\r\nx" + end + envelope + b"x\r\n"
        with socket.create_connection(address, timeout=DEADLINE) as stream:
            stream.sendall(b"HELO x\r\n" + envelope + inside + b".\r\nQUIT\r\n")
            replies = stream.makefile("rb").read().split(b"\r\n")
        codes = [reply[:3].decode() for reply in replies[:-1]]
        check(f"{end}", codes, ["220", "250", "250", "250", "354", "250", "221"])
        check(f"{end}", mailbox.latest(), filed(inside))


def lf_alone(address, mailbox):
    """LF alone ends no line. A client that waits for a reply to such a line gets a hint."""
    with socket.create_connection(address, timeout=DEADLINE) as stream:
        replies = stream.makefile("rb")
        check("greeting", replies.readline()[:4], b"220 ")
        stream.sendall(b"HELO x\n")
        check("a hint", replies.readline(), b"500 5.5.2 end lines with CR LF, not with LF alone\r\n")
        stream.sendall(b"NOOP\nDATA\n\r\nQUIT\r\n")
        check("no other", replies.readline()[:4], b"221 ")


def read_by_others(address, mailbox):
    """Python's own reader of maildirs, which does not know CR LF."""
    sent = b"Subject: x\r\nX-Long: a\r\n b\r\n\r\none\r\ntwo\r\n"
    sender = "a" * 200 + "@example.org"
    with smtplib.SMTP(*address, timeout=DEADLINE) as client:
        check("refused", client.sendmail(sender, [TO], sent), {})
    check("a letter", mailbox.latest(), filed(sent))
    for key, message in maildir_module.Maildir(mailbox.new.parent, create=False).items():
        if message["Subject"] == "x" and message["X-Long"] is not None:
            check("Return-Path", message["Return-Path"], f"<{sender}>")
            check("X-Long", message["X-Long"], "a\n b")
            check("payload", message.get_payload(), "one\ntwo\n")
            return
    sys.exit("the letter is missing")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    host, port = sys.argv[1].rsplit(":", 1)
    address = (host.strip("[]"), int(port))
    mailbox = Mailbox(pathlib.Path(sys.argv[2]))
    for part in (letters, refusals, smuggling, lf_alone, read_by_others):
        part(address, mailbox)
    print(f"{checks} checks passed")


main()
