//! What is below `/-/`: the pages, the figures, and those who watch.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use asynchat::sim::{self, Ended, Peer};
use asynchat::{Deadlines, Result};
use tempfile::TempDir;

use crate::access_log::AccessLog;
use crate::folder::now;
use crate::gate::gated;
use crate::http::Options;
use crate::site::{self, ADDR, ANN, Reply, Site, options, parse, put, statuses};
use crate::status::Status;

const SECOND: Duration = Duration::from_secs(1);
const LOCAL: &str = "127.0.0.1:0";

/// A request under a name that the status page can have.
pub(crate) fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    site::request(method, path, fields, body).replacen("Host: a", "Host: localhost", 1)
}

pub(crate) fn client(site: &Site, from: &str) -> Result<Peer> {
    let from: SocketAddr = from.parse()?;
    Ok(site.network.connect_from(from, ADDR)?)
}

/// The replies to requests of a client on the host of the server.
pub(crate) fn local(site: &Site, input: &str) -> Result<Vec<Reply>> {
    let client = client(site, LOCAL)?;
    client.send(input);
    site.settle()?;
    Ok(parse(&client.take_received()))
}

pub(crate) fn get(site: &Site, path: &str) -> Result<Reply> {
    Ok(local(site, &request("GET", path, "", ""))?.remove(0))
}

fn metrics(site: &Site) -> Result<String> {
    Ok(get(site, "/-/metrics")?.text().to_owned())
}

/// A client that watches, which has received the head of the reply.
fn watch(site: &Site) -> Result<Peer> {
    let client = client(site, LOCAL)?;
    client.send(request("GET", "/-/events", "", ""));
    site.settle()?;
    Ok(client)
}

/// The figures in the events that a client has received.
fn events(client: &Peer) -> Vec<String> {
    let received = String::from_utf8(client.take_received()).unwrap();
    let data = received
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.map(str::to_owned).collect()
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part} is not in {text:.3000}");
}

#[test]
fn the_pages_have_their_types_and_no_code_of_others() -> Result {
    let site = Site::new()?;
    for (path, content_type) in [
        ("/-/", "text/html; charset=utf-8"),
        ("/-/status.css", "text/css; charset=utf-8"),
        ("/-/status.js", "text/javascript; charset=utf-8"),
        ("/-/files.js", "text/javascript; charset=utf-8"),
        ("/-/health", "text/plain; charset=utf-8"),
        ("/-/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ] {
        let page = get(&site, path)?;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.field("content-type"), Some(content_type), "{path}");
        assert!(!page.body.is_empty(), "{path}");
        assert!(page.field("cache-control").is_some(), "{path}");
        let head = local(&site, &request("HEAD", path, "", ""))?;
        assert_eq!((head[0].status, head[0].body.len()), (200, 0), "{path}");
        // No method changes anything.
        for (method, status) in [
            ("POST", 405),
            ("PUT", 403),
            ("DELETE", 403),
            ("OPTIONS", 204),
        ] {
            let fields = format!("{ANN}Content-Length: 0\r\n");
            let replies = local(&site, &request(method, path, &fields, ""))?;
            assert_eq!(statuses(&replies), [status], "{method} {path}");
        }
    }
    assert_eq!(get(&site, "/-/health")?.text(), "ok\n");
    for path in ["/-/x", "/-//", "/-/status.html", "/-/../a.txt"] {
        assert_eq!(get(&site, path)?.status, 404, "{path}");
    }
    // Text with an opacity has less contrast than its colours.
    let style = get(&site, "/-/status.css")?;
    let stale = style
        .text()
        .lines()
        .filter(|line| line.starts_with(".stale"));
    let stale = stale.collect::<String>();
    assert!(!stale.is_empty() && !stale.contains("opacity"), "{stale}");
    let page = get(&site, "/-/")?;
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    for inline in ["<style", "style=", "onclick", "<script>", "http:", "https:"] {
        assert!(!page.text().contains(inline), "{inline}");
    }
    Ok(())
}

