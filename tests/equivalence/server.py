"""The server whose port is server.rs. Each command uses one feature of asynchat.

server.py [poll]: uses poll instead of select. Prints `listening on HOST:PORT`, and ends when its
input does.
"""

import io
import os
import select
import sys
import threading

import asyncore
import asynchat


def pattern(size):
    return bytes(ord('a') + i * 7 % 26 for i in range(int(size)))


class file_producer:
    def __init__(self, file):
        self.file = file

    def more(self):
        return self.file.read(1000)


class composite_producer:
    def __init__(self, producers):
        self.producers = producers

    def more(self):
        while self.producers:
            data = self.producers[0].more()
            if data:
                return data
            del self.producers[0]
        return b''


class hooked_producer:
    def __init__(self, producer, hook):
        self.producer, self.hook = producer, hook

    def more(self):
        data = self.producer.more() if self.producer else b''
        if not data and self.producer:
            self.producer = None
            self.hook()
        return data


class late_producer:
    """Decides on its data when it is asked for it."""
    def __init__(self, say):
        self.say = say

    def more(self):
        say, self.say = self.say, None
        return say() if say else b''


class falsy_producer:
    def __init__(self):
        self.chunks = [b'one ', b'two\r\n']

    def __len__(self):
        return 0

    def more(self):
        return self.chunks.pop(0) if self.chunks else b''


class failing_producer:
    def __init__(self):
        self.chunks = [b'one ', b'two ']

    def more(self):
        if self.chunks:
            return self.chunks.pop(0)
        raise OSError('it was asked to')


def simple(size):
    return asynchat.simple_producer(pattern(size), 512)


def file(size):
    return file_producer(io.BytesIO(pattern(size)))


class Caught(Exception):
    pass


