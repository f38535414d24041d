//! Urgent data (RFC 9293 section 3.8.5): a chat receives it at its place in the stream (RFC 6093
//! section 6), whatever kind of connection it has, and the loop does not spin.

#![cfg(unix)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use asynchat::{Chat, Connector, EventLoop, Server};
use common::skip::skipped;
use common::{Log, Peer, Slot, addr_of, idle, new_loop, run_until};
use socket2::SockRef;

/// `ABOR` as ftplib's `abort` sends it: its last byte, the LF, is urgent.
fn abort(peer: &TcpStream) {
    let sent = SockRef::from(peer).send_out_of_band(b"ABOR\r\n").unwrap();
    assert_eq!(sent, 6);
}

/// A chat that answers each line, and its peer.
type Pair = (Chat, TcpStream);

fn served(event_loop: &EventLoop, log: &Log, server: Server) -> Pair {
    let slot = Slot::default();
    let listener = server
        .listen_on(event_loop, slot.capture(answering(log)))
        .unwrap();
    let peer = TcpStream::connect(addr_of(&listener)).unwrap();
    run_until(event_loop, || log.has("connect"));
    (slot.chat(), peer)
}

fn answering(log: &Log) -> impl Fn(Chat) -> common::Session + Clone + use<> {
    log.session_with(|chat, line| {
        chat.push_slice(line);
        chat.push(": done\r\n");
        Ok(())
    })
}

fn listened(event_loop: &EventLoop, log: &Log) -> Pair {
    served(event_loop, log, Server::new("127.0.0.1:0"))
}

fn inherited(event_loop: &EventLoop, log: &Log) -> Pair {
    let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    served(event_loop, log, Server::adopt(listener))
}

fn connected(event_loop: &EventLoop, log: &Log) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let chat = event_loop.connect(target, answering(log)).unwrap();
    run_until(event_loop, || log.has("connect"));
    (chat, listener.accept().unwrap().0)
}

fn adopted(event_loop: &EventLoop, log: &Log) -> Pair {
    let (near, far) = common::tcp_pair();
    let connector = Connector::adopt(near);
    let chat = connector.connect_on(event_loop, answering(log)).unwrap();
    run_until(event_loop, || log.has("connect"));
    (chat, far)
}

#[test]
fn an_urgent_line_is_delivered_as_a_line() {
    for make in [listened, inherited, connected, adopted] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, peer) = make(&event_loop, &log);
        abort(&peer);
        let mut peer = Peer::new(peer);
        peer.expect(&event_loop, "ABOR: done\r\n");
        abort(&peer.stream);
        peer.send("QUIT\r\n");
        peer.expect(&event_loop, "ABOR: done\r\nQUIT: done\r\n");
        // Nothing is left that the poller would report again.
        let before = chat.stats().wakeups;
        idle(&event_loop);
        assert_eq!(chat.stats().wakeups, before);
        assert!(chat.is_open());
    }
}

#[test]
fn a_paused_chat_receives_urgent_data_when_it_resumes() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = listened(&event_loop, &log);
    chat.pause_reading();
    idle(&event_loop);
    abort(&peer);
    let before = event_loop.stats().wakeups;
    idle(&event_loop);
    assert_eq!(event_loop.stats().wakeups, before);
    chat.resume_reading();
    Peer::new(peer).expect(&event_loop, "ABOR: done\r\n");
}

/// Python's ftplib waits for the reply to its urgent line.
#[test]
fn the_abort_of_ftplib_is_answered() {
    use std::process::{Command, Stdio};

    const CLIENT: &str = "
import ftplib, sys
ftp = ftplib.FTP()
ftp.connect('127.0.0.1', int(sys.argv[1]), 10)
assert ftp.abort() == '226 ABOR', 'another reply'
assert ftp.quit() == '226 QUIT', 'another reply'
";
    let event_loop = new_loop();
    let listener = event_loop
        .listen("127.0.0.1:0", |chat: Chat| {
            chat.push("220 ready\r\n");
            move |line: &[u8]| {
                chat.push_slices(&[b"226 ", line, b"\r\n"]);
                Ok(())
            }
        })
        .unwrap();
    let mut client = Command::new("python3");
    let port = addr_of(&listener).port().to_string();
    client.args(["-c", CLIENT, &port]).stderr(Stdio::piped());
    let Ok(mut client) = client.spawn() else {
        return skipped("python3 is not installed");
    };
    let mut status = None;
    run_until(&event_loop, || {
        status = client.try_wait().unwrap();
        status.is_some()
    });
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
