//! PUT and DELETE.

#[cfg(target_os = "linux")]
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

use asynchat::Result;
use asynchat::sim::{Ended, Peer};

#[cfg(target_os = "linux")]
use crate::captured::captured_from;
use crate::folder::now;
use crate::gate::{Gate, gated};
use crate::http::Options;
use crate::site::{ADDR, ANN, Reply, Site, options, parse, put, request, statuses};

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
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello, world\n");
    assert_eq!(site.dir.names()?.len(), 3, "one is temporary");
    let reply = site.ask(&client, "er\n")?;
    assert!(reply.starts_with("HTTP/1.1 204 "), "{reply}");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"newer\n");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    // An empty one.
    let empty = format!("PUT /e HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 0\r\n\r\n");
    let chunked =
        format!("PUT /e HTTP/1.1\r\nHost: a\r\n{ANN}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(statuses(&site.replies(empty + &chunked)?), [201, 204]);
    assert_eq!(site.dir.read("e").unwrap(), b"");
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
    // A path with a slash at its end does not lead to a file.
    let delete = request("DELETE", "/a.txt/", ANN, "");
    assert_eq!(site.one(delete)?.status, 404);
    assert_eq!(site.dir.read("a.txt").unwrap(), b"newer\n");
    // No file can have a name that is so long, which the client learns before it sends the body.
    for (length, reply) in [(255, "HTTP/1.1 100 "), (256, "HTTP/1.1 403 ")] {
        let name = "x".repeat(length);
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 1\r\n");
        let received = site.ask(&site.client()?, head + "Expect: 100-continue\r\n\r\n")?;
        assert!(received.starts_with(reply), "{length}: {received}");
    }
    assert_eq!(site.one(request("PUT", "/x", ANN, ""))?.status, 411);
    let part = format!("{ANN}Content-Range: bytes 0-0/2\r\n");
    assert_eq!(site.one(request("PUT", "/x", &part, "x"))?.status, 400);
    // The file would be sent without its coding.
    for (coding, status) in [("gzip", 415), ("identity, gzip", 415), ("Identity", 204)] {
        let fields = format!("{ANN}Content-Encoding: {coding}\r\n");
        let reply = site.one(request("PUT", "/e", &fields, "x"))?;
        assert_eq!(reply.status, status, "{coding}");
    }
    assert_eq!(site.dir.names()?, ["a.txt", "dir", "e"]);
    Ok(())
}

/// Its length is known before, or it is not.
#[test]
fn an_upload_may_be_as_long_as_the_limit() -> Result {
    let site = Site::with(Options {
        max_upload: 10,
        ..options()
    })?;
    let chunked = |path: &str, body: &str| {
        let fields = format!("{ANN}Transfer-Encoding: chunked\r\n");
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        request("PUT", path, &fields, "") + &chunk
    };
    let (longest, longer) = ("0123456789", "0123456789a");
    for (path, input) in [
        ("known", put("/known", longest)),
        ("unknown", chunked("/unknown", longest)),
    ] {
        assert_eq!(site.one(input)?.status, 201, "{path}");
        assert_eq!(site.dir.read(path).unwrap(), longest.as_bytes());
    }
    for input in [put("/known", longer), chunked("/unknown", longer)] {
        assert_eq!(site.one(input)?.status, 413);
    }
    for path in ["known", "unknown"] {
        assert_eq!(site.dir.read(path).unwrap(), longest.as_bytes());
    }
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
        assert_eq!(site.dir.names()?.len(), 3);
        end(&site, &client)?;
        site.settle()?;
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
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
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello, world\n");
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
    assert_eq!(site.dir.names()?, ["dir"]);
    Ok(())
}

/// Its length is not known before. So it is received up to 256 KiB, and what follows that is not.
#[test]
fn a_chunked_body_that_is_not_wanted_has_a_bound() -> Result {
    let site = Site::new()?;
    let most = 256 << 10;
    let next = request("GET", "/a.txt", "", "");
    for (length, expected) in [(most, &[401, 200][..]), (most + 1, &[401])] {
        let client = site.client()?;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        site.settle()?;
        for chunk in vec![b'x'; length].chunks(10_000) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send(format!("0\r\n\r\n{next}"));
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), expected, "{length}");
        assert_eq!(client.has_ended(), length > most);
    }
    // One that does not end.
    let client = site.client()?;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n");
    client.send("x".repeat(most + 1));
    site.settle()?;
    assert_eq!(statuses(&parse(&client.take_received())), [401]);
    assert!(client.has_ended());
    Ok(())
}

