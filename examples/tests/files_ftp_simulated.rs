//! FTP in the `files` example, on a simulated network with a real folder: the replies to each command, data connections
//! in all four ways and from strangers, transfers that are cut, TLS, shutdown, and time.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `files` uses the rest"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../files/ftp/mod.rs"]
mod ftp;
#[path = "../files/names.rs"]
mod names;
#[path = "common/scene.rs"]
mod scene;
#[path = "../../tests/common/tls.rs"]
mod tls;
#[path = "../files/tree.rs"]
mod tree;
#[path = "../files/users.rs"]
mod users;
#[path = "common/with_tls.rs"]
mod with_tls;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::Result;
use asynchat::sim::{self, Conditions, Ended, Network, Peer};
use ftp::{Options, Service};
use scene::Scene;
use tempfile::TempDir;
use tls::{TlsPeer, client_config, server_config};
use tree::Tree;
use users::Users;

const ADDR: &str = "192.0.2.1:21";
const CLIENT: &str = "192.0.2.7:0";
const STRANGER: &str = "192.0.2.8:0";

/// Sun, 06 Nov 1994 08:49:37 GMT.
fn changed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// Mon, 15 Jun 2026 12:00:00 GMT.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_524_800)
}

fn options() -> Options {
    let mut users = Users::default();
    users.add("ann:secret").unwrap();
    Options {
        write: true,
        users,
        clock: now,
        ..Options::default()
    }
}

/// A server of a new folder, and a client that has connected.
struct Site {
    scene: Scene,
    dir: TempDir,
    control: Peer,
}

impl Deref for Site {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Site {
    /// Somebody who may only read.
    fn anonymous() -> Result<Site> {
        let site = Site::with(options())?;
        site.expect("USER anonymous", "331")?;
        site.expect("PASS me@", "230")?;
        Ok(site)
    }

    /// Somebody who may write, in TYPE I.
    fn ann() -> Result<Site> {
        Site::ann_with(options())
    }

    fn ann_with(options: Options) -> Result<Site> {
        let site = Site::with(options)?;
        site.expect("USER ann", "331")?;
        site.expect("PASS secret", "230")?;
        site.expect("TYPE I", "200")?;
        Ok(site)
    }

    fn with(options: Options) -> Result<Site> {
        let dir = TempDir::new()?;
        fs::create_dir(dir.path().join("dir"))?;
        store(&dir, "a.txt", b"hello\nworld\n")?;
        store(&dir, "dir/big", b"not yet")?;
        let service = Service::new(Tree::open(dir.path(), false)?, options);
        let scene = Scene::new(Network::new(1), move || service.serve(ADDR))?;
        let control = scene
            .network
            .connect_from(CLIENT.parse::<SocketAddr>()?, ADDR)?;
        let site = Site {
            scene,
            dir,
            control,
        };
        assert_eq!(site.replies()?, "220 ready\r\n");
        Ok(site)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.path().join(name)).ok()
    }

    /// The names in the folder, those of incomplete uploads included.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn replies(&self) -> Result<String> {
        self.settle()?;
        Ok(String::from_utf8(self.control.take_received())?)
    }

    /// The replies to a command.
    fn command(&self, line: &str) -> Result<String> {
        self.ask(&self.control, format!("{line}\r\n"))
    }

    /// The codes of the replies to a command are these.
    #[track_caller]
    fn expect(&self, line: &str, codes: &str) -> Result {
        let replies = self.command(line)?;
        assert_eq!(codes_of(&replies), codes, "{line:?}: {replies:?}");
        Ok(())
    }

    fn passive_port(&self) -> Result<SocketAddr> {
        let reply = self.command("EPSV")?;
        Ok(extended(&reply))
    }

    fn connect(&self, from: &str, to: SocketAddr) -> Result<Peer> {
        let data = self.network.connect_from(from.parse::<SocketAddr>()?, to)?;
        self.settle()?;
        Ok(data)
    }

    fn data(&self) -> Result<Peer> {
        self.connect(CLIENT, self.passive_port()?)
    }

    /// Downloads, or lists.
    fn download(&self, command: &str) -> Result<String> {
        let data = self.data()?;
        self.expect(command, "150 226")?;
        assert_eq!(data.ended(), Some(Ended::Finished));
        Ok(String::from_utf8(data.take_received())?)
    }

    fn upload(&self, command: &str, content: &str) -> Result {
        let data = self.data()?;
        self.expect(command, "150")?;
        data.send(content);
        data.finish();
        assert_eq!(codes_of(&self.replies()?), "226");
        Ok(())
    }

    /// A transfer of which the client has read nothing.
    fn begin_large(&self) -> Result<Peer> {
        store(&self.dir, "dir/big", big())?;
        let data = self.data()?;
        data.stop_reading();
        self.expect("RETR dir/big", "150")?;
        Ok(data)
    }

    /// An upload of which the server has a part.
    fn begin_upload(&self, name: &str) -> Result<Peer> {
        let data = self.data()?;
        self.expect(&format!("STOR {name}"), "150")?;
        data.send("the first half");
        self.settle()?;
        assert_eq!(self.names()?.len(), 3, "{:?}", self.names());
        Ok(data)
    }
}

