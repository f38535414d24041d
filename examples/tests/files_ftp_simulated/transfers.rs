//! Uploads and downloads, whole, in parts and cut; what comes meanwhile; and random sessions.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Conditions, Ended, Peer};

#[cfg(unix)]
use crate::captured::captured;
use crate::ftp::Options;
use crate::names;
use crate::site::{CLIENT, STRANGER, Site, big, codes_of, extended, options, passive};

#[test]
fn uploads_appear_when_they_are_complete() -> Result {
    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    data.send(", the second half");
    site.settle()?;
    assert!(site.dir.read("new").is_none());
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(
        site.dir.read("new").unwrap(),
        b"the first half, the second half"
    );

    site.upload("STOR new", "another")?;
    assert_eq!(site.dir.read("new").unwrap(), b"another");
    site.upload("APPE new", " one")?;
    assert_eq!(site.dir.read("new").unwrap(), b"another one");
    site.upload("APPE newer", "begun")?;
    assert_eq!(site.dir.read("newer").unwrap(), b"begun");
    site.upload("STOR new", "")?;
    assert_eq!(site.dir.read("new").unwrap(), b"");
    Ok(())
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() -> Result {
    for cut in ["ABOR", "reset", "silence", "QUIT and reset", "too large"] {
        let site = Site::ann_with(Options {
            max_upload: 100,
            ..options()
        })?;
        let data = site.begin_upload("a.txt")?;
        let codes = match cut {
            "ABOR" => {
                site.control.send("ABOR\r\n");
                "426 226"
            }
            "silence" => {
                site.advance(Duration::from_secs(121))?;
                "426"
            }
            "QUIT and reset" => {
                site.control.send("QUIT\r\n");
                site.settle()?;
                data.reset();
                "426 221"
            }
            "too large" => {
                data.send("x".repeat(100));
                "552"
            }
            _ => {
                data.reset();
                "426"
            }
        };
        assert_eq!(codes_of(&site.replies()?), codes, "{cut}");
        assert_eq!(site.dir.names()?, ["a.txt", "dir"], "{cut}");
        assert_eq!(site.dir.read("a.txt").unwrap(), b"hello\nworld\n", "{cut}");
    }
    // What was appended stays, so that the client can continue.
    let site = Site::ann()?;
    let data = site.data()?;
    site.expect("APPE a.txt", "150")?;
    data.send("more");
    site.settle()?;
    data.reset();
    assert_eq!(codes_of(&site.replies()?), "426");
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello\nworld\nmore");
    site.expect("SIZE a.txt", "213")
}

/// Somebody has removed the part of an upload. Windows keeps the name of a file that is open.
#[cfg(unix)]
#[test]
fn an_upload_that_gets_no_name_is_a_451_and_logged() -> Result {
    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    for name in site.dir.names()? {
        if name.starts_with(".files-upload-") {
            std::fs::remove_file(site.dir.path().join(name))?;
        }
    }
    let log = captured(|| {
        data.finish();
        site.settle()
    })?;
    assert_eq!(
        site.replies()?,
        "451 the file cannot be used: the server has logged why\r\n"
    );
    assert!(
        log.contains("WARN a file or a folder cannot be used path=\"/new\" error="),
        "{log}"
    );
    Ok(())
}

#[test]
fn a_download_can_begin_in_the_middle() -> Result {
    let site = Site::ann()?;
    site.expect("REST 6", "350")?;
    assert_eq!(site.download("RETR a.txt")?, "world\n");
    assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    site.expect("REST 12", "350")?;
    assert_eq!(site.download("RETR a.txt")?, "");
    site.expect("REST 13", "350")?;
    site.expect("EPSV", "229")?;
    site.expect("RETR a.txt", "554")
}

#[test]
fn lines_end_with_crlf_in_type_a() -> Result {
    let site = Site::ann()?;
    site.expect("TYPE A", "200")?;
    assert_eq!(site.download("RETR a.txt")?, "hello\r\nworld\r\n");
    let data = site.data()?;
    site.expect("STOR new", "150")?;
    for piece in ["one\r", "\ntwo\r\n", "\r", "x\n\r"] {
        data.send(piece);
        site.settle()?;
    }
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("new").unwrap(), b"one\ntwo\n\rx\n\r");
    Ok(())
}