#[test]
fn events_tell_what_goes_on() -> Result {
    let site = Site::new()?;
    let slow = client(&site, "192.0.2.7:5000")?;
    slow.stop_reading();
    slow.send(request("GET", "/dir/big", "", ""));
    let uploading = client(&site, "192.0.2.7:5001")?;
    uploading.send(format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 10\r\n\r\nabc"
    ));
    let hostile = client(&site, "192.0.2.7:5002")?;
    hostile.send(request("GET", "/\"\\</script>", "", ""));
    site.advance(5 * SECOND)?;
    let watcher = watch(&site)?;
    let received = String::from_utf8(watcher.received())?;
    has(&received, "\r\nContent-Type: text/event-stream\r\n");
    has(&received, "\r\nCache-Control: no-store\r\n");
    has(
        &received,
        "\r\nConnection: close\r\n\r\nretry: 1000\ndata: {",
    );
    let first = &events(&watcher)[0];
    let big = crate::site::big().len();
    has(
        first,
        "{\"peer\":\"192.0.2.7:5001\",\"protocol\":\"http\",\"request\":\"PUT /x\",\"age\":5,\"active\":true,\"done\":3,\
         \"total\":10}",
    );
    has(
        first,
        "\"request\":\"GET /dir/big\",\"age\":5,\"active\":true,\"done\":",
    );
    has(first, &format!(",\"total\":{big}}}"));
    has(
        first,
        "\"request\":\"GET /\\\"\\\\</script>\",\"age\":5,\"active\":false}",
    );
    has(first, "\"requests\":[[\"http\",\"GET\",404,1]]");
    has(first, "\"open\":4,");

    // One event in a second, the same for all.
    let other = watch(&site)?;
    assert_eq!(events(&other), std::slice::from_ref(first));
    slow.start_reading(usize::MAX);
    site.ask(&uploading, "defghij")?;
    site.advance(3 * SECOND)?;
    let (next, others) = (events(&watcher), events(&other));
    assert_eq!(next.len(), 3);
    assert_eq!(next, others);
    has(&next[0], "[\"http\",\"GET\",200,1],");
    has(&next[0], "[\"http\",\"PUT\",201,1]");
    has(
        &next[0],
        &format!("\"request\":\"GET /dir/big\",\"age\":6,\"active\":false,\"done\":{big},"),
    );
    has(&metrics(&site)?, "\nfiles_status_watchers 2\n");

    // Nobody watches: there is no timer.
    for client in [slow, uploading, hostile, watcher, other] {
        client.finish();
    }
    // The password of the upload is forgotten by then.
    site.advance(600 * SECOND)?;
    assert_eq!(site.event_loop.next_timeout(), None);
    has(&metrics(&site)?, "\nfiles_status_watchers 0\n");
    Ok(())
}

#[test]
fn events_follow_under_every_segmentation() -> Result {
    let input =
        request("GET", "/-/health", "", "") + &request("GET", "/-/events", "", "") + "GET /";
    let mut expected = None;
    sim::every_segmentation(input.as_bytes(), |pieces| {
        let site = Site::new()?;
        let client = client(&site, LOCAL)?;
        for piece in pieces {
            client.send(piece);
            site.settle()?;
        }
        site.advance(2 * SECOND)?;
        client.finish();
        site.settle()?;
        assert_eq!(client.ended(), Some(Ended::Finished));
        let received = String::from_utf8(client.take_received())?;
        let counts = received.matches("data: ").count();
        assert_eq!(counts, 3, "{pieces:?}: {received}");
        // The events have counters of the loop.
        let heads = received.split("data: ").next().unwrap().to_owned();
        assert_eq!(&heads, expected.get_or_insert(heads.clone()), "{pieces:?}");
        Ok(())
    })
}

