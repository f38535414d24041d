//! Uploads that the server refuses while the client sends them.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Ended;

use crate::ftp::Options;
use crate::site::{Site, codes_of, options};

/// After a reset, most clients read no reply. They read it when they have sent the whole file.
#[test]
fn an_upload_that_is_too_large_is_received_to_its_end() -> Result {
    let begin = |then: &str| -> Result<_> {
        let site = Site::ann_with(Options {
            max_upload: 100,
            ..options()
        })?;
        let data = site.begin_upload("new")?;
        site.control.send(then);
        data.send("x".repeat(100));
        Ok((site, data))
    };
    // The next command waits for the end of the upload.
    let (site, data) = begin("PWD\r\n")?;
    for _ in 0..20 {
        data.send("x".repeat(1 << 20));
        site.settle()?;
    }
    assert_eq!(codes_of(&site.replies()?), "552");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    assert!(!data.has_ended());
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "257");
    assert_eq!(data.ended(), Some(Ended::Finished));
    site.upload("STOR new", "small")?;

    // The client has read the reply, and goes on.
    let (site, data) = begin("")?;
    assert_eq!(codes_of(&site.replies()?), "552");
    site.expect("ABOR", "226")?;
    assert!(data.has_ended());
    site.upload("STOR new", "small")?;

    // It leaves the connection open.
    let (site, data) = begin("PWD\r\n")?;
    assert_eq!(codes_of(&site.replies()?), "552");
    site.advance(Duration::from_secs(121))?;
    assert_eq!(codes_of(&site.replies()?), "257");
    assert!(data.has_ended());

    let (site, data) = begin("")?;
    assert_eq!(codes_of(&site.replies()?), "552");
    site.event_loop.shutdown(Duration::from_secs(5));
    site.advance(Duration::from_secs(5))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(data.has_ended());
    Ok(())
}

/// What APPE and REST continue counts, too.
#[test]
fn a_file_may_be_as_long_as_the_limit() -> Result {
    for (command, codes, before) in [
        ("STOR", "150", 0),
        ("APPE", "150", 40),
        ("REST 40\r\nSTOR", "350 150", 40),
    ] {
        for (length, code) in [(100, "226"), (101, "552")] {
            let site = Site::ann_with(Options {
                max_upload: 100,
                ..options()
            })?;
            if before > 0 {
                // REST continues a part, which a cut APPE has left.
                site.dir.store("new", &vec![b'x'; before - 1])?;
                site.cut("APPE new", "x")?;
            }
            let data = site.data()?;
            site.expect(&format!("{command} new"), codes)?;
            data.send("x".repeat(length - before));
            data.finish();
            assert_eq!(codes_of(&site.replies()?), code, "{command}");
            let stored = site.dir.read("new").map_or(0, |it| it.len());
            let expected = if code == "226" { length } else { before };
            assert_eq!(stored, expected, "{command}");
        }
    }
    Ok(())
}

/// A client that sends for ever would not notice that nobody wants its file. The next command waits until the end.
#[test]
fn the_rest_of_a_refused_upload_has_a_bound() -> Result {
    for (least_dropped, most) in [(1000, 1600), (5000, 5000)] {
        let site = Site::ann_with(Options {
            max_upload: 100,
            least_dropped,
            ..options()
        })?;
        let data = site.begin_upload("new")?;
        site.control.send("PWD\r\n");
        data.send("x".repeat(100));
        assert_eq!(codes_of(&site.replies()?), "552");
        data.send("x".repeat(most - 1));
        assert_eq!(site.replies()?, "", "{most}");
        assert!(!data.has_ended(), "{most}");
        data.send("x");
        assert_eq!(codes_of(&site.replies()?), "257");
        assert_eq!(data.ended(), Some(Ended::Finished), "{most}");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    }
    Ok(())
}

/// The data connection and the control connection have something in one turn, in any order.
#[test]
fn each_command_has_its_replies_when_an_upload_is_refused_and_aborted_at_once() -> Result {
    let site = Site::ann_with(Options {
        max_upload: 100,
        ..options()
    })?;
    let conditions = site.network.conditions();
    site.network.set_conditions(conditions.shuffled(true));
    for _ in 0..30 {
        let data = site.begin_upload("new")?;
        data.send("x".repeat(100));
        site.control.send("ABOR\r\nNOOP\r\n");
        let codes = codes_of(&site.replies()?);
        assert!(["426 226 200", "552 226 200"].contains(&&*codes), "{codes}");
        assert!(data.has_ended());
    }
    Ok(())
}

/// Only so many of those that have waited run in a turn.
#[test]
fn the_commands_after_a_refused_upload_have_their_replies_in_order() -> Result {
    for (last, codes) in [("STAT", "211"), ("ABOR", "226")] {
        let site = Site::ann_with(Options {
            max_upload: 100,
            ..options()
        })?;
        let data = site.begin_upload("new")?;
        site.control.send("NOOP\r\n".repeat(40));
        site.settle()?;
        data.send("x".repeat(100));
        assert_eq!(codes_of(&site.replies()?), "552");
        let replies = codes_of(&site.command(last)?);
        assert_eq!(replies, "200 ".repeat(40) + codes);
    }
    Ok(())
}
