import asynchat

class Session(asynchat.async_chat):
    clients = {}

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.name = None

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        text = self._get_data()
        if self.name:
            self.tell(b'<' + self.name + b'> ' + text)
        else:
            self.name = text
            self.clients[self.name] = self
            self.tell(self.name + b' has come')

    def tell(self, text):
        for client in list(self.clients.values()): # a push can close a client and change the dict
            client.push(text + b'\r\n')

    def handle_close(self):
        if self.clients.pop(self.name, None):
            self.tell(self.name + b' has left')
        self.close()
