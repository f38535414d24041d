import asynchat
import asyncore
import subprocess

SCRIPT = 'echo found $1; echo warning >&2; exit $1'

class Pipe(asyncore.file_dispatcher):
    """Passes the lines of one pipe of a job on to the client."""
    def __init__(self, pipe, label, job):
        asyncore.file_dispatcher.__init__(self, pipe.fileno()) # duplicates it
        pipe.close()
        self.label, self.job, self.buffer = label, job, b''

    def writable(self):
        return False

    def handle_read(self):
        self.buffer += self.recv(8192)
        *lines, self.buffer = self.buffer.split(b'\n')
        for line in lines:
            self.job.client.push(self.label + b': ' + line + b'\r\n')

    def handle_close(self):
        self.close()
        self.job.pipe_closed()

class Job:
    def __init__(self, client, argument):
        self.client, self.open = client, 2
        self.process = subprocess.Popen(
            ['sh', '-c', SCRIPT, 'sh', argument],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        Pipe(self.process.stdout, b'out', self)
        Pipe(self.process.stderr, b'err', self)

    def pipe_closed(self):
        self.open -= 1
        if not self.open:
            self.client.push(b'exit %d\r\n' % self.process.wait()) # blocks the loop

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        Job(self, self._get_data().decode())
