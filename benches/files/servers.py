"""The servers that compare.py measures, each with the same folder, on the first processor."""

import contextlib
import functools
import os
import pathlib
import shutil
import socket
import subprocess
import time

DEADLINE = 60
SERVER = ["taskset", "-c", "0"]
TICK = os.sysconf("SC_CLK_TCK")


class Site:
    """A folder to share, and the servers that can share it."""

    def __init__(self, folder, program, sizes):
        self.folder, self.program = folder, program
        self.shared = folder / "shared"
        self.shared.mkdir()
        # The workers of nginx and vsftpd are other users.
        folder.chmod(0o755)
        for name, size in sizes.items():
            (self.shared / name).write_bytes(os.urandom(size))

    def http(self):
        peers = {"files": self.files}
        if has("nginx", "/usr/sbin/nginx"):
            peers["nginx"] = functools.partial(self.nginx, "off")
            peers["nginx, sendfile"] = functools.partial(self.nginx, "on")
        for name in ("hyper", "tiny_http"):
            program = self.program.parent.parent / f"{name}_files"
            if has(program):
                peers[name] = functools.partial(self.rust, program)
        return peers

    def ftp(self):
        # Each draws a port for a transfer, as vsftpd does. Thousands of ports that were just used make the system's own search
        # for a free one slow.
        peers = {"files": functools.partial(self.files, "--ftp-listen", "127.0.0.1:0", "--ftp-ports", "20000-60000")}
        if not has("vsftpd", "/usr/sbin/vsftpd"):
            return peers
        if os.geteuid() != 0:
            print("left out: vsftpd, because it needs root")
            return peers
        peers["vsftpd"] = functools.partial(self.vsftpd, "NO")
        peers["vsftpd, sendfile"] = functools.partial(self.vsftpd, "YES")
        return peers

    @contextlib.contextmanager
    def files(self, *options):
        command = [self.program, self.shared, "--listen", "127.0.0.1:0", "--access-log", self.folder / "log", *options]
        with started(command) as process:
            port = announced(process)
            if "--ftp-listen" in options:
                port = announced(process)
            yield Server(port, process)

    @contextlib.contextmanager
    def rust(self, program):
        with started([program, self.shared, self.folder / "log"]) as process:
            yield Server(announced(process), process)

    @contextlib.contextmanager
    def nginx(self, sendfile):
        """The defaults of Debian apart from the log, which is written in blocks, and the number of requests on a
        connection, so that a connection is kept."""
        port, folder = free_port(), self.folder
        # Not used, but made at the start.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/nginx;" for kind in kinds)
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; events {{ worker_connections 1024; }}\n"
            f"http {{ {temporary} sendfile {sendfile}; tcp_nopush on; keepalive_requests 1000000000;\n"
            f"access_log {folder}/log combined buffer=32k flush=1s;\n"
            f"server {{ listen 127.0.0.1:{port}; root {self.shared}; }} }}\n"
        )
        command = [found("nginx", "/usr/sbin/nginx"), "-e", folder / "errors", "-c", config]
        with started(command) as process:
            await_listener(process, port)
            yield Server(port, process)

    @contextlib.contextmanager
    def vsftpd(self, sendfile):
        port, folder = free_port(), self.folder
        empty = folder / "empty"
        empty.mkdir(exist_ok=True)
        config = folder / "vsftpd.conf"
        config.write_text(
            f"listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n"
            f"anon_root={self.shared}\nsecure_chroot_dir={empty}\nuse_sendfile={sendfile}\n"
            f"seccomp_sandbox=NO\nxferlog_enable=YES\nvsftpd_log_file={folder}/log\n"
        )
        with started([found("vsftpd", "/usr/sbin/vsftpd"), config]) as process:
            await_listener(process, port)
            yield Server(port, process)


class Server:
    def __init__(self, port, process):
        self.port, self.pid = port, process.pid

    def cpu_seconds(self):
        """User and system time of the process, and of those that it has started."""
        return sum(map(ticks, family(self.pid))) / TICK


def family(pid):
    yield pid
    for child in read(f"/proc/{pid}/task/{pid}/children").split():
        yield from family(int(child))


def ticks(pid):
    """With those of children that have ended."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def read(path):
    """Nothing of a process that has ended meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(path).read_text()
    return ""


def has(program, otherwise=""):
    if shutil.which(program) or os.path.exists(otherwise):
        return True
    print(f"left out: {program} is not there")
    return False


def found(program, otherwise):
    """Debian's folder for servers is not in the path of every user."""
    return shutil.which(program) or otherwise


@contextlib.contextmanager
def started(command):
    process = subprocess.Popen(
        [*SERVER, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def announced(process):
    line = process.stdout.readline()
    assert line.startswith("listening "), line
    return int(line.rsplit(":", 1)[1])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def await_listener(process, port):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), DEADLINE).close()
        except ConnectionRefusedError:
            assert process.poll() is None and time.monotonic() < end, "the server does not listen"
            time.sleep(0.02)