fn store(dir: &TempDir, name: &str, content: &[u8]) -> Result {
    let path = dir.path().join(name);
    fs::write(&path, content)?;
    File::options()
        .write(true)
        .open(path)?
        .set_modified(changed())?;
    Ok(())
}

/// More than all buffers together.
fn big() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let rows = (0..300_000).map(|n| format!("row {n}\n"));
        rows.collect::<String>().into_bytes()
    })
}

/// The codes of replies, each of which may have several lines.
fn codes_of(replies: &str) -> String {
    let last = |line: &&str| line.get(3..4) == Some(" ") && line.as_bytes()[0].is_ascii_digit();
    let codes = replies.lines().filter(last).map(|line| &line[..3]);
    codes.collect::<Vec<_>>().join(" ")
}

/// The port in `229 Entering Extended Passive Mode (|||PORT|)`.
fn extended(reply: &str) -> SocketAddr {
    assert!(reply.starts_with("229 "), "{reply}");
    let port = reply.split('|').nth(3).unwrap().parse().unwrap();
    SocketAddr::new("192.0.2.1".parse().unwrap(), port)
}

/// The address in `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2).`
fn passive(reply: &str) -> SocketAddr {
    assert!(reply.starts_with("227 "), "{reply}");
    let inner = reply.split(['(', ')']).nth(1).unwrap();
    let n: Vec<u8> = inner.split(',').map(|n| n.parse().unwrap()).collect();
    SocketAddr::from(([n[0], n[1], n[2], n[3]], u16::from_be_bytes([n[4], n[5]])))
}

#[test]
fn each_command_has_its_reply() -> Result {
    let site = Site::with(options())?;
    for (command, codes) in [
        ("PWD", "530"),
        ("RETR a.txt", "530"),
        ("EPSV", "530"),
        ("PASS x", "503"),
        ("USER", "501"),
        ("AUTH TLS", "502"),
        ("PBSZ 0", "503"),
        ("PROT P", "503"),
        ("user ann", "331"),
        ("PASS wrong", "530"),
        ("USER nobody", "331"),
        ("PASS ", "530"),
        ("USER ann", "331"),
        ("PASS secret", "230"),
        ("SYST", "215"),
        ("NOOP", "200"),
        ("HELP", "214"),
        ("FEAT", "211"),
        ("OPTS UTF8 ON", "200"),
        ("OPTS x", "501"),
        ("ALLO 5", "202"),
        ("TYPE A", "200"),
        ("TYPE A N", "200"),
        ("TYPE E", "504"),
        ("MODE S", "200"),
        ("MODE B", "504"),
        ("STRU F", "200"),
        ("STRU R", "504"),
        ("SIZE a.txt", "550"),
        ("REST 0", "350"),
        ("REST 5", "504"),
        ("type i", "200"),
        ("REST 5", "350"),
        ("REST -5", "501"),
        ("REST x", "501"),
        ("SIZE a.txt", "213"),
        ("SIZE dir", "550"),
        ("SIZE none", "550"),
        ("MDTM a.txt", "213"),
        ("MLST a.txt", "250"),
        ("MLST", "250"),
        ("STAT", "211"),
        ("STAT a.txt", "213"),
        ("ABOR", "226"),
        ("RETR a.txt", "425"),
        ("LIST", "425"),
        ("STOR x", "425"),
        ("RETR none", "550"),
        ("RETR dir", "550"),
        ("STOR dir", "550"),
        ("CWD none", "550"),
        ("CWD a.txt", "550"),
        ("CWD dir", "250"),
        ("PWD", "257"),
        ("CDUP", "250"),
        ("MKD new", "257"),
        ("MKD new", "550"),
        ("RMD new", "250"),
        ("RMD new", "550"),
        ("RMD dir", "550"),
        ("RMD a.txt", "550"),
        ("RMD /", "550"),
        ("DELE dir", "550"),
        ("RNTO x", "503"),
        ("RNFR none", "550"),
        ("RNFR a.txt", "350"),
        ("NOOP", "200"),
        ("RNTO b.txt", "503"),
        ("RNFR a.txt", "350"),
        ("RNTO b.txt", "250"),
        ("DELE b.txt", "250"),
        ("DELE b.txt", "550"),
        ("PORT 1", "501"),
        ("EPRT 1", "501"),
        ("EPRT |3|x|1|", "522"),
        ("EPSV 2", "522"),
        ("EPSV 1", "229"),
        ("EPSV ALL", "200"),
        ("PASV", "503"),
        ("PORT 192,0,2,7,19,137", "503"),
        ("EPRT |1|192.0.2.7|5001|", "503"),
        ("EPSV", "229"),
        ("SITE x", "502"),
        ("", "502"),
        ("QUIT", "221"),
    ] {
        site.expect(command, codes)?;
    }
    assert!(site.control.has_ended());
    assert_eq!(site.names()?, ["dir"]);
    Ok(())
}