#[test]
fn a_watcher_is_not_idle_and_a_slow_one_misses_events() -> Result {
    let site = Site::with(Options {
        deadlines: Deadlines::default().idle(5 * SECOND),
        ..options()
    })?;
    // Each event is long.
    let mut talkers = Vec::new();
    for _ in 0..150 {
        talkers.push(site.client()?);
    }
    let keep_busy = || -> Result {
        for talker in &talkers {
            talker.send(request("GET", &format!("/{}", "x".repeat(300)), "", ""));
        }
        site.advance(4 * SECOND)
    };
    keep_busy()?;
    let (watcher, slow) = (watch(&site)?, watch(&site)?);
    let first = events(&watcher).remove(0);
    assert_eq!(first.matches("{\"peer\":").count(), 100);
    has(&first, "\"open\":151,");
    assert!(first.len() > 25_000, "{}", first.len());
    assert!(first.len() < 40_000, "{}", first.len());
    slow.take_received();
    slow.stop_reading();
    for _ in 0..20 {
        keep_busy()?;
    }
    assert_eq!(events(&watcher).len(), 80);
    assert!(!watcher.has_ended() && !slow.has_ended());
    slow.start_reading(usize::MAX);
    site.settle()?;
    let late = events(&slow).len();
    assert!((1..20).contains(&late), "{late} events were queued");
    // It goes on.
    site.advance(SECOND)?;
    assert_eq!(events(&slow), events(&watcher));
    // One that reads nothing at all is ended.
    let site = Site::new()?;
    let mut talkers = Vec::new();
    for _ in 0..100 {
        let talker = site.client()?;
        talker.send(request("GET", &format!("/{}", "x".repeat(300)), "", ""));
        talkers.push(talker);
    }
    let slow = watch(&site)?;
    slow.stop_reading();
    site.advance(120 * SECOND)?;
    assert!(slow.has_ended());
    Ok(())
}

#[test]
fn the_number_of_watchers_is_limited() -> Result {
    let site = Site::new()?;
    let mut watchers = Vec::new();
    for _ in 0..32 {
        watchers.push(watch(&site)?);
    }
    let refused = get(&site, "/-/events")?;
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (503, Some("10"))
    );
    // Without the events.
    assert_eq!(
        local(&site, &request("HEAD", "/-/events", "", ""))?[0].status,
        503
    );
    watchers.pop().unwrap().reset();
    site.settle()?;
    let watcher = watch(&site)?;
    assert_eq!(events(&watcher).len(), 1);
    // A body would be taken for the next request.
    assert_eq!(
        local(&site, &request("GET", "/-/events", "", "x"))?[0].status,
        400
    );
    Ok(())
}

#[test]
fn a_shutdown_ends_events_and_answers_what_has_begun() -> Result {
    let site = Site::new()?;
    let watcher = watch(&site)?;
    watcher.take_received();
    let ask = |path: &str| -> Result<Peer> {
        let client = client(&site, LOCAL)?;
        client.send(format!("GET {path} HTTP/1.1\r\n"));
        Ok(client)
    };
    let (health, late, file) = (ask("/-/health")?, ask("/-/events")?, ask("/a.txt")?);
    let silent = client(&site, LOCAL)?;
    silent.send("\r");
    site.settle()?;
    site.event_loop.shutdown(60 * SECOND);
    site.settle()?;
    assert_eq!(watcher.ended(), Some(Ended::Finished));
    for (client, status) in [(health, 503), (late, 503), (file, 200)] {
        client.send("Host: localhost\r\n\r\n");
        site.settle()?;
        let reply = &parse(&client.take_received())[0];
        assert_eq!(reply.status, status);
        assert_eq!(reply.field("connection"), Some("close"));
        assert_eq!(client.ended(), Some(Ended::Finished));
    }
    silent.send("\n\r\n");
    site.settle()?;
    assert_eq!(silent.ended(), Some(Ended::Finished));
    drop((watcher, silent));
    site.settle()?;
    assert!(site.event_loop.is_empty());
    Ok(())
}

