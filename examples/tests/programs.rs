//! Runs the example programs that embed the loop in another loop, in a game's frames or in threads.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a client waits for a reply, which is much longer than a reply takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running example. Dropping it kills the process.
struct Example {
    child: Child,
    addr: String,
}

impl Example {
    fn start(name: &str, options: &[&str]) -> Example {
        let mut child = Command::new(built(name))
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example can be started");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let read = output.read_line(&mut line);
        let mut example = Example {
            child,
            addr: String::new(),
        };
        read.expect("the example prints");
        let addr = line.trim_end().strip_prefix("listening on ");
        example.addr = addr.expect("its first line has the address").to_owned();
        example
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.addr).expect("the example listens");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().expect("it is our own");
        self.child.wait().expect("it is our own");
    }
}

/// Builds an example, because `cargo test --test programs` alone does not, and returns its path. The features
/// are the same as here, so that cargo does not build the crate again.
fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let profile = tests.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let mut build = Command::new(env!("CARGO"));
    // In the folder of the workspace, so that the packages have the same features.
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    build.args(["build", "--quiet", "--example", name, "--target-dir"]);
    build.arg(profile.parent().expect("target/PROFILE"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    if cfg!(feature = "sim") {
        build.args(["--features", "sim"]);
    }
    assert!(
        build.status().expect("cargo is there").success(),
        "{name} is not built"
    );
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    profile.join("examples").join(file)
}

struct Client(BufReader<TcpStream>);

impl Client {
    #[track_caller]
    fn send(&mut self, text: &str) {
        let sent = self.0.get_mut().write_all(text.as_bytes());
        sent.expect("the example takes it");
    }

    /// The next line without its line end. `None` at the end of the stream.
    #[track_caller]
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let size = self
            .0
            .read_line(&mut line)
            .expect("the example answers in time");
        (size > 0).then(|| line.trim_end().to_owned())
    }

    #[track_caller]
    fn expect(&mut self, wanted: &str) {
        assert_eq!(self.line().as_deref(), Some(wanted));
    }

    /// Skips lines until this one arrives.
    #[track_caller]
    fn skip_to(&mut self, wanted: &str) {
        while self.line().expect("it does not end before") != wanted {}
    }
}

/// `println!` and `eprintln!` panic when their stream is full, or its reader has left (`| head`).
#[test]
fn no_program_prints_with_a_macro_that_panics() {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files += 1;
                let text = std::fs::read_to_string(&path).expect("a source");
                for (number, line) in text.lines().enumerate() {
                    let code = line.split("//").next().unwrap_or_default();
                    let panics = ["print!(", "println!(", "dbg!("]
                        .iter()
                        .any(|it| code.contains(it));
                    assert!(!panics, "{}:{}: {line}", path.display(), number + 1);
                }
            }
        }
    }
    assert!(files > 50, "{files}");
}

#[test]
fn frames_moves_its_players() {
    let example = Example::start("frames", &["--step", "1"]);
    let (mut one, mut other) = (example.client(), example.client());
    one.expect("220 you are A");
    other.expect("220 you are B");
    // A stands at the left of the first row, B seven columns to the right and three rows down.
    one.send("LOOK\r\n");
    one.expect("215 the field");
    one.expect("A-------------------------------");
    one.skip_to(".");
    other.send("WATCH\r\nE\r\n");
    other.expect("250 ok");
    other.skip_to("----------B---------------------"); // three steps on
    other.skip_to("-------------------------------B");
    other.skip_to("B-------------------------------");
    one.send("QUIT\r\n");
    one.expect("221 bye");
    assert_eq!(one.line(), None);
}

#[test]
fn threads_count_words_over_all_connections() {
    let example = Example::start("threads", &["--threads", "3"]);
    let words = ["apple", "pear", "plum", "quince", "fig", "grape"];
    let mut owners = std::collections::BTreeSet::new();
    for round in 1..=5 {
        let mut client = example.client();
        for word in words {
            client.send(&format!("ADD {word}\r\n"));
        }
        client.send("QUIT\r\n");
        for word in words {
            let line = client.line().expect("a reply for each word");
            let (reply, owner) = line.split_once(", says thread ").expect("a thread");
            assert_eq!(reply, format!("250 {word} {round}"));
            owners.insert(owner.to_owned());
        }
        client.expect("221 bye");
    }
    assert!(owners.len() > 1, "the words are on one thread");
}

