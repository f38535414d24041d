//! Runs the FTP server of docs/guide.md, which shows `ftp.rs` verbatim.

#[path = "../common/skip.rs"]
mod skip;

mod at_shutdown;
mod sockets;
mod uploads;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use asynchat::sim::{Ended, Network, Peer};
use asynchat::{EventLoop, Result};

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

/// How long a shutdown waits.
const GRACE: Duration = Duration::from_secs(30);

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
