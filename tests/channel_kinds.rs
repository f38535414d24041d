//! The kinds of channels besides TCP sockets: datagrams, pipes, inherited descriptors, and input
//! and output on two descriptors.

mod common;

use std::cell::RefCell;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

#[cfg(unix)]
use asynchat::Close;
use asynchat::{Addr, Channel, Connector, Dispatcher, EventLoop, Result};
#[cfg(unix)]
use common::idle;
use common::skip::skipped;
use common::{DEADLINE, new_loop, run_until};

/// Sends each datagram back to its sender.
struct Echo {
    channel: Channel,
    received: Received,
}

impl Dispatcher for Echo {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 65_536];
        let (count, peer) = self.channel.recv_from(&mut buffer)?;
        let data = buffer[..count].to_vec();
        let _ = self.channel.send_to(&data, &peer);
        self.received.borrow_mut().push((data, peer));
        Ok(())
    }
}

type Received = Rc<RefCell<Vec<(Vec<u8>, Addr)>>>;

fn echo(event_loop: &EventLoop, channel: Channel) -> (Channel, Received) {
    let received = Received::default();
    let echo = Echo {
        channel: channel.clone(),
        received: Rc::clone(&received),
    };
    event_loop.register(echo).unwrap();
    (channel, received)
}

fn client(at: &str) -> UdpSocket {
    let client = UdpSocket::bind(at).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

fn datagrams_come_and_go(at: &str) {
    let event_loop = new_loop();
    let (channel, received) = echo(&event_loop, Channel::bind(at).unwrap());
    let addr = channel.local_addr().unwrap().inet().unwrap();
    let client = client(at);
    // An empty datagram is a datagram too. Then a long one.
    let large = vec![b'x'; 8_000]; // macOS allows 9,216 bytes by default
    for data in [b"first".as_slice(), b"", b"second", &large] {
        client.send_to(data, addr).unwrap();
    }
    run_until(&event_loop, || received.borrow().len() == 4);
    let from = Addr::from(client.local_addr().unwrap());
    for (n, data) in [b"first".as_slice(), b"", b"second", &large]
        .into_iter()
        .enumerate()
    {
        assert_eq!(received.borrow()[n], (data.to_vec(), from.clone()));
        let mut buffer = [0; 65_536];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (data.len(), addr));
        assert_eq!(&buffer[..data.len()], data);
    }
    assert!(channel.is_open());
}

#[test]
fn datagrams_are_echoed_over_ipv4() {
    datagrams_come_and_go("127.0.0.1:0");
}

#[test]
fn datagrams_are_echoed_over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        skipped("this machine has no IPv6");
        return;
    }
    datagrams_come_and_go("[::1]:0");
}

/// A socket of both families. OpenBSD and DragonFly have none.
#[cfg(not(any(target_os = "openbsd", target_os = "dragonfly")))]
#[test]
fn datagrams_are_echoed_over_ipv4_by_a_socket_of_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        skipped("this machine has no IPv6");
        return;
    }
    let event_loop = new_loop();
    let (channel, received) = echo(&event_loop, Channel::bind("[::]:0").unwrap());
    let port = channel.local_addr().and_then(|addr| addr.port()).unwrap();
    let client = client("127.0.0.1:0");
    client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
    run_until(&event_loop, || received.borrow().len() == 1);
    let from = Addr::from(client.local_addr().unwrap());
    assert_eq!(received.borrow()[0], (b"hello".to_vec(), from));
    let mut buffer = [0; 100];
    let answer = client.recv_from(&mut buffer).unwrap();
    assert_eq!(answer, (5, ([127, 0, 0, 1], port).into()));
}

/// Linux reports the ICMP message at the next call on a connected socket, and on an unconnected one
/// not at all. A server that has answered a client that is gone must continue.
#[test]
fn an_answer_to_a_client_that_is_gone_does_not_end_the_channel() {
    let event_loop = new_loop();
    let (channel, received) = echo(&event_loop, Channel::bind("127.0.0.1:0").unwrap());
    let addr = channel.local_addr().unwrap().inet().unwrap();
    for round in 1..=20 {
        let leaves = client("127.0.0.1:0");
        leaves.send_to(b"bye", addr).unwrap();
        drop(leaves);
        run_until(&event_loop, || received.borrow().len() == round);
    }
    assert!(channel.is_open());
}

