//! Uploads that do not end as they should: the client is killed, continues one that has left nothing, or another client
//! is faster.

use std::fs::File;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Conditions;

use crate::captured::captured;
use crate::folder::{changed, now};
use crate::ftp::Options;
use crate::site::{CLIENT, Site, codes_of, extended, options};

const OLD: &[u8] = b"hello\nworld\n";

const NO_PART: &str =
    "550 no upload of yours has left a part of this file: send it whole, without REST\r\n";

/// STOR from the middle.
fn rest(start: usize) -> String {
    format!("REST {start}\r\nSTOR a.txt")
}

/// RFC 959 section 4.1.1: the unexpected end of the control connection is an ABOR and a QUIT. A process that is killed ends
/// both of its connections at once, and the server learns of them in either order.
#[test]
fn the_end_of_the_control_connection_aborts_an_upload() -> Result {
    let orders = || {
        let orders = ["control", "control, data", "data, control", "data, reset"];
        orders
            .into_iter()
            .flat_map(|order| (0..4).map(move |reads| (order, reads)))
    };
    for command in ["STOR a.txt", "REST 2\r\nSTOR a.txt", "APPE new"] {
        for (order, reads) in orders() {
            let site = Site::ann()?;
            site.cut("APPE a.txt", "")?;
            // The order of the events depends on the reads before.
            let conditions = Conditions::default().shuffled(true).short_reads(0.5);
            site.network.set_conditions(conditions);
            for _ in 0..reads {
                site.expect("NOOP", "200")?;
            }
            let data = site.data()?;
            let begun = site.command(command)?;
            assert!(codes_of(&begun).ends_with("150"), "{begun}");
            data.send("xx");
            site.settle()?;
            // What has waited for the end of the upload is not done.
            site.expect("DELE a.txt", "")?;
            let log = captured(|| {
                for end in order.split(", ") {
                    match end {
                        "control" => site.control.finish(),
                        "data" => data.finish(),
                        _ => site.control.reset(),
                    }
                }
                site.settle()
            })?;
            assert!(!log.contains("uploaded"), "{command}, {order}: {log}");
            assert_eq!(site.dir.names()?, ["a.txt", "dir"], "{command}, {order}");
            let left = if command.starts_with("REST") {
                b"hexxo\nworld\n"
            } else {
                OLD
            };
            let content = site.dir.read("a.txt");
            assert_eq!(content.as_deref(), Some(left), "{command}, {order}");
            assert_eq!(site.event_loop.len(), 1, "the listener");
        }
    }
    // No data connection has come.
    for command in ["STOR a.txt", "RETR a.txt", "LIST"] {
        let site = Site::ann()?;
        site.passive_port()?;
        site.expect(command, "150")?;
        site.control.finish();
        assert_eq!(codes_of(&site.replies()?), "426 226 221", "{command}");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
        assert_eq!(site.event_loop.len(), 1, "the listener");
    }
    Ok(())
}

/// Linux ends the data connection first, and the server learns of it in an earlier turn.
#[test]
fn a_file_waits_for_the_end_of_the_control_connection() -> Result {
    let site = Site::ann_with(Options {
        upload_wait: Options::default().upload_wait,
        ..options()
    })?;
    let data = site.begin_upload("a.txt")?;
    data.finish();
    site.expect("NOOP", "")?;
    site.advance(Options::default().upload_wait)?;
    assert_eq!(codes_of(&site.replies()?), "226 200");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"the first half");

    for (end, codes) in [("ABOR\r\n", "426 226"), ("", "426 226 221")] {
        site.dir.store("a.txt", OLD)?;
        let data = site.begin_upload("a.txt")?;
        data.finish();
        site.settle()?;
        match end {
            "" => site.control.finish(),
            end => site.control.send(end),
        }
        assert_eq!(codes_of(&site.replies()?), codes);
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
        assert_eq!(site.dir.read("a.txt").unwrap(), OLD);
    }
    Ok(())
}

#[test]
fn an_upload_is_completed_after_quit() -> Result {
    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    site.control.send("QUIT\r\n");
    site.control.finish();
    site.settle()?;
    data.send(", the second half");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226 221");
    let content = site.dir.read("new").unwrap();
    assert_eq!(content, b"the first half, the second half");
    Ok(())
}

/// An end of the data connection that comes together with ABOR is a part of it.
#[test]
fn abor_at_the_end_of_an_upload_leaves_nothing() -> Result {
    let site = Site::ann()?;
    let conditions = Conditions::default().shuffled(true);
    site.network.set_conditions(conditions);
    for _ in 0..10 {
        let data = site.begin_upload("a.txt")?;
        data.finish();
        site.control.send("ABOR\r\n");
        assert_eq!(codes_of(&site.replies()?), "426 226");
        assert_eq!(site.dir.read("a.txt").unwrap(), OLD);
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    }
    Ok(())
}

