import asynchat

class after:
    """A producer without output. It calls a function when it is asked for data."""
    def __init__(self, call):
        self.call = call

    def more(self):
        self.call()
        return b''

class Session(asynchat.async_chat):
    watchers = []

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        if self._get_data() == b'WATCH':
            self.watchers.append(self)
            self.push(b'200 you will be notified\r\n')
        else:
            self.push_with_producer(asynchat.simple_producer(b'x' * 100000))
            self.push_with_producer(after(self.transferred))
            self.close_when_done()

    def transferred(self):
        for watcher in self.watchers:
            watcher.push(b'226 transfer complete\r\n')