/// What follows such a request waits for its check, however it arrives.
#[test]
fn replies_stay_in_order_while_a_password_is_checked() -> Result {
    let files = request("GET", "/dir/big", "", "").repeat(5);
    let input = put("/x", "new") + &request("GET", "/x", "", "") + &files;
    let wrong = "Authorization: Basic YW5uOnNlY3JlCg==\r\n";
    let input = files.clone() + &input + &request("PUT", "/x", wrong, "other");
    let expected = [&[200; 5][..], &[201, 200], &[200; 5], &[401]].concat();
    for cut in (0..input.len()).step_by(7) {
        let site = Site::new()?;
        let client = site.client()?;
        client.send(&input[..cut]);
        site.settle()?;
        client.send(&input[cut..]);
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), expected, "{cut}");
        assert_eq!(replies[6].text(), "new");
        assert_eq!(site.dir.read("x").unwrap(), b"new");
    }
    Ok(())
}

#[test]
fn a_client_with_many_connections_logs_in_on_each_of_them() -> Result {
    let site = Site::new()?;
    let clients = (0..40).map(|_| site.client());
    let clients = clients.collect::<Result<Vec<_>>>()?;
    for (n, client) in clients.iter().enumerate() {
        client.send(put(&format!("/{n}"), "x"));
    }
    site.settle()?;
    for client in &clients {
        assert_eq!(statuses(&parse(&client.take_received())), [201]);
    }
    Ok(())
}

/// Its passwords wait for the gate.
fn gated_site() -> Result<(Site, Gate)> {
    let (logins, gate) = gated();
    let options = Options {
        logins,
        ..options()
    };
    Ok((Site::with(options)?, gate))
}

/// Also when the files before it are sent meanwhile, for which reading had been paused.
#[test]
fn nothing_is_read_while_a_password_is_checked() -> Result {
    let (site, _gate) = gated_site()?;
    let client = site.client()?;
    client.stop_reading();
    let files = request("GET", "/dir/big", "", "");
    client.send(files.repeat(3) + &put("/x", "new") + &request("GET", "/a.txt", "", ""));
    site.settle()?;
    client.start_reading(usize::MAX);
    site.settle()?;
    assert_eq!(statuses(&parse(&client.take_received())), [200; 3]);
    Ok(())
}

/// The reply to a client whose password was not checked in time is the last one, also when the check ends later.
#[test]
fn a_password_that_waits_too_long_gets_a_503() -> Result {
    for method in ["PUT", "HEAD"] {
        let (logins, gate) = gated();
        let site = Site::with(Options {
            logins,
            anonymous: false,
            ..options()
        })?;
        let client = site.client()?;
        client.send(request(method, "/x", ANN, "") + &request("GET", "/a.txt", "", ""));
        site.advance(Duration::from_secs(29))?;
        assert!(client.take_received().is_empty());
        site.advance(Duration::from_secs(2))?;
        let received = client.take_received();
        let reply = String::from_utf8(received)?;
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert_eq!(reply.ends_with("\r\n\r\n"), method == "HEAD", "{reply}");
        assert!(client.has_ended());
        gate.open()?;
        site.settle()?;
        assert!(client.take_received().is_empty());
    }
    Ok(())
}

/// The session is open while the replies before it are sent, and does nothing more.
#[test]
fn a_check_that_ends_after_its_503_has_no_effect() -> Result {
    let (site, gate) = gated_site()?;
    let client = site.client()?;
    client.stop_reading();
    let files = request("GET", "/dir/big", "", "");
    client.send(files + &put("/x", "new") + &request("GET", "/a.txt", "", ""));
    site.advance(Duration::from_secs(31))?;
    gate.open()?;
    site.settle()?;
    assert!(!client.has_ended());
    client.start_reading(usize::MAX);
    site.settle()?;
    assert_eq!(statuses(&parse(&client.take_received())), [200, 503]);
    assert!(client.has_ended());
    assert!(!site.dir.path().join("x").exists());
    Ok(())
}