/// A client that continues a cut upload asks for the size of the file, which is that of the old one.
#[test]
fn a_cut_upload_cannot_be_continued() -> Result {
    let cut = |site: &Site, name: &str| site.cut(&format!("STOR {name}"), "the first half");
    let site = Site::ann()?;
    cut(&site, "a.txt")?;
    site.expect("EPSV", "229")?;
    for _ in 0..2 {
        assert_eq!(
            site.command("APPE a.txt")?,
            "550 the last upload of this file was cut, and nothing of it was kept: send it whole\r\n"
        );
        site.expect("REST 6", "350")?;
        assert_eq!(site.command("STOR dir/../a.txt")?, NO_PART);
    }
    assert_eq!(site.dir.read("a.txt").unwrap(), OLD);
    site.upload("STOR a.txt", "whole")?;
    site.upload("APPE a.txt", ", and more")?;
    assert_eq!(site.dir.read("a.txt").unwrap(), b"whole, and more");

    // There is another file now, by FTP or in another way.
    cut(&site, "a.txt")?;
    site.expect("DELE a.txt", "250")?;
    site.upload("APPE a.txt", "1")?;
    site.upload("APPE a.txt", "2")?;
    // Of the same size and time.
    site.dir.store("a.txt", b"12")?;
    site.dir.store("dir/other", b"34")?;
    cut(&site, "a.txt")?;
    site.expect("APPE a.txt", "550")?;
    site.expect("RNFR dir/other\r\nRNTO a.txt", "350 250")?;
    site.upload("APPE a.txt", "3")?;
    cut(&site, "a.txt")?;
    site.dir.store("a.txt", b"of a program on the server")?;
    site.upload("APPE a.txt", ".")?;

    // There was no file, or nothing was sent.
    site.expect("DELE a.txt", "250")?;
    let data = site.data()?;
    site.expect("STOR a.txt", "150")?;
    data.reset();
    assert_eq!(codes_of(&site.replies()?), "426");
    site.upload("APPE a.txt", "new")?;
    site.expect("STOR a.txt", "425")?;
    site.passive_port()?;
    site.expect("STOR a.txt", "150")?;
    site.expect("ABOR", "426 226")?;
    site.upload("APPE a.txt", "er")?;
    assert_eq!(site.dir.read("a.txt").unwrap(), b"newer");
    Ok(())
}

/// A client that has lost its connection comes back before the server has noticed that.
#[test]
fn a_file_that_is_being_replaced_cannot_be_continued() -> Result {
    let site = Site::ann()?;
    let data = site.begin_of(&site.control, "STOR a.txt")?;
    data.send("new");
    let again = site.session_of("ann")?;
    for command in ["APPE a.txt".to_owned(), rest(OLD.len())] {
        site.ask(&again, "EPSV\r\n")?;
        let replies = site.ask(&again, command + "\r\n")?;
        assert!(codes_of(&replies).ends_with("550"), "{replies}");
    }
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    site.upload("APPE a.txt", "er")?;
    assert_eq!(site.dir.read("a.txt").unwrap(), b"newer");
    Ok(())
}

/// What is added to a file that is no longer at its path says nothing of the one that is. Windows does not replace a file that
/// is open.
#[cfg(unix)]
#[test]
fn the_end_of_an_upload_to_a_file_that_was_replaced_changes_nothing() -> Result {
    let site = Site::ann()?;
    let bob = site.session_of("bob")?;
    let of_bob = site.begin_of(&bob, "APPE a.txt")?;
    of_bob.send("lost");
    site.upload("STOR a.txt", "another")?;
    site.cut("STOR a.txt", "a part")?;
    of_bob.reset();
    assert_eq!(codes_of(&site.ask(&bob, "")?), "426");
    site.expect("EPSV", "229")?;
    site.expect("APPE a.txt", "550")?;
    assert_eq!(site.dir.read("a.txt").unwrap(), b"another");
    Ok(())
}

