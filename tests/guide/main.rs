//! Runs the FTP server of docs/guide.md, which shows `ftp.rs` verbatim.

#[path = "../common/skip.rs"]
mod skip;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::sim::{Ended, Network, Peer};
use asynchat::{EventLoop, Remote, Result};

/// The program, as it stands in the document.
#[allow(dead_code, reason = "its `main` listens on a port that may be taken")]
mod ftp {
    include!("ftp.rs");

    pub(super) fn start(addr: &str) -> Result<Channel> {
        serve(addr)
    }
}

const ADDR: &str = "10.0.0.1:21";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// The size of the file `large`: more than the kernel buffers for a connection.
const LARGE: u64 = 64 << 20;

/// The server reads plain names from its working directory. The folder is that of the whole test process.
fn enter_folder() {
    static ENTERED: Once = Once::new();
    ENTERED.call_once(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
        fs::create_dir_all(&folder).unwrap();
        std::env::set_current_dir(folder).unwrap();
        fs::write("small", "a small file").unwrap();
        File::create("large").unwrap().set_len(LARGE).unwrap();
    });
}

#[test]
fn the_guide_shows_the_program_verbatim() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| {
        let text = fs::read_to_string(root.join(path)).unwrap();
        text.replace("\r\n", "\n")
    };
    let shown = format!("```rust,no_run\n{}```\n", text("tests/guide/ftp.rs"));
    assert!(text("docs/guide.md").contains(&shown));
}

// ---- in the simulator

struct Scene {
    network: Network,
    event_loop: EventLoop,
    control: Peer,
}