/// 100 would tell a client to send a body that nobody may want.
#[test]
fn a_body_is_asked_for_after_the_password_was_checked() -> Result {
    let (site, gate) = gated_site()?;
    let client = site.client()?;
    let fields = format!("{ANN}Expect: 100-continue\r\nContent-Length: 3\r\n");
    assert_eq!(site.ask(&client, request("PUT", "/x", &fields, ""))?, "");
    gate.open()?;
    site.settle()?;
    assert_eq!(client.take_received(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(site.ask(&client, "new")?.starts_with("HTTP/1.1 201 "));
    assert_eq!(site.dir.read("x").unwrap(), b"new");
    Ok(())
}

/// Its password is not checked for nothing, and an upload is not lost.
#[test]
fn a_client_may_finish_its_sending_while_its_password_is_checked() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    client.send(put("/x", "new"));
    client.finish();
    site.settle()?;
    assert_eq!(statuses(&parse(&client.take_received())), [201]);
    assert!(client.has_ended());
    Ok(())
}

#[test]
fn an_address_that_guesses_passwords_is_not_served_for_a_while() -> Result {
    let site = Site::new()?;
    let reply = |address: &str, fields: &str| -> Result<Reply> {
        let from = address.parse::<SocketAddr>()?;
        let client = site.network.connect_from(from, ADDR)?;
        client.send(request("PUT", "/new", fields, "x"));
        site.settle()?;
        Ok(parse(&client.take_received()).remove(0))
    };
    let from = |address: &str, fields: &str| reply(address, fields).map(|it| it.status);
    let wrong = "Authorization: Basic YW5uOnNlY3JlCg==\r\n";
    // A browser asks without a password first, which does not count.
    for _ in 0..20 {
        assert_eq!(from("192.0.2.7:0", "")?, 401);
    }
    assert_eq!(from("192.0.2.7:0", ANN)?, 201);
    for _ in 0..10 {
        assert_eq!(from("192.0.2.7:0", wrong)?, 401);
    }
    site.advance(Duration::from_secs(10))?;
    let refused = reply("192.0.2.7:0", ANN)?;
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (429, Some("21"))
    );
    assert!(refused.text().contains("try again in 21 seconds"));
    // A browser would ask for another password.
    assert_eq!(refused.field("www-authenticate"), None);
    assert_eq!(from("192.0.2.8:0", ANN)?, 204);
    site.advance(Duration::from_secs(21))?;
    assert_eq!(from("192.0.2.7:0", ANN)?, 204);
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
    let put =
        |path: &str, fields: &str| site.one(request("PUT", path, &format!("{ANN}{fields}"), "x"));
    assert_eq!(put("/a.txt", "If-None-Match: *\r\n")?.status, 412);
    assert_eq!(put("/a.txt", "If-Match: \"x\"\r\n")?.status, 412);
    assert_eq!(put("/b", "If-Match: *\r\n")?.status, 412);
    // RFC 9110 section 13.1.4: what does not exist has no date.
    let date = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n";
    assert_eq!(put("/a.txt", date)?.status, 412);
    assert_eq!(put("/c", date)?.status, 201);
    assert_eq!(put("/b", "If-None-Match: *\r\n")?.status, 201);
    assert_eq!(site.dir.names()?, ["a.txt", "b", "c", "dir"]);
    Ok(())
}

