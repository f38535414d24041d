import asynchat
import asyncore
import time

class Client(asynchat.async_chat):
    def __init__(self, addr, attempt=1):
        asynchat.async_chat.__init__(self)
        self.set_terminator(b'\r\n')
        self.peer, self.attempt, self.retry_at = addr, attempt, None
        clients.append(self)
        self.create_socket()
        self.connect(addr)

    def handle_connect(self):
        self.push(b'attempt %d\r\n' % self.attempt)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.push(b'got ' + self._get_data() + b'\r\n')

    def handle_close(self):
        self.close()
        self.retry_at = time.monotonic() + 0.1

clients = []

def start(addr):
    return Client(addr)

def run():
    while True:
        asyncore.loop(timeout=0.05, count=1)
        if not asyncore.socket_map:
            time.sleep(0.05) # loop() does not wait when the map is empty
        for client in list(clients):
            if client.retry_at and time.monotonic() >= client.retry_at:
                clients.remove(client)
                Client(client.peer, client.attempt + 1)