#[test]
fn a_connected_datagram_socket_supports_send_and_recv() {
    struct Asks(Channel, Rc<RefCell<Vec<u8>>>);
    impl Dispatcher for Asks {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_read(&mut self) -> Result {
            let mut buffer = [0; 100];
            let count = self.0.recv(&mut buffer)?;
            self.1.borrow_mut().extend(&buffer[..count]);
            Ok(())
        }
    }
    let event_loop = new_loop();
    let far = client("127.0.0.1:0");
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    let channel = Channel::adopt(near).unwrap();
    let text = Rc::new(RefCell::new(Vec::new()));
    let asks = Asks(channel.clone(), Rc::clone(&text));
    event_loop.register(asks).unwrap();
    assert_eq!(
        channel.peer_addr(),
        Some(Addr::from(far.local_addr().unwrap()))
    );
    channel.send(b"what is it?").unwrap();
    let mut buffer = [0; 100];
    let (count, from) = far.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"what is it?");
    far.send_to(b"", from).unwrap();
    far.send_to(b"gold", from).unwrap();
    run_until(&event_loop, || *text.borrow() == b"gold");
    assert!(channel.is_open());
}

#[test]
fn a_chat_refuses_a_datagram_socket() {
    let event_loop = new_loop();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let outcome = Connector::adopt(socket).connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("register a Dispatcher for a datagram socket"),
        "{error}"
    );
}

