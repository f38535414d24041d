//! The files and folders that requests open: how many, how often, and of which kind.

#[cfg(target_os = "linux")]
use std::fs;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

use crate::http::Options;
#[cfg(target_os = "linux")]
use crate::opened::Watched;
use crate::site::{ADDR, ANN, Site, big, options, parse, put, request};
use crate::users::Shares;

/// However many connections it has.
#[test]
fn an_address_has_its_share_of_the_open_files() -> Result {
    let site = Site::with(Options {
        open_files: Shares::new(4),
        ..options()
    })?;
    let download = |from: &str| -> Result<Peer> {
        let from = from.parse::<SocketAddr>()?;
        let client = site.network.connect_from(from, ADDR)?;
        client.stop_reading();
        client.send(request("GET", "/dir/big", "", ""));
        site.settle()?;
        Ok(client)
    };
    let first = download("192.0.2.7:0")?;
    let _second = download("192.0.2.7:0")?;
    let third = download("192.0.2.7:0")?;
    third.start_reading(usize::MAX);
    site.settle()?;
    let reply = parse(&third.take_received()).remove(0);
    assert_eq!(
        (reply.status, reply.field("retry-after")),
        (503, Some("10"))
    );
    // A folder and an upload have something open, too. A small file is closed before it is sent, and HEAD sends none.
    for (input, status) in [
        (request("GET", "/dir/", "", ""), 503),
        (put("/new", "content"), 503),
        // One that is removed is open until it is closed on a thread.
        (request("DELETE", "/a.txt", ANN, ""), 503),
        (request("GET", "/a.txt", "", ""), 200),
        (request("HEAD", "/dir/big", "", ""), 200),
    ] {
        let reply = site.ask(&third, &input)?;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    // Others have theirs.
    let other = download("192.0.2.8:0")?;
    other.start_reading(usize::MAX);
    site.settle()?;
    assert_eq!(parse(&other.take_received()).remove(0).body, big());
    first.reset();
    site.settle()?;
    let reply = site.ask(&third, put("/new", "content"))?;
    assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
    Ok(())
}

/// Also for the index of a folder, and for the compressed files beside it.
#[cfg(target_os = "linux")]
#[test]
fn the_path_of_a_request_is_walked_once() -> Result {
    let site = Site::new()?;
    let folder = site.dir.path().join("dir");
    for name in ["dir/index.html", "dir/index.html.gz"] {
        site.dir.store(name, b"content")?;
    }
    let watched = Watched::new(&folder)?;
    for path in ["/dir/big", "/dir/none", "/dir/", "/dir", "/dir/index.html"] {
        site.get(path, "Accept-Encoding: br, zstd, gzip\r\n")?;
        assert_eq!(watched.opened()?, 1, "{path}");
    }
    fs::remove_file(folder.join("index.html"))?;
    assert!(site.get("/dir/", "")?.text().contains("index.html.gz"));
    assert_eq!(watched.opened()?, 1);
    Ok(())
}

/// A program that waits for a reader of its pipe would take the server for it, and get SIGPIPE.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_opened() -> Result {
    for follow_symlinks in [false, true] {
        let site = Site::with_links(options(), follow_symlinks)?;
        let path = site.dir.path().join("pipe");
        crate::folder::make_pipe(&path)?;
        crate::folder::make_pipe(&site.dir.path().join("a.txt.gz"))?;
        let (pipe, compressed) = (
            Watched::new(&path)?,
            Watched::new(&site.dir.path().join("a.txt.gz"))?,
        );
        for (input, status) in [
            (request("GET", "/pipe", "", ""), 403),
            (request("GET", "/pipe/", "", ""), 403),
            (request("GET", "/pipe/x", "", ""), 404),
            (put("/pipe", "content"), 403),
            (request("DELETE", "/pipe", ANN, ""), 403),
            (
                request("GET", "/a.txt", "Accept-Encoding: gzip\r\n", ""),
                200,
            ),
            (request("GET", "/", "", ""), 200),
        ] {
            assert_eq!(site.one(&input)?.status, status, "{input}");
        }
        assert_eq!((pipe.opened()?, compressed.opened()?), (0, 0));
        assert!(path.exists());
        // A folder whose index cannot be read is not listed: its author wants that nobody sees a list.
        crate::folder::make_pipe(&site.dir.path().join("dir/index.html"))?;
        assert_eq!(site.get("/dir/", "")?.status, 403);
        // That it was a file is remembered for a moment.
        site.dir.store("other", b"a file")?;
        assert_eq!(site.get("/other", "")?.status, 200);
        let other = site.dir.path().join("other");
        fs::remove_file(&other)?;
        crate::folder::make_pipe(&other)?;
        let other = Watched::new(&other)?;
        site.advance(Duration::from_secs(1))?;
        assert_eq!(site.get("/other", "")?.status, 403);
        assert_eq!(other.opened()?, 0);
    }
    Ok(())
}
