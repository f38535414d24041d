//! The `files` example on a simulated network with a real folder: every segmentation, requests that are smuggled,
//! pipelining, parts, conditions, uploads, paths, and time.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `files` uses the rest"
)]

#[path = "../files/http/mod.rs"]
mod http;
#[path = "../http1/mod.rs"]
mod http1;
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
use std::ops::Deref;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::sim::{self, Ended, Network, Peer};
use asynchat::{Limits, Result};
use http::access_log::AccessLog;
use http::{Options, Service};
use scene::Scene;
use tempfile::TempDir;
use tls::server_config;
use tree::Tree;
use users::Users;

const ADDR: &str = "192.0.2.1:80";
const TLS_ADDR: &str = "192.0.2.1:443";

/// `ann:secret`
const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";

/// When the files were changed: Sun, 06 Nov 1994 08:49:37 GMT.
fn changed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// Mon, 15 Jun 2026 12:00:00 GMT.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_524_800)
}

/// A server of a new folder.
struct Site {
    scene: Scene,
    dir: TempDir,
}

impl Deref for Site {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
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

impl Site {
    /// A site with `/a.txt` and `/dir/big`.
    fn new() -> Result<Site> {
        Site::with(options())
    }

    fn with(options: Options) -> Result<Site> {
        Site::with_links(options, false)
    }

    fn with_links(options: Options, follow_symlinks: bool) -> Result<Site> {
        let dir = TempDir::new()?;
        let tree = Tree::open(dir.path(), follow_symlinks)?;
        let has_tls = options.tls.is_some();
        let service = Service::new(tree, options);
        let scene = Scene::new(Network::new(1), move || {
            if has_tls {
                service.serve_tls(TLS_ADDR)?;
            }
            service.serve(ADDR)
        })?;
        let site = Site { scene, dir };
        site.store("a.txt", b"hello, world\n")?;
        fs::create_dir(site.dir.path().join("dir"))?;
        site.store("dir/big", big())?;
        Ok(site)
    }

    fn store(&self, name: &str, content: &[u8]) -> Result {
        let path = self.dir.path().join(name);
        fs::write(&path, content)?;
        File::options()
            .write(true)
            .open(path)?
            .set_modified(changed())?;
        Ok(())
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

    fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(ADDR)?)
    }

    /// The replies to some input on a connection of its own.
    fn replies(&self, input: impl AsRef<[u8]>) -> Result<Vec<Reply>> {
        let client = self.client()?;
        client.send(input);
        self.settle()?;
        Ok(parse(&client.take_received()))
    }

    /// The reply to GET with these fields.
    fn get(&self, path: &str, fields: &str) -> Result<Reply> {
        self.one(request("GET", path, fields, ""))
    }

    fn one(&self, input: impl AsRef<[u8]>) -> Result<Reply> {
        let mut replies = self.replies(input)?;
        assert_eq!(replies.len(), 1);
        Ok(replies.remove(0))
    }
}

/// More than one turn sends.
fn big() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let rows = (0..20_000).map(|n| format!("row {n}\n"));
        rows.collect::<String>().into_bytes()
    })
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}")
}

fn put(path: &str, body: &str) -> String {
    request("PUT", path, ANN, body)
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn statuses(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status).collect()
}