#[test]
fn replies_tell_what_is_asked_for() -> Result {
    let site = Site::ann()?;
    for (command, reply) in [
        ("SIZE a.txt", "213 12\r\n"),
        ("MDTM a.txt", "213 19941106084937\r\n"),
        ("PWD", "257 \"/\" is the current folder\r\n"),
        ("CWD dir/", "250 done\r\n"),
        ("PWD", "257 \"/dir\" is the current folder\r\n"),
        ("CWD ../../../dir/./..//dir", "250 done\r\n"),
        ("MKD say \"hi\"", "257 \"/dir/say \"\"hi\"\"\" created\r\n"),
        (
            "MLST ../a.txt",
            "250-the facts:\r\n type=file;size=12;modify=19941106084937;perm=adfrw; /a.txt\r\n250 end\r\n",
        ),
        ("OPTS MLST size;Type;foo;", "200 MLST OPTS type;size;\r\n"),
        ("MLST /", "250-the facts:\r\n type=dir; /\r\n250 end\r\n"),
    ] {
        assert_eq!(site.command(command)?, reply);
    }
    assert!(
        site.command("FEAT")?
            .contains("\r\n MLST type*;size*;modify;perm;\r\n")
    );
    Ok(())
}

#[test]
fn a_transfer_begins_whatever_comes_first() -> Result {
    let site = Site::ann()?;
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");

    let port = site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    let data = site.connect(CLIENT, port)?;
    assert_eq!(data.received(), b"hello\nworld\n");
    assert_eq!(codes_of(&site.replies()?), "226");

    let data = site.connect(CLIENT, passive(&site.command("PASV")?))?;
    site.expect("RETR a.txt", "150 226")?;
    assert_eq!(data.received(), b"hello\nworld\n");
    site.expect("RETR a.txt", "425")
}

#[test]
fn the_server_connects_to_the_client() -> Result {
    let site = Site::ann()?;
    let client = site.network.listen("192.0.2.7:5001")?;
    for command in ["PORT 192,0,2,7,19,137", "EPRT |1|192.0.2.7|5001|"] {
        site.expect(command, "200")?;
        site.expect("RETR a.txt", "150 226")?;
        let data = client.accept().unwrap();
        assert_eq!(data.received(), b"hello\nworld\n");
        assert_eq!(data.peer_addr().ip(), ADDR.parse::<SocketAddr>()?.ip());

        site.expect(command, "200")?;
        site.expect("STOR new", "150")?;
        let data = client.accept().unwrap();
        data.send("content");
        data.finish();
        assert_eq!(codes_of(&site.replies()?), "226");
        assert_eq!(site.read("new").unwrap(), b"content");
    }
    // Nobody listens.
    site.expect("PORT 192,0,2,7,19,138", "200")?;
    site.expect("RETR a.txt", "150 425")?;
    // Nobody answers.
    site.network.add_black_hole("192.0.2.7:5003".parse()?);
    site.expect("PORT 192,0,2,7,19,139", "200")?;
    site.expect("RETR a.txt", "150")?;
    site.advance(Duration::from_secs(61))?;
    assert_eq!(codes_of(&site.replies()?), "425");
    site.expect("RETR a.txt", "425")
}

/// RFC 2577, CVE-1999-0017.
#[test]
fn the_server_connects_to_nobody_else() -> Result {
    let site = Site::ann()?;
    let stranger = site.network.listen("192.0.2.8:5001")?;
    let service = site.network.listen("192.0.2.7:25")?;
    let own = site.network.listen("127.0.0.1:5001")?;
    for command in [
        "PORT 192,0,2,8,19,137",
        "PORT 127,0,0,1,19,137",
        "PORT 192,0,2,1,19,137",
        "PORT 0,0,0,0,19,137",
        "PORT 192,0,2,7,0,25",
        "PORT 192,0,2,7,3,255",
        "PORT 192,0,2,7,0,0",
        "EPRT |1|192.0.2.8|5001|",
        "EPRT |1|192.0.2.7|25|",
        "EPRT |1|127.0.0.1|5001|",
        "EPRT |2|::1|5001|",
        "EPRT |2|::ffff:192.0.2.8|5001|",
    ] {
        // What was set before does not hold either.
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect(command, "504")?;
        site.expect("LIST", "425")?;
    }
    for listener in [&stranger, &service, &own] {
        assert!(listener.accept().is_none());
    }
    Ok(())
}

#[test]
fn a_stranger_gets_no_data_connection() -> Result {
    let site = Site::ann()?;
    let port = site.passive_port()?;
    let stranger = site.connect(STRANGER, port)?;
    site.expect("RETR a.txt", "150")?;
    assert!(stranger.has_ended() && stranger.received().is_empty());
    // The client itself can still connect.
    let data = site.connect(CLIENT, port)?;
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(data.received(), b"hello\nworld\n");

    let port = site.passive_port()?;
    site.expect("STOR stolen", "150")?;
    let stranger = site.connect(STRANGER, port)?;
    stranger.send("a virus");
    stranger.finish();
    site.settle()?;
    site.advance(Duration::from_secs(61))?;
    assert_eq!(codes_of(&site.replies()?), "425");
    assert_eq!(site.names()?, ["a.txt", "dir"]);
    // The port is closed, and one that is not used closes as well.
    assert!(site.connect(CLIENT, port)?.has_ended());
    let port = site.passive_port()?;
    site.advance(Duration::from_secs(61))?;
    assert!(site.connect(CLIENT, port)?.has_ended());
    site.expect("LIST", "425")
}

