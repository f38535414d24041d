//! TLS with other implementations, on real sockets: Python's ssl and the command openssl.

#[path = "common/mod.rs"]
mod common;
#[path = "common/tls.rs"]
mod tls;

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use asynchat::tls::ServerName;
use asynchat::tls::rustls::crypto::ring::default_provider;
use asynchat::tls::rustls::server::WebPkiClientVerifier;
use asynchat::tls::rustls::{ClientConnection, ServerConfig};
use asynchat::{AsyncChat, Channel, Chat, Close, Connector, EventLoop, Result, Server};

use common::{addr_of, new_loop, run_until};
use tls::{client_config, identity, server_config};

/// Echoes lines.
struct Echo {
    chat: Chat,
    counted: Rc<Cell<usize>>,
    ends: Rc<RefCell<Vec<String>>>,
}

impl AsyncChat for Echo {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"quit" => {
                self.chat.push("bye\r\n");
                self.chat.close_when_done();
            }
            b"count" => self.counted.set(self.counted.get() + 1),
            b"starttls" => {
                self.chat.push("go ahead\r\n");
                self.chat.start_tls(server_config())?;
            }
            _ => {
                self.chat.push_slice(line);
                self.chat.push("\r\n");
            }
        }
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.ends.borrow_mut().push(common::name(why));
    }
}

/// A server on a real socket, and files with its certificate.
struct Scene {
    event_loop: EventLoop,
    addr: SocketAddr,
    counted: Rc<Cell<usize>>,
    ends: Rc<RefCell<Vec<String>>>,
    files: Files,
    _listener: Channel,
}

struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
    session: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        let files = Files {
            certificate: file("certificate.pem"),
            key: file("key.pem"),
            session: file("session.pem"),
            _folder: folder,
        };
        std::fs::write(&files.certificate, &identity().certificate_pem)?;
        std::fs::write(&files.key, &identity().key_pem)?;
        Ok(files)
    }
}

fn serve() -> Result<Scene> {
    let event_loop = new_loop();
    let files = Files::new()?;
    let config = asynchat::tls::server_config_from_files(&files.certificate, &files.key)?;
    let (counted, ends) = (Rc::default(), Rc::default());
    let session = (Rc::clone(&counted), Rc::clone(&ends));
    let listener = Server::new("127.0.0.1:0")
        .tls(config)
        .listen_on(&event_loop, move |chat| Echo {
            chat,
            counted: Rc::clone(&session.0),
            ends: Rc::clone(&session.1),
        })?;
    Ok(Scene {
        event_loop,
        addr: addr_of(&listener),
        counted,
        ends,
        files,
        _listener: listener,
    })
}

/// Waits for the child in another thread, while the loop runs. `None` if there is no such program.
fn spawn(
    mut command: Command,
    input: &'static [u8],
) -> Option<JoinHandle<std::io::Result<Output>>> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        common::skip::skipped("python3 or openssl is not installed");
        return None;
    };
    Some(thread::spawn(move || {
        if let Some(stdin) = &mut child.stdin {
            stdin.write_all(input)?;
        }
        child.wait_with_output()
    }))
}

/// The standard output of a program that has ended well.
fn finish(event_loop: &EventLoop, program: JoinHandle<std::io::Result<Output>>) -> Result<String> {
    run_until(event_loop, || program.is_finished());
    let output = program.join().map_err(|_| "a panic")??;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn python(scene: &Scene, act: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls_peers.py"));
    command
        .arg(act)
        .arg(scene.addr.to_string())
        .arg(&scene.files.certificate);
    command
}

fn s_client(scene: &Scene, options: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &scene.addr.to_string(),
        "-verify_return_error",
    ]);
    command.args([
        "-servername",
        "localhost",
        "-verify_hostname",
        "localhost",
        "-CAfile",
    ]);
    command.arg(&scene.files.certificate).args(options);
    command
}

#[test]
fn openssl_talks_in_both_versions_and_resumes_a_session() -> Result {
    let scene = serve()?;
    let session = scene.files.session.display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        for option in ["-sess_out", "-sess_in"] {
            let command = s_client(&scene, &[version, option, &session, "-ign_eof", "-crlf"]);
            let Some(program) = spawn(command, b"hello\nquit\n") else {
                return Ok(());
            };
            let output = finish(&scene.event_loop, program)?;
            assert!(output.contains("hello\r\nbye\r\n"), "{output}");
            assert!(output.contains("Verify return code: 0 (ok)"), "{output}");
            let resumed = output.contains("\nReused, ");
            assert_eq!(resumed, option == "-sess_in", "{output}");
        }
    }
    assert_eq!(*scene.ends.borrow(), ["Local"; 4]);
    Ok(())
}

