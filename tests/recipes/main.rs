//! Runs the recipes of docs/porting.md. Rust and Python versions have the same conversation with
//! the same peer, if a Python has asynchat. The document shows the files of this folder verbatim.
#![allow(
    unreachable_pub,
    reason = "the document does not mention this test crate"
)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use asynchat::{Channel, Error, Result};

use crate::python::Program;

mod accepted_channel;
mod broadcast;
#[cfg(unix)]
mod ctrl_c;
mod dispatcher;
mod dot_block;
mod event_after_data;
mod eviction;
mod file_producer;
mod frames;
#[cfg(all(unix, not(target_os = "openbsd")))]
mod job;
mod line_commands;
mod line_count_line;
mod loop_per_thread;
#[cfg(unix)]
mod multicast;
mod own_handle_error;
mod own_producer;
mod proxy;
#[path = "../common/python.rs"]
mod python;
mod reactor;
mod reconnecting;
#[cfg(all(
    unix,
    not(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))
))]
mod terminal;
mod timer;
mod wake_up;

/// How long a peer waits for an event. Far longer than it takes.
const DEADLINE: Duration = Duration::from_secs(20);

const ANY: &str = "127.0.0.1:0";

/// The other end of a connection.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Peer(BufReader::new(stream))
    }

    fn connect(addr: SocketAddr) -> Self {
        Peer::new(TcpStream::connect(addr).expect("the address listens"))
    }

    fn send(&mut self, data: impl AsRef<[u8]>) {
        let sent = self.0.get_mut().write_all(data.as_ref());
        sent.expect("the connection is up");
    }

    /// The next line, without its line end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        read.expect("a line comes in time");
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// Everything that arrives until the connection ends.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => rest,
        }
    }
}

/// A server in both languages. The Rust one runs in a loop of its own.
fn server(
    name: &str,
    start: impl FnOnce() -> Result<Channel, Error> + Send + 'static,
    talk: impl Fn(SocketAddr),
) {
    server_with(name, &[], start, talk);
}

/// The same with the addresses of other servers that it needs.
fn server_with(
    name: &str,
    others: &[&str],
    start: impl FnOnce() -> Result<Channel, Error> + Send + 'static,
    talk: impl Fn(SocketAddr),
) {
    rust_server(start, &talk);
    if cfg!(windows) && name == "wake_up" {
        return; // asyncore has no file_dispatcher on this system
    }
    if let Some(program) = Program::start("recipes/run.py", &[&[name, ANY], others].concat()) {
        talk(program.addr);
    }
}

fn rust_server(
    start: impl FnOnce() -> Result<Channel, Error> + Send + 'static,
    talk: impl Fn(SocketAddr),
) {
    let (sender, started) = mpsc::channel();
    let serving = thread::spawn(move || -> Result {
        let listener = start()?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        sender.send((addr.ok_or("no address")?, asynchat::remote()?))?;
        asynchat::run()?;
        Ok(())
    });
    let (addr, remote) = started.recv_timeout(DEADLINE).expect("it starts");
    talk(addr);
    remote.stop().expect("it is running");
    let ended = serving.join().expect("it does not panic");
    ended.expect("its loop works");
}

/// A client in both languages. It is started with the address of a listener.
fn client(
    name: &str,
    start: impl FnOnce(&str) -> Result + Send + 'static,
    answer: impl Fn(&TcpListener),
) {
    let listener = TcpListener::bind(ANY).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound").to_string();
    let (sender, started) = mpsc::channel();
    let calling = thread::spawn({
        let addr = addr.clone();
        move || -> Result {
            sender.send(asynchat::remote()?)?;
            start(&addr)?;
            asynchat::run()?;
            Ok(())
        }
    });
    let remote = started.recv_timeout(DEADLINE).expect("it starts");
    answer(&listener);
    let _ = remote.stop(); // an error: it has ended already
    let ended = calling.join().expect("it does not panic");
    ended.expect("its loop works");
    if let Some(_program) = Program::start("recipes/run.py", &[name, &addr]) {
        answer(&listener);
    }
}

fn accept(listener: &TcpListener) -> Peer {
    Peer::new(listener.accept().expect("a connection comes").0)
}

#[test]
fn a_dispatcher() {
    client("dispatcher", dispatcher::start, |listener| {
        let mut peer = accept(listener);
        peer.expect(&["hello, I am a parrot"]);
        peer.send("pieces of eight\r\n");
        peer.expect(&["PIECES OF EIGHT"]);
    });
}