#[test]
fn a_connection_that_comes_too_late_is_refused() -> Result {
    // The loop learns in one turn, in any order, of the connection and of the command that opens another port.
    let site = Site::ann()?;
    let conditions = site.network.conditions();
    site.network.set_conditions(conditions.shuffled(true));
    for _ in 0..30 {
        let port = site.passive_port()?;
        let from = CLIENT.parse::<SocketAddr>()?;
        let late = site.network.connect_from(from, port)?;
        site.control.send("EPSV\r\nRETR a.txt\r\n");
        let replies = site.replies()?;
        assert_eq!(codes_of(&replies), "229 150");
        assert!(late.has_ended() && late.received().is_empty());
        let data = site.connect(CLIENT, extended(replies.lines().next().unwrap()))?;
        assert_eq!(codes_of(&site.replies()?), "226");
        assert_eq!(data.received(), b"hello\nworld\n");
    }
    Ok(())
}

#[test]
fn passive_ports_are_in_the_range() -> Result {
    let site = Site::ann_with(Options {
        ports: Some(50_000..=50_002),
        address: Some("203.0.113.9".parse()?),
        ..options()
    })?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let addr = passive(&site.command("PASV")?);
        assert_eq!(addr.ip().to_string(), "203.0.113.9");
        seen.insert(addr.port());
    }
    assert!(seen.iter().eq(&[50_000, 50_001, 50_002]), "{seen:?}");
    site.expect("ABOR", "226")?;
    // Ports that others use are skipped. When there is none left, the client learns it.
    let taken = site.network.listen("192.0.2.1:50000")?;
    let taken_too = site.network.listen("192.0.2.1:50002")?;
    assert_eq!(site.passive_port()?.port(), 50_001);
    site.expect("ABOR", "226")?;
    let last = site.network.listen("192.0.2.1:50001")?;
    site.expect("EPSV", "425")?;
    drop((taken, taken_too, last));
    Ok(())
}

#[test]
fn uploads_appear_when_they_are_complete() -> Result {
    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    data.send(", the second half");
    site.settle()?;
    assert!(site.read("new").is_none());
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(
        site.read("new").unwrap(),
        b"the first half, the second half"
    );

    site.upload("STOR new", "another")?;
    assert_eq!(site.read("new").unwrap(), b"another");
    site.upload("APPE new", " one")?;
    assert_eq!(site.read("new").unwrap(), b"another one");
    site.upload("APPE newer", "begun")?;
    assert_eq!(site.read("newer").unwrap(), b"begun");
    site.expect("REST 8", "350")?;
    site.upload("STOR new", "1")?;
    assert_eq!(site.read("new").unwrap(), b"another 1");
    site.expect("REST 100", "350")?;
    site.expect("STOR new", "554")?;
    site.upload("STOR new", "")?;
    assert_eq!(site.read("new").unwrap(), b"");
    Ok(())
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() -> Result {
    for cut in ["ABOR", "reset", "silence", "QUIT and reset", "too large"] {
        let site = Site::ann_with(Options {
            max_upload: 100,
            ..options()
        })?;
        let data = site.begin_upload("a.txt")?;
        let codes = match cut {
            "ABOR" => {
                site.control.send("ABOR\r\n");
                "426 226"
            }
            "silence" => {
                site.advance(Duration::from_secs(121))?;
                "426"
            }
            "QUIT and reset" => {
                site.control.send("QUIT\r\n");
                site.settle()?;
                data.reset();
                "426 221"
            }
            "too large" => {
                data.send("x".repeat(100));
                "552"
            }
            _ => {
                data.reset();
                "426"
            }
        };
        assert_eq!(codes_of(&site.replies()?), codes, "{cut}");
        assert_eq!(site.names()?, ["a.txt", "dir"], "{cut}");
        assert_eq!(site.read("a.txt").unwrap(), b"hello\nworld\n", "{cut}");
    }
    // What was appended stays, so that the client can continue.
    let site = Site::ann()?;
    let data = site.data()?;
    site.expect("APPE a.txt", "150")?;
    data.send("more");
    site.settle()?;
    data.reset();
    assert_eq!(codes_of(&site.replies()?), "426");
    assert_eq!(site.read("a.txt").unwrap(), b"hello\nworld\nmore");
    site.expect("SIZE a.txt", "213")
}

#[test]
fn a_download_can_begin_in_the_middle() -> Result {
    let site = Site::ann()?;
    site.expect("REST 6", "350")?;
    assert_eq!(site.download("RETR a.txt")?, "world\n");
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    site.expect("REST 12", "350")?;
    assert_eq!(site.download("RETR a.txt")?, "");
    site.expect("REST 13", "350")?;
    site.expect("EPSV", "229")?;
    site.expect("RETR a.txt", "554")
}

#[test]
fn lines_end_with_crlf_in_type_a() -> Result {
    let site = Site::ann()?;
    site.expect("TYPE A", "200")?;
    assert_eq!(site.download("RETR a.txt")?, "hello\r\nworld\r\n");
    let data = site.data()?;
    site.expect("STOR new", "150")?;
    for piece in ["one\r", "\ntwo\r\n", "\r", "x\n\r"] {
        data.send(piece);
        site.settle()?;
    }
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.read("new").unwrap(), b"one\ntwo\n\rx\n\r");
    Ok(())
}

