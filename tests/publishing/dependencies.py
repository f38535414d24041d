"""Checks the dependencies of the published library against deny.toml: licences, sources, and crates in two
versions. `cargo deny check bans licenses sources` checks the same, but compiles for minutes before it can run.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = 'registry+https://github.com/rust-lang/crates.io-index'


def main():
    # tomllib needs Python 3.11.
    rules = (ROOT / 'deny.toml').read_text()
    allow = re.search(r'^allow = \[(.*?)\]', rules, re.M | re.S)
    allowed = set(re.findall(r'"(.+?)"', allow[1]))
    # A second version that is known: `{ crate = "name@version", reason = ... }`.
    known = set(re.findall(r'crate = "(.+?)"', rules))
    found, versions = [], defaultdict(set)
    crates = dependencies()
    for crate in crates:
        name = f'{crate["name"]} {crate["version"]}'
        if f'{crate["name"]}@{crate["version"].rsplit(".", 1)[0]}' not in known:
            versions[crate['name']].add(crate['version'])
        if not is_allowed(crate['license'] or '', allowed):
            found.append(f'{name}: licence {crate["license"]}')
        if crate['source'] != REGISTRY:
            found.append(f'{name}: from {crate["source"]}')
    for name, several in versions.items():
        if len(several) > 1:
            found.append(f'{name}: in the versions {", ".join(sorted(several))}')
    if found:
        sys.exit('dependencies: ' + '\ndependencies: '.join(found))
    print(f'dependencies: {len(crates)} crates')


def dependencies():
    """The crates that the library needs on any system, with all features."""
    command = ['cargo', 'metadata', '--format-version', '1', '--all-features', '--locked']
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    packages = {package['id']: package for package in metadata['packages']}
    nodes = {node['id']: node for node in metadata['resolve']['nodes']}
    root = next(id for id, package in packages.items() if package['name'] == 'asynchat')
    seen, left = set(), [root]
    while left:
        for dependency in nodes[left.pop()]['deps']:
            kinds = {kind['kind'] for kind in dependency['dep_kinds']}
            if kinds != {'dev'} and dependency['pkg'] not in seen:
                seen.add(dependency['pkg'])
                left.append(dependency['pkg'])
    return [packages[id] for id in sorted(seen)]


def is_allowed(expression, allowed):
    """Evaluates an SPDX expression. `AND` binds more tightly than `OR`; `/` is an old form of `OR`."""
    tokens = re.findall(r'[()]|[^\s()/]+|/', expression.replace(' WITH ', '-WITH-'))

    def either():
        value = both()
        while tokens and tokens[0] in ('OR', '/'):
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == 'AND':
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0) if tokens else ''
        if token == '(':
            value = either()
            tokens.pop(0)
            return value
        return token in allowed

    return either()


assert is_allowed('MIT OR Apache-2.0', {'MIT'})
assert is_allowed('GPL-3.0 OR (MIT AND Apache-2.0)', {'MIT', 'Apache-2.0'})
assert not is_allowed('MIT AND Unicode-3.0', {'MIT'})
assert not is_allowed('Apache-2.0 WITH LLVM-exception', {'Apache-2.0'})
assert not is_allowed('', {'MIT'})

if __name__ == '__main__':
    main()
