#!/usr/bin/env python3
"""Runs `nntp` and `smtpd` with the TLS clients of others, as `examples.py` does without TLS.

    python3 tests/tls_servers.py target/release/examples            # all
    python3 tests/tls_servers.py target/release/examples smtpd      # one
    python3 tests/tls_servers.py target/release/examples testssl    # ten minutes, so it is not among all

Clients that are not installed (openssl, gnutls-cli, swaks, curl, sslyze, postfix, testssl) are reported as skipped.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

import postfix
import tls_adversary
from examples import ANN, DEADLINE, eventually, has, served

HERE = pathlib.Path(__file__).parent
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:] or list(CHECKS)
    for name in wanted:
        {**CHECKS, "testssl": testssl}[name](directory)
        print(f"{name}: passed")


def test_certificate(directory):
    """The command of the same name: what it writes, and what it refuses."""
    with certificate(directory) as files:
        assert os.stat(files["key"]).st_mode & 0o777 == 0o600
        if has("openssl"):
            verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]
            for name in ("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1"):
                run([*verify, files["ca"], *name, files["cert"]])
            names(directory / "test_certificate", os.path.dirname(files["key"]))
        before = pathlib.Path(files["key"]).read_bytes()
        scratch = os.path.dirname(files["key"])
        again = [directory / "test_certificate", "--out", scratch]
        done = subprocess.run(again, capture_output=True, timeout=DEADLINE)
        assert done.returncode == 1 and b"exists already" in done.stderr, done
        assert pathlib.Path(files["key"]).read_bytes() == before
        done = subprocess.run([*again, "no name"], capture_output=True, timeout=DEADLINE)
        assert done.returncode == 2 and b"not a host name" in done.stderr, done
        bad_options(directory, files)
        public_key(directory, files)
    with tempfile.TemporaryDirectory() as scratch:
        one_authority(directory / "test_certificate", pathlib.Path(scratch))


def names(command, scratch):
    """A name may be longer than a common name, and no name in a certificate ends with a dot."""
    long, out = "a" * 60 + ".example.org", os.path.join(scratch, "names")
    run([command, "--out", out, long, "localhost."])
    show = ["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline", "-ext", "subjectAltName"]
    done = subprocess.run([*show, "-in", f"{out}/cert.pem"], capture_output=True, timeout=DEADLINE, text=True)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "commonName                = localhost" in lines, lines
    assert f"DNS:{long}, DNS:localhost" in lines, lines


def public_key(directory, files):
    """A key that everybody can read is used, with a warning."""
    for mode, warnings in (0o640, 0), (0o644, 1):
        os.chmod(files["key"], mode)
        with tempfile.TemporaryFile("a+") as log:
            with tls_served(directory / "nntp", files, stderr=log):
                assert logged(log, "every user of this system can read") == warnings


def one_authority(command, scratch):
    """Several calls with --ca: a server, a client, and a certificate that has expired, all of one authority."""
    ca, out, expired = scratch / "ca", scratch / "out", scratch / "expired"
    run([command, "--out", out, "--ca", ca])
    run([command, "--out", out, "--ca", ca, "--client", "ann"])
    run([command, "--out", expired, "--ca", ca, "--expired"])
    names = ["ca.pem", "cert.pem", "client-key.pem", "client.pem", "key.pem"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert os.stat(ca / "ca-key.pem").st_mode & 0o777 == 0o600
    roots = {(path / "ca.pem").read_bytes() for path in (ca, out, expired)}
    assert len(roots) == 1
    if not has("openssl"):
        return
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", ca / "ca.pem"]
    run([*verify, "-purpose", "sslserver", "-verify_hostname", "localhost", out / "cert.pem"])
    run([*verify, "-purpose", "sslclient", out / "client.pem"])
    done = subprocess.run([*verify, expired / "cert.pem"], capture_output=True, timeout=DEADLINE)
    assert done.returncode and b"certificate has expired" in done.stdout + done.stderr, done


def bad_options(directory, files):
    cert, key = files["cert"], files["key"]
    for options, error in {
        ("--tls-cert", cert): b"--tls-key",
        ("--tls-key", key): b"--tls-cert",
        ("--tls-listen", "127.0.0.1:0"): b"--tls-cert",
        ("--tls-cert", cert + "x", "--tls-key", key): b"No such file",
        ("--tls-cert", cert, "--tls-key", cert): b"there is no private key in the file",
        ("--tls-cert", key, "--tls-key", key): b"there is no certificate in the file",
        ("--tls-cert", files["ca"], "--tls-key", key): b"does not belong to the first certificate",
    }.items():
        command = [directory / "nntp", "--listen", "127.0.0.1:0", *options]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
        assert done.returncode in (1, 2) and error in done.stderr, (options, done)


def nntp(directory):
    with certificate(directory) as files:
        with tls_served(directory / "nntp", files) as (addr, tls_addr, _):
            for options in [addr, "--starttls"], [tls_addr]:
                run([sys.executable, HERE / "nntp_client.py", *options, "--ca", files["ca"]], 120)
        passwords = os.path.join(os.path.dirname(files["key"]), "passwords")
        pathlib.Path(passwords).write_text(ANN)
        options = ["--demo", "50", "--passwords", passwords]
        with tls_served(directory / "nntp", files, *options) as (addr, tls_addr, _):
            dialogue = [
                ("AUTHINFO USER ann", "381"), ("AUTHINFO PASS secret", "281"),
                ("GROUP misc.test", "211 50 1 50 misc.test"), ("QUIT", "205"),
            ]  # fmt: skip
            openssl(addr, tls_addr, "nntp", files, dialogue)
            key_updates(addr, tls_addr, "nntp", files)
            gnutls(addr, tls_addr, "nntp", files, dialogue)


def both_servers(directory):
    """Serves with each of the two programs in turn: its name, the files, the plain port and that of TLS."""
    with certificate(directory) as files, tempfile.TemporaryDirectory() as maildir:
        programs = {"nntp": ["--demo", "50"], "smtpd": ["--maildir", maildir]}
        for name, options in programs.items():
            with tls_served(directory / name, files, *options) as (addr, tls_addr, _):
                yield name, files, addr, tls_addr


def other_protocols(directory):
    """A browser that was led to a port with TLS fails in the handshake (ALPACA, CVE-2021-3618)."""
    for name, files, _, tls_addr in both_servers(directory):
        tls = context(files["ca"])
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(pair(tls_addr), DEADLINE) as browser:
            try:
                tls.wrap_socket(browser, server_hostname="localhost")
                raise AssertionError(f"{name} has served a browser")
            except ssl.SSLError as error:
                assert "no application protocol" in str(error).lower(), error
        tls.set_alpn_protocols(["h2", name.replace("smtpd", "smtp")])
        with socket.create_connection(pair(tls_addr), DEADLINE) as plain:
            with tls.wrap_socket(plain, server_hostname="localhost") as client:
                assert client.selected_alpn_protocol() == name.replace("smtpd", "smtp")


def scanned(directory):
    """sslyze compares the ports with what Mozilla recommends."""
    if not has("sslyze"):
        return
    for name, files, addr, tls_addr in both_servers(directory):
        scan(tls_addr, files)
        # sslyze does not know STARTTLS of NNTP.
        if name == "smtpd":
            scan(addr, files, "--starttls=smtp")


def scan(addr, files, *options):
    host, port = "localhost", pair(addr)[1]
    command = ["sslyze", f"--certinfo_ca_file={files['ca']}", *options, f"{host}:{port}"]
    done = subprocess.run(command, capture_output=True, timeout=180, text=True)
    report = done.stdout
    assert done.returncode == 0 and "OK - Compliant." in report, done
    for line in report.splitlines():
        # Only this certificate's own authority is known to have certified it.
        finding = "VULNERABLE" in line or "FAILED" in line
        assert not finding or "CA Store" in line, (line, report)
    assert "Supplied CA file CA Store (N/A):   OK" in report, report


def testssl(directory):
    """testssl.sh finds nothing, with STARTTLS and without it."""
    if not has("testssl"):
        return
    for name, files, addr, tls_addr in both_servers(directory):
        for where, starttls in (tls_addr, []), (addr, ["--starttls", name.removesuffix("d")]):
            findings = testssl_findings(where, files, *starttls)
            assert not findings, (name, starttls, findings)


def testssl_findings(addr, files, *options):
    report = pathlib.Path(os.path.dirname(files["key"]), "report.json")
    report.unlink(missing_ok=True)
    command = ["testssl", "--quiet", "--warnings", "off", "--color", "0", "--severity", "LOW", *options]
    command += ["--add-ca", files["ca"], "--jsonfile", report, f"localhost:{pair(addr)[1]}"]
    # Its exit status counts what it could not find out, such as the service.
    subprocess.run(command, capture_output=True, timeout=600)
    # A certificate for tests can neither be revoked, nor is it in the DNS.
    expected = ("cert_revocation", "DNS_CAArecord")
    severe = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
    found = json.loads(report.read_text())
    assert {entry["id"] for entry in found} >= set(expected), found
    return [entry for entry in found if entry["severity"] in severe and entry["id"] not in expected]


def injected(directory):
    """Commands behind STARTTLS, in the same segment or after the reply: none of them is run (CVE-2011-0411)."""
    with certificate(directory) as files, tempfile.TemporaryDirectory() as maildir:
        message = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
        programs = {
            "nntp": (["--demo", "50"], b"382 ", b"GROUP misc.test\r\nIHAVE <1@x>\r\n"),
            "smtpd": (["--maildir", maildir], b"220 ", message),
        }
        for name, (options, permission, commands) in programs.items():
            with tls_served(directory / name, files, *options) as (addr, _, _):
                for waits in False, True:
                    with socket.create_connection(pair(addr), DEADLINE) as client:
                        replies = client.makefile("rb")
                        assert replies.readline()[:1] == b"2"
                        client.sendall(b"STARTTLS\r\n" + (b"" if waits else commands))
                        line = replies.readline() if waits else b""
                        assert not waits or line.startswith(permission), line
                        with contextlib.suppress(ConnectionError):
                            client.sendall(commands if waits else b"")
                            rest = replies.read()
                            # The permission, or an alert of TLS.
                            expected = b"\x15\x03" if waits else permission
                            assert rest.startswith(expected) or not rest, (name, rest)
                            assert rest.count(b"\r\n") <= 1, (name, rest)
        assert not os.listdir(os.path.join(maildir, "new"))


def nntp_adversary(directory):
    with certificate(directory) as files:
        with tls_served(directory / "nntp", files, "--demo", "50") as (addr, tls_addr, _):
            for where, starttls in (tls_addr, False), (addr, True):
                target = tls_adversary.Target(*pair(where), starttls)
                tls_adversary.attack(target, files["ca"])


def nntp_reload(directory):
    """SIGHUP reads a renewed certificate: connections that are up go on, and new ones get it."""
    with certificate(directory) as files, certificate(directory) as renewed:
        with tempfile.TemporaryFile("a+") as log:
            options = ["--demo", "50"]
            with tls_served(directory / "nntp", files, *options, stderr=log) as served_at:
                addr, tls_addr, server = served_at
                with open_session(tls_addr, files["ca"]) as old, plain_session(addr) as plain:
                    # No renewal: clients go on to resume their sessions.
                    server.send_signal(signal.SIGHUP)
                    eventually(lambda: logged(log, "the certificate has not changed") == 1)
                    # Half of a renewal, and none at all: the old certificate stays.
                    shutil.copy(renewed["cert"], files["cert"])
                    server.send_signal(signal.SIGHUP)
                    eventually(lambda: logged(log, "the old certificate stays") == 1)
                    open_session(tls_addr, files["ca"]).close()
                    os.remove(files["cert"])
                    server.send_signal(signal.SIGHUP)
                    eventually(lambda: logged(log, "the old certificate stays") == 2)
                    open_session(tls_addr, files["ca"]).close()
                    # A complete one.
                    for name in ("cert", "key"):
                        shutil.copy(renewed[name], files[name])
                    server.send_signal(signal.SIGHUP)
                    eventually(lambda: logged(log, "the certificate was read again") == 1)
                    server.send_signal(signal.SIGHUP)
                    eventually(lambda: logged(log, "the certificate has not changed") == 2)
                    open_session(tls_addr, renewed["ca"]).close()
                    try:
                        open_session(tls_addr, files["ca"])
                        raise AssertionError("the old certificate is still used")
                    except ssl.SSLCertVerificationError:
                        pass
                    # The connections from before.
                    ask(old, "GROUP misc.test", "211")
                    ask(old, "QUIT", "205")
                    ask(plain, "STARTTLS", "382")
                    tls = context(renewed["ca"])
                    with tls.wrap_socket(plain, server_hostname="localhost") as upgraded:
                        ask(upgraded, "GROUP misc.test", "211")


def smtpd(directory):
    with certificate(directory) as files, tempfile.TemporaryDirectory() as maildir:
        options = ["--maildir", maildir, "--no-fsync"]
        with tls_served(directory / "smtpd", files, *options) as (addr, tls_addr, _):
            for client in with_smtplib, with_swaks, with_curl:
                client(addr, tls_addr, files, maildir)
            pipelined(addr, files, maildir)
            dialogue = [
                ("EHLO client.example", "250 HELP"), ("MAIL FROM:<bob@example.org>", "250 2.1.0"),
                ("RCPT TO:<ann@localhost>", "250 2.1.5"), ("DATA", "354"), (".", "250 2.0.0 kept as"),
                ("QUIT", "221"),
            ]  # fmt: skip
            openssl(addr, tls_addr, "smtp", files, dialogue)
            # Two versions, each with and without STARTTLS, three times.
            count = 12 if shutil.which("openssl") else 0
            gnutls(addr, tls_addr, "smtp", files, dialogue)
            count += 2 if shutil.which("gnutls-cli") else 0
            take_messages(maildir, count)


def with_smtplib(addr, tls_addr, files, maildir):
    text = "Subject: from smtplib\r\n\r\n" + "a line\r\n.\r\n" * 10_000
    for version in VERSIONS.values():
        tls = context(files["ca"], version)
        with smtplib.SMTP("localhost", pair(addr)[1], timeout=DEADLINE) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            client.starttls(context=tls)
            client.ehlo()
            assert not client.has_extn("starttls")
            client.sendmail("bob@example.org", "ann@localhost", text)
        with smtplib.SMTP_SSL("localhost", pair(tls_addr)[1], context=tls, timeout=DEADLINE) as client:
            client.sendmail("bob@example.org", "ann@localhost", text)
    for message in take_messages(maildir, 4):
        assert message.endswith("\n\n" + "a line\n.\n" * 10_000)


def pipelined(addr, files, maildir):
    """STARTTLS is the last command of a group (RFC 2920). A thread is still writing the message before it."""
    message = b"MAIL FROM:<>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
    with socket.create_connection(pair(addr), DEADLINE) as plain:
        # Without a buffer, so that nothing of TLS is read.
        replies = plain.makefile("rb", buffering=0)
        plain.sendall(b"HELO client.example\r\n" + message * 20 + b"STARTTLS\r\n")
        codes = [replies.readline()[:3] for _ in range(83)]
        assert codes == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 20, b"220"], codes
        with context(files["ca"]).wrap_socket(plain, server_hostname="localhost") as tls:
            ask(tls, "MAIL FROM:<>", "503 5.5.1 HELO")
    for path in pathlib.Path(maildir, "new").iterdir():
        assert " with SMTP id " in path.read_text()
        path.unlink()


def with_swaks(addr, tls_addr, files, maildir):
    if not has("swaks"):
        return
    support = subprocess.run(["swaks", "--support"], capture_output=True, timeout=DEADLINE, text=True)
    if "TLS supported" not in support.stdout:
        print("skipped: swaks has no TLS (libnet-ssleay-perl)")
        return
    swaks = ["swaks", "--from", "bob@example.org", "--to", "ann@localhost", "--helo", "client.example"]
    swaks += ["--tls-verify", "--tls-ca-path", files["ca"]]
    for protocol in ("tlsv1_2", "tlsv1_3"):
        run([*swaks, "--server", addr, "--tls", "--tls-protocol", protocol])
        run([*swaks, "--server", addr, "--tls", "--pipeline", "--tls-protocol", protocol])
        run([*swaks, "--server", tls_addr, "--tls-on-connect", "--tls-protocol", protocol])
    take_messages(maildir, 6)


def with_curl(addr, tls_addr, files, maildir):
    if not has("curl"):
        return
    letter = os.path.join(os.path.dirname(files["key"]), "letter.eml")
    pathlib.Path(letter).write_text("Subject: from curl\n\n.a line\n")
    curl = ["curl", "--silent", "--show-error", "--crlf", "--cacert", files["ca"], "--upload-file", letter]
    curl += ["--mail-from", "bob@example.org", "--mail-rcpt", "ann@localhost", "--noproxy", "*"]
    run([*curl, "--ssl-reqd", f"smtp://localhost:{pair(addr)[1]}/client.example"])
    run([*curl, f"smtps://localhost:{pair(tls_addr)[1]}/client.example"])
    for message in take_messages(maildir, 2):
        assert message.endswith("Subject: from curl\n\n.a line\n"), message


def delivered_by_postfix(directory):
    """A mail server delivers with a certificate that it has checked, with STARTTLS and without it."""
    if not postfix.is_usable():
        return
    with certificate(directory) as files, tempfile.TemporaryDirectory() as maildir:
        options = ["--maildir", maildir, "--no-fsync"]
        with tls_served(directory / "smtpd", files, *options) as (addr, tls_addr, _):
            for version in VERSIONS:
                ports = pair(addr)[1], pair(tls_addr)[1]
                with postfix.postfix(*ports, files["ca"], version) as (send, log):
                    for recipient in "starttls@localhost", "tls@localhost":
                        send(recipient, "Subject: from postfix\n\n" + "a line\n.\n" * 10_000)

                    def is_delivered():
                        return len(os.listdir(os.path.join(maildir, "new"))) == 2
                    eventually(is_delivered, log)
                    lines = [line for line in log().splitlines() if "Verified TLS connection established to" in line]
                    assert len(lines) == 2 and all(f": {version} with cipher" in line for line in lines), log()
                for message in take_messages(maildir, 2):
                    assert "from postfix.example " in message and message.endswith("\n\n" + "a line\n.\n" * 10_000)


def take_messages(maildir, count):
    """The delivered messages, which are removed. All have come with TLS."""
    texts = []
    for path in pathlib.Path(maildir, "new").iterdir():
        texts.append(path.read_text())
        path.unlink()
    assert len(texts) == count, (len(texts), count)
    for text in texts:
        assert " with ESMTPS id " in text and "\n\tby localhost" in text, text
        assert " tls TLS_AES_" in text or " tls TLS_ECDHE_ECDSA_" in text, text
    return texts


# ---- clients of both


def openssl(addr, tls_addr, protocol, files, dialogue):
    """Two versions, with STARTTLS and without. The second and the third connection resume the session before."""
    if not has("openssl"):
        return
    saved = os.path.join(os.path.dirname(files["key"]), "session")
    common = ["openssl", "s_client", "-CAfile", files["ca"], "-verify_return_error"]
    common += ["-verify_hostname", "localhost", "-servername", "localhost", "-crlf", "-ign_eof"]
    for version in VERSIONS:
        only = "-" + version.lower().replace("v", "").replace(".", "_")
        for where in ["-connect", addr, "-starttls", protocol], ["-connect", tls_addr]:
            command = [*common, only, *where]
            # A ticket of TLS 1.3 can be used once.
            for session in ["-sess_out", saved], ["-sess_in", saved, "-sess_out", saved], ["-sess_in", saved]:
                output = converse([*command, *session], dialogue)
                state = "Reused" if "-sess_in" in session else "New"
                assert f"{state}, {version}, Cipher is" in output, (session, output)


def key_updates(addr, tls_addr, protocol, files):
    """The command `K` of s_client sends new keys and demands the same, and `k` only sends them."""
    if not has("openssl"):
        return
    common = ["openssl", "s_client", "-CAfile", files["ca"], "-verify_return_error", "-tls1_3", "-crlf"]
    for where in ["-connect", addr, "-starttls", protocol], ["-connect", tls_addr]:
        one = [("DATE", "111 "), ("K", "KEYUPDATE"), ("DATE", "111 "), ("k", "KEYUPDATE")]
        # With a capital, s_client would end by itself.
        converse([*common, *where], [*one * 5, ("quit", "205")])


def gnutls(addr, tls_addr, protocol, files, dialogue):
    if not has("gnutls-cli"):
        return
    common = ["gnutls-cli", "--x509cafile", files["ca"], "--crlf", "--verify-hostname", "localhost"]
    for where, more in (addr, [f"--starttls-proto={protocol}"]), (tls_addr, []):
        host, port = pair(where)
        output = converse([*common, *more, "--port", str(port), host], dialogue)
        assert "Handshake was completed" in output and "The certificate is trusted" in output, output


def converse(command, dialogue):
    """Runs a client. Sends each command when the reply to the one before is there. Returns the output."""
    client = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = threading.Timer(DEADLINE, client.kill)
    deadline.start()
    output = ""
    try:
        for sent, reply in dialogue:
            client.stdin.write(sent + "\n")
            client.stdin.flush()
            line = ""
            while not line.startswith(reply):
                line = client.stdout.readline()
                output += line
                assert line, (command, sent, output)
        output += client.stdout.read()
        assert client.wait(DEADLINE) == 0, (command, output)
    finally:
        deadline.cancel()
        client.kill()
        client.wait()
        client.stdin.close()
        client.stdout.close()
    return output


def context(ca, version=None):
    made = ssl.create_default_context(cafile=ca)
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def open_session(addr, ca):
    tls = context(ca).wrap_socket(socket.create_connection(pair(addr), DEADLINE), server_hostname="localhost")
    assert tls.recv(1000).startswith(b"200 ")
    return tls


def plain_session(addr):
    plain = socket.create_connection(pair(addr), DEADLINE)
    assert plain.recv(1000).startswith(b"200 ")
    return plain


def ask(stream, command, reply):
    stream.sendall(command.encode() + b"\r\n")
    received = stream.recv(1000)
    assert received.startswith(reply.encode()), received


def logged(log, text):
    log.seek(0)
    return log.read().count(text)


# ---- servers


@contextlib.contextmanager
def certificate(directory):
    """The files of a certificate for localhost, 127.0.0.1 and ::1."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [directory / "test_certificate", "--out", scratch]
        subprocess.run(command, check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
        yield {name: os.path.join(scratch, f"{name}.pem") for name in ("ca", "cert", "key")}


@contextlib.contextmanager
def tls_served(program, files, *options, **streams):
    """The program with both ports: for STARTTLS, and for TLS from the beginning."""
    options = ["--tls-cert", files["cert"], "--tls-key", files["key"], "--tls-listen", "127.0.0.1:0", *options]
    with served(program, *options, **streams) as (addr, server):
        line = server.stdout.readline()
        assert line.startswith("listening with TLS on "), line
        yield addr, line.split()[-1], server


def pair(addr):
    host, _, port = addr.rpartition(":")
    return host, int(port)


def run(command, timeout=DEADLINE):
    done = subprocess.run(command, capture_output=True, timeout=timeout)
    assert done.returncode == 0, (command, done)


CHECKS = {
    check.__name__: check
    for check in (
        test_certificate, nntp, nntp_reload, smtpd, delivered_by_postfix, injected, nntp_adversary, other_protocols, scanned,
    )  # fmt: skip
}

if __name__ == "__main__":
    main()
