#!/usr/bin/env python3
"""Sends the `smtpd` example mail with Python's smtplib, and looks into its maildir.

    smtpd_client.py HOST:PORT MAILDIR

The server has to be the example with its defaults, and has to have been started with
that maildir; nobody else may be sending it mail. The first difference ends the run
with exit status 1.
"""

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
    """A message without the lines that the server has put before it."""
    data = path.read_bytes()
    received = data[data.index(b"\r\nReceived: ") + 2 :]
    return received.split(b"\r\n", 3)[3]


def lines(rng, count):
    """Text of which every kind of dot and every octet is part, but for CR and LF: smtplib
    makes line ends of those."""
    octets = bytes(set(range(256)) - set(b"\r\n"))
    pieces = [b".", b"..", b"\r\n.", b"\r\n..", b"\r\n\r\n", b"", octets]
    return b"".join(rng.choice(pieces) for _ in range(count)) + b"\r\n"


class Mailbox:
    def __init__(self, maildir):
        self.new, self.tmp = maildir / "new", maildir / "tmp"
        self.seen = set(self.new.iterdir())

    def latest(self):
        """What has come since the last call: exactly one message."""
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
        check(f"a letter of {len(sent)} octets", mailbox.latest() == sent, True)


def refusals(address, mailbox):
    client = smtplib.SMTP(*address, timeout=DEADLINE)
    client.ehlo()
    check("SIZE", client.esmtp_features["size"], str(MAX_SIZE))
    check("PIPELINING", client.has_extn("pipelining"), True)
    large = b"x" * MAX_SIZE + b"\r\n"
    try:
        client.sendmail("bob@example.org", [TO], large)
        sys.exit("a message over the size was taken")
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
        check(f"{end}", mailbox.latest(), inside)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    host, port = sys.argv[1].rsplit(":", 1)
    address = (host.strip("[]"), int(port))
    mailbox = Mailbox(pathlib.Path(sys.argv[2]))
    for part in (letters, refusals, smuggling):
        part(address, mailbox)
    print(f"{checks} checks passed")


main()
