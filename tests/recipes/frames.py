import asynchat
import asyncore
import time

players = []

class Session(asynchat.async_chat):
    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\r\n')
        self.x = self.speed = 0
        players.append(self)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.speed = {b'left': -1, b'right': 1}.get(self._get_data(), 0)

    def handle_close(self):
        players.remove(self)
        self.close()

def run():
    next_frame = time.monotonic()
    while True:
        next_frame += 0.02
        while (rest := next_frame - time.monotonic()) > 0:
            asyncore.loop(timeout=rest, count=1)
        for player in players:
            if player.speed:
                player.x += player.speed
                player.push(b'at %d\r\n' % player.x)
