#!/usr/bin/env python3
"""Compares the public API with docs/public_api.txt, and writes that file.

    python3 tests/publishing/public_api.py            # compare
    python3 tests/publishing/public_api.py --write    # after an intended change

The file has the public API as it is on Linux: on other systems some items are missing, or have other traits. There
the script compares nothing, and says so.

The file has a line for each public item: its path, signature and attributes. `[sim]` before a line means that the
item needs this feature. A feature that removes or changes an item that exists without it is an error. Therefore the
line of a type lists its fields or variants if programs can depend on the list, and that of a trait what it requires.

The items are those of rustdoc's JSON output. It is unstable, so the script sets RUSTC_BOOTSTRAP, which makes the
stable toolchain write it: no nightly is needed. The format changes with the compiler. Where the texts differ and
rustdoc.py does not know the format, the difference may come from either, and the script fails.
"""

import argparse
import difflib
import json
import os
import pathlib
import subprocess
import sys

from rustdoc import FORMATS, lines_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs" / "public_api.txt"
PACKAGE = "asynchat"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--write", action="store_true", help="write the file")
    write = arguments.parse_args().write
    if sys.platform != "linux":
        print("SKIPPED: the public API is not compared, because docs/public_api.txt has that of Linux", file=sys.stderr)
        return

    text, version = public_api()
    if version not in FORMATS:
        print(f"warning: {unknown(version)}", file=sys.stderr)
    if write:
        TEXT.write_text(text)
        print(f"{TEXT.relative_to(ROOT)}: {len(text.splitlines())} items")
        return
    committed = TEXT.read_text()
    if text == committed:
        print(f"{len(text.splitlines())} public items, as in {TEXT.relative_to(ROOT)}")
        return
    sys.stdout.writelines(difflib.unified_diff(
        committed.splitlines(True), text.splitlines(True), "committed", "in the code", n=0))
    if version not in FORMATS:
        sys.exit(f"The public API cannot be compared: {unknown(version)}. Compare with an earlier toolchain, "
                 "with `rustup run VERSION python3 tests/publishing/public_api.py`, or teach rustdoc.py the format.")
    sys.exit("The public API differs. If that is intended: python3 tests/publishing/public_api.py --write")


def unknown(version):
    return (f"this toolchain writes format {version} of rustdoc's JSON, and rustdoc.py knows "
            f"{FORMATS[0]} to {FORMATS[-1]}")


def public_api():
    """The lines of the API, and the version of rustdoc's format."""
    features = features_of(PACKAGE)
    base, version = documented([])
    single = {feature: documented([feature])[0] for feature in features}
    everything = documented(features)[0]
    lines = []
    for line in base | everything | set().union(*single.values()):
        if line in base:
            without = [feature for feature in features if line not in single[feature]]
            if without or line not in everything:
                sys.exit(f"{', '.join(without) or 'all features together'} removes or changes: {line.text}")
            lines.append((line, ""))
        else:
            needed = [feature for feature in features if line in single[feature]]
            lines.append((line, f"[{' or '.join(needed) or ' and '.join(features)}] "))
    # By path, so that a type is followed by its methods.
    lines.sort(key=lambda it: it[0])
    return "".join(f"{prefix}{line.text}\n" for line, prefix in lines), version


def features_of(package):
    command = ["cargo", "metadata", "--format-version=1", "--no-deps"]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    [found] = [it for it in metadata["packages"] if it["name"] == package]
    return sorted(feature for feature in found["features"] if feature != "default")


def documented(features):
    """The lines of the API with these features, and the version of rustdoc's format."""
    # A folder of its own: build scripts that see RUSTC_BOOTSTRAP may use unstable features.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "publishing" / "public_api"
    command = ["cargo", "rustdoc", "--quiet", "--lib", "--package", PACKAGE, "--target-dir", target,
               "--features", ",".join(features), "--",
               "-Zunstable-options", "--output-format=json", "--cap-lints=allow"]
    if subprocess.run(command, cwd=ROOT, env={**os.environ, "RUSTC_BOOTSTRAP": "1"}).returncode != 0:
        sys.exit("The public API cannot be compared: cargo rustdoc has failed.")
    document = json.loads((target / "doc" / f"{PACKAGE}.json").read_text())
    version = document["format_version"]
    try:
        return set(lines_of(document)), version
    except (AttributeError, KeyError, TypeError, ValueError):
        if version in FORMATS:
            raise
        sys.exit(f"The public API cannot be compared: {unknown(version)}.")


if __name__ == "__main__":
    main()