#[test]
fn abor_during_a_download_has_two_replies() -> Result {
    for abor in [
        &b"ABOR\r\n"[..],
        b"abor\r\n",
        b"\xff\xf4\xff\xf2ABOR\r\n",
        b"\xff\xf4\xf2ABOR\r\n",
        b"\xf2ABOR\r\n",
    ] {
        let site = Site::ann()?;
        let data = site.begin_large()?;
        site.control.send(abor);
        assert_eq!(codes_of(&site.replies()?), "426 226");
        data.start_reading(usize::MAX);
        site.settle()?;
        assert_eq!(data.ended(), Some(Ended::Reset));
        assert!(data.received().len() < big().len());
        assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
    }
    // Before there is a connection.
    let site = Site::ann()?;
    let port = site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    site.expect("ABOR", "426 226")?;
    assert!(site.connect(CLIENT, port)?.has_ended());
    site.expect("NOOP", "200")
}

#[test]
fn commands_during_a_transfer_wait_for_its_end_but_stat_does_not() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.expect("NOOP\r\nPWD", "")?;
    let status = site.command("STAT")?;
    assert_eq!(codes_of(&status), "211");
    assert!(status.contains("bytes of /dir/big: "), "{status}");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 200 257");
    assert_eq!(data.received(), big());

    // QUIT waits as well: RFC 959 section 4.1.1.
    let data = site.begin_large()?;
    site.expect("QUIT", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 221");
    assert_eq!(data.received(), big());

    let site = Site::ann()?;
    let _data = site.begin_large()?;
    site.expect(&"PWD\r\n".repeat(101), "421")?;

    // They are bounded by their bytes as well: four of these fit.
    let long = format!("SIZE {}\r\n", "x/".repeat(2000));
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.expect(long.repeat(4).trim_end(), "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 550 550 550 550");
    let site = Site::ann()?;
    let _data = site.begin_large()?;
    site.expect(long.repeat(5).trim_end(), "421")?;
    assert!(site.control.has_ended());
    Ok(())
}

/// Each of them may take as long as the system calls for a file.
#[test]
fn few_commands_of_a_client_run_in_a_turn() -> Result {
    let site = Site::ann()?;
    let most_in_turn = || -> Result<_> {
        let (mut replies, mut most) = (0, 0);
        while replies < 100 {
            site.event_loop.run_once(Duration::ZERO)?;
            let more = site.control.take_received();
            let more = more.iter().filter(|byte| **byte == b'\n').count();
            (replies, most) = (replies + more, most.max(more));
        }
        Ok(most)
    };
    site.control.send("SIZE a.txt\r\n".repeat(100));
    assert!(most_in_turn()? <= 16);
    // Those that have waited for the end of a transfer.
    let data = site.begin_large()?;
    site.expect("SIZE a.txt\r\n".repeat(99).trim_end(), "")?;
    data.start_reading(usize::MAX);
    assert!(most_in_turn()? <= 17);
    // What comes meanwhile is behind them.
    let data = site.begin_large()?;
    site.expect("SIZE a.txt\r\n".repeat(99).trim_end(), "")?;
    data.reset();
    site.control.send("PWD");
    let replies = site.command("")?;
    assert!(codes_of(&replies).ends_with("213 257"), "{replies}");
    Ok(())
}