#[test]
fn a_stream_refuses_datagram_calls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let channel = Channel::adopt(stream).unwrap();
    let error = channel.recv_from(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    let target = Addr::from(listener.local_addr().unwrap());
    let error = channel.send_to(b"x", &target).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn socket_options_of_an_open_channel_can_be_changed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let view = stream.try_clone().unwrap();
    let view = socket2::SockRef::from(&view);
    let channel = Channel::adopt(stream).unwrap();
    channel.set_nodelay(true).unwrap();
    channel.set_keepalive(Duration::from_secs(77)).unwrap();
    assert!(view.tcp_nodelay().unwrap() && view.keepalive().unwrap());
    channel.set_keepalive(None).unwrap();
    assert!(!view.keepalive().unwrap());
    channel.set_recv_buffer_size(50_000).unwrap();
    channel.set_send_buffer_size(60_000).unwrap();
    assert!((50_000..=100_000).contains(&view.recv_buffer_size().unwrap()));
    assert!((60_000..=120_000).contains(&view.send_buffer_size().unwrap()));
    channel.close();
    assert!(channel.set_nodelay(false).is_err());
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    #[cfg(target_os = "linux")]
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::{Command, Stdio};

    use asynchat::{Deadlines, Server, Socket, Terminator};
    use common::{Log, run_to_end};

    use super::*;

    #[test]
    fn unix_datagrams_are_echoed() {
        let event_loop = new_loop();
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let channel = Channel::adopt(UnixDatagram::bind(&here).unwrap()).unwrap();
        let (channel, received) = echo(&event_loop, channel);
        let client = UnixDatagram::bind(&there).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send_to(b"<13>a line of a log", &here).unwrap();
        run_until(&event_loop, || received.borrow().len() == 1);
        let expected = (b"<13>a line of a log".to_vec(), Addr::Unix(Some(there)));
        assert_eq!(received.borrow()[0], expected);
        let mut buffer = [0; 100];
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"<13>a line of a log");
        let error = channel
            .send_to(
                b"x",
                &Addr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
            )
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn datagrams_are_echoed_between_abstract_addresses() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let event_loop = new_loop();
        let name = |what| format!("asynchat-{}-{what}", std::process::id());
        let addr = |what| SocketAddr::from_abstract_name(name(what)).unwrap();
        let here = UnixDatagram::bind_addr(&addr("here")).unwrap();
        let (channel, received) = echo(&event_loop, Channel::adopt(here).unwrap());
        let shown = channel.local_addr().unwrap().to_string();
        assert_eq!(shown, format!("unix:@{}", name("here")));
        let there = UnixDatagram::bind_addr(&addr("there")).unwrap();
        there.set_read_timeout(Some(DEADLINE)).unwrap();
        there.send_to_addr(b"hello", &addr("here")).unwrap();
        run_until(&event_loop, || received.borrow().len() == 1);
        let from = Addr::Abstract(name("there").into_bytes().into());
        assert_eq!(received.borrow()[0], (b"hello".to_vec(), from));
        let mut buffer = [0; 100];
        let count = there.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"hello");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_may_have_an_abstract_address() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let event_loop = new_loop();
        let name = format!("asynchat-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        let log = Log::default();
        let _listener = Server::adopt(listener)
            .listen_on(&event_loop, log.session())
            .unwrap();
        let mut client = UnixStream::connect_addr(&addr).unwrap();
        client.write_all(b"hello\r\n").unwrap();
        run_until(&event_loop, || log.count("record hello") == 1);
    }

    /// It has no peer any more, and neither has a listener.
    #[test]
    fn an_inherited_stream_that_was_reset_is_no_listener() {
        let (near, far) = common::tcp_pair();
        common::Peer::new(far).reset();
        let listens =
            Server::adopt(OwnedFd::from(near)).listen_on(&new_loop(), Log::default().session());
        assert!(listens.is_err());
    }

    /// As from systemd: the type of the descriptor is detected.
    #[test]
    fn the_kind_of_an_inherited_descriptor_is_detected() {
        let event_loop = new_loop();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Log::default();
        let _listener = Server::adopt(OwnedFd::from(listener))
            .listen_on(&event_loop, log.session())
            .unwrap();
        let mut client = std::net::TcpStream::connect(addr).unwrap();
        client.write_all(b"hello\r\n").unwrap();
        run_until(&event_loop, || log.count("record hello") == 1);

        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = datagrams.local_addr().unwrap();
        let channel = Channel::adopt(OwnedFd::from(datagrams)).unwrap();
        let (_channel, received) = echo(&event_loop, channel);
        client_to(addr);
        run_until(&event_loop, || received.borrow().len() == 1);

        let (near, mut far) = UnixStream::pair().unwrap();
        let chat = Connector::adopt(OwnedFd::from(near))
            .connect_on(&event_loop, log.session())
            .unwrap();
        far.write_all(b"over a pair\r\n").unwrap();
        run_until(&event_loop, || log.count("record over a pair") == 1);
        chat.close();
    }

    fn client_to(addr: std::net::SocketAddr) {
        client("127.0.0.1:0").send_to(b"x", addr).unwrap();
    }

    #[test]
    fn the_error_for_a_regular_file_names_the_way_to_send_one() {
        for path in ["Cargo.toml", "src"] {
            let error = Channel::adopt(File::open(path).unwrap()).unwrap_err();
            assert!(error.to_string().contains("ReadProducer"), "{error}");
        }
    }

    /// epoll refuses such a device. poll(2) would report it permanently.
    #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
    #[test]
    fn the_error_for_a_device_that_is_always_ready_says_so() {
        struct Reads(Channel, Rc<RefCell<String>>);
        impl Dispatcher for Reads {
            fn channel(&self) -> &Channel {
                &self.0
            }
            fn handle_close(&mut self, why: &Close) {
                *self.1.borrow_mut() = why.to_string();
            }
        }
        let event_loop = new_loop();
        let why = Rc::default();
        let null = Channel::adopt(File::open("/dev/null").unwrap()).unwrap();
        event_loop.register(Reads(null, Rc::clone(&why))).unwrap();
        run_to_end(&event_loop);
        assert!(why.borrow().contains("always ready"), "{}", why.borrow());
    }

    #[test]
    fn two_descriptors_must_both_be_streams() {
        let (input, _far) = std::io::pipe().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Channel::adopt(Socket::halves(input, datagrams)).unwrap_err();
        assert!(error.to_string().contains("have to be streams"), "{error}");
    }

    /// Counts its callbacks. Its output pipe is full.
    struct Full {
        channel: Channel,
        log: Log,
    }

    impl Dispatcher for Full {
        fn channel(&self) -> &Channel {
            &self.channel
        }
        fn writable(&self) -> bool {
            !self.log.has("written")
        }
        fn handle_read(&mut self) -> Result {
            self.channel.recv(&mut [0; 100])?;
            self.log.add("read");
            Ok(())
        }
        fn handle_write(&mut self) -> Result {
            while self.channel.send(&[b'x'; 4096])? > 0 {
                if self.log.has("drained") {
                    self.log.add("written");
                    break;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn readiness_of_both_descriptors_is_handled_in_one_turn() {
        let (event_loop, log) = (new_loop(), Log::default());
        let (input, mut writer) = std::io::pipe().unwrap();
        let (mut reader, output) = std::io::pipe().unwrap();
        let channel = Channel::adopt(Socket::halves(input, output)).unwrap();
        let (full, log_of_it) = (channel.clone(), log.clone());
        event_loop
            .register(Full {
                channel: full,
                log: log_of_it,
            })
            .unwrap();
        idle(&event_loop);
        // Both descriptors become ready between two waits.
        assert!(reader.read(&mut [0; 1 << 20]).unwrap() > 4096);
        log.add("drained");
        writer.write_all(b"input").unwrap();
        let before = channel.stats();
        event_loop.run_once(DEADLINE).unwrap();
        let after = channel.stats();
        assert_eq!(log.lines(), ["drained", "read", "written"]);
        assert_eq!(after.wakeups - before.wakeups, 2);
        assert_eq!(after.turns - before.turns, 1);
    }

    #[test]
    fn closing_an_unregistered_channel_closes_both_descriptors() {
        let (input, _far_output) = std::io::pipe().unwrap();
        let (mut far_input, output) = std::io::pipe().unwrap();
        let channel = Channel::adopt(Socket::halves(input, output)).unwrap();
        channel.close();
        assert_eq!(far_input.read(&mut [0]).unwrap(), 0);
    }

    /// A reset cannot destroy data in a pipe, so the channel does not linger.
    #[test]
    fn close_when_done_on_two_descriptors_closes_without_lingering() {
        let event_loop = new_loop();
        let (input, far_output) = std::io::pipe().unwrap();
        let (mut far_input, output) = std::io::pipe().unwrap();
        let (pair, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let pair_output = pair.try_clone().unwrap();
        for halves in [
            Socket::halves(input, output),
            Socket::halves(pair, pair_output),
        ] {
            let chat = Connector::adopt(halves)
                .deadlines(Deadlines::default().linger(DEADLINE * 2))
                .connect_on(&event_loop, Log::default().session())
                .unwrap();
            chat.push("goodbye\n");
            chat.close_when_done();
        }
        run_to_end(&event_loop);
        for far in [&mut far_input as &mut dyn Read, &mut &far] {
            let mut text = String::new();
            far.read_to_string(&mut text).unwrap();
            assert_eq!(text, "goodbye\n");
        }
        drop(far_output);
    }

    /// Only the output fails when its reader goes away. What matters then is whether output was pushed that was not
    /// sent.
    #[test]
    fn the_end_of_the_input_says_whether_the_output_was_complete() {
        for is_pushed in [false, true] {
            let (event_loop, log) = (new_loop(), Log::default());
            let (input, far_output) = std::io::pipe().unwrap();
            let (far_input, output) = std::io::pipe().unwrap();
            let chat = Connector::adopt(Socket::halves(input, output))
                .connect_on(&event_loop, log.session())
                .unwrap();
            idle(&event_loop);
            drop(far_input);
            if is_pushed {
                chat.push("lost\r\n");
            }
            idle(&event_loop);
            drop(far_output);
            run_until(&event_loop, || log.count("close") == 1);
            let expected = if is_pushed {
                "close Reset"
            } else {
                "close Eof"
            };
            assert!(log.has(expected), "{:?}", log.lines());
        }
    }

    /// Its standard input is set by the test below.
    fn count_standard_input() {
        let (event_loop, log) = (new_loop(), Log::default());
        let counted = log.clone();
        let count = move |chat: asynchat::Chat| {
            chat.set_terminator(Terminator::line());
            move |line: &[u8]| {
                counted.add("line");
                if line == b"last" {
                    chat.push("\n");
                }
                Ok(())
            }
        };
        Connector::adopt(Socket::stdio().unwrap())
            .connect_on(&event_loop, count)
            .unwrap();
        run_to_end(&event_loop);
        println!("\ncounted {}", log.count("line"));
    }

    /// Files and devices cannot be polled.
    #[test]
    fn standard_input_and_output_may_be_any_kind_of_file() {
        const CHILD: &str = "ASYNCHAT_TEST_STANDARD_INPUT";
        const TEST: &str = "unix::standard_input_and_output_may_be_any_kind_of_file";
        const LINES: usize = 100_000; // more than one read returns
        if std::env::var_os(CHILD).is_some() {
            return count_standard_input();
        }
        let mut lines = tempfile::tempfile().unwrap();
        lines
            .write_all("line\n".repeat(LINES - 1).as_bytes())
            .unwrap();
        lines.write_all(b"last\n").unwrap();
        std::io::Seek::rewind(&mut lines).unwrap();
        let device = || File::open("/dev/null").unwrap();
        for (input, expected) in [(lines, LINES), (device(), 0)] {
            let mut output = tempfile::tempfile().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture"])
                .env(CHILD, "1")
                .stdin(input)
                .stdout(output.try_clone().unwrap())
                .status();
            assert!(status.unwrap().success());
            std::io::Seek::rewind(&mut output).unwrap();
            let text = std::io::read_to_string(&output).unwrap();
            let counted = text.lines().find_map(|line| line.strip_prefix("counted "));
            assert_eq!(counted, Some(&*expected.to_string()), "{text}");
        }
    }

    /// If the second descriptor had a new poll key, that of the first would be stale.
    #[test]
    fn input_is_received_while_output_waits() {
        let event_loop = new_loop();
        let (input, mut far_output) = std::io::pipe().unwrap();
        let (mut far_input, output) = std::io::pipe().unwrap();
        let log = Log::default();
        let chat = Connector::adopt(Socket::halves(input, output))
            .limits(
                asynchat::Limits::default()
                    .low_water(1 << 20)
                    .high_water(1 << 20),
            )
            .connect_on(&event_loop, log.session())
            .unwrap();
        chat.push(vec![b'x'; 300_000]);
        idle(&event_loop);
        assert!(chat.queued() > 0);
        far_output.write_all(b"hello\r\n").unwrap();
        run_until(&event_loop, || log.count("record hello") == 1);
        chat.pause_reading();
        idle(&event_loop);
        chat.resume_reading();
        far_output.write_all(b"again\r\n").unwrap();
        run_until(&event_loop, || log.count("record again") == 1);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 300_000];
            far_input.read_exact(&mut all).map(|()| all)
        });
        run_until(&event_loop, || reader.is_finished());
        assert!(reader.join().unwrap().unwrap().iter().all(|it| *it == b'x'));
    }

    /// A pipe has no sending side to shut down.
    #[test]
    fn shutdown_write_does_not_end_a_chat_over_one_pipe() {
        let event_loop = new_loop();
        let (mut far_input, output) = std::io::pipe().unwrap();
        let log = Log::default();
        let chat = Connector::adopt(output)
            .connect_on(&event_loop, log.session())
            .unwrap();
        chat.pause_reading();
        chat.push("one\n");
        chat.shutdown_write();
        idle(&event_loop);
        assert!(chat.is_open());
        chat.close_when_done();
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["connect", "close Local"]);
        let mut all = String::new();
        far_input.read_to_string(&mut all).unwrap();
        assert_eq!(all, "one\n");
    }

    #[test]
    fn output_may_be_a_regular_file() {
        let event_loop = new_loop();
        let (input, mut far_output) = std::io::pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let halves = Socket::halves(input, file.reopen().unwrap());
        let chat = Connector::adopt(halves)
            .connect_on(&event_loop, |chat| {
                move |line: &[u8]| {
                    chat.push_slices(&[b"noted: ", line, b"\n"]);
                    Ok(())
                }
            })
            .unwrap();
        chat.push(vec![b'x'; 300_000]);
        far_output.write_all(b"water\r\ngold\r\n").unwrap();
        drop(far_output);
        run_to_end(&event_loop);
        let written = std::fs::read(file.path()).unwrap();
        assert!(written.starts_with(&[b'x'; 300_000]), "{}", written.len());
        assert_eq!(&written[300_000..], b"noted: water\nnoted: gold\n");
    }

    /// The child reads to the end before it writes. It would wait for ever if its input were not
    /// closed.
    #[test]
    fn a_chat_may_use_the_pipes_of_a_child_process() {
        let event_loop = new_loop();
        let mut sort = Command::new("sort")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let halves = Socket::halves(sort.stdout.take().unwrap(), sort.stdin.take().unwrap());
        let log = Log::default();
        let chat = Connector::adopt(halves)
            .connect_on(&event_loop, log.session())
            .unwrap();
        chat.set_terminator(Terminator::line());
        // More than a pipe buffers, so the chat must wait.
        for n in (0..30_000).rev() {
            writeln!(chat, "{n:06}");
        }
        chat.shutdown_write();
        run_to_end(&event_loop);
        assert!(sort.wait().unwrap().success());
        let lines = log.lines();
        let records = lines.iter().filter_map(|line| line.strip_prefix("record "));
        assert!(records.eq((0..30_000).map(|n| format!("{n:06}"))));
        assert_eq!(lines.last().unwrap(), "close Eof");
    }

    #[test]
    fn a_closed_output_pipe_does_not_end_the_input() {
        let event_loop = new_loop();
        let (input, mut far_output) = std::io::pipe().unwrap();
        let (far_input, output) = std::io::pipe().unwrap();
        let log = Log::default();
        let chat = Connector::adopt(Socket::halves(input, output))
            .connect_on(&event_loop, log.session())
            .unwrap();
        idle(&event_loop);
        drop(far_input);
        chat.push("to nobody\r\n");
        idle(&event_loop);
        assert!(chat.is_open());
        far_output.write_all(b"a record\r\nand no more").unwrap();
        drop(far_output);
        run_to_end(&event_loop);
        // What was pushed is lost, so the connection has not ended in good order.
        let received = [
            "connect",
            "record a record",
            "eof and no more",
            "close Reset",
        ];
        assert_eq!(log.lines(), received);
    }

    /// No wake-ups while nothing happens, whichever descriptor is closed or full.
    #[test]
    fn a_chat_on_two_descriptors_does_not_spin() {
        let event_loop = new_loop();
        let (input, mut far_output) = std::io::pipe().unwrap();
        let (mut far_input, output) = std::io::pipe().unwrap();
        let log = Log::default();
        let chat = Connector::adopt(Socket::halves(input, output))
            .connect_on(&event_loop, log.session())
            .unwrap();
        far_output.write_all(b"hello\r\n").unwrap();
        run_until(&event_loop, || log.count("record hello") == 1);
        let quiet = |what: &str| {
            idle(&event_loop);
            let before = chat.stats().wakeups;
            idle(&event_loop);
            assert_eq!(chat.stats().wakeups, before, "{what}");
        };
        quiet("nothing to do");
        chat.push(vec![b'x'; 200_000]);
        quiet("the pipe is full");
        chat.pause_reading();
        far_output.write_all(b"later\r\n").unwrap();
        quiet("paused, with input");
        let mut some = vec![0; 50_000];
        far_input.read_exact(&mut some).unwrap();
        idle(&event_loop);
        quiet("full again, and paused");
        chat.resume_reading();
        quiet("above its high-water mark, with input");
        chat.shutdown_write();
        let reader = std::thread::spawn(move || {
            let mut rest = Vec::new();
            far_input.read_to_end(&mut rest).map(|_| rest)
        });
        run_until(&event_loop, || reader.is_finished());
        let rest = reader.join().unwrap().unwrap();
        assert_eq!(rest.len(), 150_000);
        run_until(&event_loop, || log.count("record later") == 1);
        assert!(some.iter().chain(&rest).all(|byte| *byte == b'x'));
        quiet("half closed");
    }

    #[test]
    fn a_dispatcher_may_use_a_pipe() {
        struct Reads(Channel, Rc<RefCell<Vec<u8>>>, Rc<RefCell<String>>);
        impl Dispatcher for Reads {
            fn channel(&self) -> &Channel {
                &self.0
            }
            fn handle_read(&mut self) -> Result {
                let mut buffer = [0; 10];
                let count = self.0.recv(&mut buffer)?;
                self.1.borrow_mut().extend(&buffer[..count]);
                Ok(())
            }
            fn handle_close(&mut self, why: &Close) {
                *self.2.borrow_mut() = why.to_string();
            }
        }
        let event_loop = new_loop();
        let (input, mut output) = std::io::pipe().unwrap();
        let (read, why) = (Rc::default(), Rc::default());
        let channel = Channel::adopt(input).unwrap();
        let reads = Reads(channel, Rc::clone(&read), Rc::clone(&why));
        event_loop.register(reads).unwrap();
        output.write_all(b"a line of more than ten bytes").unwrap();
        drop(output);
        run_to_end(&event_loop);
        assert_eq!(*read.borrow(), b"a line of more than ten bytes");
        assert_eq!(*why.borrow(), Close::Eof.to_string());
    }
}
