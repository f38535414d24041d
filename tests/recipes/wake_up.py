import asynchat
import asyncore
import collections
import os
import threading

class Trigger(asyncore.file_dispatcher):
    """Makes calls for other threads, on the loop's thread."""
    def __init__(self):
        self.jobs = collections.deque()
        reader, self.writer = os.pipe()
        asyncore.file_dispatcher.__init__(self, reader)

    def pull(self, job):
        self.jobs.append(job)
        os.write(self.writer, b'x')

    def writable(self):
        return False

    def handle_read(self):
        self.recv(8192)
        while self.jobs:
            self.jobs.popleft()()

class Session(asynchat.async_chat):
    trigger = None

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.trigger = Session.trigger = Session.trigger or Trigger()

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        n = int(self._get_data())
        threading.Thread(target=self.work, args=(n,)).start()

    def work(self, n):
        answer = sum(range(n + 1))
        self.trigger.pull(lambda: self.push(b'%d\r\n' % answer))