#[test]
fn a_download_that_is_cut_is_reported() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    data.reset();
    assert_eq!(codes_of(&site.replies()?), "426");
    // A client that does not read.
    let data = site.begin_large()?;
    site.advance(Duration::from_secs(300))?;
    assert_eq!(codes_of(&site.replies()?), "426");
    drop(data);
    // The end of the control connection is that of the transfer.
    let data = site.begin_large()?;
    site.control.reset();
    site.settle()?;
    data.start_reading(usize::MAX);
    site.settle()?;
    assert_eq!(data.ended(), Some(Ended::Reset));
    assert_eq!(site.event_loop.len(), 1, "the listener");
    Ok(())
}

#[test]
fn a_file_that_becomes_shorter_is_cut() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    File::options()
        .write(true)
        .open(site.dir.path().join("dir/big"))?
        .set_len(5)?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "451");
    assert_eq!(data.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn a_shutdown_waits_for_a_transfer() -> Result {
    // Without one it is at once.
    let site = Site::ann()?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());

    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert_eq!(data.received(), big());
    assert!(site.control.has_ended());

    let site = Site::ann()?;
    let data = site.begin_upload("new")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    site.settle()?;
    data.send(".");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226 421");
    assert_eq!(site.dir.read("new").unwrap(), b"the first half.");

    // The grace ends.
    for begin in [Site::begin_large, |site: &Site| site.begin_upload("new")] {
        let site = Site::ann()?;
        let data = begin(&site)?;
        site.event_loop.shutdown(Duration::from_secs(5));
        site.settle()?;
        site.advance(Duration::from_secs(5))?;
        assert_eq!(codes_of(&site.replies()?), "426 421");
        assert_eq!(site.control.ended(), Some(Ended::Finished));
        assert!(site.event_loop.is_empty());
        assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
        drop(data);
    }

    // The server connects no longer.
    let site = Site::ann()?;
    site.network.add_black_hole("192.0.2.7:5001".parse()?);
    site.expect("PORT 192,0,2,7,19,137", "200")?;
    site.expect("RETR a.txt", "150")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "425 421");
    assert!(site.control.has_ended());

    // Nobody can come to the port any more.
    let site = Site::ann()?;
    site.passive_port()?;
    site.expect("RETR a.txt", "150")?;
    site.event_loop.shutdown(Duration::from_secs(5));
    assert_eq!(codes_of(&site.replies()?), "425 421");
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn a_client_that_has_sent_all_still_receives() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.control.finish();
    assert_eq!(site.replies()?, "");
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 221");
    assert_eq!(data.received(), big());
    assert!(site.control.has_ended());
    Ok(())
}

