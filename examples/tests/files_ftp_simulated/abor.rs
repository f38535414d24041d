//! ABOR, and STAT, when a transfer waits for its turn.

use std::path::Path;

use asynchat::Result;
use asynchat::sim::Ended;

use crate::folder::now;
use crate::ftp::Options;
use crate::site::{CLIENT, Site, codes_of, extended, options};
use crate::status::Status;

/// It is for the last command (RFC 959 section 4.1.3), so a transfer that waits for its turn does not begin.
#[test]
fn abor_behind_a_transfer_that_waits_is_for_it() -> Result {
    // Behind another transfer, which ends, too.
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.expect(
        "NOOP\r\nEPSV\r\nRETR a.txt\r\nSTOR new\r\nABOR\r\nPWD",
        "426 200 229 426 426 226 257",
    )?;
    assert_eq!(data.ended(), Some(Ended::Reset));
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    // Behind one that has not connected yet.
    let port = site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    site.expect("NLST\r\nABOR\r\nABOR", "426 426 226 226")?;
    assert!(site.connect(CLIENT, port)?.has_ended());
    // Behind one that waits while a port closes, or a password is checked.
    site.expect("EPSV", "229")?;
    site.expect(
        "EPSV\r\nREST 3\r\nRETR a.txt\r\nABOR\r\nNOOP",
        "229 350 150 426 226 200",
    )?;
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    site.expect(
        "USER ann\r\nPASS secret\r\nEPSV\r\nLIST\r\nABOR\r\nNOOP",
        "331 230 229 150 426 226 200",
    )
}

/// As during one that has begun before.
#[test]
fn stat_during_a_transfer_that_has_waited_has_its_reply_at_once() -> Result {
    let site = Site::ann()?;
    site.expect("EPSV", "229")?;
    let replies = site.command("EPSV\r\nRETR a.txt\r\nSTAT\r\nNOOP")?;
    assert_eq!(codes_of(&replies), "229 150 211");
    let data = site.connect(CLIENT, extended(&replies))?;
    assert_eq!(codes_of(&site.replies()?), "226 200");
    assert_eq!(data.received(), b"hello\nworld\n");
    Ok(())
}

#[test]
fn a_transfer_that_is_aborted_while_it_waits_is_counted() -> Result {
    let status = Status::new(Path::new("/srv"), now);
    let site = Site::ann_with(Options {
        status: status.clone(),
        ..options()
    })?;
    let _data = site.begin_large()?;
    site.expect("NLST -l\r\nSTOR new\r\nABOR", "426 426 426 226")?;
    let figures = status.json();
    let counts =
        "\"requests\":[[\"ftp\",\"NLST\",426,1],[\"ftp\",\"RETR\",426,1],[\"ftp\",\"STOR\",426,1]]";
    assert!(figures.contains(counts), "{figures}");
    // Whoever is not logged in any more has no transfer.
    let _data = site.begin_large()?;
    site.expect("USER ann\r\nSTOR new\r\nABOR", "426 331 426 226")?;
    let counts = "[\"ftp\",\"RETR\",426,2],[\"ftp\",\"STOR\",426,1]]";
    let figures = status.json();
    assert!(figures.contains(counts), "{figures}");
    Ok(())
}
