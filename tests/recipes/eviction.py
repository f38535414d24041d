import asynchat

class Session(asynchat.async_chat):
    members = {}

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.name, self.reason = None, b'the peer closed the connection'

    def tell(self, text):
        for member in list(self.members.values()):
            member.push(text + b'\r\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        verb, _, rest = line.partition(b' ')
        if self.name is None:
            self.name = line
            self.members[line] = self
            self.push(b'welcome\r\n')
        elif verb == b'EVICT':
            name, _, reason = rest.partition(b' ')
            self.members[name].evict(reason)

    def evict(self, reason):
        self.reason = reason
        self.push(b'you are evicted: ' + reason + b'\r\n')
        self.close_when_done()

    def handle_close(self):
        self.close()
        self.members.pop(self.name, None)
        self.tell(self.name + b' has left: ' + self.reason)
