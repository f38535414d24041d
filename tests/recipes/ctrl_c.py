import asynchat
import asyncore

class Session(asynchat.async_chat):
    sessions = set()

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.sessions.add(self)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.push(self._get_data() + b'\r\n')

    def handle_close(self):
        self.sessions.discard(self)
        self.close()

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
    global server
    server = Server(addr)
    return server

def run():
    try:
        asyncore.loop(timeout=1) # a signal just before a wait does not end the wait
    except KeyboardInterrupt:
        server.close()
        for session in list(Session.sessions):
            session.push(b'421 bye\r\n')
            session.close_when_done()
        asyncore.loop(timeout=0.1, count=10)