class Session(asynchat.async_chat):
    notes = []
    closed = {}
    name = None

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.state = self.command
        self.connect_called = False
        self.decoding = False
        self.hooks = 0

    def handle_connect(self):
        self.connect_called = True

    def handle_close(self):
        if self.name:
            self.closed[self.name] = self.closed.get(self.name, 0) + 1
        self.close()

    def collect_incoming_data(self, data):
        if self.state == self.rest:
            self.rest(data)
        elif self.decoding:
            self._collect_incoming_data(data.decode().encode())
        else:
            self._collect_incoming_data(data)

    def found_terminator(self):
        self.state(self._get_data())

    def expect(self, terminator, state):
        self.set_terminator(terminator)
        self.state = state

    # ---- states

    def command(self, line):
        verb, _, argument = line.partition(b' ')
        method = getattr(self, 'do_' + verb.decode(), None)
        if not verb:
            self.push(b'empty\r\n')
        elif method:
            method(argument)
        else:
            self.push(b'what?\r\n')

    def record(self, data):
        self.push(b'record ' + data + b'\r\n')
        self.expect(b'\r\n', self.command)

    def body(self, data):
        self.held = data
        self.expect(b'\r\n', self.trailer)

    def trailer(self, line):
        self.push(b'body ' + self.held + b' trailer ' + line + b'\r\n')
        self.state = self.command

    def block(self, data):
        lines = data.split(b'\r\n')
        lines = [line[1:] if line.startswith(b'.') else line for line in lines]
        self.push(b'block ' + b'|'.join(lines) + b'\r\n')
        self.expect(b'\r\n', self.command)

    def each(self, data):
        self.push(b'each ' + data + b'\r\n')

    def rest(self, data):
        self.push(data)

    # ---- commands

    def do_ECHO(self, text):
        self.push(b'echo ' + text + b'\r\n')

    def do_COUNT(self, size):
        self.expect(int(size), self.record)

    def do_EACH(self, size):
        self.expect(int(size), self.each)

    def do_BODY(self, size):
        self.expect(int(size), self.body)

    def do_UNTIL(self, needle):
        self.expect(needle, self.record)

    def do_BLOCK(self, _):
        self.expect(b'\r\n.\r\n', self.block)

    def do_REST(self, _):
        self.expect(None, self.rest)
        self.push(b'rest ')

    def do_PUSH(self, size):
        self.push(pattern(size))
        self.push(b'\r\n')

    def do_SIMPLE(self, size):
        self.push_with_producer(simple(size))
        self.push(b'\r\n')

    def do_FILE(self, size):
        self.push_with_producer(file(size))
        self.push(b'\r\n')

    def do_COMPOSITE(self, size):
        self.push_with_producer(composite_producer([simple(size), file(7), simple(size)]))
        self.push(b'\r\n')

    def do_MIX(self, size):
        self.push(b'a ')
        self.push_with_producer(simple(size))
        self.push(b' b ')
        self.push(b'c ')
        self.push_with_producer(file(size))
        self.push(b' d\r\n')

    def do_HOOKED(self, size):
        def hook():
            self.hooks += 1
        self.push_with_producer(late_producer(lambda: b'%d ' % self.hooks))
        self.push_with_producer(hooked_producer(simple(size), hook))
        self.push_with_producer(late_producer(lambda: b' %d\r\n' % self.hooks))

    def do_REENTER(self, _):
        hook = lambda: self.push(b'from the hook\r\n')
        self.push_with_producer(hooked_producer(simple(3), hook))
        self.push(b' behind it\r\n')
        self.push(b'last\r\n')

    def do_FALSY(self, _):
        self.push_with_producer(falsy_producer())
        self.push(b'behind it\r\n')

    def do_FAILING(self, _):
        self.push(b'before ')
        self.push_with_producer(failing_producer())
        self.push(b'behind it\r\n')

    def do_PUSHED(self, _):
        self.push(b'something ')
        self.push(b'queued\r\n' if self.producer_fifo else b'sent\r\n')

    def do_CONNECTED(self, _):
        self.push(b'told\r\n' if self.connect_called else b'not told\r\n')

    def do_TEXT(self, _):
        self.decoding = True
        self.ac_in_buffer_size = 1
        self.push(b'go on\r\n')

    def do_NOTE(self, text):
        self.notes.append(text)
        self.push(b'noted\r\n')

    def do_NOTES(self, _):
        self.push(b'notes ' + b' '.join(self.notes) + b'\r\n')
        self.notes.clear()

    def do_NAME(self, name):
        self.name = name
        self.push(b'named\r\n')
        # The client resets the connection next. A poll that runs while the kernel processes the reset
        # can report POLLERR without POLLHUP (tcp_reset in Linux sets the error first), and asyncore
        # then calls handle_close once. The loop polls after both are set.
        poll = select.poll()
        poll.register(self.socket, 0)
        while not any(flags & select.POLLHUP for _, flags in poll.poll(30_000)):
            pass

    def do_CLOSED(self, name):
        self.push(b'closed %d\r\n' % self.closed.pop(name, 0))

    def do_FAIL(self, _):
        raise RuntimeError('it was asked to')

    def do_CAUGHT(self, _):
        raise Caught()

    def handle_error(self):
        if isinstance(sys.exc_info()[1], Caught):
            self.push(b'caught\r\n')
        else:
            asynchat.async_chat.handle_error(self)

    def do_CLOSE(self, _):
        self.close()

    def do_BYE(self, _):
        self.push(b'bye\r\n')
        self.close()

    def do_QUIT(self, size):
        if size:
            self.push_with_producer(simple(size))
        self.push(b'bye\r\n')
        self.close_when_done()


class Server(asyncore.dispatcher):
    def __init__(self):
        asyncore.dispatcher.__init__(self)
        self.create_socket()
        self.set_reuse_addr()
        self.bind(('127.0.0.1', 0))
        self.listen(5)

    def handle_accepted(self, sock, addr):
        Session(sock)


def serve_until_eof():
    sys.stdin.read()
    os._exit(0)


os.dup2(1, 2)  # the parent reads one of the two
threading.Thread(target=serve_until_eof, daemon=True).start()
server = Server()
print('listening on %s:%d' % server.socket.getsockname(), flush=True)
asyncore.loop(use_poll='poll' in sys.argv)
