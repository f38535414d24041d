import asynchat
import asyncore
import time

class Session(asynchat.async_chat):
    PERIOD = 0.05

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.ticks = 0
        self.due = time.monotonic() + self.PERIOD

    def collect_incoming_data(self, data):
        pass

    def found_terminator(self):
        self.ticks = 0
        self.push(b'ok\r\n')

    def readable(self): # called in each pass, so it can check a timer
        if time.monotonic() >= self.due:
            self.due += self.PERIOD
            self.ticks += 1
            self.push(b'tick %d\r\n' % self.ticks)
        return True

def run():
    asyncore.loop(timeout=0.01)
