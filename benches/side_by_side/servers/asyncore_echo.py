"""A server that echoes lines, on Python's asyncore and asynchat (removed in Python 3.12)."""

import asynchat
import asyncore
import os
import select
import socket
import sys
import threading


class Echo(asynchat.async_chat):
    def __init__(self, sock):
        super().__init__(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.set_terminator(b"\r\n")
        self.collected = []

    def collect_incoming_data(self, data):
        self.collected.append(data)

    def found_terminator(self):
        line = b"".join(self.collected)
        self.collected.clear()
        self.push(line + b"\r\n")


class Server(asyncore.dispatcher):
    def __init__(self):
        super().__init__()
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(("127.0.0.1", 0))
        self.listen(128)

    def handle_accepted(self, sock, addr):
        Echo(sock)


def exit_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=exit_with_parent, daemon=True).start()
server = Server()
print("listening on %s:%d" % server.socket.getsockname(), flush=True)
asyncore.loop(use_poll=hasattr(select, "poll"))
