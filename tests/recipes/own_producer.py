import asynchat

class countdown:
    def __init__(self, n):
        self.n = n

    def more(self):
        if self.n == 0:
            return b''
        self.n -= 1
        return b'%d\r\n' % self.n

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.push_with_producer(countdown(int(self._get_data())))
        self.push(b'lift off\r\n')
