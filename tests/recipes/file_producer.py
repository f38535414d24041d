import asynchat

class file_producer:
    def __init__(self, file):
        self.file = file

    def more(self):
        return self.file.read(65536)

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        if self._get_data() == b'LICENSE':
            self.push(b'150 here it comes\r\n')
            self.push_with_producer(file_producer(open('LICENSE-APACHE', 'rb')))
            self.close_when_done()
        else:
            self.push(b'500 LICENSE is all I have\r\n')