/// lftp continues by itself when it has lost its connection: it asks for the size of the file, which may be an old one or that
/// of another client, and sends the rest with REST and STOR.
#[test]
fn only_a_part_can_be_continued_with_rest() -> Result {
    let site = Site::ann()?;
    let is_refused = |start: usize| -> Result {
        site.expect("EPSV", "229")?;
        let replies = site.command(&rest(start))?;
        assert!(replies.ends_with(NO_PART), "{replies}");
        Ok(())
    };
    // Nothing is known of the file, as after a restart.
    for start in [1, OLD.len() - 1, OLD.len(), OLD.len() + 1] {
        is_refused(start)?;
    }
    site.expect("REST 1\r\nSTOR none", "350 550")?;

    site.cut("APPE a.txt", "one")?;
    site.expect("EPSV", "229")?;
    site.expect(&rest(OLD.len() + 4), "350 554")?;
    site.cut(&rest(OLD.len() + 3), ", two")?;
    // A client that has sent nothing more.
    site.cut(&rest(OLD.len() + 8), "")?;
    let data = site.begin_of(&site.control, &rest(OLD.len()))?;
    data.send("1");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello\nworld\n1");
    // It is complete.
    is_refused(OLD.len() + 1)?;

    // A file of the same name is being sent, or was cut.
    site.cut("APPE a.txt", "2")?;
    let other = site.second()?;
    let data = site.begin_of(&other, "STOR a.txt")?;
    is_refused(OLD.len() + 2)?;
    data.reset();
    assert_eq!(codes_of(&site.ask(&other, "")?), "426");
    is_refused(OLD.len() + 2)?;
    Ok(())
}

#[test]
fn a_part_that_somebody_has_changed_cannot_be_continued() -> Result {
    type Change = fn(&Site) -> Result;
    let changes: [(&str, Change); 9] = [
        ("replaced", |site| site.upload("STOR a.txt", "whole")),
        ("completed", |site| site.upload("APPE a.txt", "more")),
        ("of another user", |site| {
            let bob = site.session_of("bob")?;
            site.begin_of(&bob, "APPE a.txt")?.reset();
            assert_eq!(codes_of(&site.ask(&bob, "")?), "426");
            Ok(())
        }),
        ("deleted", |site| {
            site.expect("DELE a.txt", "250")?;
            site.dir.store("a.txt", b"another")
        }),
        ("renamed", |site| {
            site.dir.store("dir/other", b"another")?;
            site.expect("RNFR dir/other\r\nRNTO a.txt", "350 250")
        }),
        ("in a renamed folder", |site| {
            site.expect("RNFR dir\r\nRNTO old", "350 250")?;
            site.expect("MKD dir\r\nRNFR a.txt\r\nRNTO dir/a.txt", "257 350 250")?;
            site.dir.store("a.txt", b"another")
        }),
        ("written by a program", |site| {
            site.dir.store("a.txt", b"hello\nworld\nANOTHER")
        }),
        ("the time", |site| {
            site.expect("MFMT 20200101000000 a.txt", "213")
        }),
        // As HTTP does it. Length and time may be the same.
        ("replaced by a program", |site| {
            let (part, other) = (site.dir.path().join("a.txt"), site.dir.path().join("b.txt"));
            let found = std::fs::metadata(&part)?;
            let file = File::create(&other)?;
            file.set_len(found.len())?;
            file.set_modified(found.modified()?)?;
            drop(file);
            Ok(std::fs::rename(other, part)?)
        }),
    ];
    for (name, change) in changes {
        // Elsewhere the numbers of files are not known.
        if name == "replaced by a program" && cfg!(not(unix)) {
            continue;
        }
        let site = Site::ann()?;
        site.cut("APPE a.txt", "a part.")?;
        change(&site)?;
        site.expect("EPSV", "229")?;
        let size = site.dir.read("a.txt").unwrap().len();
        let replies = site.command(&rest(size))?;
        assert!(replies.ends_with(NO_PART), "{name}: {replies}");
    }
    Ok(())
}

/// Two clients append to a file that does not exist yet. Each has a file of its own, of which only one gets the name.
#[test]
fn a_file_that_was_created_meanwhile_is_not_replaced_by_one_that_was_to_be_appended() -> Result {
    let site = Site::ann()?;
    let other = site.second()?;
    let first = site.data()?;
    site.expect("APPE new", "150")?;
    first.send("first");
    let second = site.connect(CLIENT, extended(&site.ask(&other, "EPSV\r\n")?))?;
    assert_eq!(codes_of(&site.ask(&other, "APPE new\r\n")?), "150");
    second.send("second");
    second.finish();
    assert_eq!(codes_of(&site.ask(&other, "")?), "226");
    first.finish();
    assert_eq!(site.replies()?, "451 the file was created meanwhile\r\n");
    assert_eq!(site.dir.read("new").unwrap(), b"second");
    assert_eq!(site.dir.names()?, ["a.txt", "dir", "new"]);
    site.upload("APPE new", ", first")?;
    assert_eq!(site.dir.read("new").unwrap(), b"second, first");
    Ok(())
}

