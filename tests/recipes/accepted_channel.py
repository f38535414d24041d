import asyncore

class EchoHandler(asyncore.dispatcher_with_send):
    def handle_read(self):
        self.send(self.recv(8192))

class EchoServer(asyncore.dispatcher):
    def __init__(self, addr):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(addr)
        self.listen(5)

    def handle_accepted(self, sock, addr):
        EchoHandler(sock)

def start(addr):
    return EchoServer(addr)
