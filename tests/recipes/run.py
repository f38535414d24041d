"""Runs the Python side of a recipe: run.py NAME [HOST:PORT ...], an address of ours and of others.

Prints `listening on HOST:PORT` (for a client: its own address), and ends when its input does.
"""

import os
import sys
import threading

import asyncore
import importlib

def serve_until_told():
    sys.stdin.read()
    os._exit(0)

def addr_of(text):
    host, _, port = text.rpartition(':')
    return host, int(port)

sys.dont_write_bytecode = True
os.dup2(1, 2)  # whoever started us reads one of the two
name, *addrs = sys.argv[1:]
recipe = importlib.import_module(name)
start = getattr(recipe, 'start', None)
if start is None:
    server = importlib.import_module('line_commands')
    server.Session = recipe.Session
    start = server.start

threading.Thread(target=serve_until_told, daemon=True).start()
started = start(*map(addr_of, addrs))
print('listening on %s:%d' % started.socket.getsockname(), flush=True)
getattr(recipe, 'run', asyncore.loop)()
sys.stdin.read()  # the loops of other threads go on
