import asynchat
import asyncore

class Half(asynchat.async_chat):
    def __init__(self, sock=None):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(None)

    def collect_incoming_data(self, data):
        self.other.push(data)

    def readable(self):
        return not self.other.producer_fifo

    def handle_close(self): # also called at a half-close
        self.close()
        self.other.close_when_done()

class Proxy(asyncore.dispatcher):
    def __init__(self, addr, upstream):
        asyncore.dispatcher.__init__(self)
        self.upstream = upstream
        self.create_socket()
        self.set_reuse_addr()
        self.bind(addr)
        self.listen(5)

    def handle_accepted(self, sock, addr):
        client, server = Half(sock), Half()
        client.other, server.other = server, client
        server.create_socket()
        server.connect(self.upstream)

def start(addr, upstream):
    return Proxy(addr, upstream)
