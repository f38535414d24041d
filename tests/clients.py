"""What the scripts share that run other people's clients and servers."""

import hashlib
import os
import shutil
import subprocess

DEADLINE = 60


def has(program, require=None):
    """Whether the program is installed: see `missing`."""
    return shutil.which(program) is not None or missing(program, require)


def missing(what, require=None):
    """Reports that a check is skipped. With the variable `require` in the environment the script ends instead."""
    if require and os.environ.get(require):
        raise SystemExit(f"{what} is not installed, and {require} is set")
    print(f"skipped: {what} is not installed")
    return False


def run(*command, **options):
    """Runs a command that has to succeed, and returns its output."""
    done = subprocess.run(command, capture_output=True, **{"timeout": DEADLINE, **options})
    assert done.returncode == 0, (command, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def checksum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
