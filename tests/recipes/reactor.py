import asynchat
import asyncore
import collections
import os
import queue
import threading
import time

class Client(asynchat.async_chat):
    def __init__(self, addr, lines, map):
        asynchat.async_chat.__init__(self, map=map)
        self.set_terminator(b'\r\n')
        self.lines = lines
        self.create_socket()
        self.connect(addr)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.lines.put(self._get_data())

class Reactor(asyncore.file_dispatcher):
    """A loop on a thread of its own. Its pipe wakes it, and keeps its map from being empty."""
    def __init__(self):
        self.map, self.jobs, self.timers = {}, collections.deque(), {}
        reader, self.writer = os.pipe()
        asyncore.file_dispatcher.__init__(self, reader, self.map)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.map:
            asyncore.loop(timeout=0.05, count=1, map=self.map)
            for timer, (due, call) in list(self.timers.items()):
                if due <= time.monotonic():
                    del self.timers[timer]
                    call()

    def ask(self, call):
        answer = queue.Queue()
        self.jobs.append(lambda: answer.put(call()))
        os.write(self.writer, b'x')
        return answer.get()

    def writable(self):
        return False

    def handle_read(self):
        self.recv(8192)
        while self.jobs:
            self.jobs.popleft()()

    def open(self, addr, lines):
        return self.ask(lambda: Client(addr, lines, self.map))

    def write(self, client, data):
        self.ask(lambda: client.push(data))

    def call_later(self, delay, call):
        timer = object()
        self.timers[timer] = time.monotonic() + delay, call
        return timer

    def cancel(self, timer):
        return self.timers.pop(timer, None) is not None

    def shut_down(self):
        self.ask(lambda: [channel.close() for channel in list(self.map.values())])
        self.thread.join()

lines, reactor = queue.Queue(), None

def start(addr):
    global reactor, client
    reactor = Reactor()
    client = reactor.open(addr, lines)
    return client

def run():
    timer = reactor.call_later(3600, lambda: None)
    reactor.write(client, b'hello\r\n')
    reactor.write(client, b'you said ' + lines.get() + b'\r\n')
    assert reactor.cancel(timer)
    lines.get() # the peer has it
    reactor.shut_down()
