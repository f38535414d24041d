import asynchat
import asyncore
import threading

class Session(asynchat.async_chat):
    def __init__(self, sock, map):
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        pass

    def found_terminator(self):
        self.push(b'%d here\r\n' % (len(self._map) - 1)) # one is the server

class Server(asyncore.dispatcher):
    def __init__(self, addr, map):
        asyncore.dispatcher.__init__(self, map=map)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(addr)
        self.listen(5)

    def handle_accepted(self, sock, addr):
        Session(sock, self._map)

def start(addr):
    my_map = {}
    server = Server(addr, my_map)
    threading.Thread(target=asyncore.loop, kwargs={'map': my_map}, daemon=True).start()
    return server
