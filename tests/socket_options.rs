//! Options of the socket of a channel that the channel has no method for.

mod common;

use std::io::{self, ErrorKind};

use asynchat::{Addr, Channel, Chat, Connector, Dispatcher, Result, Socket};
use common::{Log, Peer, addr_of, idle, new_loop, run_until, served, tcp_pair};

#[test]
fn options_are_set_and_read_on_every_kind_of_socket() -> io::Result<()> {
    let (near, far) = tcp_pair();
    let stream = Channel::adopt(near).unwrap();
    stream.configure(|socket| socket.set_keepalive(true))?;
    assert!(stream.configure(|socket| socket.keepalive())?);
    let listener = Channel::listen("127.0.0.1:0").unwrap();
    assert!(listener.configure(|socket| socket.reuse_address())? != cfg!(windows));
    let datagrams = Channel::bind("127.0.0.1:0").unwrap();
    datagrams.configure(|socket| socket.set_broadcast(true))?;
    assert!(datagrams.configure(|socket| socket.broadcast())?);
    drop(far);
    Ok(())
}

/// Windows would allow it without SO_EXCLUSIVEADDRUSE.
#[test]
fn no_other_socket_can_take_the_port_of_a_listener() -> io::Result<()> {
    use socket2::{Domain, Socket, Type};

    let listener = Channel::listen("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().and_then(|addr| addr.inet()).unwrap();
    let thief = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    thief.set_reuse_address(true)?;
    let bound = thief.bind(&addr.into()).and_then(|()| thief.listen(1));
    let kind = bound.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::AddrInUse | ErrorKind::PermissionDenied),
        "{kind:?}"
    );
    Ok(())
}

#[test]
fn the_options_of_a_chat_are_set_while_it_runs() -> io::Result<()> {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.configure(|socket| socket.set_keepalive(true))?;
    assert!(chat.configure(|socket| socket.keepalive())?);
    // The duplicate is closed: the end of the channel is the end of the connection.
    chat.close();
    assert_eq!(peer.receive_all(&event_loop), b"");
    let closed = chat.configure(|socket| socket.keepalive());
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::NotConnected);
    Ok(())
}

#[test]
fn the_closure_may_use_the_channel() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = tcp_pair();
    let chat: Chat = Connector::adopt(near)
        .connect_on(&event_loop, log.session())
        .unwrap();
    idle(&event_loop);
    let closes = chat.configure(|_| {
        chat.close();
        drop(event_loop);
        Err::<(), _>(io::Error::from(ErrorKind::Other))
    });
    assert_eq!(closes.unwrap_err().kind(), ErrorKind::Other);
    let unregistered = Channel::bind("127.0.0.1:0").unwrap();
    unregistered
        .configure(|_| {
            unregistered.close();
            Ok(())
        })
        .unwrap();
    assert!(!unregistered.is_open());
}

#[test]
fn a_channel_that_is_not_up_has_no_socket() {
    let connecting = Channel::connect("127.0.0.1:9").unwrap();
    let refused = connecting.configure(|socket| socket.keepalive());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotConnected);
}

/// Not every system documents that an accepted socket inherits the options of its listener.
#[test]
fn an_accepted_socket_has_the_options_of_its_listener() -> Result {
    struct Options {
        channel: Channel,
        log: Log,
    }
    impl Dispatcher for Options {
        fn channel(&self) -> &Channel {
            &self.channel
        }
        fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
            self.log
                .add(format!("nodelay {}", socket.options()?.tcp_nodelay()?));
            Ok(())
        }
    }

    let adopted = || Channel::adopt(std::net::TcpListener::bind("127.0.0.1:0")?);
    for channel in [Channel::listen("127.0.0.1:0")?, adopted()?] {
        let (event_loop, log) = (new_loop(), Log::default());
        let _peer = Peer::connect(addr_of(&channel));
        event_loop.register(Options {
            channel,
            log: log.clone(),
        })?;
        run_until(&event_loop, || log.has("nodelay"));
        assert_eq!(log.lines(), ["nodelay true"]);
    }
    Ok(())
}
