import asynchat
import asyncore
import os
import pty
import subprocess

SCRIPT = 'test -t 0 && echo a terminal; read name; echo "hello $name"'

class Terminal(asyncore.file_dispatcher):
    def __init__(self, client):
        self.client, self.buffer = client, b''
        near, far = pty.openpty()
        self.child = subprocess.Popen(['sh', '-c', SCRIPT], stdin=far, stdout=far, stderr=far)
        os.close(far)
        asyncore.file_dispatcher.__init__(self, near)
        os.close(near) # it was duplicated

    def writable(self):
        return False

    def handle_read(self):
        try:
            self.buffer += self.recv(8192)
        except OSError: # Linux reports the end as EIO
            return self.handle_close()
        *lines, self.buffer = self.buffer.split(b'\n')
        for line in lines:
            self.client.push(line.rstrip(b'\r') + b'\r\n')

    def handle_close(self):
        self.close()
        self.client.push(b'exit %d\r\n' % self.child.wait())

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.terminal = Terminal(self)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.terminal.send(self._get_data() + b'\n')
