//! Several channels with one UDP port: refused by default, possible with sockets of one's own.

#![cfg(unix)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use asynchat::{Channel, Dispatcher, EventLoop, Result};
use common::{Log, new_loop, run_until};
use socket2::{Domain, SockRef, Socket, Type};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 78);

/// Logs what it receives.
struct Member {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Member {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 100];
        let (count, _) = self.channel.recv_from(&mut buffer)?;
        self.log.add(String::from_utf8_lossy(&buffer[..count]));
        Ok(())
    }
}

fn join(event_loop: &EventLoop, port: u16) -> (Channel, Log) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "illumos")))]
    socket.set_reuse_port(true).unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    socket.bind(&any.into()).unwrap();
    socket
        .join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)
        .unwrap();
    let (channel, log) = (
        Channel::adopt(UdpSocket::from(socket)).unwrap(),
        Log::default(),
    );
    let member = Member {
        channel: channel.clone(),
        log: log.clone(),
    };
    event_loop.register(member).unwrap();
    (channel, log)
}

#[test]
fn all_members_of_a_group_on_one_port_receive_a_datagram() {
    let event_loop = new_loop();
    let (first, heard_by_first) = join(&event_loop, 0);
    let port = common::addr_of(&first).port();
    let (_second, heard_by_second) = join(&event_loop, port);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&peer)
        .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
        .unwrap();
    peer.send_to(b"hello", (GROUP, port)).unwrap();
    run_until(&event_loop, || {
        heard_by_first.has("hello") && heard_by_second.has("hello")
    });
}

#[test]
fn a_port_is_not_shared_by_default() {
    let first = Channel::bind("127.0.0.1:0").unwrap();
    let second = Channel::bind(common::addr_of(&first)).unwrap_err();
    assert_eq!(second.io_kind(), Some(std::io::ErrorKind::AddrInUse));
    assert!(
        second.to_string().starts_with("bind 127.0.0.1:"),
        "{second}"
    );
}
