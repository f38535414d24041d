//! Urgent data (RFC 9293 section 3.8.5): a chat receives it at its place in the stream (RFC 6093
//! section 6), whatever kind of connection it has. A dispatcher sends and receives the urgent byte apart from
//! the stream. The loop does not spin.

#![cfg(unix)]

mod common;

#[cfg(target_os = "linux")]
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use asynchat::{Channel, Chat, Close, Connector, Dispatcher, EventLoop, Result, Server, Socket};
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

/// Logs the urgent bytes and the stream, and answers an urgent byte with an urgent one.
struct Telnet {
    channel: Channel,
    log: Log,
    receives: bool,
}

impl Dispatcher for Telnet {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 100];
        let count = self.channel.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..count]);
        self.log.add(format!("read {text}"));
        Ok(())
    }
    fn handle_expt(&mut self) -> Result {
        self.log.add("urgent");
        if self.receives {
            let byte = self.channel.recv_urgent()?;
            self.log.add(format!("received {}", char::from(byte)));
            // There is only one. An error of this kind closes nothing.
            assert_eq!(self.channel.send_urgent(b"no!")?, 3);
            self.channel.recv_urgent()?;
        }
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", common::name(why)));
    }
}

fn telnet(event_loop: &EventLoop, socket: impl Into<Socket>, receives: bool) -> (Channel, Log) {
    let (channel, log) = (Channel::adopt(socket).unwrap(), Log::default());
    let telnet = Telnet {
        channel: channel.clone(),
        log: log.clone(),
        receives,
    };
    event_loop.register(telnet).unwrap();
    (channel, log)
}

#[cfg(target_os = "linux")]
#[test]
fn a_dispatcher_receives_and_sends_the_urgent_byte() {
    use rustix::net::{RecvFlags, recv};

    let event_loop = new_loop();
    let (near, far) = common::tcp_pair();
    let (channel, log) = telnet(&event_loop, near, true);
    SockRef::from(&far).send_out_of_band(b"ab!").unwrap();
    run_until(&event_loop, || log.has("read ab"));
    assert!(log.has("received !"), "{:?}", log.lines());
    let mut urgent = [0];
    run_until(&event_loop, || {
        recv(&far, &mut urgent, RecvFlags::OOB).is_ok()
    });
    assert_eq!(&urgent, b"!");
    let mut peer = Peer::new(far);
    peer.expect(&event_loop, "no");
    idle(&event_loop);
    let before = event_loop.stats().wakeups;
    idle(&event_loop);
    assert_eq!(event_loop.stats().wakeups, before);
    assert!(channel.is_open());
    // A wait without urgent data is no failure, and neither is a channel that cannot have any.
    assert_eq!(
        channel.recv_urgent().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let datagrams = Channel::bind("127.0.0.1:0").unwrap();
    for kind in [
        datagrams.recv_urgent().unwrap_err().kind(),
        datagrams.send_urgent(b"!").unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::Unsupported);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_dispatcher_that_does_not_receive_the_urgent_byte_is_called_once() {
    let event_loop = new_loop();
    let (near, far) = common::tcp_pair();
    let (channel, log) = telnet(&event_loop, near, false);
    SockRef::from(&far).send_out_of_band(b"ab!").unwrap();
    run_until(&event_loop, || log.has("read ab"));
    idle(&event_loop);
    assert_eq!(log.lines(), ["urgent", "read ab"]);
    assert_eq!(
        channel.recv_urgent().unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "it was discarded"
    );
}

#[cfg(feature = "sim")]
#[test]
fn urgent_bytes_are_simulated_in_both_directions() -> Result {
    let network = asynchat::sim::Network::new(1);
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let (_channel, log) = telnet(&event_loop, socket, true);
    peer.send("ab");
    peer.send_urgent(b'!');
    network.settle(&event_loop)?;
    assert_eq!(log.lines(), ["urgent", "received !", "read ab"]);
    assert_eq!(peer.take_received(), b"no");
    assert_eq!(peer.take_urgent(), Some(b'!'));
    assert_eq!(peer.take_urgent(), None);
    Ok(())
}