#[test]
fn an_accepted_channel() {
    server(
        "accepted_channel",
        || accepted_channel::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("one\r\ntwo\r\n");
            peer.expect(&["one", "two"]);
        },
    );
}

#[test]
fn line_commands() {
    server(
        "line_commands",
        || line_commands::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.expect(&["220 add N, total, or quit"]);
            peer.send("add 40\r\nadd 2\r\ntotal\r\nsing\r\nquit\r\n");
            peer.expect(&["250 ok", "250 ok", "211 42", "500 what?", "205 bye"]);
            assert_eq!(peer.rest(), b"");
            let mut peer = Peer::connect(addr);
            peer.expect(&["220 add N, total, or quit"]);
            peer.send("add nothing\r\n");
            assert_eq!(peer.rest(), b"");
        },
    );
}

#[test]
fn a_line_then_a_count_of_bytes_then_a_line() {
    server(
        "line_count_line",
        || line_count_line::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("5\r\n\r\n\r\n!the first\r\n2\r\nokthe second\r\n");
            peer.expect(&["250 the first has 5 bytes", "250 the second has 2 bytes"]);
        },
    );
}

#[test]
fn a_dot_block() {
    server(
        "dot_block",
        || dot_block::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("POST\r\n");
            peer.expect(&["340 send it"]);
            peer.send("Subject: x\r\n\r\n..and a dot\r\n.\r\nGET\r\n");
            peer.expect(&["240 3 lines, the last is .and a dot", "500 what?"]);
        },
    );
}

#[test]
fn a_file_producer() {
    server(
        "file_producer",
        || file_producer::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("COPYING\r\nLICENSE\r\n");
            peer.expect(&["500 LICENSE is all I have", "150 here it comes"]);
            let file = fs::read("LICENSE-APACHE").expect("it is there");
            assert!(peer.rest() == file, "another file");
        },
    );
}

#[test]
fn a_producer_of_your_own() {
    server(
        "own_producer",
        || own_producer::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("3\r\n0\r\n");
            peer.expect(&["2", "1", "0", "lift off", "lift off"]);
        },
    );
}

#[test]
fn an_event_after_data() {
    server(
        "event_after_data",
        || event_after_data::start(ANY),
        |addr| {
            let (mut watcher, mut peer) = (Peer::connect(addr), Peer::connect(addr));
            watcher.send("WATCH\r\n");
            watcher.expect(&["200 you will be notified"]);
            peer.send("GET\r\n");
            assert!(peer.rest() == [b'x'; 100_000], "not what was pushed");
            watcher.expect(&["226 transfer complete"]);
        },
    );
}

#[test]
fn a_broadcast_to_a_dict_of_clients() {
    server(
        "broadcast",
        || broadcast::start(ANY),
        |addr| {
            let mut anna = Peer::connect(addr);
            anna.send("anna\r\n");
            anna.expect(&["anna has come"]);
            let mut bert = Peer::connect(addr);
            bert.send("bert\r\nhello\r\n");
            for peer in [&mut anna, &mut bert] {
                peer.expect(&["bert has come", "<bert> hello"]);
            }
            drop(bert);
            anna.expect(&["bert has left"]);
        },
    );
}

#[test]
fn a_proxy() {
    let upstream = TcpListener::bind(ANY).expect("a port is free");
    let upstream_addr = upstream.local_addr().expect("it is bound").to_string();
    let talk = |addr| {
        let mut client = Peer::connect(addr);
        let mut server = accept(&upstream);
        // More than all buffers between both ends, in both directions at once. The server reads
        // only after it has sent everything: a proxy that stops both directions when one is full
        // would wait for ever.
        let data = vec![b'x'; 8 << 20];
        let mut sender = client
            .0
            .get_ref()
            .try_clone()
            .expect("a descriptor is left");
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&data).expect("it is passed on"));
            scope.spawn(|| {
                server.send(&data);
                let mut all = vec![0; data.len()];
                server.0.read_exact(&mut all).expect("all comes");
            });
            let mut back = vec![0; data.len()];
            client.0.read_exact(&mut back).expect("all comes");
            assert!(back == data, "not what was sent");
        });
        drop(server);
        assert_eq!(client.rest(), b"");
    };
    let to = upstream_addr.clone();
    server_with(
        "proxy",
        &[&upstream_addr],
        move || proxy::start(ANY, &to),
        talk,
    );
}