#[test]
fn openssl_starts_tls_as_smtp_does() -> Result {
    struct Smtp(Chat);
    impl AsyncChat for Smtp {
        fn handle_connect(&mut self) -> Result {
            self.0.push("220 example.org ESMTP\r\n");
            Ok(())
        }
        fn found_terminator(&mut self, line: &[u8]) -> Result {
            let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            match &verb.to_ascii_uppercase()[..] {
                b"EHLO" => self.0.push("250-example.org\r\n250 STARTTLS\r\n"),
                b"STARTTLS" => {
                    self.0.push("220 go ahead\r\n");
                    self.0.start_tls(server_config())?;
                }
                b"QUIT" => {
                    write!(self.0, "221 bye, {}\r\n", self.0.tls().is_some());
                    self.0.close_when_done();
                }
                _ => self.0.push("500 what?\r\n"),
            }
            Ok(())
        }
    }
    let scene = serve()?;
    let listener = Server::new("127.0.0.1:0").listen_on(&scene.event_loop, Smtp)?;
    let scene = Scene {
        addr: addr_of(&listener),
        ..scene
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let command = s_client(&scene, &[version, "-starttls", "smtp", "-ign_eof", "-crlf"]);
        let Some(program) = spawn(command, b"QUIT\n") else {
            return Ok(());
        };
        let output = finish(&scene.event_loop, program)?;
        assert!(output.contains("221 bye, true\r\n"), "{output}");
    }
    Ok(())
}