/// The replies in a stream. None of them may be cut.
fn parse(mut stream: &[u8]) -> Vec<Reply> {
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

#[test]
fn the_replies_are_the_same_under_every_segmentation() -> Result {
    let input = [
        "\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        put("/new", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!(
            "PUT /chunked HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\nhello\r\n2\r\n\r\n\r\n0\r\nT: x\r\n\r\n"
        ),
        request("POST", "/", "", "not wanted"),
        request("HEAD", "/new", "", ""),
        request(
            "GET",
            "/chunked",
            "Range: bytes=1-3\r\nConnection: close\r\n",
            "",
        ),
        request("DELETE", "/a.txt", ANN, ""),
    ]
    .concat();
    let mut expected = None;
    sim::every_segmentation(input.as_bytes(), |pieces| {
        let site = Site::new()?;
        let client = site.client()?;
        for piece in pieces {
            client.send(piece);
            site.settle()?;
        }
        assert_eq!(client.ended(), Some(Ended::Finished));
        let replies = String::from_utf8(client.take_received())?;
        // What was uploaded has the time of the upload.
        let is_timed =
            |line: &&str| line.starts_with("ETag: ") || line.starts_with("Last-Modified: ");
        let timeless: Vec<_> = replies.lines().filter(|line| !is_timed(line)).collect();
        let expected = expected.get_or_insert_with(|| timeless.join("\n"));
        assert_eq!(timeless.join("\n"), *expected, "{pieces:?}");
        assert_eq!(
            site.read("new").unwrap(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        assert_eq!(site.read("chunked").unwrap(), b"hello\r\n");
        assert!(
            site.read("a.txt").is_some(),
            "the connection was closed before"
        );
        assert_eq!(site.names()?, ["a.txt", "chunked", "dir", "new"]);
        Ok(())
    })?;
    let text = expected.unwrap();
    let statuses: Vec<_> = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|reply| &reply[..3])
        .collect();
    assert_eq!(statuses, ["200", "201", "201", "405", "200", "206"]);
    assert!(text.ends_with("ell"), "{text}");
    Ok(())
}

/// Each is answered with an error, and nothing that follows is taken for a request.
#[test]
fn no_request_is_smuggled() -> Result {
    const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = |body: &str| {
        format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n{body}")
    };
    let head = |fields: &str| format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}{fields}\r\n");
    for (input, status) in [
        // CL.TE and TE.CL, and hyper #4123.
        (head("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\nG", 400),
        (head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "1\r\nZ\r\nQ", 400),
        // TE.TE, and tiny_http #287.
        (head("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n", 501),
        (head("Transfer-Encoding: identity\r\n"), 501),
        (head("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), 501),
        (head("Transfer-Encoding : chunked\r\n") + "0\r\n\r\n", 400),
        (head("Transfer-Encoding:\x0bchunked\r\n"), 400),
        (head("X: y\r\n Transfer-Encoding: chunked\r\n"), 400),
        (head("X: y\nTransfer-Encoding: chunked\r\n"), 400),
        (head("X: y\rTransfer-Encoding: chunked\r\n"), 400),
        (head("Content-Length: 5\r\nContent-Length: 0\r\n"), 400),
        (head("Content-Length: 5, 5\r\n"), 400),
        (head("Content-Length: +5\r\n"), 400),
        (head("Content-Length: -1\r\n"), 400),
        (head("Content-Length : 5\r\n"), 400),
        (head("Content-Length: 0x5\r\n"), 400),
        (head("Content-Length: 99999999999999999999\r\n"), 400),
        (head("\0: x\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), 400),
        ("PUT / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        // CVE-2025-43859
        (chunked("5\r\nhelloXX0\r\n\r\n"), 400),
        // CVE-2025-55315
        (chunked("2;\nxx\r\nxy\r\n0\r\n\r\n"), 400),
        (chunked("5\nhello\n0\n\n"), 400),
        (chunked("-5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("5 \r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked("4\r\nhello\r\n0\r\n\r\n"), 400),
        (chunked(&format!("1;{}\r\nx\r\n", "x".repeat(300))), 400),
        (chunked("0\r\nGET /x HTTP/1.1\r\n\r\n"), 400),
    ] {
        let site = Site::new()?;
        let client = site.client()?;
        client.send(format!("{input}{NEXT}"));
        client.finish();
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), [status], "{input:?}");
        assert_eq!(replies[0].field("connection"), Some("close"), "{input:?}");
        assert_eq!(site.names()?, ["a.txt", "dir"], "{input:?}");
        assert!(client.has_ended(), "{input:?}");
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_answered_in_order() -> Result {
    let site = Site::new()?;
    for n in 0..50 {
        let size = if n % 3 == 0 { 50_000 } else { n };
        site.store(&n.to_string(), format!("{n:size$}").as_bytes())?;
    }
    let requests = (0..50).map(|n| request("GET", &format!("/{n}"), "", ""));
    let replies = site.replies(requests.collect::<String>())?;
    assert_eq!(replies.len(), 50);
    for (n, reply) in replies.iter().enumerate() {
        let size = if n % 3 == 0 { 50_000 } else { n };
        assert_eq!((reply.status, reply.text()), (200, &*format!("{n:size$}")));
    }
    Ok(())
}

/// A client that asks for many files and reads nothing does not make the server open them all.
#[cfg(target_os = "linux")]
#[test]
fn a_client_does_not_hold_many_files_open() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    client.stop_reading();
    client.send(request("GET", "/dir/big", "", "").repeat(500));
    site.settle()?;
    let file = site.dir.path().join("dir/big");
    let links =
        fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let open = links.filter(|path| *path == file).count();
    assert!((1..=4).contains(&open), "{open}");
    client.start_reading(usize::MAX);
    site.settle()?;
    let replies = parse(&client.take_received());
    assert_eq!(replies.len(), 500);
    assert!(replies.iter().all(|reply| reply.body == big()));
    Ok(())
}

#[test]
fn a_file_has_its_fields() -> Result {
    let site = Site::new()?;
    let reply = site.get("/a.txt?query", "")?;
    assert_eq!(
        reply.head,
        "HTTP/1.1 200 OK\r\nDate: Mon, 15 Jun 2026 12:00:00 GMT\r\nServer: asynchat-files\r\n\
         X-Content-Type-Options: nosniff\r\nETag: \"2ebc98a1.0.d\"\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nVary: Accept-Encoding\r\nCache-Control: no-cache\r\n\
         Content-Type: text/plain; charset=utf-8\r\nAccept-Ranges: bytes\r\nContent-Length: 13\r\n\r\n"
    );
    assert_eq!(reply.text(), "hello, world\n");
    let head = site.one(request("HEAD", "/a.txt", "", ""))?;
    assert_eq!((head.head, head.body), (reply.head, vec![]));
    assert_eq!(site.get("/dir/big", "")?.body, big());
    assert_eq!(site.get("http://other.example/a.txt", "")?.status, 200);
    for (path, status) in [
        ("/b", 404),
        ("/a.txt/", 404),
        ("/a.txt/b", 404),
        ("a.txt", 400),
        ("*", 400),
    ] {
        assert_eq!(site.get(path, "")?.status, status, "{path}");
    }
    Ok(())
}

#[test]
fn the_methods_that_are_possible_are_named() -> Result {
    let site = Site::new()?;
    let all = "GET, HEAD, OPTIONS, PUT, DELETE";
    for (method, path, status) in [
        ("OPTIONS", "*", 204),
        ("OPTIONS", "/a.txt", 204),
        ("POST", "/a.txt", 405),
    ] {
        let reply = site.one(request(method, path, "", ""))?;
        assert_eq!((reply.status, reply.field("allow")), (status, Some(all)));
    }
    assert_eq!(site.one(request("get", "/a.txt", "", ""))?.status, 501);
    let read_only = Site::with(Options {
        write: false,
        ..options()
    })?;
    for input in [put("/x", "x"), request("DELETE", "/a.txt", ANN, "")] {
        let reply = read_only.one(input)?;
        assert_eq!(
            (reply.status, reply.field("allow")),
            (405, Some("GET, HEAD, OPTIONS"))
        );
    }
    assert_eq!(read_only.names()?, ["a.txt", "dir"]);
    Ok(())
}

#[test]
fn one_part_of_a_file_is_sent() -> Result {
    let site = Site::new()?;
    for (range, status, content, field) in [
        ("bytes=0-4", 206, "hello", "bytes 0-4/13"),
        ("bytes=7-", 206, "world\n", "bytes 7-12/13"),
        ("bytes=7-99", 206, "world\n", "bytes 7-12/13"),
        ("bytes=-6", 206, "world\n", "bytes 7-12/13"),
        ("bytes=-99", 206, "hello, world\n", "bytes 0-12/13"),
        ("Bytes=12-12", 206, "\n", "bytes 12-12/13"),
        (
            "bytes=0-99999999999999999999",
            206,
            "hello, world\n",
            "bytes 0-12/13",
        ),
        ("bytes=13-", 416, "", "bytes */13"),
        ("bytes=99999999999999999999-", 416, "", "bytes */13"),
        ("bytes=-0", 416, "", "bytes */13"),
        // What is not valid is ignored, and so are several ranges.
        ("bytes=0-1,3-4", 200, "hello, world\n", ""),
        ("bytes=4-0", 200, "hello, world\n", ""),
        ("bytes=-", 200, "hello, world\n", ""),
        ("bytes=a-b", 200, "hello, world\n", ""),
        ("bytes 0-1", 200, "hello, world\n", ""),
        ("lines=0-1", 200, "hello, world\n", ""),
    ] {
        let reply = site.get("/a.txt", &format!("Range: {range}\r\n"))?;
        assert_eq!(reply.status, status, "{range}");
        assert_eq!(
            reply.field("content-range").unwrap_or_default(),
            field,
            "{range}"
        );
        if status != 416 {
            assert_eq!(reply.text(), content, "{range}");
        }
    }
    let big = big();
    let reply = site.get("/dir/big", "Range: bytes=1000-100999\r\n")?;
    assert_eq!(reply.body, big[1000..101_000]);
    let reply = site.one(request("HEAD", "/a.txt", "Range: bytes=0-1\r\n", ""))?;
    assert_eq!(
        (reply.status, reply.field("content-length")),
        (200, Some("13"))
    );
    Ok(())
}

/// RFC 9110 section 13.2.2, in its order.
#[test]
fn conditions_are_evaluated_in_order() -> Result {
    const SAME: &str = "\"2ebc98a1.0.d\"";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let site = Site::new()?;
    for (fields, status) in [
        (format!("If-None-Match: {SAME}\r\n"), 304),
        (format!("If-None-Match: W/{SAME}\r\n"), 304),
        (format!("If-None-Match: \"a,b\", {SAME}\r\n"), 304),
        (
            format!("If-None-Match: \"x\"\r\nIf-None-Match: {SAME}\r\n"),
            304,
        ),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        // The date is not looked at then.
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {EXACT}\r\n"),
            200,
        ),
        (format!("If-Modified-Since: {EXACT}\r\n"), 304),
        (format!("If-Modified-Since: {BEFORE}\r\n"), 200),
        ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
        (format!("If-Match: {SAME}\r\n"), 200),
        ("If-Match: *\r\n".to_owned(), 200),
        (format!("If-Match: W/{SAME}\r\n"), 412),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {SAME}\r\n"), 412),
        (
            format!("If-Match: {SAME}\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
            200,
        ),
        (
            format!("If-Match: {SAME}\r\nIf-None-Match: {SAME}\r\n"),
            304,
        ),
        (format!("If-Unmodified-Since: {EXACT}\r\n"), 200),
        (format!("If-Unmodified-Since: {BEFORE}\r\n"), 412),
        (format!("If-Range: {SAME}\r\nRange: bytes=0-1\r\n"), 206),
        (format!("If-Range: {EXACT}\r\nRange: bytes=0-1\r\n"), 206),
        (format!("If-Range: W/{SAME}\r\nRange: bytes=0-1\r\n"), 200),
        ("If-Range: \"x\"\r\nRange: bytes=0-1\r\n".to_owned(), 200),
        (format!("If-Range: {BEFORE}\r\nRange: bytes=0-1\r\n"), 200),
        (
            format!("If-None-Match: {SAME}\r\nRange: bytes=0-1\r\n"),
            304,
        ),
    ] {
        let reply = site.get("/a.txt", &fields)?;
        assert_eq!(reply.status, status, "{fields}");
        if status == 304 {
            assert_eq!(
                (reply.field("etag"), reply.field("content-length")),
                (Some(SAME), None)
            );
        }
    }
    // Of what does not exist.
    assert_eq!(site.get("/none", "If-Match: *\r\n")?.status, 404);
    Ok(())
}

#[test]
fn a_compressed_file_is_sent_to_clients_that_accept_it() -> Result {
    let site = Site::new()?;
    site.store("a.txt.gz", b"gzipped")?;
    site.store("a.txt.zst", b"zstandard")?;
    for (accepted, content, coding) in [
        ("", "hello, world\n", None),
        ("Accept-Encoding: identity\r\n", "hello, world\n", None),
        ("Accept-Encoding: gzip, zstd\r\n", "zstandard", Some("zstd")),
        (
            "Accept-Encoding: gzip, zstd;q=0.5\r\n",
            "gzipped",
            Some("gzip"),
        ),
        ("Accept-Encoding: gzip;q=0, br\r\n", "hello, world\n", None),
        ("Accept-Encoding: *\r\n", "zstandard", Some("zstd")),
        ("Accept-Encoding: *, zstd;q=0\r\n", "gzipped", Some("gzip")),
        (
            "Accept-Encoding: GZIP; q=1.000\r\n",
            "gzipped",
            Some("gzip"),
        ),
        ("Accept-Encoding: gzip;q=2\r\n", "hello, world\n", None),
    ] {
        let reply = site.get("/a.txt", accepted)?;
        assert_eq!(
            (reply.text(), reply.field("content-encoding")),
            (content, coding),
            "{accepted}"
        );
        assert_eq!(
            reply.field("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"));
        // The tags of different contents differ.
        assert_eq!(
            reply.field("etag") == Some("\"2ebc98a1.0.d\""),
            coding.is_none()
        );
    }
    // One of an earlier content is not sent.
    let file = File::options()
        .write(true)
        .open(site.dir.path().join("a.txt"))?;
    file.set_modified(changed() + Duration::from_secs(1))?;
    assert_eq!(
        site.get("/a.txt", "Accept-Encoding: gzip\r\n")?.text(),
        "hello, world\n"
    );
    assert_eq!(
        site.get("/a.txt.gz", "")?.field("content-type"),
        Some("application/gzip")
    );
    Ok(())
}

#[test]
fn a_folder_has_a_page() -> Result {
    let site = Site::new()?;
    let moved = site.get("/dir?q=1", "")?;
    assert_eq!(
        (moved.status, moved.field("location")),
        (301, Some("/dir/?q=1"))
    );
    #[cfg(unix)]
    {
        site.store("dir/<b> \"&'é", b"")?;
        let page = site.get("/dir/", "")?;
        assert_eq!(page.status, 200);
        let row = "<a href=\"%3Cb%3E%20%22%26%27%C3%A9\">&lt;b&gt; &quot;&amp;&#39;é</a>";
        assert!(page.text().contains(row), "{}", page.text());
        let file = site.get("/dir/%3Cb%3E%20%22%26%27%C3%A9", "")?;
        assert_eq!(file.status, 200);
    }
    // An upload that is not complete is not shown, and not served.
    site.store(".files-upload-1", b"part")?;
    for n in 0..3000 {
        fs::write(site.dir.path().join(format!("dir/n{n}")), b"")?;
    }
    let root = site.get("/", "")?;
    assert!(
        root.text().contains(
            "<a href=\"a.txt\">a.txt</a><td title=\"13 bytes\">13 B<td>06 Nov 1994 08:49\n"
        )
    );
    assert!(root.text().contains("<a href=\"dir/\">dir/</a>") && !root.text().contains("upload-1"));
    assert_eq!(site.get("/.files-upload-1", "")?.status, 404);
    let page = site.get("/dir/", "")?;
    assert_eq!(page.text().matches("<a href=\"n").count(), 3000);
    assert!(page.text().find(">n0<") < page.text().find(">n2999<"));
    let head = site.one(request("HEAD", "/dir/", "", ""))?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(site.get("/-/files.js", "")?.text().contains("PUT"));
    assert_eq!(site.get("/-/nothing", "")?.status, 404);

    site.store("dir/index.html", b"<p>index")?;
    let index = site.get("/dir/", "")?;
    assert_eq!(index.text(), "<p>index");
    assert_eq!(
        index.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    Ok(())
}

#[test]
fn nothing_outside_the_folder_is_reached() -> Result {
    let outside = TempDir::new()?;
    fs::write(outside.path().join("secret"), "secret")?;
    for follow_symlinks in [false, true] {
        let site = Site::with_links(options(), follow_symlinks)?;
        let name = outside.path().display();
        for path in [
            "/../secret",
            "/dir/../../secret",
            "/%2e%2e/secret",
            "/%2E./secret",
            "/.%2e/a.txt",
            "/dir/%2e%2e/a.txt",
            "/./a.txt",
            "//a.txt",
            "/dir//big",
            "/..%2fsecret",
            "/dir%2fbig",
            "/%2fetc%2fpasswd",
            "/a.txt%00",
            "/%00",
            "/a.txt%00.html",
            "/%",
            "/%2",
            "/%zz",
            "/..",
            "/.",
            "/..;/secret",
            "/%c0%ae%c0%ae/x",
            &format!("/{name}/secret"),
            &format!("{name}/secret"),
        ] {
            let reply = site.get(path, "")?;
            assert_eq!(reply.status, 404, "{path}");
            for input in [put(path, "x"), request("DELETE", path, ANN, "")] {
                let status = site.one(input)?.status;
                assert!([403, 404, 409].contains(&status), "{path} {status}");
            }
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            let root = site.dir.path();
            symlink(outside.path(), root.join("folder"))?;
            symlink(outside.path().join("secret"), root.join("file"))?;
            symlink("dir/big", root.join("inside"))?;
            for path in ["/folder/secret", "/file"] {
                let reply = site.get(path, "")?;
                assert_eq!(
                    reply.status,
                    if follow_symlinks { 200 } else { 404 },
                    "{path}"
                );
            }
            assert_eq!(site.get("/inside", "")?.status == 200, follow_symlinks);
            let page = site.get("/", "")?;
            assert_eq!(page.text().contains("inside"), follow_symlinks);
            if !follow_symlinks {
                assert_eq!(site.one(put("/folder/new", "x"))?.status, 409);
                assert_eq!(
                    site.one(request("DELETE", "/folder/secret", ANN, ""))?
                        .status,
                    404
                );
                assert_eq!(site.one(request("DELETE", "/file", ANN, ""))?.status, 404);
                // The link is replaced, not what it points to.
                assert_eq!(site.one(put("/file", "x"))?.status, 201);
                assert!(root.join("file").symlink_metadata()?.is_file());
            }
            // A pipe would stall the loop.
            rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR)?;
            assert_eq!(site.get("/pipe", "")?.status, 403);
        }
    }
    assert_eq!(fs::read_to_string(outside.path().join("secret"))?, "secret");
    assert_eq!(fs::read_dir(outside.path())?.count(), 1);
    Ok(())
}

#[test]
fn an_upload_replaces_a_file_when_it_is_complete() -> Result {
    let site = Site::new()?;
    let created = site.one(put("/dir/b%20c", "new"))?;
    assert_eq!(
        (created.status, created.field("location")),
        (201, Some("/dir/b%20c"))
    );
    assert_eq!(
        site.get("/dir/b%20c", "")?.field("etag"),
        created.field("etag")
    );
    let client = site.client()?;
    client.send(format!(
        "PUT /a.txt HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 6\r\n\r\nnew"
    ));
    site.settle()?;
    assert_eq!(site.read("a.txt").unwrap(), b"hello, world\n");
    assert_eq!(site.names()?.len(), 3, "one is temporary");
    let reply = site.ask(&client, "er\n")?;
    assert!(reply.starts_with("HTTP/1.1 204 "), "{reply}");
    assert_eq!(site.read("a.txt").unwrap(), b"newer\n");
    assert_eq!(site.names()?, ["a.txt", "dir"]);
    // An empty one.
    let empty = format!("PUT /e HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 0\r\n\r\n");
    let chunked =
        format!("PUT /e HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(statuses(&site.replies(empty + &chunked)?), [201, 204]);
    assert_eq!(site.read("e").unwrap(), b"");
    for (path, status) in [
        ("/", 409),
        ("/dir", 409),
        ("/dir/", 409),
        ("/none/x", 409),
        ("/a.txt/x", 409),
        ("/-/x", 403),
    ] {
        assert_eq!(site.one(put(path, "x"))?.status, status, "{path}");
    }
    assert_eq!(site.one(request("PUT", "/x", ANN, ""))?.status, 411);
    let part = format!("{ANN}Content-Range: bytes 0-0/2\r\n");
    assert_eq!(site.one(request("PUT", "/x", &part, "x"))?.status, 400);
    assert_eq!(site.names()?, ["a.txt", "dir", "e"]);
    Ok(())
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() -> Result {
    let begin = format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 9\r\n\r\npart");
    type End = fn(&Site, &Peer) -> Result;
    let ends: [(End, &[u16]); 3] = [
        (
            |_, client| {
                client.reset();
                Ok(())
            },
            &[],
        ),
        (
            |_, client| {
                client.finish();
                Ok(())
            },
            &[400],
        ),
        (|site, _| site.advance(Duration::from_secs(31)), &[408]),
    ];
    for (end, expected) in ends {
        let site = Site::new()?;
        let client = site.client()?;
        client.send(&begin);
        site.settle()?;
        assert_eq!(site.names()?.len(), 3);
        end(&site, &client)?;
        site.settle()?;
        assert_eq!(site.names()?, ["a.txt", "dir"]);
        assert_eq!(statuses(&parse(&client.take_received())), expected);
    }
    Ok(())
}

#[test]
fn writing_needs_a_user() -> Result {
    let site = Site::new()?;
    for fields in [
        "",
        "Authorization: Basic\r\n",
        "Authorization: Basic x\r\n",
        "Authorization: Basic YW5uOnNlY3JlCg==\r\n",
        "Authorization: Bearer YW5uOnNlY3JldA==\r\n",
        "Authorization: Basic OnNlY3JldA==\r\n",
        "Authorization: Basic YW5uOg==\r\n",
    ] {
        for method in ["PUT", "DELETE"] {
            let reply = site.one(request(method, "/a.txt", fields, "x"))?;
            assert_eq!(reply.status, 401, "{fields}");
            assert!(
                reply
                    .field("www-authenticate")
                    .unwrap()
                    .starts_with("Basic realm=")
            );
        }
    }
    assert_eq!(site.read("a.txt").unwrap(), b"hello, world\n");
    // A body that is not wanted does not end the connection.
    let input =
        request("PUT", "/x", "", "GET / HTTP/1.1\r\n\r\n") + &request("GET", "/a.txt", "", "");
    assert_eq!(statuses(&site.replies(input)?), [401, 200]);
    let long = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n";
    let reply = site.one(long)?;
    assert_eq!(
        (reply.status, reply.field("connection")),
        (401, Some("close"))
    );
    assert_eq!(site.one(request("DELETE", "/a.txt", ANN, ""))?.status, 204);
    assert_eq!(site.one(request("DELETE", "/a.txt", ANN, ""))?.status, 404);
    assert_eq!(site.one(request("DELETE", "/dir", ANN, ""))?.status, 409);
    assert_eq!(site.names()?, ["dir"]);
    Ok(())
}

#[test]
fn a_client_that_waits_is_told_whether_to_send() -> Result {
    let site = Site::new()?;
    let head = |fields: &str| {
        format!(
            "PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n{fields}\r\n"
        )
    };
    let client = site.client()?;
    assert_eq!(
        site.ask(&client, head(ANN))?,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    assert!(site.ask(&client, "x")?.starts_with("HTTP/1.1 201 "));
    // If it is refused, the next byte may be the body or the next request.
    let client = site.client()?;
    let reply = site.ask(&client, head(""))?;
    assert!(
        reply.starts_with("HTTP/1.1 401 ") && reply.contains("\r\nConnection: close\r\n"),
        "{reply}"
    );
    assert_eq!(
        site.one(request("PUT", "/x", "Expect: tea\r\n", "x"))?
            .status,
        417
    );
    Ok(())
}

#[test]
fn conditions_protect_uploads() -> Result {
    let site = Site::new()?;
    let tag = site.get("/a.txt", "")?.field("etag").unwrap().to_owned();
    let put =
        |path: &str, fields: &str| site.one(request("PUT", path, &format!("{ANN}{fields}"), "x"));
    assert_eq!(put("/a.txt", "If-None-Match: *\r\n")?.status, 412);
    assert_eq!(put("/a.txt", "If-Match: \"x\"\r\n")?.status, 412);
    assert_eq!(put("/b", "If-Match: *\r\n")?.status, 412);
    assert_eq!(put("/b", "If-None-Match: *\r\n")?.status, 201);
    // Two clients change the same state. One of them wins, although both have begun before the other's end.
    let begin = format!(
        "PUT /a.txt HTTP/1.1\r\nHost: a\r\n{ANN}If-Match: {tag}\r\nContent-Length: 2\r\n\r\n"
    );
    let (one, other) = (site.client()?, site.client()?);
    site.ask(&one, &begin)?;
    site.ask(&other, &begin)?;
    assert!(site.ask(&other, "22")?.starts_with("HTTP/1.1 204 "));
    assert!(site.ask(&one, "11")?.starts_with("HTTP/1.1 412 "));
    assert_eq!(site.read("a.txt").unwrap(), b"22");
    assert_eq!(site.names()?, ["a.txt", "b", "dir"]);
    Ok(())
}

#[test]
fn limits_have_a_last_reply() -> Result {
    let site = Site::with(Options {
        max_upload: 10,
        limits: Limits::default().connections(1),
        ..options()
    })?;
    let chunked = format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n"
    );
    for (input, status) in [
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)),
            414,
        ),
        (format!("GET /{}", "a".repeat(40_000)), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(40_000)),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(100)
            ),
            431,
        ),
        (put("/x", "hello world"), 413),
        (chunked, 413),
    ] {
        let client = site.client()?;
        client.send(input);
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), [status]);
        client.finish();
        site.settle()?;
    }
    let first = site.client()?;
    site.settle()?;
    let refused = site.client()?;
    site.settle()?;
    assert_eq!(statuses(&parse(&refused.take_received())), [503]);
    drop(first);
    assert_eq!(site.names()?, ["a.txt", "dir"]);
    Ok(())
}

#[test]
fn slow_requests_have_a_last_reply() -> Result {
    let seconds = Duration::from_secs;
    let site = Site::new()?;
    // A head, a byte at a time.
    let client = site.client()?;
    for byte in request("GET", "/", "X: y\r\n", "").bytes().take(32) {
        client.send([byte]);
        site.advance(seconds(1))?;
    }
    assert_eq!(statuses(&parse(&client.take_received())), [408]);
    assert!(client.has_ended());
    // Between two requests there is more time, and no reply.
    let client = site.client()?;
    site.ask(&client, request("GET", "/a.txt", "", ""))?;
    site.advance(seconds(70))?;
    assert!(!client.has_ended());
    let reply = site.ask(&client, request("GET", "/a.txt", "", ""))?;
    assert!(reply.starts_with("HTTP/1.1 200 "));
    site.advance(seconds(76))?;
    assert!(client.has_ended());
    assert_eq!(client.take_received(), b"");
    // An upload may take as long as it makes progress. Its time begins with its head.
    let client = site.client()?;
    assert!(
        site.ask(&client, request("GET", "/a.txt", "", ""))?
            .contains(" 200 ")
    );
    site.advance(seconds(29))?;
    client.send(format!(
        "PUT /y HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 1\r\n\r\n"
    ));
    site.advance(seconds(29))?;
    assert!(site.ask(&client, "x")?.contains(" 201 "));
    client.send(format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 700000\r\n\r\n"
    ));
    for _ in 0..10 {
        client.send(vec![b'x'; 70_000]);
        site.advance(seconds(29))?;
    }
    assert_eq!(statuses(&parse(&client.take_received())), [201]);
    Ok(())
}

#[test]
fn http_1_0_is_spoken() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    let reply = site.ask(&client, "GET /a.txt HTTP/1.0\r\n\r\n")?;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("hello, world\n"));
    assert!(client.has_ended());
    let keep = "GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let replies = site.replies(keep.repeat(2))?;
    assert_eq!(statuses(&replies), [200, 200]);
    assert_eq!(replies[1].field("connection"), Some("keep-alive"));
    // There are no chunks.
    let client = site.client()?;
    let page = site.ask(&client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")?;
    assert!(
        client.has_ended()
            && !page.contains("chunked")
            && page.contains("\r\nConnection: close\r\n")
    );
    assert!(page.ends_with("</table>\n"), "{page}");
    Ok(())
}

