//! A server of a folder, a client of it, and the replies.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::OnceLock;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Ended, Network, Peer};

use crate::folder::{Folder, now};
use crate::ftp::{Options, Service};
use crate::scene::Scene;
use crate::tree::Tree;
use crate::users::{Logins, Users};

pub(crate) const ADDR: &str = "192.0.2.1:21";
pub(crate) const TLS_ADDR: &str = "192.0.2.1:990";
pub(crate) const CLIENT: &str = "192.0.2.7:0";
pub(crate) const STRANGER: &str = "192.0.2.8:0";

/// Both have the password `secret`.
const USERS: [&str; 2] = [
    "ann:$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi",
    "bob:$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi",
];

pub(crate) fn options() -> Options {
    let mut users = Users::default();
    for user in USERS {
        users.add(user).unwrap();
    }
    Options {
        write: true,
        logins: Logins::with_threads(users, 0),
        clock: now,
        upload_wait: Duration::ZERO,
        ..Options::default()
    }
}

/// A server of a new folder, and a client that has connected.
pub(crate) struct Site {
    pub(crate) scene: Scene,
    pub(crate) dir: Folder,
    pub(crate) control: Peer,
}

impl Deref for Site {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Site {
    /// Somebody who may only read.
    pub(crate) fn anonymous() -> Result<Site> {
        let site = Site::with(options())?;
        site.expect("USER anonymous", "331")?;
        site.expect("PASS me@", "230")?;
        Ok(site)
    }

    /// Somebody who may write, in TYPE I.
    pub(crate) fn ann() -> Result<Site> {
        Site::ann_with(options())
    }

    pub(crate) fn ann_with(options: Options) -> Result<Site> {
        let site = Site::with(options)?;
        site.expect("USER ann", "331")?;
        site.expect("PASS secret", "230")?;
        site.expect("TYPE I", "200")?;
        Ok(site)
    }

    pub(crate) fn with(options: Options) -> Result<Site> {
        Site::at(options, ADDR, CLIENT)
    }

    /// With other addresses of the server and the client.
    pub(crate) fn at(options: Options, addr: &str, client: &str) -> Result<Site> {
        let dir = Folder::new()?;
        fs::create_dir(dir.path().join("dir"))?;
        dir.store("a.txt", b"hello\nworld\n")?;
        dir.store("dir/big", b"not yet")?;
        let has_tls = options.tls.is_some();
        let service = Service::new(Tree::open(dir.path(), false)?, options);
        let listen = addr.to_owned();
        let scene = Scene::new(Network::new(1), move || {
            if has_tls {
                service.serve_tls(TLS_ADDR)?;
            }
            service.serve(listen.as_str())
        })?;
        let control = scene
            .network
            .connect_from(client.parse::<SocketAddr>()?, addr)?;
        let site = Site {
            scene,
            dir,
            control,
        };
        assert_eq!(site.replies()?, "220 ready\r\n");
        Ok(site)
    }

    /// Another session of `ann`, from the same host.
    pub(crate) fn second(&self) -> Result<Peer> {
        self.session_of("ann")
    }

    pub(crate) fn session_of(&self, user: &str) -> Result<Peer> {
        let control = self.connect(CLIENT, ADDR.parse()?)?;
        let login = format!("USER {user}\r\nPASS secret\r\nTYPE I\r\n");
        let replies = self.ask(&control, login)?;
        assert!(codes_of(&replies).ends_with("331 230 200"), "{replies}");
        Ok(control)
    }

    pub(crate) fn replies(&self) -> Result<String> {
        self.settle()?;
        Ok(String::from_utf8(self.control.take_received())?)
    }

    /// The replies to a command.
    pub(crate) fn command(&self, line: &str) -> Result<String> {
        self.ask(&self.control, format!("{line}\r\n"))
    }

    /// The codes of the replies to a command are these.
    #[track_caller]
    pub(crate) fn expect(&self, line: &str, codes: &str) -> Result {
        let replies = self.command(line)?;
        assert_eq!(codes_of(&replies), codes, "{line:?}: {replies:?}");
        Ok(())
    }