#[test]
fn metrics_count_each_request_and_escape_labels() -> Result {
    // A backslash separates the names of a path on Windows.
    let (name, label) = if cfg!(windows) {
        ("a\"b\nd", "a\\\"b\\nd")
    } else {
        ("a\"b\\c\nd", "a\\\"b\\\\c\\nd")
    };
    let site = Site::with(Options {
        status: Status::new(&Path::new("/srv").join(name), now),
        ..options()
    })?;
    local(
        &site,
        &(request("GET", "/a.txt", "", "")
            + &put("/x", "new")
            + &request("BREW", "/", "", "")
            + &request("HEAD", "/none", "", "")
            + "GET /\n"),
    )?;
    let cut = client(&site, LOCAL)?;
    cut.send(format!(
        "PUT /y HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 9\r\n\r\nabc"
    ));
    site.settle()?;
    cut.reset();
    site.settle()?;
    let wrong = "Authorization: Basic YW5uOnNlY3JlCg==\r\n";
    let refused = site.one(request("PUT", "/new", wrong, "x"))?;
    assert_eq!(refused.status, 401);
    let text = metrics(&site)?;
    has(&text, "\nfiles_wrong_passwords_total 1\n");
    for line in [
        "# HELP files_requests_total Requests of HTTP and transfers of FTP that have ended, by the code of their reply.",
        "# TYPE files_requests_total counter",
        "files_requests_total{protocol=\"http\",method=\"GET\",code=\"200\"} 1",
        "files_requests_total{protocol=\"http\",method=\"HEAD\",code=\"404\"} 1",
        "files_requests_total{protocol=\"http\",method=\"PUT\",code=\"201\"} 1",
        "files_requests_total{protocol=\"http\",method=\"PUT\",code=\"499\"} 1",
        "files_requests_total{protocol=\"http\",method=\"none\",code=\"400\"} 1",
        "files_requests_total{protocol=\"http\",method=\"other\",code=\"501\"} 1",
        "files_connections{protocol=\"http\"} 1",
        "files_connections{protocol=\"ftps\"} 0",
        "files_channels_closed_total{reason=\"reset\"} 1",
        "files_start_time_seconds 1781524800.000",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    has(&text, &format!(",folder=\"{label}\"}} 1\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("files_"), "{line}");
    }
    assert!(text.ends_with('\n'));
    Ok(())
}

/// With the status of a client that has left, and once if it stays.
#[test]
fn a_request_whose_client_leaves_while_its_password_is_checked_is_logged() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let (logins, gate) = gated();
    let site = Site::with(Options {
        access_log: Some(AccessLog::open(&path)?),
        logins,
        ..options()
    })?;
    let [first, second] = [site.client()?, site.client()?];
    site.ask(&first, put("/x", "new"))?;
    first.reset();
    site.settle()?;
    gate.open()?;
    // Another password, because the first one is known now.
    let other = "Authorization: Basic YW5uOndyb25n\r\n";
    site.ask(&second, request("PUT", "/y", other, "new"))?;
    gate.open()?;
    site.settle()?;
    site.advance(2 * SECOND)?;
    let log = fs::read_to_string(&path)?;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("PUT")).collect();
    assert!(
        lines[0].contains(r#"- - ["#) && lines[0].contains(r#""PUT /x HTTP/1.1" 499 - "#),
        "{log}"
    );
    assert!(
        lines[1].contains(r#"- ann ["#) && lines[1].contains(r#""PUT /y HTTP/1.1" 201 "#),
        "{log}"
    );
    assert_eq!(lines.len(), 2);
    Ok(())
}

#[test]
fn what_is_cut_off_is_logged() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let site = Site::with_access_log(&path)?;
    let upload =
        format!("PUT /x HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 9\r\nUser-Agent: u\r\n\r\nabc");
    let [reset, ended, silent] = [site.client()?, site.client()?, site.client()?];
    for client in [&reset, &ended, &silent] {
        client.send(&upload);
    }
    site.settle()?;
    reset.reset();
    ended.finish();
    site.advance(31 * SECOND)?;
    let watcher = watch(&site)?;
    watcher.reset();
    site.advance(2 * SECOND)?;
    let log = fs::read_to_string(&path)?;
    let outcomes: Vec<_> = log
        .lines()
        .map(|line| line.split_once("] ").unwrap().1)
        .collect();
    assert_eq!(
        outcomes[..3],
        [
            r#""PUT /x HTTP/1.1" 499 - "-" "u""#,
            r#""PUT /x HTTP/1.1" 400 43 "-" "u""#,
            r#""PUT /x HTTP/1.1" 408 52 "-" "u""#,
        ]
    );
    assert!(
        outcomes[3].starts_with(r#""GET /-/events HTTP/1.1" 200 "#),
        "{log}"
    );
    assert_eq!(outcomes.len(), 4);
    Ok(())
}

/// A client asks for two files at once, and leaves while it receives the first.
#[test]
fn a_reply_that_has_not_begun_is_logged_as_cut() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let site = Site::with_access_log(&path)?;
    site.dir.store("huge", &vec![b'x'; 8 << 20])?;
    let client = site.client()?;
    client.stop_reading();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(get("/huge") + &get("/dir/big") + &get("/dir/"));
    site.settle()?;
    client.reset();
    site.advance(2 * SECOND)?;
    let log = fs::read_to_string(&path)?;
    let lines: Vec<_> = log.lines().collect();
    assert!(lines[0].contains(r#""GET /huge HTTP/1.1" 200 "#), "{log}");
    assert!(
        lines[1].contains(r#""GET /dir/big HTTP/1.1" 499 - "#),
        "{log}"
    );
    assert!(lines[2].contains(r#""GET /dir/ HTTP/1.1" 499 - "#), "{log}");
    assert_eq!(lines.len(), 3);
    Ok(())
}

/// The clock of the system may be set back.
#[test]
fn the_server_is_up_for_the_time_of_a_clock_that_nobody_sets() -> Result {
    let site = Site::with(Options {
        status: Status::new(Path::new("/srv"), now),
        ..options()
    })?;
    let uptime = || -> Result<f64> {
        let event = events(&watch(&site)?).remove(0);
        let figure = event
            .split_once("\"uptime\":")
            .and_then(|(_, rest)| rest.split_once(','));
        Ok(figure.ok_or("there is no figure")?.0.parse::<f64>()?)
    };
    let before = uptime()?;
    site.advance(60 * SECOND)?;
    let passed = uptime()? - before;
    assert!((59.0..=61.0).contains(&passed), "{passed}");
    Ok(())
}

#[test]
fn what_has_the_name_of_the_status_page_is_reached_under_another() -> Result {
    let site = Site::new()?;
    fs::create_dir(site.dir.path().join("-"))?;
    site.dir.store("-/health", b"mine\n")?;
    assert_eq!(site.get("/-", "")?.field("location"), Some("/%2D/"));
    has(site.get("/", "")?.text(), "<a href=\"%2D/\">-/</a>");
    assert_eq!(site.get("/%2D/health", "")?.text(), "mine\n");
    assert_eq!(site.get("/%2d/health", "")?.text(), "mine\n");
    assert_eq!(site.get("/-/health", "")?.text(), "ok\n");
    let site = Site::new()?;
    site.dir.store("-", b"a file\n")?;
    assert_eq!(site.get("/-", "")?.text(), "a file\n");
    Ok(())
}

/// What the figures are compared with, `run`, is another one after a restart.
#[test]
fn each_run_of_the_server_has_a_name() -> Result {
    let run = |clock: fn() -> SystemTime| -> Result<String> {
        let site = Site::with(Options {
            status: Rc::clone(&Status::new(Path::new("/srv"), clock)),
            ..options()
        })?;
        let event = events(&watch(&site)?).remove(0);
        Ok(event.split(',').next().unwrap_or_default().to_owned())
    };
    assert_eq!(run(now)?, "{\"run\":\"1781524800000000\"");
    assert_ne!(run(|| now() + SECOND)?, run(now)?);
    Ok(())
}
