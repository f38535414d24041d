import asynchat

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.buffer = []
        self.state = self.got_size

    def collect_incoming_data(self, data):
        self.buffer.append(data)

    def found_terminator(self):
        data = b''.join(self.buffer)
        self.buffer = []
        self.state(data)

    def got_size(self, line):
        self.set_terminator(int(line))
        self.state = self.got_body

    def got_body(self, body):
        self.body = body
        self.set_terminator(b'\r\n')
        self.state = self.got_name

    def got_name(self, name):
        self.push(b'250 %s has %d bytes\r\n' % (name, len(self.body)))
        self.state = self.got_size
