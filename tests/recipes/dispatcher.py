import asyncore

class Parrot(asyncore.dispatcher):
    def __init__(self, addr):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.out = b''
        self.connect(addr)

    def handle_connect(self):
        self.out = b'hello, I am a parrot\r\n'

    def handle_read(self):
        self.out += self.recv(8192).upper()

    def writable(self):
        return not self.connected or bool(self.out)

    def handle_write(self):
        sent = self.send(self.out)
        self.out = self.out[sent:]

    def handle_close(self):
        self.close()

def start(addr):
    return Parrot(addr)
