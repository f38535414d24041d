"""A Postfix that delivers mail to a server over TLS, in a folder of its own. Only root can start one."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
myhostname = postfix.example
mydestination =
inet_interfaces = loopback-only
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = hostname
smtp_tls_CAfile = {ca}
smtp_tls_mandatory_protocols = >={version}, <={version}
smtp_tls_loglevel = 1
transport_maps = inline:{{ {{ starttls@localhost = smtp:[localhost]:{port} }}, {{ tls@localhost = smtps:[localhost]:{tls_port} }} }}
"""

# Without a server of its own, and without chroot.
MASTER = """
pickup  unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr    unix n - n 300 1 qmgr
tlsmgr  unix - - n 300 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce  unix - - n - 0 bounce
defer   unix - - n - 0 bounce
trace   unix - - n - 0 bounce
verify  unix - - n - 1 verify
flush   unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp    unix - - n - - smtp
smtps   unix - - n - - smtp -o smtp_tls_wrappermode=yes
error   unix - - n - - error
retry   unix - - n - - error
scache  unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def is_usable():
    usable = shutil.which("postfix") is not None and os.geteuid() == 0
    if not usable:
        print("skipped: postfix is not installed, or this is not root")
    return usable


@contextlib.contextmanager
def postfix(port, tls_port, ca, version):
    """Yields a function that sends a message to one recipient, and one that returns the log."""
    with tempfile.TemporaryDirectory(prefix="postfix-") as folder:
        # Its processes run as another user.
        os.chmod(folder, 0o755)
        config = pathlib.Path(folder, "config")
        config.mkdir()
        daemons = subprocess.run(
            ["postconf", "-d", "-h", "daemon_directory"], check=True, capture_output=True, text=True
        ).stdout.strip()
        trusted = shutil.copy(ca, f"{folder}/ca.pem")
        os.chmod(trusted, 0o644)
        values = {"folder": folder, "daemons": daemons, "ca": trusted, "version": version}
        (config / "main.cf").write_text(MAIN.format(port=port, tls_port=tls_port, **values))
        (config / "master.cf").write_text(MASTER)
        for name in "queue", "data":
            pathlib.Path(folder, name).mkdir()
        shutil.chown(f"{folder}/data", "postfix")
        environment = {**os.environ, "MAIL_CONFIG": str(config)}

        def run(*command, text=None):
            done = subprocess.run(command, env=environment, input=text, text=True, timeout=60, capture_output=True)
            assert done.returncode == 0, (command, done)

        def send(recipient, text):
            run("sendmail", "-i", "-f", "bob@example.org", recipient, text=text)

        def log():
            path = pathlib.Path(folder, "log")
            return path.read_text() if path.exists() else ""

        run("postfix", "-c", str(config), "start")
        try:
            yield send, log
        finally:
            run("postfix", "-c", str(config), "stop")