#[test]
fn listings_have_three_formats() -> Result {
    let site = Site::ann()?;
    store(&site.dir, "ü b", b"x")?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", site.dir.path().join("link"))?;
    assert_eq!(site.download("NLST")?, "a.txt\r\ndir\r\nü b\r\n");
    let list = site.download("LIST -la")?;
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(
        lines[0],
        "-rw-r--r-- 1 ftp ftp           12 Nov  6  1994 a.txt"
    );
    assert!(lines[1].starts_with("drwxr-xr-x 1 ftp ftp "), "{list}");
    assert!(lines[2].ends_with(" ü b"), "{list}");
    assert_eq!(lines.len(), 3);
    assert_eq!(site.download("LIST /a.txt")?.lines().next(), Some(lines[0]));
    let listed = site.download("MLSD")?;
    assert!(
        listed.starts_with(
            "type=file;size=12;modify=19941106084937;perm=adfrw; a.txt\r\ntype=dir;modify=2"
        ),
        "{listed}"
    );
    site.expect("MLSD a.txt", "501")?;
    site.expect("MLSD none", "550")?;
    site.expect("LIST link", "550")?;
    let status = site.command("STAT /")?;
    assert!(status.contains(lines[0]), "{status}");
    assert_eq!(site.download("NLST dir")?, "big\r\n");

    // A folder takes several turns.
    fs::create_dir(site.dir.path().join("many"))?;
    for n in 0..2500 {
        fs::write(site.dir.path().join(format!("many/{n:04}")), "")?;
    }
    assert_eq!(site.download("NLST many")?.lines().count(), 2500);
    Ok(())
}

#[test]
fn nothing_outside_the_folder_is_reached() -> Result {
    let site = Site::ann()?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc", site.dir.path().join("etc"))?;
    for command in [
        "RETR ../../../../etc/passwd",
        "RETR /etc/passwd",
        "RETR etc/passwd",
        "CWD etc",
        "LIST etc",
        "SIZE /etc/passwd",
        "MLST etc",
        "RETR dir/../../etc/passwd",
        "DELE etc/passwd",
        "RNFR etc",
        "MKD etc/new",
        "STOR etc/new",
    ] {
        site.expect(command, "550")?;
    }
    site.expect("RETR a\0b", "553")?;
    site.expect("MKD a\rb", "553")?;
    site.expect("STOR .files-upload-x", "553")?;
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO etc/a.txt", "550")?;
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO ../../../b.txt", "250")?;
    assert!(site.read("b.txt").is_some());
    Ok(())
}

#[test]
fn anonymous_clients_only_read() -> Result {
    let site = Site::anonymous()?;
    for command in [
        "STOR x",
        "APPE a.txt",
        "DELE a.txt",
        "MKD x",
        "RMD dir",
        "RNFR a.txt",
    ] {
        site.expect("EPSV", "229")?;
        site.expect(command, "550")?;
    }
    assert_eq!(site.download("NLST")?, "a.txt\r\ndir\r\n");
    assert_eq!(site.names()?, ["a.txt", "dir"]);

    let site = Site::with(Options {
        anonymous: false,
        ..options()
    })?;
    site.expect("USER anonymous", "530")?;
    site.expect("PASS x", "503")?;
    // A user of a server without --write only reads.
    let site = Site::ann_with(Options {
        write: false,
        ..options()
    })?;
    site.expect("MKD x", "550")
}