/// Rust only: asyncore closes both directions.
#[test]
fn a_proxy_passes_the_end_of_one_direction_on() {
    let upstream = TcpListener::bind(ANY).expect("a port is free");
    let to = upstream.local_addr().expect("it is bound").to_string();
    let talk = |addr| {
        let mut client = Peer::connect(addr);
        client.send("a question");
        client
            .0
            .get_ref()
            .shutdown(Shutdown::Write)
            .expect("it is up");
        let mut server = accept(&upstream);
        assert_eq!(server.rest(), b"a question");
        server.send("an answer");
        drop(server);
        assert_eq!(client.rest(), b"an answer");
    };
    rust_server(move || proxy::start(ANY, &to), talk);
}

#[test]
fn a_loop_for_each_thread() {
    let talk = |one: SocketAddr, other: SocketAddr| {
        let mut two_of_one = [Peer::connect(one), Peer::connect(one)];
        let mut third = Peer::connect(other);
        // Both connections are in the loop when both have been answered.
        for peer in &mut two_of_one {
            peer.send("\r\n");
            peer.line();
        }
        two_of_one[0].send("how many?\r\n");
        two_of_one[0].expect(&["2 here"]);
        third.send("how many?\r\n");
        third.expect(&["1 here"]);
    };
    let (one, stop_one) = loop_per_thread::start(ANY).expect("it starts");
    let (other, stop_other) = loop_per_thread::start(ANY).expect("it starts");
    talk(one, other);
    stop_one.stop().expect("it is running");
    stop_other.stop().expect("it is running");
    let run = || Program::start("recipes/run.py", &["loop_per_thread", ANY]);
    if let (Some(one), Some(other)) = (run(), run()) {
        talk(one.addr, other.addr);
    }
}

#[test]
fn a_game_with_frames_and_a_clock() {
    let (sender, started) = mpsc::channel();
    let playing = thread::spawn(move || -> Result {
        let players = Rc::default();
        let listener = frames::start(ANY, &players)?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        sender.send((addr.ok_or("no address")?, asynchat::remote()?))?;
        frames::run(&players)
    });
    let talk = |addr| {
        let mut peer = Peer::connect(addr);
        peer.send("right\r\n");
        peer.expect(&["at 1", "at 2", "at 3"]);
        peer.send("left\r\n");
        while peer.line() != "at 0" {}
    };
    let (addr, remote) = started.recv_timeout(DEADLINE).expect("it starts");
    talk(addr);
    remote.stop().expect("it is running");
    playing
        .join()
        .expect("it does not panic")
        .expect("its loop works");
    if let Some(program) = Program::start("recipes/run.py", &["frames", ANY]) {
        talk(program.addr);
    }
}

#[test]
fn a_thread_that_wakes_the_loop_up() {
    server(
        "wake_up",
        || wake_up::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("10\r\n");
            peer.expect(&["55"]);
            peer.send("100\r\n");
            peer.expect(&["5050"]);
        },
    );
}

#[test]
fn a_client_that_connects_again() {
    client("reconnecting", reconnecting::start, |listener| {
        for attempt in ["attempt 1", "attempt 2", "attempt 3"] {
            let mut peer = accept(listener);
            peer.expect(&[attempt]);
            peer.send("a line\r\n");
            peer.expect(&["got a line"]);
        }
    });
}

#[test]
fn a_timer() {
    server(
        "timer",
        || timer::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.expect(&["tick 1", "tick 2"]);
            peer.send("from one again\r\n");
            while peer.line() != "ok" {}
            peer.expect(&["tick 1", "tick 2"]);
        },
    );
}

#[cfg(all(unix, not(target_os = "openbsd")))]
#[test]
fn a_subprocess_with_its_standard_error() {
    server(
        "job",
        || job::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            for argument in ["0", "3"] {
                peer.send(format!("{argument}\r\n"));
                // The system does not say in which order the three come.
                let mut lines = [(); 3].map(|()| peer.line());
                lines.sort();
                let found = format!("out: found {argument}");
                assert_eq!(lines, ["err: warning", &format!("exit {argument}"), &found]);
            }
        },
    );
}

#[cfg(all(
    unix,
    not(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))
))]
#[test]
fn a_program_on_a_pseudo_terminal() {
    server(
        "terminal",
        || terminal::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.expect(&["a terminal"]);
            peer.send("anna\r\n");
            let mut lines = [(); 3].map(|()| peer.line());
            lines.sort();
            assert_eq!(lines, ["anna", "exit 0", "hello anna"]); // the terminal echoes
        },
    );
}

