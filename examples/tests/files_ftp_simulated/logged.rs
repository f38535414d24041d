//! The access log and the figures of transfers.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use asynchat::Result;
use tempfile::TempDir;

use crate::access_log::AccessLog;
use crate::captured::captured;
use crate::failure::Failure;
use crate::folder::now;
use crate::ftp::Options;
use crate::names::Names;
use crate::site::{Site, options};
use crate::status::Status;

#[test]
fn each_transfer_is_logged_and_counted() -> Result {
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let status = Status::new(Path::new("/srv"), now);
    let site = Site::ann_with(Options {
        access_log: Some(AccessLog::open(&path)?),
        status: status.clone(),
        ..options()
    })?;
    let figures = || -> Result<String> {
        let figures = status.json();
        Ok(figures[figures.find("\"requests\"").ok_or("no requests")?..].to_owned())
    };
    site.download("RETR a.txt")?;
    site.expect("CWD dir", "250")?;
    // No file has a quotation mark in its name on Windows.
    let (name, logged) = if cfg!(windows) {
        ("x y", "x%20y")
    } else {
        ("x \"y", "x%20%22y")
    };
    site.upload(&format!("STOR {name}"), "new")?;
    site.download("NLST")?;
    site.expect("RETR none", "550")?;
    site.expect("RETR ../a.txt", "425")?;
    site.expect("CWD /", "250")?;
    // Both are cut: by the client of the data connection, and by ABOR.
    let data = site.begin_upload("z")?;
    let row = "{\"peer\":\"192.0.2.7:49152\",\"protocol\":\"ftp\",\"request\":\"STOR /z\",\"age\":0,\"active\":true,\
               \"done\":14}";
    assert!(figures()?.contains(row), "{}", figures()?);
    data.reset();
    assert!(site.replies()?.starts_with("426 "));
    let download = site.begin_large()?;
    assert!(figures()?.contains(",\"total\":3188890}"), "{}", figures()?);
    site.expect("ABOR", "426 226")?;
    drop(download);
    // The client leaves during a transfer.
    let _data = site.begin_upload("z")?;
    site.control.reset();
    site.advance(Duration::from_secs(2))?;
    assert_eq!(
        figures()?,
        "\"requests\":[[\"ftp\",\"NLST\",226,1],[\"ftp\",\"RETR\",226,1],[\"ftp\",\"STOR\",226,1],\
         [\"ftp\",\"RETR\",425,1],[\"ftp\",\"RETR\",426,1],[\"ftp\",\"STOR\",426,2],[\"ftp\",\"RETR\",550,1]],\
         \"open\":0,\"connections\":[]}"
    );
    let log = fs::read_to_string(&path)?;
    let start = "192.0.2.7 - ann [15/Jun/2026:12:00:00 +0000] ";
    let outcomes: Vec<_> = log
        .lines()
        .map(|line| line.strip_prefix(start).unwrap())
        .map(|line| line.strip_suffix(" \"-\" \"-\"").unwrap())
        .collect();
    assert_eq!(
        outcomes[..6],
        [
            "\"RETR /a.txt FTP\" 226 12",
            &format!("\"STOR /dir/{logged} FTP\" 226 3"),
            &format!("\"NLST /dir FTP\" 226 {}", "big\r\n\r\n".len() + name.len()),
            "\"RETR /dir/none FTP\" 550 -",
            "\"RETR /a.txt FTP\" 425 -",
            "\"STOR /z FTP\" 426 14",
        ]
    );
    assert!(
        outcomes[6].starts_with("\"RETR /dir/big FTP\" 426 "),
        "{log}"
    );
    assert_eq!(outcomes[7..], ["\"STOR /z FTP\" 426 14"]);
    Ok(())
}

/// The client has read why, so it is not an upload that was cut.
#[test]
fn a_refused_upload_is_counted_with_the_code_of_its_refusal() -> Result {
    for then in ["finish", "reset", "leave", "quit", "silence", "NOOP"] {
        let status = Status::new(Path::new("/srv"), now);
        let site = Site::ann_with(Options {
            status: status.clone(),
            max_upload: 100,
            ..options()
        })?;
        let data = site.begin_upload("new")?;
        data.send("x".repeat(100));
        assert!(site.replies()?.starts_with("552 "));
        match then {
            "finish" => data.finish(),
            "reset" => data.reset(),
            "leave" => site.control.reset(),
            "quit" => {
                site.control.send("QUIT\r\n");
                site.control.finish();
            }
            "silence" => site.advance(Duration::from_secs(121))?,
            command => site.expect(command, "200")?,
        }
        site.settle()?;
        let figures = status.json();
        let expected = "\"requests\":[[\"ftp\",\"STOR\",552,1]]";
        assert!(figures.contains(expected), "{then} {figures}");
        // The status page shows this as one that the server has cut.
        let stats = site.event_loop.stats();
        let dropped = stats.closes.iter().find(|(why, _)| *why == "dropped");
        let expected = u64::from(then == "leave");
        assert_eq!(dropped, Some(("dropped", expected)), "{then}");
    }
    Ok(())
}

/// Either name can be the cause of the error.
#[test]
fn an_error_of_a_rename_is_logged_with_both_names() -> Result {
    let name = |path| Names::parse(path).map_err(|_| "no name");
    let (from, to) = (name("/dir/old")?, name("/new")?);
    let error = io::Error::from(io::ErrorKind::StorageFull);
    let log = captured(|| {
        Failure::of_rename(&from, &to, &error);
        Ok(())
    })?;
    assert!(log.contains(" path=\"/dir/old -> /new\" error="), "{log}");
    Ok(())
}

#[test]
fn each_change_is_logged_with_its_author() -> Result {
    let site = Site::ann()?;
    let log = captured(|| {
        site.upload("STOR new", "text")?;
        site.expect("MKD folder", "257")?;
        site.expect("RNFR new", "350")?;
        site.expect("RNTO other", "250")?;
        site.expect("DELE other", "250")?;
        site.expect("RMD folder", "250")
    })?;
    let author = "author=ann at 192.0.2.7:49152";
    assert_eq!(
        log,
        format!(
            "INFO uploaded names=\"new\" {author} size=4\n\
             INFO created names=\"folder\" {author}\n\
             INFO renamed from=\"new\" to=\"other\" {author}\n\
             INFO deleted names=\"other\" {author}\n\
             INFO deleted names=\"folder\" {author}\n"
        )
    );
    Ok(())
}

/// fail2ban reads it. A name is what a client wants it to be.
#[test]
fn a_wrong_password_is_logged_with_its_address() -> Result {
    let logins = options().logins;
    let site = Site::with(Options {
        logins: logins.clone(),
        ..options()
    })?;
    let log = captured(|| {
        site.expect("USER ann\r\nPASS wrong", "331 530")?;
        site.expect("USER x\" peer=192.0.2.9\x1b[2J\r\nPASS wrong", "331 530")?;
        let long = "x".repeat(300);
        site.expect(&format!("USER {long}\r\nPASS wrong"), "331 421")
    })?;
    let wrong = "WARN wrong password peer=192.0.2.7 user=";
    let cut = "x".repeat(255);
    assert_eq!(
        log,
        format!("{wrong}\"ann\"\n{wrong}\"x\\\" peer=192.0.2.9\\u{{1b}}[2J\"\n{wrong}\"{cut}\"\n")
    );
    assert_eq!(logins.wrong(), 3);
    Ok(())
}
