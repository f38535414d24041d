//! GET: files, parts of them, conditions, folders, and what is outside.

use std::fs::{self, File};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use asynchat::Result;
use tempfile::TempDir;

use crate::folder::{changed, now};
use crate::http::Options;
use crate::site::{ANN, Site, big, options, put, request};

#[test]
fn a_file_has_its_fields() -> Result {
    let site = Site::new()?;
    let reply = site.get("/a.txt?query", "")?;
    let tag = reply.field("etag").unwrap();
    assert!(tag.starts_with("\"2ebc98a1.0.d") && tag.ends_with('"'));
    assert_eq!(
        reply.head,
        format!(
            "HTTP/1.1 200 OK\r\nDate: Mon, 15 Jun 2026 12:00:00 GMT\r\nServer: asynchat-files\r\n\
             X-Content-Type-Options: nosniff\r\nETag: {tag}\r\nVary: Accept-Encoding\r\n\
             Cache-Control: no-cache\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\nAccept-Ranges: bytes\r\nContent-Length: 13\r\n\r\n"
        )
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

/// RFC 9110 section 8.8.2.1: Last-Modified is not later than Date. The clock of the server may have been wrong.
#[test]
fn no_file_is_said_to_be_changed_in_the_future() -> Result {
    let site = Site::new()?;
    let file = File::options()
        .write(true)
        .open(site.dir.path().join("a.txt"))?;
    file.set_modified(now() + Duration::from_secs(3600))?;
    drop(file); // Windows replaces no file that is open.
    let reply = site.get("/a.txt", "")?;
    let date = "Mon, 15 Jun 2026 12:00:00 GMT";
    let fields = ["date", "last-modified"].map(|name| reply.field(name));
    assert_eq!(fields, [Some(date); 2]);
    // Conditions are compared with what was sent.
    for (condition, status) in [("If-Modified-Since", 304), ("If-Unmodified-Since", 200)] {
        let fields = format!("{condition}: {date}\r\n");
        assert_eq!(site.get("/a.txt", &fields)?.status, status, "{condition}");
    }
    let fields = format!("{ANN}If-Unmodified-Since: {date}\r\n");
    let replaced = site.one(request("PUT", "/a.txt", &fields, "new"))?;
    assert_eq!(replaced.status, 204);
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
    assert_eq!(read_only.dir.names()?, ["a.txt", "dir"]);
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
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"), "{range}");
        if status != 416 {
            assert_eq!(reply.text(), content, "{range}");
        }
    }
    site.dir.store("empty", b"")?;
    for (range, status) in [
        ("bytes=0-", 200),
        ("bytes=0-1023", 200),
        ("bytes=5-", 200),
        ("bytes=-5", 200),
        ("bytes=-0", 416),
    ] {
        let reply = site.get("/empty", &format!("Range: {range}\r\n"))?;
        assert_eq!(reply.status, status, "{range}");
        let part = (status == 416).then_some("bytes */0");
        assert_eq!(reply.field("content-range"), part, "{range}");
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
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    let site = Site::new()?;
    let reply = site.get("/a.txt", "")?;
    let same = reply.field("etag").unwrap();
    for (fields, status) in [
        (format!("If-None-Match: {same}\r\n"), 304),
        (format!("If-None-Match: W/{same}\r\n"), 304),
        (format!("If-None-Match: \"a,b\", {same}\r\n"), 304),
        (
            format!("If-None-Match: \"x\"\r\nIf-None-Match: {same}\r\n"),
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
        // A client may send the time at which it has received the file.
        (format!("If-Modified-Since: {AFTER}\r\n"), 304),
        ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
        (format!("If-Match: {same}\r\n"), 200),
        ("If-Match: *\r\n".to_owned(), 200),
        (format!("If-Match: W/{same}\r\n"), 412),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {same}\r\n"), 412),
        (
            format!("If-Match: {same}\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
            200,
        ),
        (
            format!("If-Match: {same}\r\nIf-None-Match: {same}\r\n"),
            304,
        ),
        (format!("If-Unmodified-Since: {EXACT}\r\n"), 200),
        (format!("If-Unmodified-Since: {BEFORE}\r\n"), 412),
        (format!("If-Unmodified-Since: {AFTER}\r\n"), 200),
        (format!("If-Range: {same}\r\nRange: bytes=0-1\r\n"), 206),
        // It may be that of another content.
        (format!("If-Range: {EXACT}\r\nRange: bytes=0-1\r\n"), 200),
        (format!("If-Range: W/{same}\r\nRange: bytes=0-1\r\n"), 200),
        ("If-Range: \"x\"\r\nRange: bytes=0-1\r\n".to_owned(), 200),
        (format!("If-Range: {BEFORE}\r\nRange: bytes=0-1\r\n"), 200),
        (
            format!("If-None-Match: {same}\r\nRange: bytes=0-1\r\n"),
            304,
        ),
    ] {
        let reply = site.get("/a.txt", &fields)?;
        assert_eq!(reply.status, status, "{fields}");
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"), "{fields}");
        if status == 304 {
            assert_eq!(
                reply.head,
                format!(
                    "HTTP/1.1 304 Not Modified\r\nDate: Mon, 15 Jun 2026 12:00:00 GMT\r\n\
                     Server: asynchat-files\r\nX-Content-Type-Options: nosniff\r\nETag: {same}\r\n\
                     Vary: Accept-Encoding\r\nCache-Control: no-cache\r\n\r\n"
                )
            );
        }
    }
    // Of what does not exist.
    assert_eq!(site.get("/none", "If-Match: *\r\n")?.status, 404);
    Ok(())
}

/// RFC 9110 section 8.8.2.2: two contents can have the same date.
#[test]
fn a_part_is_of_the_content_that_the_client_has() -> Result {
    let site = Site::new()?;
    // The compressed content has the date of the original, but not its tag.
    site.dir.store("b.txt", b"hello")?;
    site.dir.store("b.txt.gz", b"gzipped")?;
    let get = |condition: &str| {
        let fields = format!("Accept-Encoding: gzip\r\n{condition}Range: bytes=0-1\r\n");
        site.get("/b.txt", &fields)
    };
    let reply = get("")?;
    let fields = ["etag", "last-modified"].map(|name| reply.field(name).unwrap());
    for (validator, status) in fields.into_iter().zip([206, 200]) {
        let reply = get(&format!("If-Range: {validator}\r\n"))?;
        assert_eq!(reply.status, status, "{validator}");
        assert_eq!(reply.field("content-encoding"), Some("gzip"));
    }
    Ok(())
}

/// Also if they have one size and one date: a client that changes a file can set its date.
#[cfg(unix)]
#[test]
fn two_contents_have_two_tags() -> Result {
    use std::os::unix::fs::MetadataExt;

    let site = Site::new()?;
    let status_changed = || -> Result<_> {
        let metadata = fs::metadata(site.dir.path().join("a.txt"))?;
        Ok((metadata.ctime(), metadata.ctime_nsec()))
    };
    let (first, before) = (site.get("/a.txt", "")?, status_changed()?);
    let end = Instant::now() + Duration::from_secs(60);
    // The clock of a file system has ticks of some milliseconds.
    while status_changed()? == before {
        assert!(Instant::now() < end, "the clock stands still");
        site.dir.store("a.txt", b"HELLO, WORLD\n")?;
    }
    let second = site.get("/a.txt", "")?;
    assert_ne!(first.body, second.body);
    for (name, is_equal) in [("last-modified", true), ("etag", false)] {
        assert_eq!(first.field(name) == second.field(name), is_equal, "{name}");
    }
    let tag = first.field("etag").unwrap();
    let condition = |name: &str| format!("{name}: {tag}\r\nRange: bytes=0-1\r\n");
    for (name, status) in [("If-None-Match", 206), ("If-Match", 412), ("If-Range", 200)] {
        assert_eq!(site.get("/a.txt", &condition(name))?.status, status);
    }
    Ok(())
}

#[test]
fn a_compressed_file_is_sent_to_clients_that_accept_it() -> Result {
    let site = Site::new()?;
    site.dir.store("a.txt.gz", b"gzipped")?;
    site.dir.store("a.txt.zst", b"zstandard")?;
    let original = site.get("/a.txt", "")?;
    let tag = original.field("etag").unwrap();
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
        // RFC 9110 section 8.4.1.3: another name of gzip.
        (
            "Accept-Encoding: X-Gzip, zstd;q=0.5\r\n",
            "gzipped",
            Some("gzip"),
        ),
        // A client may like the original better.
        (
            "Accept-Encoding: gzip;q=0.5, identity\r\n",
            "hello, world\n",
            None,
        ),
        (
            "Accept-Encoding: zstd;q=0.5, Identity;q=0.7, gzip;q=0.8\r\n",
            "gzipped",
            Some("gzip"),
        ),
        (
            "Accept-Encoding: identity;q=0.5, *;q=0.2\r\n",
            "hello, world\n",
            None,
        ),
        (
            "Accept-Encoding: identity;q=0.5, gzip;q=0.5\r\n",
            "gzipped",
            Some("gzip"),
        ),
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
        assert_eq!(reply.field("etag") == Some(tag), coding.is_none());
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

/// `brotli` and `pigz` give a file the time of the original in whole seconds.
#[test]
fn a_compressed_file_may_have_a_time_in_whole_seconds() -> Result {
    let site = Site::new()?;
    site.dir.store("a.txt.br", b"brotli")?;
    let path = site.dir.path().join("a.txt");
    let file = File::options().write(true).open(path)?;
    let accepted = "Accept-Encoding: br\r\n";
    for (millis, content) in [(0, "brotli"), (999, "brotli"), (1000, "hello, world\n")] {
        file.set_modified(changed() + Duration::from_millis(millis))?;
        assert_eq!(site.get("/a.txt", accepted)?.text(), content, "{millis}");
    }
    Ok(())
}

/// The smallest content, of those that a client likes equally.
#[test]
fn brotli_comes_before_zstandard_and_zstandard_before_gzip() -> Result {
    let site = Site::new()?;
    site.dir.store("a.txt.gz", b"gzipped")?;
    site.dir.store("a.txt.zst", b"zstandard")?;
    site.dir.store("a.txt.br", b"brotli")?;
    let is_sent = |accepted: &str, content: &str, coding: &str| -> Result {
        let reply = site.get("/a.txt", &format!("Accept-Encoding: {accepted}\r\n"))?;
        let sent = (reply.text(), reply.field("content-encoding"));
        assert_eq!(sent, (content, Some(coding)), "{accepted}");
        Ok(())
    };
    is_sent("gzip, zstd, br", "brotli", "br")?;
    is_sent("*", "brotli", "br")?;
    is_sent("BR", "brotli", "br")?;
    is_sent("gzip, br;q=0.5", "gzipped", "gzip")?;
    is_sent("gzip, zstd, br;q=0", "zstandard", "zstd")?;
    is_sent("zstd;q=0.5, gzip;q=0.5", "zstandard", "zstd")?;
    fs::remove_file(site.dir.path().join("a.txt.br"))?;
    is_sent("gzip, zstd, br", "zstandard", "zstd")?;
    fs::remove_file(site.dir.path().join("a.txt.zst"))?;
    is_sent("gzip, zstd, br", "gzipped", "gzip")
}

/// Each name costs a system call, and a link to its own folder makes any path possible.
#[test]
fn a_path_has_at_most_a_hundred_names() -> Result {
    let site = Site::new()?;
    let path = |count: usize, name: &str| format!("/{name}").repeat(count);
    assert_eq!(site.get(&path(100, "x"), "")?.status, 404);
    for path in [path(101, "x"), path(2000, "x"), path(2000, "x") + "/"] {
        let reply = site.get(&path, "")?;
        assert_eq!(reply.status, 414);
        assert_eq!(
            reply.text(),
            "414 URI Too Long: the path has more than 100 names\n"
        );
        assert_eq!(site.one(put(&path, "x"))?.status, 414);
        let delete = request("DELETE", &path, ANN, "");
        assert_eq!(site.one(delete)?.status, 414);
    }
    // The page of the deepest folder has a link to each folder on the way.
    let deepest = path(100, &"a".repeat(30));
    fs::create_dir_all(site.dir.path().join(&deepest[1..]))?;
    let page = site.get(&format!("{deepest}/"), "")?;
    assert_eq!(page.status, 200);
    assert!(page.body.len() < 40_000, "{}", page.body.len());
    let text = page.text();
    for up in [0, 1, 99] {
        let link = format!(" / <a href=\"./{}\">aaa", "../".repeat(up));
        assert_eq!(text.matches(&link).count(), 1, "{link}: {text}");
    }
    #[cfg(unix)]
    {
        let site = Site::with_links(options(), true)?;
        std::os::unix::fs::symlink(".", site.dir.path().join("s"))?;
        assert_eq!(site.get(&(path(99, "s") + "/a.txt"), "")?.status, 200);
        assert_eq!(site.get(&(path(100, "s") + "/a.txt"), "")?.status, 414);
    }
    Ok(())
}

/// The system has a limit, which is one of the path itself. Each byte takes three when it is encoded.
#[test]
fn a_path_has_at_most_4096_bytes() -> Result {
    let site = Site::new()?;
    // 15 names of 250 bytes, which take 11,250 bytes in the URL.
    let encoded = format!("/{}", "%C3%BC".repeat(125)).repeat(15);
    assert_eq!(site.one(put(&encoded, "x"))?.status, 409);
    #[cfg(target_os = "linux")]
    {
        let names = format!("{}/", "ü".repeat(125)).repeat(15);
        fs::create_dir_all(site.dir.path().join(names))?;
        assert_eq!(site.one(put(&format!("{encoded}/new"), "x"))?.status, 201);
    }
    // 16 names of 255 bytes and their slashes are 4,095 bytes.
    let path = |last: &str| format!("{}/{last}", format!("/{}", "x".repeat(255)).repeat(16));
    assert_eq!(site.get(&path(""), "")?.status, 404);
    let too_long = path("xx");
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let body = if method == "PUT" { "x" } else { "" };
        let reply = site.one(request(method, &too_long, ANN, body))?;
        assert_eq!(reply.status, 414, "{method}");
    }
    let reply = site.get(&too_long, "")?;
    assert_eq!(
        reply.text(),
        "414 URI Too Long: the path has more than 4096 bytes\n"
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
        site.dir.store("dir/<b> \"&'é", b"")?;
        // Without a mark of direction: "gpj.exe" must not look like "exe.jpg".
        site.dir.store("dir/\u{202e}gpj.exe", b"")?;
        let page = site.get("/dir/", "")?;
        assert_eq!(page.status, 200);
        let row = "<a href=\"%3Cb%3E%20%22%26%27%C3%A9\">&lt;b&gt; &quot;&amp;&#39;é</a>";
        assert!(page.text().contains(row), "{}", page.text());
        let row = "<a href=\"%E2%80%AEgpj.exe\">\u{fffd}gpj.exe</a>";
        assert!(page.text().contains(row), "{}", page.text());
        let file = site.get("/dir/%3Cb%3E%20%22%26%27%C3%A9", "")?;
        assert_eq!(file.status, 200);
    }
    // An upload that is not complete is not shown, and not served.
    site.dir.store(".files-upload-1", b"part")?;
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
    // All of the page is in a landmark.
    let heading = "<header>\n<h1><a href=\"/\">files</a></h1>\n</header>\n<main>\n";
    assert!(root.text().contains(heading), "{}", root.text());
    assert_eq!(site.get("/.files-upload-1", "")?.status, 404);
    let page = site.get("/dir/", "")?;
    assert_eq!(page.text().matches("<a href=\"n").count(), 3000);
    assert!(page.text().find(">n0<") < page.text().find(">n2999<"));
    let head = site.one(request("HEAD", "/dir/", "", ""))?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let script = site.get("/-/files.js", "")?;
    assert!(
        script.text().contains("\"PUT\"") && script.text().contains("\"If-None-Match\", \"*\"")
    );
    assert_eq!(site.get("/-/nothing", "")?.status, 404);

    site.dir.store("dir/index.html", b"<p>index")?;
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
            // On Windows it begins with a letter, so it is no target.
            #[cfg(unix)]
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
                // Clients do not see the link, and do not replace it.
                for fields in ["", "If-None-Match: *\r\n"] {
                    let fields = format!("{ANN}{fields}");
                    assert_eq!(site.one(request("PUT", "/file", &fields, "x"))?.status, 403);
                }
            } else {
                // The link is replaced, not what it points to.
                assert_eq!(site.one(put("/file", "x"))?.status, 204);
            }
            assert_eq!(
                root.join("file").symlink_metadata()?.is_file(),
                follow_symlinks
            );
            // A pipe would stall the loop.
            crate::folder::make_pipe(&root.join("pipe"))?;
            assert_eq!(site.get("/pipe", "")?.status, 403);
        }
    }
    assert_eq!(fs::read_to_string(outside.path().join("secret"))?, "secret");
    assert_eq!(fs::read_dir(outside.path())?.count(), 1);
    Ok(())
}
