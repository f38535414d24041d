//! asyncore's `del_channel`: a channel gives its socket back, and the loop does not close it.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use asynchat::{Channel, Close, Dispatcher, EventLoop, Result, Socket};
use common::{Log, Peer, addr_of, name, new_loop, run_to_end, tcp_pair};

#[cfg(unix)]
type Owned = std::os::fd::OwnedFd;
#[cfg(windows)]
type Owned = std::os::windows::io::OwnedSocket;

/// Gives its socket away at its first line.
struct Greeter {
    channel: Channel,
    log: Log,
    socket: std::rc::Rc<std::cell::RefCell<Option<Socket>>>,
}

impl Dispatcher for Greeter {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 5];
        let count = self.channel.recv(&mut buffer)?;
        self.log.add(format!(
            "read {}",
            String::from_utf8_lossy(&buffer[..count])
        ));
        let socket = self.channel.release()?;
        assert!(!self.channel.is_open());
        self.socket.replace(Some(socket));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

#[test]
fn a_socket_that_is_released_in_a_callback_stays_open_and_keeps_its_input() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = tcp_pair();
    let socket = std::rc::Rc::default();
    let channel = Channel::adopt(near).unwrap();
    let greeter = Greeter {
        channel: channel.clone(),
        log: log.clone(),
        socket: std::rc::Rc::clone(&socket),
    };
    event_loop.register(greeter).unwrap();
    let mut peer = Peer::new(far);
    peer.send("hello, world");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["read hello", "close Local"]);
    // The rest of the input is still in the socket.
    let socket = socket.take().unwrap();
    let mut stream = TcpStream::from(Owned::try_from(socket).unwrap());
    stream.set_nonblocking(false).unwrap();
    let mut rest = [0; 7];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b", world");
    stream.write_all(b"bye").unwrap();
    peer.expect(&event_loop, "bye");
    assert_eq!(
        channel.release().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

/// Does nothing but log its end.
struct Idle {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Idle {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

fn idle_on(event_loop: &EventLoop, socket: impl Into<Socket>) -> (Channel, Log) {
    let (channel, log) = (Channel::adopt(socket).unwrap(), Log::default());
    let idle = Idle {
        channel: channel.clone(),
        log: log.clone(),
    };
    event_loop.register(idle).unwrap();
    common::idle(event_loop);
    (channel, log)
}

#[test]
fn a_released_socket_can_be_adopted_by_another_loop() {
    let (first, second) = (new_loop(), new_loop());
    let (near, far) = tcp_pair();
    let (channel, log) = idle_on(&first, near);
    let socket = channel.release().unwrap();
    run_to_end(&first);
    assert_eq!(log.lines(), ["close Local"]);
    assert!(first.is_empty());
    let slot = Log::default();
    let session = slot.session_with(|chat, line| {
        chat.push_slices(&[line, b"\r\n"]);
        Ok(())
    });
    asynchat::Connector::adopt(socket)
        .connect_on(&second, session)
        .unwrap();
    let mut peer = Peer::new(far);
    peer.send("echo\r\n");
    peer.expect(&second, "echo\r\n");
}

#[test]
fn a_listener_and_a_channel_that_is_not_registered_release_their_sockets() {
    let event_loop = new_loop();
    let (channel, log) = idle_on(&event_loop, TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = addr_of(&channel);
    let socket = channel.release().unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Local"]);
    let listener = TcpListener::from(Owned::try_from(socket).unwrap());
    listener.set_nonblocking(false).unwrap();
    let client = TcpStream::connect(addr).unwrap();
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());

    let unregistered = Channel::listen("127.0.0.1:0").unwrap();
    let addr = addr_of(&unregistered);
    let _socket = unregistered.release().unwrap();
    assert!(!unregistered.is_open());
    TcpStream::connect(addr).unwrap();
}

#[cfg(unix)]
#[test]
fn both_descriptors_are_released_together() {
    use std::io::pipe;

    let event_loop = new_loop();
    let ((input, mut far_end), (mut from, output)) = (pipe().unwrap(), pipe().unwrap());
    let (channel, _) = idle_on(&event_loop, Socket::halves(input, output));
    let socket = channel.release().unwrap();
    run_to_end(&event_loop);
    let channel = Channel::adopt(socket).unwrap();
    channel.send(b"out").unwrap();
    let mut buffer = [0; 3];
    from.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"out");
    far_end.write_all(b"in").unwrap();
    assert_eq!(channel.recv(&mut buffer).unwrap(), 2);
    let socket = channel.release().unwrap();
    assert_eq!(
        Owned::try_from(socket).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(from.read(&mut buffer).unwrap(), 0, "it is closed");
}

#[test]
fn a_channel_that_is_not_up_has_no_socket() {
    let connecting = Channel::connect("127.0.0.1:9").unwrap();
    assert_eq!(
        connecting.release().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[cfg(feature = "sim")]
#[test]
fn a_simulated_socket_is_released_to_another_channel_of_its_network() -> Result {
    let network = asynchat::sim::Network::new(1);
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let (channel, log) = idle_on(&event_loop, socket);
    let socket = channel.release()?;
    network.settle(&event_loop)?;
    assert_eq!(log.lines(), ["close Local"]);
    assert!(!peer.has_ended());
    let again = Channel::adopt(socket)?;
    again.send(b"still here")?;
    network.settle(&event_loop)?;
    assert_eq!(peer.received(), b"still here");
    let simulated = Owned::try_from(again.release()?);
    assert_eq!(simulated.unwrap_err().kind(), ErrorKind::Unsupported);
    Ok(())
}