#[test]
fn passwords_cannot_be_guessed_for_ever() -> Result {
    let site = Site::with(options())?;
    for codes in ["530", "530", "421"] {
        site.expect("USER ann", "331")?;
        site.expect("PASS wrong", codes)?;
    }
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn abor_during_a_download_has_two_replies() -> Result {
    for abor in [
        &b"ABOR\r\n"[..],
        b"abor\r\n",
        b"\xff\xf4\xff\xf2ABOR\r\n",
        b"\xff\xf4\xf2ABOR\r\n",
        b"\xf2ABOR\r\n",
    ] {
        let site = Site::ann()?;
        let data = site.begin_large()?;
        site.control.send(abor);
        assert_eq!(codes_of(&site.replies()?), "426 226");
        data.start_reading(usize::MAX);
        site.settle()?;
        assert_eq!(data.ended(), Some(Ended::Reset));
        assert!(data.received().len() < big().len());
        assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    }
    // Before there is a connection.
    let site = Site::ann()?;
    let port = site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    site.expect("ABOR", "426 226")?;
    assert!(site.connect(CLIENT, port)?.has_ended());
    site.expect("NOOP", "200")
}

#[test]
fn commands_during_a_transfer_wait_for_its_end_but_stat_does_not() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.expect("NOOP\r\nPWD", "")?;
    let status = site.command("STAT")?;
    assert_eq!(codes_of(&status), "211");
    assert!(status.contains("bytes of /dir/big: "), "{status}");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 200 257");
    assert_eq!(data.received(), big());

    // QUIT waits as well: RFC 959 section 4.1.1.
    let data = site.begin_large()?;
    site.expect("QUIT", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 221");
    assert_eq!(data.received(), big());

    let site = Site::ann()?;
    let _data = site.begin_large()?;
    site.expect(&"NOOP\r\n".repeat(101), "421")?;
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn a_download_that_is_cut_is_reported() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    data.reset();
    assert_eq!(codes_of(&site.replies()?), "426");
    // A client that does not read.
    let data = site.begin_large()?;
    site.advance(Duration::from_secs(300))?;
    assert_eq!(codes_of(&site.replies()?), "426");
    drop(data);
    // The end of the control connection is that of the transfer.
    let data = site.begin_large()?;
    site.control.reset();
    site.settle()?;
    data.start_reading(usize::MAX);
    site.settle()?;
    assert_eq!(data.ended(), Some(Ended::Reset));
    assert_eq!(site.event_loop.len(), 1, "the listener");
    Ok(())
}

#[test]
fn a_file_that_becomes_shorter_is_cut() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    File::options()
        .write(true)
        .open(site.dir.path().join("dir/big"))?
        .set_len(5)?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "451");
    assert_eq!(data.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn a_shutdown_waits_for_a_transfer() -> Result {
    // Without one it is at once.
    let site = Site::ann()?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());

    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert_eq!(data.received(), big());
    assert!(site.control.has_ended());

    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    site.settle()?;
    data.send(".");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert_eq!(site.read("new").unwrap(), b"the first half.");

    // The grace ends.
    for begin in [Site::begin_large, |site: &Site| site.begin_upload("new")] {
        let site = Site::ann()?;
        let data = begin(&site)?;
        site.event_loop.shutdown(Duration::from_secs(5));
        site.settle()?;
        site.advance(Duration::from_secs(5))?;
        assert_eq!(codes_of(&site.replies()?), "426 421");
        assert_eq!(site.control.ended(), Some(Ended::Finished));
        assert!(site.event_loop.is_empty());
        assert_eq!(site.names()?, ["a.txt", "dir"]);
        drop(data);
    }

    // The server connects no longer.
    let site = Site::ann()?;
    site.network.add_black_hole("192.0.2.7:5001".parse()?);
    site.expect("PORT 192,0,2,7,19,137", "200")?;
    site.expect("RETR a.txt", "150")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "425 421");
    assert!(site.control.has_ended());

    // Nobody can come to the port any more.
    let site = Site::ann()?;
    site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "425 421");
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn silence_ends_a_session_but_not_during_a_transfer() -> Result {
    let site = Site::ann()?;
    for _ in 0..5 {
        site.advance(Duration::from_secs(200))?;
        site.expect("NOOP", "200")?;
    }
    let data = site.begin_large()?;
    for _ in 0..50 {
        data.start_reading(30_000);
        site.settle()?;
        site.advance(Duration::from_secs(10))?;
    }
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226");
    site.advance(Duration::from_secs(299))?;
    assert_eq!(site.replies()?, "");
    // The timer is set for the whole time when it was due during the transfer.
    site.advance(Duration::from_secs(300))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn bad_lines_are_refused() -> Result {
    let site = Site::ann()?;
    site.expect(&"x".repeat(6000), "500")?;
    site.expect("NOOP", "200")?;
    let replies = site.command(&"XYZ\r\n".repeat(25))?;
    assert!(codes_of(&replies).ends_with("502 421"), "{replies}");
    assert!(site.control.has_ended());
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "hOST: a"] {
        let site = Site::with(options())?;
        site.expect(line, "421")?;
        assert!(site.control.has_ended());
    }
    Ok(())
}

#[test]
fn replies_are_the_same_under_every_segmentation() -> Result {
    let input = b"USER ann\r\nPASS secret\r\nTYPE I\r\nPORT 192,0,2,7,19,137\r\nRETR a.txt\r\n\xff\xf4\xff\xf2ABOR\r\n\
                  PORT 192,0,2,7,19,137\r\nSTOR new\r\nRNFR dir\nRNTO folder\r\nSIZE a.txt\r\nQUIT\r\n";
    let mut expected = None;
    sim::every_segmentation(input, |pieces| {
        let site = Site::with(options())?;
        let client = site.network.listen("192.0.2.7:5001")?;
        let mut received = String::new();
        let mut connections = Vec::new();
        for piece in pieces.iter().copied().map(Some).chain([None; 3]) {
            site.control.send(piece.unwrap_or_default());
            site.settle()?;
            while let Some(data) = client.accept() {
                data.send("content");
                data.finish();
                connections.push(data);
            }
            received += &site.replies()?;
        }
        // Whether ABOR comes during the transfer depends on the network.
        let received = received.replace(
            "426 aborted\r\n226 the data connection is closed\r\n",
            "226 done\r\n226 there is no transfer\r\n",
        );
        let expected = expected.get_or_insert_with(|| received.clone());
        assert_eq!(received, *expected, "{pieces:?}");
        assert_eq!(site.read("new").unwrap(), b"content");
        assert_eq!(site.names()?, ["a.txt", "folder", "new"]);
        Ok(())
    })?;
    let codes = codes_of(&expected.unwrap());
    assert_eq!(
        codes,
        "331 230 200 200 150 226 226 200 150 226 350 250 213 221"
    );
    Ok(())
}

// ---- TLS

fn secure_options() -> Options {
    Options {
        tls: Some(server_config().into()),
        ..options()
    }
}

/// A client after AUTH TLS and the login, with protected data connections.
fn secured(site: &Site) -> Result<TlsPeer> {
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    assert_eq!(codes_of(&site.ask(&control, "AUTH TLS\r\n")?), "220 234");
    let mut control = site.handshake(control);
    let replies = site.ask_tls(
        &mut control,
        "USER ann\r\nPASS secret\r\nPBSZ 0\r\nPROT P\r\nTYPE I\r\n",
    )?;
    assert_eq!(codes_of(&replies), "331 230 200 200 200");
    Ok(control)
}