impl Scene {
    fn new() -> Result<Self> {
        enter_folder();
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        event_loop.call_soon(|| drop(ftp::start(ADDR).unwrap()));
        network.settle(&event_loop)?;
        let control = network.connect_from(SocketAddr::new(CLIENT, 0), ADDR)?;
        let scene = Scene {
            network,
            event_loop,
            control,
        };
        scene.settle()?;
        scene.expect("220 ready\r\n");
        Ok(scene)
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    #[track_caller]
    fn expect(&self, replies: &str) {
        let received = String::from_utf8(self.control.take_received()).unwrap();
        assert_eq!(received, replies);
    }

    /// Sends a command, and compares the replies.
    #[track_caller]
    fn ask(&self, command: &str, replies: &str) -> Result {
        self.control.send(format!("{command}\r\n"));
        self.settle()?;
        self.expect(replies);
        Ok(())
    }

    /// Asks for a passive port.
    fn passive_port(&self) -> Result<SocketAddr> {
        self.control.send("EPSV\r\n");
        self.settle()?;
        let reply = String::from_utf8(self.control.take_received())?;
        Ok(port_of(&reply, "10.0.0.1".parse()?))
    }

    fn connect(&self, addr: SocketAddr, client: IpAddr) -> Result<Peer> {
        let data = self
            .network
            .connect_from(SocketAddr::new(client, 0), addr)?;
        self.settle()?;
        Ok(data)
    }

    /// An upload that the server has a part of.
    fn begin_upload(&self, name: &str) -> Result<Peer> {
        let data = self.connect(self.passive_port()?, CLIENT)?;
        self.ask(&format!("STOR {name}"), "150 the transfer begins\r\n")?;
        data.send("the first half");
        self.settle()?;
        self.expect("");
        Ok(data)
    }

    fn advance(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    /// A transfer of which the client has read nothing.
    fn begin_large_transfer(&self) -> Result<Peer> {
        let data = self.connect(self.passive_port()?, CLIENT)?;
        data.stop_reading();
        self.ask("RETR large", "150 the transfer begins\r\n")?;
        Ok(data)
    }
}

/// The port in the reply to EPSV: `229 Entering Extended Passive Mode (|||PORT|)`.
fn port_of(reply: &str, ip: IpAddr) -> SocketAddr {
    assert!(reply.starts_with("229 "), "{reply}");
    let port = reply.split('|').nth(3).unwrap().parse().unwrap();
    SocketAddr::new(ip, port)
}

#[test]
fn a_file_is_sent_whatever_comes_first() -> Result {
    let scene = Scene::new()?;
    let data = scene.connect(scene.passive_port()?, CLIENT)?;
    let done = "150 the transfer begins\r\n226 done\r\n";
    scene.ask("RETR small", done)?;
    assert_eq!(data.received(), b"a small file");
    assert_eq!(data.ended(), Some(Ended::Finished));

    let port = scene.passive_port()?;
    scene.ask("RETR small", "150 the transfer begins\r\n")?;
    let data = scene.connect(port, CLIENT)?;
    assert_eq!(data.received(), b"a small file");
    scene.expect("226 done\r\n");
    scene.ask("RETR small", "425 use EPSV first\r\n")?;
    scene.ask("RETR none", "550 file unavailable\r\n")?;
    scene.ask("QUIT", "221 bye\r\n")?;
    assert!(scene.control.has_ended());
    Ok(())
}

#[test]
fn abor_during_a_transfer_resets_the_data_connection() -> Result {
    for abor in [&b"ABOR\r\n"[..], b"abor\r\n", b"\xff\xf4\xff\xf2ABOR\r\n"] {
        let scene = Scene::new()?;
        let data = scene.begin_large_transfer()?;
        data.start_reading(1_000_000);
        scene.settle()?;
        assert_eq!(data.ended(), None);
        scene.expect("");
        scene.control.send(abor);
        scene.settle()?;
        scene.expect("426 aborted\r\n226 closed\r\n");
        data.start_reading(usize::MAX);
        scene.settle()?;
        assert_eq!(data.ended(), Some(Ended::Reset));
        assert!((data.received().len() as u64) < LARGE);

        // Another transfer follows.
        let data = scene.connect(scene.passive_port()?, CLIENT)?;
        scene.ask("RETR small", "150 the transfer begins\r\n226 done\r\n")?;
        assert_eq!(data.received(), b"a small file");
        scene.ask("ABOR", "226 closed\r\n")?;
    }
    Ok(())
}

#[test]
fn abor_before_the_data_connection_closes_the_passive_port() -> Result {
    let scene = Scene::new()?;
    let port = scene.passive_port()?;
    scene.ask("RETR large", "150 the transfer begins\r\n")?;
    scene.ask("ABOR", "426 aborted\r\n226 closed\r\n")?;
    let late = scene.network.connect_from(SocketAddr::new(CLIENT, 0), port);
    scene.settle()?;
    assert!(late.map_or(true, |late| late.has_ended()));
    scene.ask("USER a", "230 welcome\r\n")
}

#[test]
fn commands_that_come_during_a_transfer_follow_it_also_after_abor() -> Result {
    let scene = Scene::new()?;
    let data = scene.begin_large_transfer()?;
    scene.ask("USER a\r\nTYPE I", "")?;
    scene.ask(
        "ABOR",
        "426 aborted\r\n226 closed\r\n230 welcome\r\n200 ok\r\n",
    )?;
    assert!(data.has_ended());

    let data = scene.begin_large_transfer()?;
    scene.ask("USER a", "")?;
    data.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(data.received().len() as u64, LARGE);
    scene.expect("226 done\r\n230 welcome\r\n");
    Ok(())
}

#[test]
fn a_data_connection_that_fails_or_never_comes_is_reported() -> Result {
    let scene = Scene::new()?;
    let data = scene.begin_large_transfer()?;
    data.reset();
    scene.settle()?;
    scene.expect("426 the data connection has failed\r\n");

    // Another host is refused, and the wait goes on until its end.
    let port = scene.passive_port()?;
    scene.ask("RETR small", "150 the transfer begins\r\n")?;
    let stranger = scene.connect(port, "192.0.2.1".parse()?)?;
    assert!(stranger.has_ended() && stranger.received().is_empty());
    scene.advance(Duration::from_secs(61))?;
    scene.expect("425 no data connection\r\n");
    scene.ask("USER a", "230 welcome\r\n")
}

#[test]
fn the_end_of_the_control_connection_ends_the_transfer() -> Result {
    let scene = Scene::new()?;
    let data = scene.begin_large_transfer()?;
    scene.control.reset();
    scene.settle()?;
    data.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(data.ended(), Some(Ended::Reset));
    assert_eq!(scene.event_loop.len(), 1, "the listener");
    Ok(())
}

// ---- uploads

/// The tests with uploads run one after the other, because each looks for files that it has left behind.
fn uploads_alone<T>(test: impl FnOnce() -> Result<T>) -> Result<T> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    enter_folder();
    for entry in fs::read_dir(".")? {
        let name = entry?.file_name();
        if !matches!(name.to_str(), Some("small" | "large" | "folder")) {
            fs::remove_file(name)?;
        }
    }
    let result = test()?;
    for entry in fs::read_dir(".")? {
        let name = entry?.file_name();
        let is_temporary = name.to_string_lossy().starts_with('.');
        assert!(!is_temporary, "{name:?} was left behind");
    }
    Ok(result)
}

#[test]
fn a_file_is_stored_whatever_comes_first() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("stored")?;
        assert!(!fs::exists("stored")?, "it is not complete");
        data.send(" and the rest");
        data.finish();
        scene.settle()?;
        scene.expect("226 done\r\n");
        assert_eq!(fs::read("stored")?, b"the first half and the rest");

