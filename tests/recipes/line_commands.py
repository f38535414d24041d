import asynchat
import asyncore

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.buffer = []
        self.total = 0
        self.push(b'220 add N, total, or quit\r\n')

    def collect_incoming_data(self, data):
        self.buffer.append(data)

    def found_terminator(self):
        line = b''.join(self.buffer).decode()
        self.buffer = []
        verb, _, argument = line.partition(' ')
        method = getattr(self, 'do_' + verb, None)
        if method:
            method(argument)
        else:
            self.push(b'500 what?\r\n')

    def do_add(self, argument):
        self.total += int(argument)
        self.push(b'250 ok\r\n')

    def do_total(self, _):
        self.push(b'211 %d\r\n' % self.total)

    def do_quit(self, _):
        self.push(b'205 bye\r\n')
        self.close_when_done()

class Server(asyncore.dispatcher):
    def __init__(self, addr):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(addr)
        self.listen(5)

    def handle_accepted(self, sock, addr):
        Session(sock)

def start(addr):
    return Server(addr)