#[test]
fn files_are_transferred_with_tls() -> Result {
    let site = Site::with(secure_options())?;
    let mut control = secured(&site)?;
    // The handshake is before or after the command.
    for is_early in [true, false] {
        let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
        let mut data = TlsPeer::client(site.connect(CLIENT, port)?, client_config());
        if is_early {
            site.exchange(&mut data);
        }
        let replies = site.ask_tls(&mut control, "RETR a.txt\r\n")?;
        site.exchange(&mut data);
        assert_eq!(data.text(), "hello\nworld\n");
        assert!(data.is_closed());
        let replies = replies + &site.ask_tls(&mut control, "NOOP\r\n")?;
        assert_eq!(codes_of(&replies), "150 226 200");

        let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
        let mut data = TlsPeer::client(site.connect(CLIENT, port)?, client_config());
        if is_early {
            site.exchange(&mut data);
        }
        assert_eq!(
            codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
            "150"
        );
        site.exchange(&mut data);
        data.send("content");
        let end = data.close_notify();
        data.peer.send(end);
        data.peer.finish();
        assert_eq!(
            codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
            "226 200"
        );
        assert_eq!(site.read("new").unwrap(), b"content");
    }
    // The server connects, and is the server of TLS.
    let client = site.network.listen("192.0.2.7:5001")?;
    let replies = site.ask_tls(&mut control, "PORT 192,0,2,7,19,137\r\nRETR a.txt\r\n")?;
    assert_eq!(codes_of(&replies), "200 150");
    let mut data = TlsPeer::client(client.accept().unwrap(), client_config());
    site.exchange(&mut data);
    assert_eq!(data.text(), "hello\nworld\n");
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "PROT C\r\n")?),
        "226 200"
    );
    // In clear again.
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let data = site.connect(CLIENT, port)?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "RETR a.txt\r\n")?),
        "150 226"
    );
    assert_eq!(data.received(), b"hello\nworld\n");
    Ok(())
}

/// Somebody on the way has ended the connection, or the client does not speak TLS.
#[test]
fn a_transfer_with_tls_is_cut_without_its_end() -> Result {
    let site = Site::with(secure_options())?;
    let mut control = secured(&site)?;
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let mut data = site.handshake(site.connect(CLIENT, port)?);
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
        "150"
    );
    data.send("content");
    data.peer.finish();
    site.settle()?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
        "426 200"
    );
    assert_eq!(site.names()?, ["a.txt", "dir"]);

    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "STOR new\r\n")?),
        "150"
    );
    let data = site.connect(CLIENT, port)?;
    data.send("in clear");
    data.finish();
    site.settle()?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "NOOP\r\n")?),
        "425 200"
    );
    assert_eq!(site.names()?, ["a.txt", "dir"]);

    // Nothing of a file is sent in clear, whenever the client connects.
    let replies = site.ask_tls(&mut control, "PROT C\r\nEPSV\r\n")?;
    let data = site.connect(CLIENT, extended(replies.lines().last().unwrap()))?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "PROT P\r\nRETR a.txt\r\n")?),
        "200 425"
    );
    assert!(data.received().is_empty());
    let port = extended(&site.ask_tls(&mut control, "EPSV\r\n")?);
    let data = site.connect(CLIENT, port)?;
    assert_eq!(
        codes_of(&site.ask_tls(&mut control, "RETR a.txt\r\n")?),
        "150"
    );
    assert!(data.received().is_empty());
    Ok(())
}

#[test]
fn passwords_need_tls_if_there_is_a_certificate() -> Result {
    let site = Site::with(secure_options())?;
    site.expect("USER ann", "530")?;
    site.expect("USER anonymous", "331")?;
    site.expect("PASS x", "230")?;
    site.expect("PBSZ 0", "503")?;
    site.expect("PROT P", "503")?;
    site.expect("AUTH GSSAPI", "504")?;
    assert!(
        site.command("FEAT")?
            .contains("\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n")
    );

    let mut control = secured(&site)?;
    let replies = site.ask_tls(&mut control, "AUTH TLS\r\nPROT S\r\nPROT x\r\n")?;
    assert_eq!(codes_of(&replies), "503 536 504");
    Ok(())
}