#[test]
fn a_reactor_thread() {
    client("reactor", reactor::start, |listener| {
        let mut peer = accept(listener);
        peer.expect(&["hello"]);
        peer.send("good day\r\n");
        peer.expect(&["you said good day"]);
        peer.send("I did\r\n");
        assert_eq!(peer.rest(), b"");
    });
}

#[test]
fn closing_with_a_reason() {
    server(
        "eviction",
        || eviction::start(ANY),
        |addr| {
            let [mut anna, mut bert] = [Peer::connect(addr), Peer::connect(addr)];
            for (peer, name) in [(&mut anna, "anna\r\n"), (&mut bert, "bert\r\n")] {
                peer.send(name);
                peer.expect(&["welcome"]);
            }
            anna.send("EVICT bert he sang too loud\r\n");
            bert.expect(&["you are evicted: he sang too loud"]);
            assert_eq!(bert.rest(), b"");
            anna.expect(&["bert has left: he sang too loud"]);
        },
    );
}

#[test]
fn a_handler_that_continues_after_an_error() {
    server(
        "own_handle_error",
        || own_handle_error::start(ANY),
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.send("add 40\r\nadd two\r\n");
            peer.expect(&["250 40"]);
            assert!(peer.line().starts_with("500 "));
            // asynchat would leave lines that came with the failed one in its buffer until more input comes.
            peer.send("add 2\r\n");
            peer.expect(&["250 42"]);
        },
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_a_few_more_turns() {
    use rustix::process::{Pid, Signal, getpid, kill_process};

    let talk = |addr, process| {
        let mut peer = Peer::connect(addr);
        peer.send("hello\r\n");
        peer.expect(&["hello"]);
        kill_process(process, Signal::INT).expect("the process is there");
        // Python may be interrupted after it has sent the line, and before it has noted that: it repeats it then.
        let mut line = peer.line();
        while line == "hello" && process != getpid() {
            line = peer.line();
        }
        assert_eq!(line, "421 bye");
        assert_eq!(peer.rest(), b"");
    };
    let (sender, started) = mpsc::channel();
    let serving = thread::spawn(move || -> Result {
        let listener = ctrl_c::start(ANY)?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        sender.send(addr.ok_or("no address")?)?;
        ctrl_c::run()
    });
    // The loop answers only after the handler of the signal was set.
    talk(started.recv_timeout(DEADLINE).expect("it starts"), getpid());
    let ended = serving.join().expect("it does not panic");
    ended.expect("its loop works");
    if let Some(program) = Program::start("recipes/run.py", &["ctrl_c", ANY]) {
        let id = i32::try_from(program.process_id()).expect("a process id");
        talk(program.addr, Pid::from_raw(id).expect("not zero"));
    }
}

#[cfg(unix)]
#[test]
fn datagrams_to_a_multicast_group() {
    use socket2::SockRef;
    use std::net::{Ipv4Addr, UdpSocket};

    server(
        "multicast",
        || multicast::start(ANY),
        |addr| {
            let peer = UdpSocket::bind(ANY).expect("a port is free");
            peer.set_read_timeout(Some(DEADLINE)).expect("not zero");
            SockRef::from(&peer)
                .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
                .expect("an interface");
            let sent = peer.send_to(b"hello", ("239.255.77.77", addr.port()));
            sent.expect("it can be sent");
            let mut buffer = [0; 100];
            let count = peer.recv(&mut buffer).expect("an answer comes in time");
            assert_eq!(&buffer[..count], b"HELLO");
        },
    );
}

/// The document shows each file of this folder except those that run the recipes.
#[test]
fn the_document_shows_these_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = text_of(&root.join("docs/porting.md"));
    let mut recipes = 0;
    for entry in fs::read_dir(root.join("tests/recipes")).expect("it is there") {
        let path = entry.expect("it can be listed").path();
        let language = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => "rust",
            Some("py") => "python",
            _ => continue,
        };
        if path.ends_with("main.rs") || path.ends_with("run.py") {
            continue;
        }
        let text = text_of(&path);
        // Some recipes need Unix.
        let shown = ["", ",ignore-windows"]
            .map(|unless| document.contains(&format!("```{language}{unless}\n{text}```\n")));
        assert!(
            shown.contains(&true),
            "{} is not shown verbatim",
            path.display()
        );
        recipes += 1;
    }
    assert_eq!(
        recipes,
        2 * document.matches("```python\n").count(),
        "a block of the document has no file"
    );
}

/// With LF as its line end, as in the repository.
fn text_of(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("it is there");
    text.replace("\r\n", "\n")
}