/// openssl #7948, curl #6149: no reply is lost, and each end is announced.
#[test]
fn short_connections_get_their_replies_and_an_announced_end() -> Result {
    let scene = serve()?;
    let Some(program) = spawn(python(&scene, "short"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    assert_eq!(*scene.ends.borrow(), ["Local"; 200]);
    assert_eq!(scene.event_loop.stats().handshakes, 200);
    Ok(())
}

#[test]
fn commands_of_clients_that_close_at_once_are_executed() -> Result {
    let scene = serve()?;
    let Some(program) = spawn(python(&scene, "hasty"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    run_until(&scene.event_loop, || scene.ends.borrow().len() == 150);
    assert_eq!(scene.counted.get(), 150);
    Ok(())
}

#[test]
fn a_client_that_announces_its_end_gets_its_reply() -> Result {
    let scene = serve()?;
    let Some(program) = spawn(python(&scene, "half"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    run_until(&scene.event_loop, || !scene.ends.borrow().is_empty());
    assert_eq!(*scene.ends.borrow(), ["Eof"]);
    Ok(())
}

#[test]
fn plaintext_on_a_tls_port_gets_an_alert() -> Result {
    let scene = serve()?;
    let Some(program) = spawn(python(&scene, "plaintext"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
    Ok(())
}

#[test]
fn both_directions_are_full_and_none_waits_for_the_other() -> Result {
    let scene = serve()?;
    let Some(program) = spawn(python(&scene, "bulk"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    assert_eq!(*scene.ends.borrow(), ["Local"]);
    Ok(())
}

/// A client's lines and its end.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<String>>>);

struct Reader(Chat, Seen);

impl AsyncChat for Reader {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8_lossy(line).into_owned();
        if line.starts_with("200") {
            self.0.push("hi\r\n");
        }
        self.1.0.borrow_mut().push(line);
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.0.borrow_mut().push(why.to_string());
    }
}

/// Starts a server program, and connects to it with TLS. `None` if there is no such program.
fn connect_to(mut command: Command, event_loop: &EventLoop) -> Result<Option<(Seen, Child)>> {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        common::skip::skipped("python3 is not installed");
        return Ok(None);
    };
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("it is piped")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let addr: SocketAddr = line.trim().rsplit(' ').next().unwrap_or_default().parse()?;
    let seen = Seen::default();
    let session = seen.clone();
    Connector::new(addr)
        .tls(client_config())
        .connect_on(event_loop, |chat| Reader(chat, session))?;
    Ok(Some((seen, child)))
}

#[test]
fn a_client_talks_to_python() -> Result {
    let (event_loop, files) = (new_loop(), Files::new()?);
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls_peers.py"));
    command.arg("serve").arg(&files.certificate).arg(&files.key);
    let Some((seen, mut child)) = connect_to(command, &event_loop)? else {
        return Ok(());
    };
    run_until(&event_loop, || seen.0.borrow().len() == 3);
    let expected = ["200 hello", "201 hi", "the peer closed the connection"];
    assert_eq!(*seen.0.borrow(), expected);
    child.wait()?;
    Ok(())
}

#[test]
fn a_client_on_a_plaintext_port_says_so() -> Result {
    let event_loop = new_loop();
    let listener = event_loop.listen("127.0.0.1:0", |chat: Chat| {
        chat.push("220 example.org ESMTP\r\n");
        |_: &[u8]| Ok(())
    })?;
    let seen = Seen::default();
    let session = seen.clone();
    Connector::new(addr_of(&listener))
        .tls(client_config())
        .connect_on(&event_loop, |chat| Reader(chat, session))?;
    run_until(&event_loop, || !seen.0.borrow().is_empty());
    let end = seen.0.borrow().concat();
    assert!(
        end.contains("the peer does not use TLS: it has sent plaintext"),
        "{end}"
    );
    Ok(())
}

#[test]
fn hundreds_of_unfinished_handshakes_delay_nobody() -> Result {
    let scene = serve()?;
    let mut unfinished = Vec::new();
    for _ in 0..400 {
        unfinished.push(std::net::TcpStream::connect(scene.addr)?);
    }
    let count = unfinished.len() as u64;
    run_until(&scene.event_loop, || {
        scene.event_loop.stats().accepted >= count
    });
    // Each is answered, which computes with keys, and sends nothing more.
    for stream in &mut unfinished {
        let name = ServerName::try_from("localhost")?;
        ClientConnection::new(client_config(), name)?.write_tls(stream)?;
    }
    let Some(program) = spawn(python(&scene, "short"), b"") else {
        return Ok(());
    };
    finish(&scene.event_loop, program)?;
    assert_eq!(scene.ends.borrow().len(), 200);
    for stream in &unfinished {
        stream.set_nonblocking(true)?;
        assert!(stream.peek(&mut [0])? > 0, "it was answered");
    }
    Ok(())
}

#[test]
fn a_client_certificate_is_demanded_and_seen() -> Result {
    let scene = serve()?;
    let identity = identity();
    let provider = Arc::new(default_provider());
    let roots = Arc::new(identity.roots());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(identity.chain(), identity.key())?;
    let listener = Server::new("127.0.0.1:0").tls(Arc::new(config)).listen_on(
        &scene.event_loop,
        |chat: Chat| {
            let certificates = chat.tls().map_or(0, |info| info.peer_certificates.len());
            move |_: &[u8]| {
                write!(chat, "certificates: {certificates}\r\n");
                chat.close_when_done();
                Ok(())
            }
        },
    )?;
    let scene = Scene {
        addr: addr_of(&listener),
        ..scene
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = s_client(&scene, &[version, "-ign_eof", "-crlf", "-cert"]);
        command
            .arg(&scene.files.certificate)
            .arg("-key")
            .arg(&scene.files.key);
        let Some(program) = spawn(command, b"hello\n") else {
            return Ok(());
        };
        let output = finish(&scene.event_loop, program)?;
        assert!(output.contains("certificates: 1\r\n"), "{output}");
        // Without one.
        let command = s_client(&scene, &[version, "-ign_eof", "-crlf"]);
        let Some(program) = spawn(command, b"hello\n") else {
            return Ok(());
        };
        run_until(&scene.event_loop, || program.is_finished());
        let output = program.join().map_err(|_| "a panic")??;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            errors.contains("certificate required") || errors.contains("alert"),
            "{errors}"
        );
    }
    let stats = scene.event_loop.stats();
    assert_eq!((stats.handshakes, stats.handshakes_failed), (2, 2));
    Ok(())
}

/// The command `K` of s_client sends a key update that demands another one.
#[test]
fn key_updates_of_openssl_are_answered() -> Result {
    let scene = serve()?;
    let mut command = s_client(&scene, &["-tls1_3", "-crlf"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        common::skip::skipped("openssl is not installed");
        return Ok(());
    };
    let mut stdin = child.stdin.take().ok_or("it is piped")?;
    let stderr = BufReader::new(child.stderr.take().ok_or("it is piped")?);
    let (updated, updates) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if line.contains("KEYUPDATE") {
                let _ = updated.send(());
            }
        }
    });
    for n in 1..=3 {
        stdin.write_all(format!("line {n}\n").as_bytes())?;
        stdin.flush()?;
        run_until(&scene.event_loop, || {
            scene.event_loop.stats().records_in == n
        });
        stdin.write_all(b"K\n")?;
        stdin.flush()?;
        run_until(&scene.event_loop, || updates.try_recv().is_ok());
    }
    stdin.write_all(b"quit\n")?;
    run_until(&scene.event_loop, || !scene.ends.borrow().is_empty());
    drop(stdin);
    let output = child.wait_with_output()?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("line 3\r\nbye\r\n"), "{output}");
    drop(reader.join());
    Ok(())
}