/// CVE-2011-0411.
#[test]
fn what_came_in_clear_is_forgotten() -> Result {
    let site = Site::with(secure_options())?;
    let control = site.connect(CLIENT, ADDR.parse()?)?;
    let replies = site.ask(
        &control,
        "USER anonymous\r\nPASS x\r\nCWD dir\r\nAUTH TLS\r\n",
    )?;
    assert_eq!(codes_of(&replies), "220 331 230 250 234");
    let mut control = site.handshake(control);
    assert_eq!(codes_of(&site.ask_tls(&mut control, "PWD\r\n")?), "530");

    let control = site.connect(CLIENT, ADDR.parse()?)?;
    control.send("AUTH TLS\r\nUSER anonymous\r\nPASS x\r\nCWD dir\r\n");
    site.settle()?;
    assert!(control.has_ended());

    // What waits for the end of a transfer is no exception.
    site.expect("USER anonymous", "331")?;
    site.expect("PASS x", "230")?;
    let data = site.begin_large()?;
    site.expect("AUTH TLS\r\nUSER anonymous\r\nPASS x", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn clients_of_ipv6_have_their_own_commands() -> Result {
    let dir = TempDir::new()?;
    store(&dir, "a.txt", b"hello\n")?;
    let service = Service::new(Tree::open(dir.path(), false)?, options());
    let server = "[2001:db8::1]:21";
    let scene = Scene::new(Network::new(1), move || service.serve(server))?;
    let from = "[2001:db8::7]:0".parse::<SocketAddr>()?;
    let control = scene.network.connect_from(from, server)?;
    let client = scene.network.listen("[2001:db8::7]:5001")?;
    let replies = scene.ask(
        &control,
        "USER ftp\r\nPASS x\r\nPASV\r\nEPSV 1\r\nPORT 192,0,2,7,19,137\r\nEPRT |2|2001:db8::8|5001|\r\n\
         EPRT |2|2001:db8::7|5001|\r\nNLST\r\n",
    )?;
    assert_eq!(
        codes_of(&replies),
        "220 331 230 425 522 504 504 200 150 226"
    );
    assert_eq!(client.accept().unwrap().received(), b"a.txt\r\n");
    let reply = scene.ask(&control, "EPSV 2\r\n")?;
    let addr = SocketAddr::new("2001:db8::1".parse()?, extended(&reply).port());
    let data = scene.network.connect_from(from, addr)?;
    let replies = scene.ask(&control, "NLST\r\n")?;
    assert_eq!(codes_of(&replies), "150 226");
    assert_eq!(data.received(), b"a.txt\r\n");
    Ok(())
}

#[test]
fn a_client_that_has_sent_all_still_receives() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.control.finish();
    assert_eq!(site.replies()?, "");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 221");
    assert_eq!(data.received(), big());
    assert!(site.control.has_ended());
    Ok(())
}

/// Whatever a client does and in which order: each command gets a last reply, nothing incomplete stays, and no port or
/// connection is left.
#[test]
fn random_sessions_end_in_good_order() -> Result {
    const COMMANDS: [&str; 24] = [
        "EPSV",
        "EPSV",
        "EPSV",
        "PASV",
        "PORT 192,0,2,7,19,137",
        "PORT 192,0,2,7,19,138",
        "RETR dir/big",
        "RETR dir/big",
        "RETR a.txt",
        "STOR new",
        "STOR new",
        "APPE new",
        "REST 3",
        "LIST",
        "MLSD",
        "ABOR",
        "STAT",
        "NOOP",
        "TYPE A",
        "TYPE I",
        "RNFR new",
        "RNTO newer",
        "DELE new",
        "PWD",
    ];
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let site = Site::ann()?;
        let (conditions, p) = (
            Conditions::default().shuffled(true),
            f64::from(random.u8(..3)) * 0.2,
        );
        let conditions = conditions.short_reads(p).short_writes(p).late_events(p);
        site.network.set_conditions(conditions);
        store(&site.dir, "dir/big", &big()[..300_000])?;
        let client = site.network.listen("192.0.2.7:5001")?;
        let (mut port, mut data) = (None, Vec::<Peer>::new());
        let mut replies = String::new();
        for _ in 0..60 {
            match random.u8(..16) {
                0..=7 => {
                    let command = COMMANDS[random.usize(..COMMANDS.len())];
                    site.control.send(format!("{command}\r\n"));
                }
                8 | 9 if let Some(to) = port => {
                    let from = if random.u8(..5) == 0 {
                        STRANGER
                    } else {
                        CLIENT
                    };
                    data.push(site.network.connect_from(from.parse::<SocketAddr>()?, to)?);
                }
                10 if !data.is_empty() => drop(data.swap_remove(random.usize(..data.len()))),
                11 => site.advance(Duration::from_secs(random.u64(1..40)))?,
                _ if !data.is_empty() => {
                    let peer = &data[random.usize(..data.len())];
                    match random.u8(..6) {
                        0 | 1 => peer.send("some text\r\n"),
                        2 => peer.finish(),
                        3 => peer.reset(),
                        4 => peer.stop_reading(),
                        _ => peer.start_reading(usize::MAX),
                    }
                }
                _ => {}
            }
            if random.bool() {
                let received = site.replies()?;
                for reply in received.lines() {
                    port = match &reply[..3] {
                        "227" => Some(passive(reply)),
                        "229" => Some(extended(reply)),
                        _ => port,
                    };
                }
                replies += &received;
            }
            data.extend(client.accept());
        }
        if random.bool() {
            site.control.send("QUIT\r\n");
            site.advance(Duration::from_secs(300))?;
            replies += &site.replies()?;
            assert!(replies.ends_with("221 bye\r\n"), "seed {seed}: {replies}");
            let (begun, ended) = (replies.matches("\n150 ").count(), codes_of(&replies));
            let ended = ["226", "425", "426", "451"].map(|code| ended.matches(code).count());
            assert!(
                ended.iter().sum::<usize>() >= begun,
                "seed {seed}: {replies}"
            );
        } else {
            site.control.reset();
            site.settle()?;
        }
        drop(data);
        site.advance(Duration::from_secs(10))?;
        assert_eq!(site.event_loop.len(), 1, "seed {seed}: {replies}");
        let names = site.names()?;
        let is_part = |name: &String| name.starts_with(names::TEMPORARY);
        assert!(!names.iter().any(is_part), "seed {seed}: {names:?}");
    }
    Ok(())
}