/// A client that accepts compressed files has the tag of one of them.
#[test]
fn a_condition_may_have_the_tag_of_a_compressed_file() -> Result {
    let site = Site::new()?;
    site.dir.store("a.txt.gz", b"gzipped")?;
    site.dir.store("a.txt.br", b"brotli")?;
    let gzip = "Accept-Encoding: gzip\r\n";
    let tag = site.get("/a.txt", gzip)?.field("etag").unwrap().to_owned();
    assert!(tag.ends_with("-gzip\""), "{tag}");
    let with = |method: &str, condition: &str| {
        let body = if method == "PUT" { "new" } else { "" };
        let fields = format!("{ANN}{condition}\r\n");
        Ok::<_, asynchat::Error>(site.one(request(method, "/a.txt", &fields, body))?.status)
    };
    assert_eq!(with("PUT", &format!("If-None-Match: {tag}"))?, 412);
    assert_eq!(with("PUT", &format!("If-Match: W/{tag}"))?, 412);
    assert_eq!(with("PUT", &format!("If-Match: {tag}"))?, 204);
    assert_eq!(site.dir.read("a.txt").unwrap(), b"new");
    // The compressed files are older than the new content now, and are not sent for it.
    for method in ["PUT", "DELETE"] {
        assert_eq!(with(method, &format!("If-Match: {tag}"))?, 412, "{method}");
    }
    site.dir.store("a.txt", b"as old as the compressed ones")?;
    let tag = site.get("/a.txt", gzip)?.field("etag").unwrap().to_owned();
    assert_eq!(with("DELETE", &format!("If-Match: {tag}"))?, 204);
    Ok(())
}

/// Two clients change the same state. One of them wins, although both have begun before the other's end.
#[test]
fn a_condition_holds_at_the_end_of_an_upload_too() -> Result {
    let site = Site::new()?;
    site.dir.store("b.txt", b"as old as a.txt")?;
    let tag = site.get("/a.txt", "")?.field("etag").unwrap().to_owned();
    for (name, condition, status) in [
        ("a.txt", format!("If-Match: {tag}"), 204),
        (
            "b.txt",
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            204,
        ),
        ("new", "If-None-Match: *".to_owned(), 201),
    ] {
        let begin = format!(
            "PUT /{name} HTTP/1.1\r\nHost: a\r\n{ANN}{condition}\r\nContent-Length: 2\r\n\r\n"
        );
        let (one, other) = (site.client()?, site.client()?);
        site.ask(&one, &begin)?;
        site.ask(&other, &begin)?;
        for (client, body, status) in [(&other, "22", status), (&one, "11", 412)] {
            client.send(body);
            site.settle()?;
            let replies = parse(&client.take_received());
            assert_eq!(statuses(&replies), [status], "{condition}");
        }
        assert_eq!(site.dir.read(name).unwrap(), b"22");
    }
    assert_eq!(site.dir.names()?, ["a.txt", "b.txt", "dir", "new"]);
    Ok(())
}

/// The condition was one for another file, and the file would be where nobody looks for it.
#[cfg(unix)]
#[test]
fn an_upload_fails_if_its_path_leads_elsewhere_at_its_end() -> Result {
    for (condition, path) in [
        ("If-None-Match: *\r\n", "dir/x"),
        ("", "dir/x"),
        ("", "dir/big"),
    ] {
        for is_replaced in [false, true] {
            let site = Site::new()?;
            let client = site.client()?;
            let fields = format!("{ANN}{condition}Content-Length: 2\r\n");
            site.ask(
                &client,
                format!("PUT /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n1"),
            )?;
            let folder = |name: &str| site.dir.path().join(name);
            std::fs::rename(folder("dir"), folder("other"))?;
            if is_replaced {
                std::fs::create_dir(folder("dir"))?;
            }
            site.dir.store("other/x", b"of another client")?;
            let reply = site.ask(&client, "2")?;
            assert!(reply.starts_with("HTTP/1.1 409 "), "{reply}");
            assert_eq!(site.dir.read(path), None);
            assert_eq!(site.dir.read("other/x").unwrap(), b"of another client");
            assert_eq!(std::fs::read_dir(folder("other"))?.count(), 2);
            // The connection can be used for the next request.
            let reply = site.ask(&client, request("GET", "/a.txt", "", ""))?;
            assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        }
    }
    Ok(())
}