#[test]
fn a_shutdown_lets_an_upload_be_completed() -> Result {
    let site = Site::new()?;
    let (client, idle) = (site.client()?, site.client()?);
    client.send(format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 2\r\n\r\n1"
    ));
    site.settle()?;
    site.event_loop.shutdown(Duration::from_secs(60));
    site.settle()?;
    assert!(idle.has_ended() && !client.has_ended());
    client.send(format!("2{}", request("GET", "/a.txt", "", "")));
    site.settle()?;
    let replies = parse(&client.take_received());
    assert_eq!(statuses(&replies), [201]);
    assert_eq!(replies[0].field("connection"), Some("close"));
    assert_eq!(site.read("x").unwrap(), b"12");
    Ok(())
}

#[test]
fn each_request_is_logged() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let site = Site::with(Options {
        access_log: Some(AccessLog::open(&path)?),
        ..options()
    })?;
    let fields = "Referer: http://x/\"\r\nUser-Agent: a\\b\t\u{e9}\r\n";
    let input = request("GET", "/a.txt", fields, "")
        + &put("/x", "new")
        + &request("HEAD", "/dir/big", "", "")
        + "\n";
    let client = site.client()?;
    site.ask(&client, input)?;
    site.advance(Duration::from_secs(1))?;
    let log = fs::read_to_string(&path)?;
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        lines,
        [
            r#"- - [15/Jun/2026:12:00:00 +0000] "GET /a.txt HTTP/1.1" 200 13 "http://x/\"" "a\\b\x09\xc3\xa9""#,
            r#"- ann [15/Jun/2026:12:00:00 +0000] "PUT /x HTTP/1.1" 201 32 "-" "-""#,
            r#"- - [15/Jun/2026:12:00:00 +0000] "HEAD /dir/big HTTP/1.1" 200 - "-" "-""#,
            r#"- - [15/Jun/2026:12:00:00 +0000] "-" 400 40 "-" "-""#,
        ]
    );
    Ok(())
}

#[test]
fn the_same_is_served_with_tls() -> Result {
    let site = Site::with(Options {
        tls: Some(server_config().into()),
        ..options()
    })?;
    let mut client = site.handshake(site.network.connect(TLS_ADDR)?);
    let input = put("/x", "new") + &request("GET", "/dir/big", "Connection: close\r\n", "");
    let replies = site.ask_tls(&mut client, &input)?;
    let replies = parse(replies.as_bytes());
    assert_eq!(statuses(&replies), [201, 200]);
    assert_eq!(replies[1].body, big());
    assert!(client.is_closed(), "the end is announced");
    Ok(())
}
