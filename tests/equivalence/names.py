"""Prints the public names of asyncore and asynchat, and those of their classes."""

import asynchat
import asyncore
import errno
import types


def public(owner, prefix):
    for name, value in sorted(vars(owner).items()):
        if name.startswith('_') or isinstance(value, types.ModuleType):
            continue
        if hasattr(errno, name):  # imported from there
            continue
        module = getattr(value, '__module__', None)
        if isinstance(owner, types.ModuleType) and module not in (None, owner.__name__):
            continue
        yield prefix + name
        if isinstance(value, type) and not issubclass(value, Exception):
            yield from public(value, prefix + name + '.')


for module in asyncore, asynchat:
    print('\n'.join(public(module, module.__name__ + '.')))
