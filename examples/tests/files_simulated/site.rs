//! A server of a folder, and its replies.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;

use asynchat::Result;
use asynchat::sim::{Network, Peer};

use crate::access_log::AccessLog;
use crate::folder::{Folder, now};
use crate::http::{Options, Service};
use crate::scene::Scene;
use crate::tree::Tree;
use crate::users::{Logins, Users};

pub(crate) const ADDR: &str = "192.0.2.1:80";
pub(crate) const TLS_ADDR: &str = "192.0.2.1:443";

/// `ann:secret`
pub(crate) const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";

/// A server of a new folder.
pub(crate) struct Site {
    pub(crate) scene: Scene,
    pub(crate) dir: Folder,
    addr: String,
}

impl Deref for Site {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

/// `ann:secret`
const USER: &str = "ann:$2y$04$/80S5ZWgTBN7e27fyijNIupGmOrQ2r4vYGxi0ellEs2KCBaTTrRNi";

pub(crate) fn options() -> Options {
    let mut users = Users::default();
    users.add(USER).unwrap();
    Options {
        write: true,
        logins: Logins::with_threads(users, 0),
        clock: now,
        ..Options::default()
    }
}

impl Site {
    /// A site with `/a.txt` and `/dir/big`.
    pub(crate) fn new() -> Result<Site> {
        Site::with(options())
    }

    pub(crate) fn with(options: Options) -> Result<Site> {
        Site::with_links(options, false)
    }

    pub(crate) fn with_access_log(path: &Path) -> Result<Site> {
        Site::with(Options {
            access_log: Some(AccessLog::open(path)?),
            ..options()
        })
    }

    pub(crate) fn with_links(options: Options, follow_symlinks: bool) -> Result<Site> {
        Site::build(options, follow_symlinks, ADDR)
    }

    /// With another address of the server.
    pub(crate) fn at(options: Options, addr: &str) -> Result<Site> {
        Site::build(options, false, addr)
    }

    fn build(options: Options, follow_symlinks: bool, addr: &str) -> Result<Site> {
        let dir = Folder::new()?;
        let tree = Tree::open(dir.path(), follow_symlinks)?;
        let has_tls = options.tls.is_some();
        let service = Service::new(tree, options);
        let listen = addr.to_owned();
        let scene = Scene::new(Network::new(1), move || {
            if has_tls {
                service.serve_tls(TLS_ADDR)?;
            }
            service.serve(listen.as_str())
        })?;
        let addr = addr.to_owned();
        let site = Site { scene, dir, addr };
        site.dir.store("a.txt", b"hello, world\n")?;
        fs::create_dir(site.dir.path().join("dir"))?;
        site.dir.store("dir/big", big())?;
        Ok(site)
    }

    pub(crate) fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(self.addr.as_str())?)
    }

    /// The replies to some input on a connection of its own.
    pub(crate) fn replies(&self, input: impl AsRef<[u8]>) -> Result<Vec<Reply>> {
        let client = self.client()?;
        client.send(input);
        self.settle()?;
        Ok(parse(&client.take_received()))
    }

    /// The reply to GET with these fields.
    pub(crate) fn get(&self, path: &str, fields: &str) -> Result<Reply> {
        self.one(request("GET", path, fields, ""))
    }

    pub(crate) fn one(&self, input: impl AsRef<[u8]>) -> Result<Reply> {
        let mut replies = self.replies(input)?;
        assert_eq!(replies.len(), 1);
        Ok(replies.remove(0))
    }
}

/// More than one turn sends.
pub(crate) fn big() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let rows = (0..20_000).map(|n| format!("row {n}\n"));
        rows.collect::<String>().into_bytes()
    })
}

pub(crate) fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}")
}

pub(crate) fn put(path: &str, body: &str) -> String {
    request("PUT", path, ANN, body)
}

#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn statuses(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status).collect()
}

/// The replies in a stream. None of them may be cut.
pub(crate) fn parse(mut stream: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !stream.is_empty() {
        let end = memchr::memmem::find(stream, b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(stream[..end].to_vec()).unwrap();
        stream = &stream[end..];
        let status = head[9..12].parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: vec![],
        };
        if reply.field("transfer-encoding") == Some("chunked") && !stream.is_empty() {
            loop {
                let end = memchr::memmem::find(stream, b"\r\n").expect("a chunk");
                let digits = std::str::from_utf8(&stream[..end]).unwrap();
                let length = usize::from_str_radix(digits, 16).unwrap();
                let chunk = &stream[end + 2..][..length + 2];
                assert_eq!(&chunk[length..], b"\r\n");
                reply.body.extend_from_slice(&chunk[..length]);
                stream = &stream[end + 4 + length..];
                if length == 0 {
                    break;
                }
            }
        } else if let Some(length) = reply.field("content-length") {
            let length: usize = length.parse().unwrap();
            // The body of a reply to HEAD is missing. A test sends HEAD last, or to a file that is not `HTTP/1.1 ...`.
            if !stream.starts_with(b"HTTP/1.1 ") && !stream.is_empty() {
                reply.body = stream[..length].to_vec();
                stream = &stream[length..];
            }
        } else if reply.field("connection") == Some("close") && ![204, 304].contains(&status) {
            reply.body = std::mem::take(&mut stream).to_vec();
        }
        replies.push(reply);
    }
    replies
}
