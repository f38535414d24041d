import asynchat

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.buffer = []
        self.in_block = False

    def collect_incoming_data(self, data):
        self.buffer.append(data)

    def found_terminator(self):
        data = b''.join(self.buffer)
        self.buffer = []
        if self.in_block:
            lines = data.split(b'\r\n')
            lines = [line[1:] if line.startswith(b'.') else line for line in lines]
            self.in_block = False
            self.set_terminator(b'\r\n')
            self.push(b'240 %d lines, the last is %s\r\n' % (len(lines), lines[-1]))
        elif data == b'POST':
            self.in_block = True
            self.set_terminator(b'\r\n.\r\n')
            self.push(b'340 send it\r\n')
        else:
            self.push(b'500 what?\r\n')
