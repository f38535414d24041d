//! Errors of the file system. The log has the path and the error, and the reply says what the client can do.

#[cfg(unix)]
use std::{fs, io};

use asynchat::Result;

use crate::captured::captured;
#[cfg(unix)]
use crate::captured::warning_calls;
#[cfg(unix)]
use crate::site::parse;
use crate::site::{ANN, Site, put, request};
#[cfg(unix)]
use crate::{http::get::failed, names::Names};

/// An upload whose part somebody has removed meanwhile. Windows keeps the name of a file that is open.
#[cfg(unix)]
#[test]
fn an_upload_that_gets_no_name_is_a_500_and_logged() -> Result {
    let site = Site::new()?;
    let client = site.client()?;
    client.send(format!(
        "PUT /dir/new HTTP/1.1\r\nHost: a\r\n{ANN}Content-Length: 6\r\n\r\nnew"
    ));
    site.settle()?;
    for entry in fs::read_dir(site.dir.path().join("dir"))? {
        let entry = entry?;
        if entry.file_name() != "big" {
            fs::remove_file(entry.path())?;
        }
    }
    let log = captured(|| {
        client.send("er\n");
        site.settle()
    })?;
    let reply = parse(&client.take_received()).remove(0);
    assert_eq!(reply.status, 500, "{reply:?}");
    let folder = site.dir.path().display().to_string();
    assert!(!reply.text().contains(&folder), "{}", reply.text());
    let logged = log.lines().find(|it| it.contains("path=\"/dir/new\""));
    let logged = logged.ok_or(log.clone())?;
    assert!(
        logged.starts_with("WARN ") && logged.contains("error="),
        "{log}"
    );
    Ok(())
}

#[test]
fn each_change_is_logged_with_its_author() -> Result {
    let site = Site::new()?;
    let log = captured(|| {
        site.one(put("/new", "text"))?;
        site.one(request("DELETE", "/new", ANN, ""))?;
        Ok(())
    })?;
    let lines: Vec<&str> = log.lines().collect();
    let [uploaded, deleted] = lines[..] else {
        return Err(log.into());
    };
    for (line, event) in [(uploaded, "uploaded"), (deleted, "deleted")] {
        let expected = format!("INFO {event} names=\"new\" author=ann at 127.0.0.1:");
        assert!(line.starts_with(&expected), "{line}");
    }
    Ok(())
}

/// The file becomes shorter while it is sent.
#[test]
fn a_reply_that_is_cut_is_logged_with_its_path() -> Result {
    let site = Site::new()?;
    site.dir.store("large", &vec![b'x'; 8 << 20])?;
    let client = site.client()?;
    client.stop_reading();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    site.settle()?;
    site.dir.store("large", b"short")?;
    let log = captured(|| {
        client.start_reading(usize::MAX);
        site.settle()
    })?;
    assert!(client.has_ended());
    assert!(
        log.contains("WARN a file or a folder cannot be used path=\"/large\" error="),
        "{log}"
    );
    assert!(
        log.contains("WARN a connection has failed protocol=\"http\" peer="),
        "{log}"
    );
    Ok(())
}

#[cfg(unix)]
#[test]
fn each_error_has_its_status() -> Result {
    use rustix::io::Errno;

    let names = Names::parse("/dir/x").map_err(|_| "no name")?;
    for (error, status, is_logged) in [
        (Errno::IO, 500, true),
        (Errno::NOSPC, 507, true),
        (Errno::DQUOT, 507, true),
        (Errno::FBIG, 507, true),
        (Errno::MFILE, 503, true),
        // For the client it is no use to try again.
        (Errno::ACCESS, 403, true),
        (Errno::ROFS, 403, true),
        (Errno::NOENT, 404, false),
        (Errno::ISDIR, 409, false),
        (Errno::BUSY, 503, false),
        (Errno::TXTBSY, 503, false),
    ] {
        let error = io::Error::from(error);
        let log = captured(|| {
            assert_eq!(failed(&names, &error).status, status, "{error}");
            Ok(())
        })?;
        let line =
            format!("WARN a file or a folder cannot be used path=\"/dir/x\" error={error}\n");
        assert_eq!(log, if is_logged { line } else { String::new() });
    }
    // A pipe is refused, which is no trouble of the server.
    let pipe = io::Error::from(io::ErrorKind::PermissionDenied);
    let log = captured(|| {
        assert_eq!(failed(&names, &pipe).status, 403);
        Ok(())
    })?;
    assert_eq!(log, "");
    Ok(())
}

/// A client can ask for a file that the server may not read as often as it wants.
#[cfg(unix)]
#[test]
fn refused_files_do_not_suppress_errors_of_the_disk() -> Result {
    use rustix::io::Errno;

    let names = Names::parse("/dir/x").map_err(|_| "no name")?;
    let calls = warning_calls(|| {
        for error in [Errno::ACCESS, Errno::IO, Errno::NOSPC] {
            failed(&names, &error.into());
        }
        Ok(())
    })?;
    assert_eq!(calls.len(), 3);
    assert!(!calls[1..].contains(&calls[0]));
    Ok(())
}

/// fail2ban reads it. A password that is refused without a check is none.
#[test]
fn a_wrong_password_is_logged_with_its_address() -> Result {
    let site = Site::new()?;
    let wrong = "Authorization: Basic YW5uOnNlY3JlCg==\r\n";
    let log = captured(|| {
        for status in [401; 10].into_iter().chain([429; 3]) {
            let reply = site.one(request("PUT", "/new", wrong, "x"))?;
            assert_eq!(reply.status, status);
        }
        assert_eq!(site.one(request("PUT", "/new", "", "x"))?.status, 401);
        Ok(())
    })?;
    let (lines, limit): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains("user="));
    assert_eq!(
        lines,
        ["WARN wrong password peer=127.0.0.1 user=\"ann\""; 10]
    );
    let many = "WARN too many wrong passwords: they are not checked for a while peer=127.0.0.1";
    assert_eq!(limit, [many]);
    Ok(())
}