/// The file would be where the client does not look for it, and might replace another one there.
#[cfg(unix)]
#[test]
fn an_upload_fails_if_its_path_leads_elsewhere_at_its_end() -> Result {
    let moved = "451 the file or its folder was renamed, removed or replaced meanwhile\r\n";
    for rename in [
        "RNFR dir\r\nRNTO other",
        "RNFR dir\r\nRNTO other\r\nMKD dir",
        "RNFR dir\r\nRNTO other\r\nRNFR a.txt\r\nRNTO dir",
    ] {
        for command in [
            "STOR dir/new",
            "STOR dir/big",
            "APPE dir/new",
            "APPE dir/big",
        ] {
            let site = Site::ann()?;
            let other = site.second()?;
            let data = site.begin_of(&site.control, command)?;
            data.send("content");
            site.settle()?;
            let codes = codes_of(&site.ask(&other, format!("{rename}\r\n"))?);
            assert!(codes.starts_with("350 250"), "{codes}");
            data.finish();
            assert_eq!(site.replies()?, moved, "{rename}, {command}");
            let left = std::fs::read_dir(site.dir.path().join("other"))?;
            assert_eq!(left.count(), 1, "{rename}, {command}");
            let appended = match command {
                "APPE dir/big" => b"not yetcontent".as_slice(),
                _ => b"not yet",
            };
            assert_eq!(site.dir.read("other/big").unwrap(), appended);
            assert_eq!(site.dir.read("dir/new"), None);
        }
    }
    // A file has the name of the one to which was appended.
    let site = Site::ann()?;
    let other = site.second()?;
    let data = site.begin_of(&site.control, "APPE a.txt")?;
    site.ask(&other, "RNFR a.txt\r\nRNTO b.txt\r\n")?;
    site.dir.store("a.txt", b"another")?;
    data.send("more");
    data.finish();
    assert_eq!(site.replies()?, moved);
    assert_eq!(site.dir.read("a.txt").unwrap(), b"another");
    // A folder that has its name again is the same one.
    let data = site.begin_of(&site.control, "STOR dir/big")?;
    let there_and_back = "RNFR dir\r\nRNTO other\r\nRNFR other\r\nRNTO dir\r\n";
    let codes = codes_of(&site.ask(&other, there_and_back)?);
    assert_eq!(codes, "350 250 350 250");
    data.send("whole");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("dir/big").unwrap(), b"whole");
    Ok(())
}

/// The clock of the system for files may stand still for some milliseconds.
#[test]
fn an_upload_has_the_time_of_the_clock() -> Result {
    let site = Site::ann()?;
    let modified = |name: &str| -> Result<_> {
        Ok(std::fs::metadata(site.dir.path().join(name))?.modified()?)
    };
    site.upload("STOR new", "content")?;
    assert_eq!(modified("new")?, now());
    for command in ["APPE a.txt", "REST 3\r\nSTOR a.txt"] {
        site.cut(command, "part")?;
        assert_eq!(modified("a.txt")?, now(), "{command}");
    }
    site.upload("APPE dir/big", "more")?;
    assert_eq!(modified("dir/big")?, now());
    site.expect("MFMT 19941106084937 new", "213")?;
    assert_eq!(modified("new")?, changed());
    Ok(())
}

/// To cut 1.5 GB from a file took half a second.
#[test]
fn a_large_file_is_shortened_in_steps() -> Result {
    const STEP: u64 = 4 << 20;
    let site = Site::ann()?;
    let path = site.dir.path().join("large");
    let create = || File::create(&path)?.set_len(5 * STEP);
    let shorten = || -> Result {
        site.cut("APPE large", "")?;
        let data = site.data()?;
        site.expect("REST 1\r\nSTOR large", "350 150")?;
        data.send("xy");
        data.finish();
        Ok(())
    };
    create()?;
    shorten()?;
    let mut before = 5 * STEP;
    while site.control.received().is_empty() {
        site.event_loop.run_once(Duration::ZERO)?;
        let length = path.metadata()?.len();
        assert!(before - length <= STEP, "{before}, {length}");
        before = length;
    }
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("large").unwrap(), b"\0xy");

    // The transfer lasts until then.
    create()?;
    shorten()?;
    while path.metadata()?.len() == 5 * STEP {
        site.event_loop.run_once(Duration::ZERO)?;
    }
    site.control.send("NOOP\r\nABOR\r\n");
    assert_eq!(codes_of(&site.replies()?), "426 226 200");
    assert!(path.metadata()?.len() >= STEP);
    site.expect("NOOP", "200")
}
