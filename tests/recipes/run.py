"""Runs the Python version of a recipe: run.py NAME [HOST:PORT ...].

Prints `listening on HOST:PORT` (for a client: its own address), and ends at the end of its input.
"""

import os
import sys
import threading

import asyncore
import importlib

def serve_until_eof():
    sys.stdin.read()
    os._exit(0)

def addr_of(text):
    host, _, port = text.rpartition(':')
    return host, int(port)

sys.dont_write_bytecode = True
os.dup2(1, 2)  # the parent reads one of the two
name, *addrs = sys.argv[1:]
recipe = importlib.import_module(name)
start = getattr(recipe, 'start', None)
if start is None:
    server = importlib.import_module('line_commands')
    server.Session = recipe.Session
    start = server.start

threading.Thread(target=serve_until_eof, daemon=True).start()
started = start(*map(addr_of, addrs))
print('listening on %s:%d' % started.socket.getsockname(), flush=True)
getattr(recipe, 'run', asyncore.loop)()
sys.stdin.read()  # the loops of other threads continue