        // The command first. The file replaces the earlier one.
        let port = scene.passive_port()?;
        scene.ask("STOR stored", "150 the transfer begins\r\n")?;
        let data = scene.connect(port, CLIENT)?;
        data.send("short");
        data.finish();
        scene.settle()?;
        scene.expect("226 done\r\n");
        assert_eq!(fs::read("stored")?, b"short");

        // All of the data first, and more of it than one turn reads.
        let data = scene.connect(scene.passive_port()?, CLIENT)?;
        data.send(vec![b'x'; 1_000_000]);
        data.finish();
        scene.settle()?;
        scene.ask("STOR stored", "150 the transfer begins\r\n226 done\r\n")?;
        assert_eq!(fs::read("stored")?, vec![b'x'; 1_000_000]);

        // An empty file.
        let data = scene.connect(scene.passive_port()?, CLIENT)?;
        data.finish();
        scene.ask("STOR empty", "150 the transfer begins\r\n226 done\r\n")?;
        assert_eq!(fs::read("empty")?, b"");

        scene.ask("STOR empty", "425 use EPSV first\r\n")?;
        scene.ask("STOR ../outside", "550 file unavailable\r\n")?;
        assert!(!fs::exists("../outside")?);
        Ok(())
    })
}

#[test]
fn an_upload_that_is_not_completed_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("partial")?;
        scene.ask("ABOR", "426 aborted\r\n226 closed\r\n")?;
        assert_eq!(data.ended(), Some(Ended::Reset));

        let data = scene.begin_upload("partial")?;
        data.reset();
        scene.settle()?;
        scene.expect("426 the data connection has failed\r\n");

        // The client's host has disappeared.
        let data = scene.begin_upload("partial")?;
        scene.advance(Duration::from_secs(61))?;
        scene.expect("426 the data connection has failed\r\n");
        assert!(data.has_ended());

        let data = scene.begin_upload("partial")?;
        scene.control.reset();
        scene.settle()?;
        assert!(data.has_ended());
        assert_eq!(scene.event_loop.len(), 1, "the listener");
        assert!(!fs::exists("partial")?);
        Ok(())
    })
}

#[test]
fn a_data_connection_without_a_command_is_closed() -> Result {
    let scene = Scene::new()?;
    let data = scene.connect(scene.passive_port()?, CLIENT)?;
    scene.advance(Duration::from_secs(61))?;
    assert!(data.has_ended());
    scene.expect("");
    scene.ask("RETR small", "425 use EPSV first\r\n")
}

#[test]
fn a_file_that_cannot_be_stored_is_reported() -> Result {
    uploads_alone(|| {
        fs::create_dir_all("folder")?;
        let scene = Scene::new()?;
        let data = scene.begin_upload("folder")?;
        data.finish();
        scene.settle()?;
        scene.expect("451 the file cannot be read or written\r\n");
        scene.ask("USER a", "230 welcome\r\n")
    })
}