/// Whatever a client does and in which order: each command gets a last reply, nothing incomplete stays, and no port or
/// connection is left.
#[test]
fn random_sessions_end_in_good_order() -> Result {
    const COMMANDS: [&str; 25] = [
        "EPSV",
        "EPSV",
        "EPSV",
        "PASV",
        "PORT 192,0,2,7,19,137",
        "PORT 192,0,2,7,19,138",
        "RETR dir/big",
        "RETR dir/big",
        "RETR a.txt",
        "STOR new",
        "STOR new",
        "APPE new",
        "REST 3",
        "LIST",
        "NLST dir/*",
        "MLSD",
        "ABOR",
        "STAT",
        "NOOP",
        "TYPE A",
        "TYPE I",
        "RNFR new",
        "RNTO newer",
        "DELE new",
        "PWD",
    ];
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        // All ports, or a few: another one is opened when the one before has closed.
        let site = Site::ann_with(Options {
            ports: (seed % 2 == 1).then_some(50_000..=50_001),
            ..options()
        })?;
        let (conditions, p) = (
            Conditions::default().shuffled(true),
            f64::from(random.u8(..3)) * 0.2,
        );
        let conditions = conditions.short_reads(p).short_writes(p).late_events(p);
        site.network.set_conditions(conditions);
        site.dir.store("dir/big", &big()[..300_000])?;
        let client = site.network.listen("192.0.2.7:5001")?;
        let (mut port, mut data) = (None, Vec::<Peer>::new());
        let mut replies = String::new();
        for _ in 0..60 {
            match random.u8(..16) {
                0..=7 => {
                    let command = COMMANDS[random.usize(..COMMANDS.len())];
                    site.control.send(format!("{command}\r\n"));
                }
                8 | 9 if let Some(to) = port => {
                    let from = if random.u8(..5) == 0 {
                        STRANGER
                    } else {
                        CLIENT
                    };
                    data.push(site.network.connect_from(from.parse::<SocketAddr>()?, to)?);
                }
                10 if !data.is_empty() => drop(data.swap_remove(random.usize(..data.len()))),
                11 => site.advance(Duration::from_secs(random.u64(1..40)))?,
                _ if !data.is_empty() => {
                    let peer = &data[random.usize(..data.len())];
                    match random.u8(..6) {
                        0 | 1 => peer.send("some text\r\n"),
                        2 => peer.finish(),
                        3 => peer.reset(),
                        4 => peer.stop_reading(),
                        _ => peer.start_reading(usize::MAX),
                    }
                }
                _ => {}
            }
            if random.bool() {
                let received = site.replies()?;
                for reply in received.lines() {
                    port = match &reply[..3] {
                        "227" => Some(passive(reply)),
                        "229" => Some(extended(reply)),
                        _ => port,
                    };
                }
                replies += &received;
            }
            data.extend(client.accept());
        }
        let end = random.u8(..4);
        if end < 2 {
            site.control.send("QUIT\r\n");
            site.advance(Duration::from_secs(300))?;
            replies += &site.replies()?;
            assert!(
                replies.ends_with("221 the connection is closed\r\n"),
                "seed {seed}: {replies}"
            );
            let (begun, ended) = (replies.matches("\n150 ").count(), codes_of(&replies));
            let ended = ["226", "425", "426", "451"].map(|code| ended.matches(code).count());
            assert!(
                ended.iter().sum::<usize>() >= begun,
                "seed {seed}: {replies}"
            );
        } else if end == 2 {
            site.control.finish();
            site.advance(Duration::from_secs(300))?;
        } else {
            site.control.reset();
            site.settle()?;
        }
        drop(data);
        site.advance(Duration::from_secs(10))?;
        assert_eq!(site.event_loop.len(), 1, "seed {seed}: {replies}");
        let names = site.dir.names()?;
        let is_part = |name: &String| name.starts_with(names::TEMPORARY);
        assert!(!names.iter().any(is_part), "seed {seed}: {names:?}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn only_files_are_replaced_and_keep_their_permissions() -> Result {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    use crate::folder::make_pipe;

    let site = Site::ann()?;
    let at = |name: &str| site.dir.path().join(name);
    make_pipe(&at("pipe"))?;
    site.expect("STOR pipe", "550")?;
    site.expect("STOR dir", "550")?;
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO pipe", "550")?;
    assert!(at("pipe").symlink_metadata()?.file_type().is_fifo());

    // Another program has made it meanwhile.
    let data = site.data()?;
    site.expect("STOR later", "150")?;
    make_pipe(&at("later"))?;
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "550");
    assert!(at("later").symlink_metadata()?.file_type().is_fifo());
    assert_eq!(site.dir.names()?, ["a.txt", "dir", "later", "pipe"]);

    for mode in [0o600, 0o755] {
        std::fs::set_permissions(at("a.txt"), PermissionsExt::from_mode(mode))?;
        site.upload("STOR a.txt", "new")?;
        assert_eq!(at("a.txt").metadata()?.mode() & 0o7777, mode);
    }
    // Clients do not see a link, and do not replace it.
    std::os::unix::fs::symlink("dir", at("link"))?;
    std::os::unix::fs::symlink("none", at("dangling"))?;
    for link in ["link", "dangling"] {
        site.expect(&format!("STOR {link}"), "550")?;
        site.expect(&format!("APPE {link}"), "550")?;
        site.expect("RNFR a.txt", "350")?;
        site.expect(&format!("RNTO {link}"), "550")?;
        assert!(at(link).is_symlink());
    }
    Ok(())
}