    pub(crate) fn passive_port(&self) -> Result<SocketAddr> {
        let reply = self.command("EPSV")?;
        Ok(extended(&reply))
    }

    pub(crate) fn connect(&self, from: &str, to: SocketAddr) -> Result<Peer> {
        let data = self.network.connect_from(from.parse::<SocketAddr>()?, to)?;
        self.settle()?;
        Ok(data)
    }

    pub(crate) fn data(&self) -> Result<Peer> {
        self.connect(CLIENT, self.passive_port()?)
    }

    /// Downloads, or lists.
    pub(crate) fn download(&self, command: &str) -> Result<String> {
        let data = self.data()?;
        self.expect(command, "150 226")?;
        assert_eq!(data.ended(), Some(Ended::Finished));
        Ok(String::from_utf8(data.take_received())?)
    }

    pub(crate) fn upload(&self, command: &str, content: &str) -> Result {
        let data = self.data()?;
        self.expect(command, "150")?;
        data.send(content);
        data.finish();
        assert_eq!(codes_of(&self.replies()?), "226");
        Ok(())
    }

    /// A transfer of which the client has read nothing.
    pub(crate) fn begin_large(&self) -> Result<Peer> {
        self.dir.store("dir/big", big())?;
        let data = self.data()?;
        data.stop_reading();
        self.expect("RETR dir/big", "150")?;
        Ok(data)
    }

    /// An upload that is cut when the server has received `part`.
    pub(crate) fn cut(&self, command: &str, part: &str) -> Result {
        let data = self.begin_of(&self.control, command)?;
        data.send(part);
        self.settle()?;
        data.reset();
        assert_eq!(codes_of(&self.replies()?), "426");
        Ok(())
    }

    /// An upload of another session.
    pub(crate) fn begin_upload_of(&self, control: &Peer, name: &str) -> Result<Peer> {
        self.begin_of(control, &format!("STOR {name}"))
    }

    pub(crate) fn begin_of(&self, control: &Peer, command: &str) -> Result<Peer> {
        let reply = self.ask(control, "EPSV\r\n")?;
        let data = self.connect(CLIENT, extended(&reply))?;
        let codes = codes_of(&self.ask(control, format!("{command}\r\n"))?);
        assert!(codes.ends_with("150"), "{command}: {codes}");
        Ok(data)
    }

    /// An upload of which the server has a part.
    pub(crate) fn begin_upload(&self, name: &str) -> Result<Peer> {
        let data = self.data()?;
        self.expect(&format!("STOR {name}"), "150")?;
        data.send("the first half");
        self.settle()?;
        assert_eq!(self.dir.names()?.len(), 3, "{:?}", self.dir.names());
        Ok(data)
    }
}

/// More than all buffers together.
pub(crate) fn big() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let rows = (0..300_000).map(|n| format!("row {n}\n"));
        rows.collect::<String>().into_bytes()
    })
}

/// The codes of replies, each of which may have several lines.
pub(crate) fn codes_of(replies: &str) -> String {
    let last = |line: &&str| line.get(3..4) == Some(" ") && line.as_bytes()[0].is_ascii_digit();
    let codes = replies.lines().filter(last).map(|line| &line[..3]);
    codes.collect::<Vec<_>>().join(" ")
}

/// The port in `229 Entering Extended Passive Mode (|||PORT|)`.
pub(crate) fn extended(reply: &str) -> SocketAddr {
    assert!(reply.starts_with("229 "), "{reply}");
    let port = reply.split('|').nth(3).unwrap().parse().unwrap();
    SocketAddr::new("192.0.2.1".parse().unwrap(), port)
}

/// The address in `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2).`
pub(crate) fn passive(reply: &str) -> SocketAddr {
    assert!(reply.starts_with("227 "), "{reply}");
    let inner = reply.split(['(', ')']).nth(1).unwrap();
    let n: Vec<u8> = inner.split(',').map(|n| n.parse().unwrap()).collect();
    SocketAddr::from(([n[0], n[1], n[2], n[3]], u16::from_be_bytes([n[4], n[5]])))
}
