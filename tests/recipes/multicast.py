import asyncore
import socket

GROUP = '239.255.77.77'

class Member(asyncore.dispatcher):
    def __init__(self, addr):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.set_reuse_addr() # several members on one machine
        self.bind(('', addr[1]))
        group = socket.inet_aton(GROUP) + socket.inet_aton(addr[0])
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)

    def writable(self):
        return False

    def handle_read(self):
        data, peer = self.socket.recvfrom(8192)
        self.socket.sendto(data.upper(), peer)

def start(addr):
    return Member(addr)