// ---- shutdown

const GRACE: Duration = Duration::from_secs(30);

#[test]
fn a_shutdown_waits_for_a_download() -> Result {
    let scene = Scene::new()?;
    let data = scene.begin_large_transfer()?;
    scene.ask("USER a", "")?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("");
    data.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(data.received().len() as u64, LARGE);
    assert_eq!(data.ended(), Some(Ended::Finished));
    scene.expect("226 done\r\n421 shutting down\r\n");
    assert_eq!(scene.control.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn a_shutdown_waits_for_an_upload() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("last")?;
        scene.event_loop.shutdown(GRACE);
        scene.settle()?;
        scene.expect("");
        data.send(" and the rest");
        scene.settle()?;
        assert!(!fs::exists("last")?);
        data.finish();
        scene.settle()?;
        assert_eq!(fs::read("last")?, b"the first half and the rest");
        scene.expect("226 done\r\n421 shutting down\r\n");
        assert_eq!(scene.control.ended(), Some(Ended::Finished));
        Ok(())
    })
}

#[test]
fn abor_during_a_shutdown_is_the_end_of_the_last_transfer() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("aborted")?;
        scene.event_loop.shutdown(GRACE);
        scene.ask("USER a", "")?;
        let replies = "426 aborted\r\n226 closed\r\n421 shutting down\r\n";
        scene.ask("ABOR", replies)?;
        assert!(data.has_ended() && scene.control.has_ended());
        assert!(!fs::exists("aborted")?);
        Ok(())
    })
}

#[test]
fn an_upload_that_the_grace_cuts_off_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        let data = scene.begin_upload("cut")?;
        scene.event_loop.shutdown(GRACE);
        scene.advance(GRACE)?;
        assert!(data.has_ended() && scene.control.has_ended());
        assert!(!fs::exists("cut")?);
        Ok(())
    })
}

/// The loop is dropped without a shutdown.
#[test]
fn an_upload_at_the_end_of_the_loop_leaves_no_file() -> Result {
    uploads_alone(|| {
        let scene = Scene::new()?;
        scene.begin_upload("dropped")?;
        drop(scene);
        assert!(!fs::exists("dropped")?);
        Ok(())
    })
}

#[test]
fn a_shutdown_does_not_wait_for_a_data_connection() -> Result {
    let scene = Scene::new()?;
    scene.passive_port()?;
    scene.ask("RETR small", "150 the transfer begins\r\n")?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("425 no data connection\r\n421 shutting down\r\n");
    assert!(scene.control.has_ended());
    Ok(())
}

#[test]
fn a_shutdown_without_a_transfer_closes_both_connections() -> Result {
    let scene = Scene::new()?;
    let data = scene.connect(scene.passive_port()?, CLIENT)?;
    scene.event_loop.shutdown(GRACE);
    scene.settle()?;
    scene.expect("421 shutting down\r\n");
    assert!(scene.control.has_ended() && data.has_ended());
    Ok(())
}

// ---- on the kernel's sockets

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, command: &str) -> String {
        write!(self.0.get_mut(), "{command}\r\n").unwrap();
        self.line()
    }
}

/// Starts the server on a thread of its own.
fn serve() -> (SocketAddr, Remote, JoinHandle<()>) {
    enter_folder();
    let (started, addr) = mpsc::channel();
    let server = thread::spawn(move || {
        let listener = ftp::start("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().and_then(|addr| addr.inet()).unwrap();
        started.send((addr, asynchat::remote().unwrap())).unwrap();
        asynchat::run().unwrap();
        asynchat::close_all();
    });
    let (addr, remote) = addr.recv().unwrap();
    (addr, remote, server)
}

#[test]
fn abor_on_real_sockets() {
    let (addr, remote, server) = serve();
    let mut control = Client::connect(addr);
    assert_eq!(control.line(), "220 ready\r\n");
    let mut data = Client::connect(port_of(&control.ask("EPSV"), addr.ip()));
    assert_eq!(control.ask("RETR large"), "150 the transfer begins\r\n");
    let mut begin = vec![0; 100_000];
    data.0.read_exact(&mut begin).unwrap();
    assert_eq!(control.ask("ABOR"), "426 aborted\r\n");
    assert_eq!(control.line(), "226 closed\r\n");
    let mut rest = Vec::new();
    let error = data.0.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!((rest.len() as u64) < LARGE);

    let mut data = Client::connect(port_of(&control.ask("EPSV"), addr.ip()));
    assert_eq!(control.ask("RETR small"), "150 the transfer begins\r\n");
    rest.clear();
    data.0.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"a small file");
    assert_eq!(control.line(), "226 done\r\n");
    assert_eq!(control.ask("QUIT"), "221 bye\r\n");
    remote.stop().unwrap();
    server.join().unwrap();
}

