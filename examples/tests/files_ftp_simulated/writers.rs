//! Two clients that write to one file.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Peer;

#[cfg(unix)]
use crate::captured::captured_from;
use crate::site::{CLIENT, Site, codes_of, extended};

#[test]
fn of_two_uploads_the_last_to_complete_stays_and_each_is_whole() -> Result {
    let site = Site::ann()?;
    let other = site.second()?;
    let begin = |control: &Peer, command: &str| -> Result<(Peer, String)> {
        let port = extended(&site.ask(control, "EPSV\r\n")?);
        let data = site.connect(CLIENT, port)?;
        let replies = site.ask(control, format!("{command}\r\n"))?;
        Ok((data, codes_of(&replies)))
    };
    let end = |data: &Peer, text: &str| {
        data.send(text);
        data.finish();
    };
    let (first, codes) = begin(&site.control, "STOR a.txt")?;
    assert_eq!(codes, "150");
    first.send("one ");
    let (second, codes) = begin(&other, "STOR a.txt")?;
    assert_eq!(codes, "150");
    end(&second, "two");
    assert_eq!(codes_of(&site.ask(&other, "")?), "226");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"two");
    end(&first, "last");
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"one last");
    Ok(())
}

/// Two clients that write in one file would mix their bytes, and one of them would get a 226 for a broken file.
#[cfg(unix)]
#[test]
fn one_client_at_a_time_writes_in_a_file() -> Result {
    let site = Site::ann()?;
    let other = site.second()?;
    let first = site.data()?;
    site.expect("APPE a.txt", "150")?;
    first.send("first\n");
    for commands in ["APPE a.txt\r\n", "REST 5\r\nSTOR a.txt\r\n"] {
        let data = site.connect(CLIENT, extended(&site.ask(&other, "EPSV\r\n")?))?;
        let codes = codes_of(&site.ask(&other, commands)?);
        assert!(codes.ends_with("450"), "{codes}");
        assert!(data.received().is_empty());
    }
    first.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello\nworld\nfirst\n");

    // A file that replaces it meanwhile is whole. What was written to the old one is lost, which its client learns.
    let first = site.data()?;
    site.expect("APPE a.txt", "150")?;
    let data = site.connect(CLIENT, extended(&site.ask(&other, "EPSV\r\n")?))?;
    site.ask(&other, "STOR a.txt\r\n")?;
    data.send("new");
    data.finish();
    assert_eq!(codes_of(&site.ask(&other, "")?), "226");
    first.send("lost");
    first.finish();
    assert_eq!(codes_of(&site.replies()?), "451");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"new");
    Ok(())
}

/// The replies to ABOR follow the end of the upload: the next command finds no part of it, and no lock.
#[test]
fn a_client_that_has_aborted_an_upload_can_continue_it_at_once() -> Result {
    let site = Site::ann()?;
    let data = site.data()?;
    site.expect("APPE a.txt", "150")?;
    data.send("first\n");
    site.settle()?;
    let replies = site.command("ABOR\r\nABOR\r\nSTAT\r\nEPSV\r\nAPPE a.txt")?;
    assert_eq!(codes_of(&replies), "426 226 226 211 229 150");
    let port = replies
        .lines()
        .find(|line| line.starts_with("229"))
        .unwrap();
    let data = site.connect(CLIENT, extended(port))?;
    data.send("second\n");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(
        site.dir.read("a.txt").unwrap(),
        b"hello\nworld\nfirst\nsecond\n"
    );

    let _data = site.begin_upload("new")?;
    site.control.send("ABOR\r\n");
    while site.control.received().is_empty() {
        site.event_loop.run_once(Duration::ZERO)?;
    }
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    assert_eq!(codes_of(&site.replies()?), "426 226");
    Ok(())
}

/// The last close of a large file takes long: a thread does it.
#[cfg(unix)]
#[test]
fn a_large_file_that_is_removed_during_a_transfer_is_closed_on_a_thread() -> Result {
    let site = Site::ann()?;
    let other = site.second()?;
    let path = site.dir.path().join("large");
    for command in ["APPE large", "RETR large"] {
        std::fs::File::create(&path)?.set_len(64 << 20)?;
        let data = site.data()?;
        data.stop_reading();
        site.expect(command, "150")?;
        assert_eq!(codes_of(&site.ask(&other, "DELE large\r\n")?), "250");
        let log = captured_from("debug", || {
            data.reset();
            site.settle()
        })?;
        assert!(
            log.contains("DEBUG a large file is closed on a thread"),
            "{log}"
        );
        assert!(site.replies()?.starts_with("426 "));
    }
    Ok(())
}