#[cfg(all(unix, not(polling_test_poll_backend)))]
#[test]
fn a_calloop_timer_pushes_to_clients_of_the_nested_loop() {
    let example = Example::start("embed_calloop", &["--pace", "3600000"]);
    let mut client = example.client();
    client.expect("220 PACE ms, or QUIT");
    client.send("PACE 0\r\nPACE 1\r\n");
    client.expect("501 in milliseconds, and not none");
    client.expect("250 from the next tick on");
    drop(example);

    let example = Example::start("embed_calloop", &["--pace", "1"]);
    let mut client = example.client();
    client.expect("220 PACE ms, or QUIT");
    for _ in 0..5 {
        assert!(client.line().is_some_and(|line| line.starts_with("tick ")));
    }
    client.send("QUIT\r\n");
    client.skip_to("221 bye");
    assert_eq!(client.line(), None);
}

#[cfg(all(unix, not(polling_test_poll_backend)))]
#[test]
fn datagrams_received_by_the_outer_loop_are_sent_to_clients_of_the_nested_loop() {
    let example = Example::start("embed_poll", &[]);
    let (mut one, mut other) = (example.client(), example.client());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // Repeat the datagram until the server has accepted both connections.
    for client in [&mut one, &mut other] {
        client
            .0
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let mut line = String::new();
        for _ in 0..2000 {
            socket.send_to(b"are you there?", &example.addr).unwrap();
            match client.0.read_line(&mut line) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        client.0.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    }
    socket
        .send_to(b"hello\n\nworld\r\n", &example.addr)
        .unwrap();
    for client in [&mut one, &mut other] {
        client.skip_to("hello");
        client.expect("world");
    }
}

/// Its datagrams would be lost, and a socket at the path would stay.
#[cfg(unix)]
#[test]
fn syslog_receives_nothing_if_the_port_of_tcp_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let ended = Command::new(built("syslog"))
        .args(["--listen", &addr, "--unix", path.to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(error.contains(&addr), "{error}");
    assert!(!path.exists());
}

/// The servers, with options that they need. `{folder}` is a new one.
#[cfg(unix)]
const SERVERS: &[(&str, &[&str])] = &[
    ("bridge", &["--device", "/dev/null"]),
    ("echo", &[]),
    ("echo_dispatcher", &[]),
    #[cfg(not(polling_test_poll_backend))]
    ("embed_calloop", &[]),
    #[cfg(not(polling_test_poll_backend))]
    ("embed_poll", &[]),
    ("files", &["{folder}"]),
    ("forward", &["--to", "127.0.0.1:1"]),
    ("frames", &[]),
    ("gold", &[]),
    ("kvd", &[]),
    ("kvd", &["--workers", "2"]),
    ("nntp", &["--demo", "1"]),
    ("proxy", &[]),
    ("rooms", &[]),
    ("smtpd", &["--maildir", "{folder}/mail"]),
    ("syslog", &[]),
    ("threads", &[]),
];

/// SIGHUP comes when a terminal is closed, and from logrotate. A server that has nothing to read again must not end, also
/// if `nohup` has started it. SIGTERM ends it as Ctrl-C does.
#[cfg(unix)]
#[test]
fn servers_survive_sighup_and_end_at_sigterm() {
    use rustix::process::{Pid, Signal, kill_process};

    for (name, options) in SERVERS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let options = options.iter().map(|it| it.replace("{folder}", folder));
        let command = [built(name).to_str().unwrap(), "--listen", "127.0.0.1:0"].map(String::from);
        let command: Vec<_> = command.into_iter().chain(options).collect();
        for setup in ["", "trap '' HUP;"] {
            let mut server = Command::new("sh")
                .args(["-c", &format!("{setup} exec \"$0\" \"$@\"")])
                .args(&command)
                .env("RUST_LOG", "info")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let pid = Pid::from_child(&server);
            let mut output = BufReader::new(server.stdout.take().unwrap());
            let log = BufReader::new(server.stderr.take().unwrap());
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            let addr = line.trim_end().strip_prefix("listening on ");
            kill_process(pid, Signal::HUP).unwrap();
            let noticed = log.lines().any(|line| {
                line.unwrap()
                    .contains("SIGHUP: there is nothing to read again")
            });
            assert!(noticed, "{name}, {setup:?}: {:?}", server.wait());
            TcpStream::connect(addr.unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
            assert_eq!(server.wait().unwrap().code(), Some(0), "{name}, {setup:?}");
        }
    }
}