/// ftplib's `makepasv` asks for PASV where the host has an IPv4 address.
const FTPLIB: &str = "
import ftplib, io, sys
class Client(ftplib.FTP):
    def makepasv(self):
        return ftplib.parse229(self.sendcmd('EPSV'), self.sock.getpeername())
ftp = Client()
ftp.connect('127.0.0.1', int(sys.argv[1]), 20)
ftp.login('a')
def wait(block=b''):
    print('waiting', flush=True)
    sys.stdin.readline()
    return block
";

/// Runs the server and a client of Python's ftplib. Calls `act` where the client waits, and after that the server
/// has to end. False without a Python.
fn run_ftplib(script: &str, act: impl FnOnce(&Remote)) -> bool {
    let (addr, remote, server) = serve();
    let mut client = Command::new("python3");
    let (script, port) = (format!("{FTPLIB}{script}"), addr.port().to_string());
    client.args(["-c", &script, &port]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut client) = client.spawn() else {
        skip::skipped("python3 is not installed");
        return false;
    };
    let mut line = String::new();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "waiting");
    act(&remote);
    writeln!(client.stdin.take().unwrap()).unwrap();
    assert!(client.wait().unwrap().success());
    server.join().unwrap();
    true
}

fn shut_down(remote: &Remote) {
    remote.shutdown(GRACE).unwrap();
}

#[test]
fn ftplib_receives_stores_and_aborts() -> Result {
    uploads_alone(|| {
        let script = "
received = io.BytesIO()
assert ftp.retrbinary('RETR small', received.write) == '226 done'
assert received.getvalue() == b'a small file'
content = bytes(range(256)) * 4000
assert ftp.storbinary('STOR python', io.BytesIO(content)) == '226 done'
received = io.BytesIO()
ftp.retrbinary('RETR python', received.write)
assert received.getvalue() == content
for command in 'RETR large', 'STOR partial':
    data = ftp.transfercmd(command)
    if command == 'STOR partial':
        data.sendall(b'a part')
    assert ftp.abort() == '426 aborted'
    assert ftp.getline() == '226 closed'
    data.close()
wait()
assert ftp.getline() == '421 shutting down'
";
        run_ftplib(script, shut_down);
        assert!(!fs::exists("partial")?);
        Ok(())
    })
}

#[test]
fn a_shutdown_waits_for_a_download_of_ftplib() {
    let script = "
blocks = []
def receive(block):
    blocks.append(len(block))
    if len(blocks) == 1:
        wait()
assert ftp.retrbinary('RETR large', receive) == '226 done'
assert sum(blocks) == 64 << 20, sum(blocks)
assert ftp.getline() == '421 shutting down'
assert ftp.file.readline() == ''
";
    run_ftplib(script, shut_down);
}

#[test]
fn a_shutdown_waits_for_an_upload_of_ftplib() -> Result {
    uploads_alone(|| {
        let script = "
class File:
    blocks = iter([lambda: b'one ', lambda: wait(b'two '), lambda: b'three', lambda: b''])
    def read(self, size):
        return next(self.blocks)()
assert ftp.storbinary('STOR python', File()) == '226 done'
assert ftp.getline() == '421 shutting down'
assert ftp.file.readline() == ''
";
        if run_ftplib(script, shut_down) {
            assert_eq!(fs::read("python")?, b"one two three");
        }
        Ok(())
    })
}
