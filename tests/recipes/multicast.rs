use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use asynchat::{Channel, Dispatcher, Error, Result};
use socket2::{Domain, Socket, Type};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);

struct Member {
    channel: Channel,
}

impl Dispatcher for Member {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 8192];
        let (count, peer) = self.channel.recv_from(&mut buffer)?;
        // A datagram that cannot be sent is lost, as any datagram may be.
        let _ = self
            .channel
            .send_to(&buffer[..count].to_ascii_uppercase(), &peer);
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let interface: SocketAddrV4 = addr.parse().map_err(Error::new)?;
    // These options have to be set before the bind.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?; // several members on one machine
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, interface.port()));
    socket.bind(&any.into())?;
    socket.join_multicast_v4(&GROUP, interface.ip())?;
    let channel = Channel::adopt(UdpSocket::from(socket))?;
    asynchat::register(Member {
        channel: channel.clone(),
    })?;
    Ok(channel)
}