/// The clock of the system for files may stand still for some milliseconds: two contents of one length would have one tag.
#[test]
fn an_upload_has_the_time_of_the_clock() -> Result {
    thread_local! {
        static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    let site = Site::with(Options {
        clock: || {
            CALLS.set(CALLS.get() + 1);
            now() + Duration::from_nanos(100) * CALLS.get()
        },
        ..options()
    })?;
    let mut before = now();
    for _ in 0..3 {
        site.one(put("/x", "content"))?;
        let modified = std::fs::metadata(site.dir.path().join("x"))?.modified()?;
        assert!(before < modified, "{before:?}, {modified:?}");
        assert!(modified <= now() + Duration::from_nanos(100) * CALLS.get());
        before = modified;
    }
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
    assert_eq!(site.dir.read("x").unwrap(), b"12");
    Ok(())
}

/// The client learns that it has to send its request again, and need not guess from a reset.
#[test]
fn what_is_incomplete_at_the_end_of_a_shutdown_has_a_reply() -> Result {
    let upload = |fields: &str, body: &str| {
        format!("PUT /a.txt HTTP/1.1\r\nHost: a\r\n{ANN}{fields}\r\n\r\n{body}")
    };
    let length = "Content-Length: 999999";
    for (input, expected) in [
        (upload(length, "part"), &[503][..]),
        (
            upload("Transfer-Encoding: chunked", "4\r\npart\r\n"),
            &[503],
        ),
        (
            upload(&format!("Expect: 100-continue\r\n{length}"), ""),
            &[100, 503],
        ),
        (
            request("GET", "/a.txt", "", "") + &upload(length, "part"),
            &[200, 503],
        ),
        ("GET /a.txt HTTP/1.1\r\nHo".to_owned(), &[503]),
    ] {
        let site = Site::new()?;
        let client = site.client()?;
        client.send(&input);
        site.settle()?;
        site.event_loop.shutdown(Duration::from_secs(5));
        site.advance(Duration::from_millis(4400))?;
        assert!(!client.has_ended(), "{input}");
        site.advance(Duration::from_millis(200))?;
        // It is still sending.
        client.send("more");
        site.settle()?;
        let replies = parse(&client.take_received());
        assert_eq!(statuses(&replies), expected, "{input}");
        let last = replies.last().ok_or("a reply")?;
        assert_eq!(last.field("connection"), Some("close"), "{input}");
        assert!(
            last.text().ends_with(": the server shuts down\n"),
            "{input}"
        );
        assert_eq!(client.ended(), Some(Ended::Finished), "{input}");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"], "{input}");
        assert_eq!(site.dir.read("a.txt").unwrap(), b"hello, world\n");
        client.finish();
        site.settle()?;
        assert!(site.event_loop.is_empty(), "{input}");
    }
    // Its password is being checked.
    let (logins, gate) = gated();
    let site = Site::with(Options {
        logins,
        ..options()
    })?;
    let client = site.client()?;
    assert_eq!(site.ask(&client, put("/a.txt", "new"))?, "");
    site.event_loop.shutdown(Duration::from_secs(5));
    site.advance(Duration::from_millis(4600))?;
    assert_eq!(statuses(&parse(&client.take_received())), [503]);
    assert_eq!(client.ended(), Some(Ended::Finished));
    gate.open()?;
    site.settle()?;
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello, world\n");
    Ok(())
}

#[test]
fn of_two_uploads_the_last_to_complete_stays_and_each_is_whole() -> Result {
    let site = Site::new()?;
    let begin = |first: &str| -> Result<Peer> {
        let client = site.client()?;
        let head = format!("PUT /a.txt HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 8\r\n\r\n");
        client.send(head + first);
        site.settle()?;
        Ok(client)
    };
    let (one, other) = (begin("one ")?, begin("two ")?);
    assert!(site.ask(&other, "more")?.starts_with("HTTP/1.1 204 "));
    assert_eq!(site.dir.read("a.txt").unwrap(), b"two more");
    assert!(site.ask(&one, "last")?.starts_with("HTTP/1.1 204 "));
    assert_eq!(site.dir.read("a.txt").unwrap(), b"one last");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    Ok(())
}

/// What a server has left that was killed. What another server is receiving, and what only looks like a part, stay.
#[cfg(unix)]
#[test]
fn parts_of_uploads_that_belong_to_nobody_are_removed() -> Result {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use rustix::fs::{FlockOperation, flock};

    let site = Site::new()?;
    let part = |number: u64| format!(".files-upload-{number:016x}");
    let (abandoned, locked, folder, link) = (part(10), part(11), part(12), part(13));
    let dir = site.dir.path();
    site.dir.store(&abandoned, b"a part")?;
    site.dir.store(&locked, b"a part")?;
    let locked_file = File::open(dir.join(&locked))?;
    flock(&locked_file, FlockOperation::NonBlockingLockExclusive)?;
    fs::create_dir(dir.join(&folder))?;
    symlink("a.txt", dir.join(&link))?;
    site.dir.store(&format!("dir/{}", part(14)), b"a part")?;
    // Names that the server does not give.
    let others = [
        "1",
        "000000000000000A",
        "00000000000000001",
        "x-0000000000000001",
    ];
    let others = others.map(|end| format!(".files-upload-{end}"));
    for other in &others {
        site.dir.store(other, b"of somebody")?;
    }
    let mut left = [&others[..], &[folder, link, locked]].concat();
    left.sort();

    assert_eq!(site.get("/", "")?.status, 200);
    assert!(
        site.dir.read(&abandoned).is_some(),
        "reading removes nothing"
    );
    // While this server is receiving a file, another upload does not take it for abandoned.
    let client = site.client()?;
    client.send(format!(
        "PUT /one HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 2\r\n\r\n1"
    ));
    site.settle()?;
    assert_eq!(site.one(put("/two", "2"))?.status, 201);
    assert!(site.ask(&client, "1")?.starts_with("HTTP/1.1 201 "));
    let mut expected = left;
    expected.extend(["a.txt", "dir", "one", "two"].map(str::to_owned));
    assert_eq!(site.dir.names()?, expected);
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello, world\n");
    assert_eq!(
        fs::read_dir(dir.join("dir"))?.count(),
        2,
        "each folder in its turn"
    );
    assert_eq!(site.one(put("/dir/three", "3"))?.status, 201);
    assert_eq!(fs::read_dir(dir.join("dir"))?.count(), 2);
    Ok(())
}

/// The search for them takes a bounded time and memory.
#[cfg(unix)]
#[test]
fn the_search_for_parts_is_bounded() -> Result {
    use std::fs;

    let site = Site::new()?;
    let part = |folder: &str, number: u64| format!("{folder}/.files-upload-{number:016x}");
    let parts =
        |folder: &str| -> Result<usize> { Ok(fs::read_dir(site.dir.path().join(folder))?.count()) };
    let upload = |path: &str| -> Result {
        assert_eq!(site.one(put(path, "x"))?.status, 201, "{path}");
        Ok(())
    };
    fs::create_dir(site.dir.path().join("many"))?;
    for number in 0..12_000 {
        fs::write(site.dir.path().join(part("many", number)), b"")?;
    }
    upload("/many/new")?;
    let left = parts("many")?;
    assert!((2000..12_000).contains(&left), "{left}");
    upload("/many/newer")?;
    assert_eq!(parts("many")?, left + 1);

    // A folder is searched once, until there were many others.
    site.dir.store(&part("dir", 1), b"")?;
    upload("/dir/new")?;
    site.dir.store(&part("dir", 2), b"")?;
    upload("/dir/newer")?;
    assert!(site.dir.read(&part("dir", 1)).is_none());
    assert!(site.dir.read(&part("dir", 2)).is_some());
    for number in 0..1000 {
        fs::create_dir(site.dir.path().join(number.to_string()))?;
        upload(&format!("/{number}/new"))?;
    }
    upload("/dir/newest")?;
    assert!(site.dir.read(&part("dir", 2)).is_none());
    Ok(())
}

/// Others must not read the content of a private file while it arrives.
#[cfg(unix)]
#[test]
fn what_replaces_a_private_file_is_private_from_the_beginning() -> Result {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    let site = Site::new()?;
    let path = |name: &str| site.dir.path().join(name);
    let mode =
        |name: &str| -> Result<u32> { Ok(fs::metadata(path(name))?.permissions().mode() & 0o777) };
    let part = || -> Result<String> {
        let names = site.dir.names()?;
        let part = names.into_iter().find(|name| name.starts_with('.'));
        part.ok_or_else(|| "there is no part".into())
    };
    let begin = |name: &str| -> Result<Peer> {
        let client = site.client()?;
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 2\r\n\r\n1");
        client.send(head);
        site.settle()?;
        Ok(client)
    };
    for expected in [0o600, 0o640, 0o644] {
        fs::set_permissions(path("a.txt"), Permissions::from_mode(expected))?;
        let client = begin("a.txt")?;
        assert_eq!(mode(&part()?)?, 0o600);
        assert!(site.ask(&client, "2")?.starts_with("HTTP/1.1 204 "));
        assert_eq!(mode("a.txt")?, expected);
    }
    // Also if the file is removed meanwhile.
    fs::set_permissions(path("a.txt"), Permissions::from_mode(0o640))?;
    let client = begin("a.txt")?;
    fs::remove_file(path("a.txt"))?;
    assert!(site.ask(&client, "2")?.starts_with("HTTP/1.1 201 "));
    assert_eq!(mode("a.txt")?, 0o640);
    // A new file has the permissions of each new file of this process.
    fs::write(path("dir/usual"), b"")?;
    let client = begin("new")?;
    assert!(site.ask(&client, "2")?.starts_with("HTTP/1.1 201 "));
    assert_eq!(mode("new")?, mode("dir/usual")?);
    Ok(())
}

/// The last close of a large file takes long: a thread does it.
#[cfg(target_os = "linux")]
#[test]
fn large_files_that_are_removed_are_closed_on_a_thread() -> Result {
    let site = Site::new()?;
    let path = site.dir.path().join("large");
    let make = || fs::File::create(&path)?.set_len(64 << 20);
    // Whether it hands a file over.
    let hands_over = |act: &dyn Fn() -> Result| -> Result<bool> {
        let log = captured_from("debug", act)?;
        Ok(log.contains("DEBUG a large file is closed on a thread"))
    };
    make()?;
    assert!(hands_over(&|| {
        let deleted = site.one(request("DELETE", "/large", ANN, ""))?;
        assert_eq!((deleted.status, site.dir.read("large")), (204, None));
        Ok(())
    })?);
    make()?;
    assert!(hands_over(&|| {
        assert_eq!(site.one(put("/large", "small"))?.status, 204);
        assert_eq!(site.dir.read("large").unwrap(), b"small");
        Ok(())
    })?);
    assert!(!hands_over(&|| {
        assert_eq!(site.one(put("/large", "other"))?.status, 204);
        Ok(())
    })?);
    // One that is cut.
    let client = site.client()?;
    client.send(format!(
        "PUT /new HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 99000000\r\n\r\n"
    ));
    for _ in 0..20 {
        client.send(vec![b'x'; 1 << 20]);
        site.settle()?;
    }
    assert!(hands_over(&|| {
        client.reset();
        site.settle()
    })?);
    assert_eq!(site.dir.names()?, ["a.txt", "dir", "large"]);
    // One that a client still receives.
    make()?;
    let client = site.client()?;
    client.stop_reading();
    client.send(request("GET", "/large", "", ""));
    site.settle()?;
    assert_eq!(site.one(request("DELETE", "/large", ANN, ""))?.status, 204);
    assert!(hands_over(&|| {
        client.reset();
        site.settle()
    })?);
    // The part of an upload of an earlier process.
    let part = site.dir.path().join("dir/.files-upload-0123456789abcdef");
    fs::File::create(&part)?.set_len(64 << 20)?;
    assert!(hands_over(&|| {
        assert_eq!(site.one(put("/dir/new", "content"))?.status, 201);
        assert!(!part.exists());
        Ok(())
    })?);

    let threads = fs::read_dir("/proc/self/task")?
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    assert_eq!(threads.filter(|name| name == "close\n").count(), 1);
    let is_open = || -> Result<bool> {
        let links =
            fs::read_dir("/proc/self/fd")?.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        Ok(links
            .filter(|it| it.starts_with(site.dir.path()))
            .any(|it| {
                let link = it.to_string_lossy();
                link.ends_with("(deleted)")
            }))
    };
    let end = Instant::now() + Duration::from_secs(60);
    while is_open()? {
        assert!(Instant::now() < end, "the files stay open");
    }
    Ok(())
}
