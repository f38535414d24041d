//! A hang-up loses no input: data that the kernel still has is delivered before the reason.

mod common;

use std::io::Write;

#[cfg(target_os = "linux")]
use asynchat::Limits;
use asynchat::{AsyncChat, Channel, Chat, Close, Dispatcher, Eof, Result};
use common::{Log, new_loop, run_to_end, run_until, served};

/// Counts the bytes of its records.
struct Counts {
    log: Log,
    bytes: usize,
}

impl AsyncChat for Counts {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.bytes += record.len() + 2;
        Ok(())
    }
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        self.bytes += partial.len();
        Ok(Eof::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &Close) {
        self.log
            .add(format!("{} bytes, {}", self.bytes, common::name(why)));
    }
}

#[test]
fn data_unread_at_a_close_is_delivered() {
    let (event_loop, log) = (new_loop(), Log::default());
    let counted = log.clone();
    let listener = event_loop
        .listen("127.0.0.1:0", move |_: Chat| Counts {
            log: counted.clone(),
            bytes: 0,
        })
        .unwrap();
    let mut peer = common::Peer::connect(common::addr_of(&listener));
    peer.stream.set_nonblocking(false).unwrap();
    peer.send("0123456\r\n".repeat(11_111) + "x");
    drop(peer);
    run_until(&event_loop, || log.has("100000 bytes, Eof"));
}

/// asyncore delivered 4,096 of 100,000 bytes here, with `use_poll`.
#[cfg(unix)]
#[test]
fn data_unread_at_the_hang_up_of_a_unix_socket_is_delivered() {
    use std::os::unix::net::{UnixListener, UnixStream};

    let dir = std::env::temp_dir().join(format!("asynchat-hangup-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let (event_loop, log) = (new_loop(), Log::default());
    let counted = log.clone();
    asynchat::Server::adopt(unix)
        .listen_on(&event_loop, move |_: Chat| Counts {
            log: counted.clone(),
            bytes: 0,
        })
        .unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.write_all("0123456\r\n".repeat(11_111).as_bytes())
        .unwrap();
    peer.write_all(b"x").unwrap();
    drop(peer);
    std::fs::remove_dir_all(&dir).unwrap();
    run_until(&event_loop, || log.has("100000 bytes, Eof"));
}

// Only Linux keeps the data that arrived before a reset. Other kernels discard it.
#[cfg(target_os = "linux")]
#[test]
fn data_unread_at_a_reset_is_delivered() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    peer.send("a\r\n".repeat(3000));
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.count("record a"), 3000);
    assert_eq!(log.lines().last().unwrap(), "close Reset");
    assert!(!log.has("eof"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_does_not_hide_unread_input() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    peer.send("a\r\nb\r\n");
    peer.reset();
    // The loop sends what is pushed before it sleeps, and thus before it reads.
    chat.push("into the void");
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record a", "record b", "close Reset"]
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_between_records_does_not_hide_the_others() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, _| {
            chat.push("a reply");
            Ok(())
        }),
    );
    chat.set_limits(turns_of(2));
    peer.send("a\r\nb\r\nc\r\nd\r\ne\r\n");
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.count("record"), 5);
    assert_eq!(log.lines().last().unwrap(), "close Reset");
}

#[cfg(target_os = "linux")]
fn turns_of(records: usize) -> Limits {
    let mut limits = Limits::default();
    limits.turn_records = records;
    limits
}

// The peer has sent everything and is gone before the client looks at its connection.
#[cfg(target_os = "linux")]
#[test]
fn a_greeting_before_a_reset_reaches_a_client_that_is_still_connecting() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    event_loop
        .connect(listener.local_addr().unwrap(), log.session())
        .unwrap();
    // The first turn begins the connection. The second one finds it up.
    event_loop.run_once(std::time::Duration::ZERO).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"421 too many\r\n").unwrap();
    common::Peer::new(server).reset();
    run_to_end(&event_loop);
    let lines = log.lines();
    assert!(log.has("record 421 too many"), "{lines:?}");
}

#[test]
fn an_orderly_end_is_reported_as_eof_and_a_reset_as_reset() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, peer) = served(&event_loop, log.session());
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "eof ", "close Eof"]);

    let (event_loop, log) = (new_loop(), Log::default());
    let (_, peer) = served(&event_loop, log.session());
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Reset"]);
}

#[test]
fn the_peer_sees_abort_as_a_reset_and_close_as_an_orderly_end() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.abort();
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (chat, mut peer) = served(&event_loop, log.session());
    chat.close();
    assert!(peer.wait_for_end(&event_loop).is_ok());
}

#[test]
fn output_in_the_kernel_is_sent_after_a_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push("last words");
    chat.push_hook({
        let chat = chat.clone();
        move || Chat::close(&chat)
    });
    assert_eq!(peer.receive_all(&event_loop), b"last words");
}

#[test]
fn peer_addr_works_in_a_session_that_has_ended() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = served(&event_loop, log.session());
    let addr = peer.stream.local_addr().unwrap();
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(chat.peer_addr().and_then(|peer| peer.inet()), Some(addr));
    assert_eq!(chat.local_addr(), None);
}

struct Quiet(Channel);

impl Dispatcher for Quiet {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

#[test]
fn peer_addr_works_on_an_adopted_channel_that_has_ended() {
    let event_loop = new_loop();
    let (near, far) = common::tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    event_loop.register(Quiet(channel.clone())).unwrap();
    channel.close();
    run_to_end(&event_loop);
    let peer = channel.peer_addr().and_then(|peer| peer.inet());
    assert_eq!(peer, far.local_addr().ok());
}

/// macOS refuses options of such a socket with EINVAL.
#[test]
fn a_connection_that_both_sides_have_finished_delivers_its_input() {
    let (near, mut far) = common::tcp_pair();
    far.write_all(b"last words\r\n").unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    let (event_loop, log) = (new_loop(), Log::default());
    asynchat::Connector::adopt(near)
        .connect_on(&event_loop, log.session())
        .unwrap();
    run_to_end(&event_loop);
    assert!(log.has("record last words"), "{:?}", log.lines());
}
