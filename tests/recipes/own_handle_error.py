import asynchat
import sys

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.total = 0

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        verb, argument = self._get_data().decode().split()
        if verb != 'add':
            raise ValueError('the only command is add N')
        self.total += int(argument)
        self.push(b'250 %d\r\n' % self.total)

    def handle_error(self): # asyncore's own closes the connection
        self.push(b'500 %s\r\n' % sys.exc_info()[0].__name__.encode())
