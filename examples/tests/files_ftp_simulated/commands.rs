//! The reply to each command, listings, and paths.

use std::fs;

use asynchat::Result;
use asynchat::sim::{self};

use crate::ftp::Options;
use crate::site::{Site, codes_of, options};

#[test]
fn each_command_has_its_reply() -> Result {
    let site = Site::with(options())?;
    for (command, codes) in [
        ("PWD", "530"),
        ("RETR a.txt", "530"),
        ("EPSV", "530"),
        ("PASS x", "503"),
        ("USER", "501"),
        ("AUTH TLS", "502"),
        ("PBSZ 0", "503"),
        ("PROT P", "503"),
        ("user ann", "331"),
        ("PASS wrong", "530"),
        ("USER nobody", "331"),
        ("PASS ", "530"),
        ("USER ann", "331"),
        ("PASS secret", "230"),
        ("SYST", "215"),
        ("NOOP", "200"),
        ("HELP", "214"),
        ("FEAT", "211"),
        ("OPTS UTF8 ON", "200"),
        ("OPTS x", "501"),
        ("ALLO 5", "202"),
        ("TYPE A", "200"),
        ("TYPE A N", "200"),
        ("TYPE E", "504"),
        ("MODE S", "200"),
        ("MODE B", "504"),
        ("STRU F", "200"),
        ("STRU R", "504"),
        ("SIZE a.txt", "550"),
        ("REST 0", "350"),
        ("REST 5", "504"),
        ("type i", "200"),
        ("REST 5", "350"),
        ("REST -5", "501"),
        ("REST x", "501"),
        ("SIZE a.txt", "213"),
        ("SIZE dir", "550"),
        ("SIZE none", "550"),
        ("MDTM a.txt", "213"),
        ("MDTM", "550"),
        ("MDTM 20260102030405 none", "550"),
        ("MFMT 20260102030405 a.txt", "213"),
        ("MFMT 20260102030405 none", "550"),
        ("MFMT 20260102030405 dir", "550"),
        ("MFMT 20260102030405 ../../x", "550"),
        ("MFMT 20260102030405", "501"),
        ("MFMT 20260102030405 ", "501"),
        ("MFMT 20261302030405 a.txt", "501"),
        ("MFMT a.txt", "501"),
        ("MLST a.txt", "250"),
        ("MLST", "250"),
        ("STAT", "211"),
        ("STAT a.txt", "213"),
        ("ABOR", "226"),
        ("RETR a.txt", "425"),
        ("LIST", "425"),
        ("STOR x", "425"),
        ("RETR none", "550"),
        ("RETR dir", "550"),
        ("STOR dir", "550"),
        ("CWD none", "550"),
        ("CWD a.txt", "550"),
        ("CWD dir", "250"),
        ("PWD", "257"),
        ("CDUP", "250"),
        ("MKD new", "257"),
        ("MKD new", "550"),
        ("RMD new", "250"),
        ("RMD new", "550"),
        ("RMD dir", "550"),
        ("RMD a.txt", "550"),
        ("RMD /", "550"),
        ("DELE dir", "550"),
        ("RNTO x", "503"),
        ("RNFR none", "550"),
        ("RNFR a.txt", "350"),
        ("NOOP", "200"),
        ("RNTO b.txt", "503"),
        ("RNFR a.txt", "350"),
        ("RNTO b.txt", "250"),
        ("DELE b.txt", "250"),
        ("DELE b.txt", "550"),
        ("PORT 1", "501"),
        ("EPRT 1", "501"),
        ("EPRT |3|x|1|", "522"),
        ("EPSV 2", "522"),
        ("EPSV 1", "229"),
        ("EPSV ALL", "200"),
        ("PASV", "503"),
        ("PORT 192,0,2,7,19,137", "503"),
        ("EPRT |1|192.0.2.7|5001|", "503"),
        ("EPSV", "229"),
        ("SITE x", "502"),
        ("", "502"),
        ("QUIT", "221"),
    ] {
        site.expect(command, codes)?;
    }
    assert!(site.control.has_ended());
    assert_eq!(site.dir.names()?, ["dir"]);
    Ok(())
}

#[test]
fn replies_tell_what_is_asked_for() -> Result {
    let site = Site::ann()?;
    for (command, reply) in [
        ("SIZE a.txt", "213 12\r\n"),
        ("MDTM a.txt", "213 19941106084937\r\n"),
        ("PWD", "257 \"/\" is the current folder\r\n"),
        ("CWD dir/", "250 done\r\n"),
        ("PWD", "257 \"/dir\" is the current folder\r\n"),
        ("CWD ../../../dir/./..//dir", "250 done\r\n"),
        // A name that Windows does not allow.
        #[cfg(unix)]
        ("MKD say \"hi\"", "257 \"/dir/say \"\"hi\"\"\" created\r\n"),
        (
            "MLST ../a.txt",
            "250-the facts:\r\n type=file;size=12;modify=19941106084937;perm=adfrw; /a.txt\r\n250 end\r\n",
        ),
        ("OPTS MLST size;Type;foo;", "200 MLST OPTS type;size;\r\n"),
        ("MLST /", "250-the facts:\r\n type=dir; /\r\n250 end\r\n"),
    ] {
        assert_eq!(site.command(command)?, reply);
    }
    assert!(
        site.command("FEAT")?
            .contains("\r\n MLST type*;size*;modify;perm;\r\n")
    );
    Ok(())
}

/// RFC 1123 section 4.1.3.1: they are those of the time when the commands were experiments, and clients still use them.
#[test]
fn commands_on_folders_have_older_names() -> Result {
    let site = Site::ann()?;
    for (command, reply) in [
        ("XCWD dir", "250 done\r\n"),
        ("XPWD", "257 \"/dir\" is the current folder\r\n"),
        ("XMKD new", "257 \"/dir/new\" created\r\n"),
        ("XRMD new", "250 deleted\r\n"),
        ("XRMD new", "550 there is no such file or folder\r\n"),
        ("XCUP", "250 done\r\n"),
        ("XPWD", "257 \"/\" is the current folder\r\n"),
    ] {
        assert_eq!(site.command(command)?, reply);
    }
    Ok(())
}

/// As for the system calls: a file was removed by a path that leads to nothing over HTTP.
#[test]
fn a_path_with_a_slash_at_its_end_does_not_lead_to_a_file() -> Result {
    let site = Site::ann()?;
    site.expect("TYPE I", "200")?;
    for command in ["SIZE", "MDTM", "MLST", "DELE", "RNFR"] {
        site.expect(&format!("{command} a.txt/"), "550")?;
        site.expect(&format!("{command} dir/a.txt/x/"), "550")?;
    }
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO b.txt/", "550")?;
    site.expect("SIZE a.txt", "213")?;
    site.expect("RNFR dir/", "350")?;
    site.expect("RNTO other/", "250")?;
    Ok(())
}

/// RFC 1123 section 4.1.2.1 demands both.
#[test]
fn type_l_8_is_type_i() -> Result {
    let site = Site::ann()?;
    for kind in ["L 8", "l 8"] {
        site.expect("TYPE A", "200")?;
        site.expect("REST 5", "504")?;
        site.expect(&format!("TYPE {kind}"), "200")?;
        for other in ["L", "L 7", "L 16"] {
            site.expect(&format!("TYPE {other}"), "504")?;
        }
        assert_eq!(site.download("RETR a.txt")?, "hello\nworld\n");
        site.expect("REST 6", "350")?;
        assert_eq!(site.download("RETR a.txt")?, "world\n");
    }
    Ok(())
}

#[test]
fn listings_have_three_formats() -> Result {
    let site = Site::ann()?;
    site.dir.store("ü b", b"x")?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", site.dir.path().join("link"))?;
    assert_eq!(site.download("NLST")?, "a.txt\r\ndir\r\nü b\r\n");
    let list = site.download("LIST -la")?;
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(
        lines[0],
        "-rw-r--r-- 1 ftp ftp           12 Nov  6  1994 a.txt"
    );
    assert!(lines[1].starts_with("drwxr-xr-x 1 ftp ftp "), "{list}");
    assert!(lines[2].ends_with(" ü b"), "{list}");
    assert_eq!(lines.len(), 3);
    assert_eq!(site.download("LIST /a.txt")?.lines().next(), Some(lines[0]));
    let listed = site.download("MLSD")?;
    assert!(
        listed.starts_with(
            "type=file;size=12;modify=19941106084937;perm=adfrw; a.txt\r\ntype=dir;modify=2"
        ),
        "{listed}"
    );
    site.expect("MLSD a.txt", "501")?;
    site.expect("MLSD none", "550")?;
    site.expect("LIST link", "550")?;
    let status = site.command("STAT /")?;
    assert!(status.contains(lines[0]), "{status}");
    // The names are paths (RFC 1123 section 4.1.2.7).
    assert_eq!(site.download("NLST dir")?, "dir/big\r\n");

    // A folder takes several turns.
    fs::create_dir(site.dir.path().join("many"))?;
    for n in 0..2500 {
        fs::write(site.dir.path().join(format!("many/{n:04}")), "")?;
    }
    assert_eq!(site.download("NLST many")?.lines().count(), 2500);
    Ok(())
}

#[test]
fn nothing_outside_the_folder_is_reached() -> Result {
    let site = Site::ann()?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc", site.dir.path().join("etc"))?;
    for command in [
        "RETR ../../../../etc/passwd",
        "RETR /etc/passwd",
        "RETR etc/passwd",
        "CWD etc",
        "LIST etc",
        "SIZE /etc/passwd",
        "MLST etc",
        "RETR dir/../../etc/passwd",
        "DELE etc/passwd",
        "RNFR etc",
        "MKD etc/new",
        "STOR etc/new",
    ] {
        site.expect(command, "550")?;
    }
    site.expect("STOR .files-upload-x", "553")?;
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO etc/a.txt", "550")?;
    site.expect("RNFR a.txt", "350")?;
    site.expect("RNTO ../../../b.txt", "250")?;
    assert!(site.dir.read("b.txt").is_some());
    Ok(())
}

/// A client that synchronizes folders compares times.
#[test]
fn the_time_of_a_file_can_be_set() -> Result {
    let site = Site::ann()?;
    site.dir.store("20260102030405 b", b"b")?;
    for (command, reply) in [
        (
            "MFMT 20260102030405 /dir/../a.txt",
            "213 Modify=20260102030405; /a.txt\r\n",
        ),
        ("MDTM a.txt", "213 20260102030405\r\n"),
        (
            "MFMT 20260102030406.789 a.txt",
            "213 Modify=20260102030406; /a.txt\r\n",
        ),
        ("MDTM a.txt", "213 20260102030406\r\n"),
        ("MDTM 19991231235959 a.txt", "213 the time is set\r\n"),
        ("MDTM a.txt", "213 19991231235959\r\n"),
        // A file of this name.
        ("MDTM 20260102030405 b", "213 19941106084937\r\n"),
    ] {
        assert_eq!(site.command(command)?, reply, "{command}");
    }
    assert_eq!(site.dir.read("a.txt").unwrap(), b"hello\nworld\n");
    Ok(())
}

/// ext4 and XFS do not store a time of the year 9999, but the last one that they can. Another file system may refuse it.
#[test]
fn the_reply_to_mfmt_has_the_time_that_was_stored() -> Result {
    let site = Site::ann()?;
    let reply = site.command("MFMT 99991231235959 a.txt")?;
    let stored = site.command("MDTM a.txt")?;
    let time = stored.trim_end().strip_prefix("213 ").ok_or("a time")?;
    if codes_of(&reply) == "213" {
        assert_eq!(reply, format!("213 Modify={time}; /a.txt\r\n"));
    } else {
        assert_eq!(time, "19941106084937", "{reply}");
    }
    Ok(())
}

#[test]
fn quit_closes_at_once_after_little_output() -> Result {
    for (listings, lingers) in [(1, false), (20, true)] {
        let site = Site::anonymous()?;
        for n in 0..200 {
            fs::write(site.dir.path().join(format!("dir/{n:0200}")), "")?;
        }
        let before = site.network.sockets();
        let listings = "STAT dir\r\n".repeat(listings);
        let replies = site.command(&format!("{listings}QUIT"))?;
        assert!(replies.ends_with("221 the connection is closed\r\n"));
        assert!(site.control.has_ended());
        assert_eq!(site.network.sockets() == before, lingers);
    }
    Ok(())
}

#[test]
fn a_path_has_at_most_a_hundred_names() -> Result {
    let site = Site::ann()?;
    let deepest = "/d".repeat(100);
    fs::create_dir_all(site.dir.path().join(&deepest[1..]))?;
    site.expect(&format!("CWD {deepest}"), "250")?;
    for command in ["CWD d", "MKD d", "SIZE d", "RETR d", "MLST d"] {
        let reply = site.command(command)?;
        assert_eq!(reply, "550 the path has more than 100 names\r\n");
    }
    site.expect("STOR d", "553")?;
    site.expect("RNFR /a.txt", "350")?;
    site.expect("RNTO a.txt", "553")?;
    site.expect("CWD ..", "250")?;
    site.expect("MKD e", "257")?;
    // The folders that the path leaves again do not count.
    site.expect(&format!("SIZE {}/a.txt", "x/../".repeat(500)), "550")?;
    site.expect(&format!("SIZE /{}a.txt", "x/../".repeat(500)), "213")
}

#[test]
fn anonymous_clients_only_read() -> Result {
    let site = Site::anonymous()?;
    for command in [
        "STOR x",
        "APPE a.txt",
        "DELE a.txt",
        "MKD x",
        "RMD dir",
        "RNFR a.txt",
    ] {
        site.expect("EPSV", "229")?;
        site.expect(command, "550")?;
    }
    assert_eq!(site.download("NLST")?, "a.txt\r\ndir\r\n");
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);

    let site = Site::with(Options {
        anonymous: false,
        ..options()
    })?;
    site.expect("USER anonymous", "530")?;
    site.expect("PASS x", "503")?;
    // A user of a server without --write only reads.
    let site = Site::ann_with(Options {
        write: false,
        ..options()
    })?;
    site.expect("MKD x", "550")
}

#[test]
fn bad_lines_are_refused() -> Result {
    let site = Site::ann()?;
    site.expect(&"x".repeat(6000), "500")?;
    site.expect("NOOP", "200")?;
    let data = site.begin_large()?;
    site.expect(&"x".repeat(6000), "421")?;
    assert!(site.control.has_ended() && data.has_ended());
    let site = Site::ann()?;
    let replies = site.command(&format!("{}\r\n", "x".repeat(6000)).repeat(25))?;
    assert!(codes_of(&replies).ends_with("500 421"), "{replies}");
    assert!(site.control.has_ended());
    let site = Site::ann()?;
    let replies = site.command(&"XYZ\r\n".repeat(25))?;
    assert!(codes_of(&replies).ends_with("502 421"), "{replies}");
    assert!(site.control.has_ended());
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "hOST: a"] {
        let site = Site::with(options())?;
        site.expect(line, "421")?;
        assert!(site.control.has_ended());
    }
    Ok(())
}

#[test]
fn replies_are_the_same_under_every_segmentation() -> Result {
    let input = b"USER ann\r\nPASS secret\r\nTYPE I\r\nPORT 192,0,2,7,19,137\r\nRETR a.txt\r\n\xff\xf4\xff\xf2ABOR\r\n\
                  PORT 192,0,2,7,19,137\r\nSTOR new\r\nRNFR dir\nRNTO folder\r\nSIZE a.txt\r\nQUIT\r\n";
    let mut expected = None;
    sim::every_segmentation(input, |pieces| {
        let site = Site::with(options())?;
        let client = site.network.listen("192.0.2.7:5001")?;
        let mut received = String::new();
        let mut connections = Vec::new();
        for piece in pieces.iter().copied().map(Some).chain([None; 3]) {
            site.control.send(piece.unwrap_or_default());
            site.settle()?;
            while let Some(data) = client.accept() {
                data.send("content");
                data.finish();
                connections.push(data);
            }
            received += &site.replies()?;
        }
        // Whether ABOR comes during the transfer depends on the network.
        let received = received.replace(
            "426 aborted\r\n226 the data connection is closed\r\n",
            "226 done\r\n226 there is no transfer\r\n",
        );
        let expected = expected.get_or_insert_with(|| received.clone());
        assert_eq!(received, *expected, "{pieces:?}");
        assert_eq!(site.dir.read("new").unwrap(), b"content");
        assert_eq!(site.dir.names()?, ["a.txt", "folder", "new"]);
        Ok(())
    })?;
    let codes = codes_of(&expected.unwrap());
    assert_eq!(
        codes,
        "331 230 200 200 150 226 226 200 150 226 350 250 213 221"
    );
    Ok(())
}

#[test]
fn a_name_that_no_file_can_have_is_refused_at_once() -> Result {
    let site = Site::ann()?;
    let too_long = "x".repeat(256);
    for name in ["a\0b", "a\rb", &too_long] {
        // RFC 959 section 5.4: the other commands have no 553.
        for command in [
            "CWD", "RETR", "LIST", "NLST", "MLSD", "MLST", "STAT", "SIZE", "MDTM", "DELE", "MKD",
            "RMD", "RNFR",
        ] {
            site.expect(&format!("{command} {name}"), "550")?;
        }
        site.expect(&format!("STOR {name}"), "553")?;
        site.expect(&format!("APPE {name}"), "553")?;
        site.expect("RNFR a.txt", "350")?;
        site.expect(&format!("RNTO {name}"), "553")?;
    }
    site.upload(&format!("STOR {}", "x".repeat(200)), "x")
}

/// A client that asks for many listings in replies and reads nothing does not make the server open the folder for each.
#[cfg(target_os = "linux")]
#[test]
fn a_client_does_not_hold_many_folders_open() -> Result {
    let site = Site::anonymous()?;
    for n in 0..100 {
        site.dir.store(&format!("dir/{n:0200}"), b"")?;
    }
    site.control.stop_reading();
    site.control.send("STAT dir\r\n".repeat(100) + "NOOP\r\n");
    site.settle()?;
    let folder = site.dir.path().join("dir");
    let links = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let open = links.filter(|path| *path == folder).count();
    assert!((1..=2).contains(&open), "{open}");
    site.control.start_reading(usize::MAX);
    let replies = site.replies()?;
    assert_eq!(codes_of(&replies), "213 ".repeat(100) + "200");
    Ok(())
}

/// Commands that come during a transfer are done in turn, listings in replies as well.
#[test]
fn listings_in_replies_wait_for_each_other() -> Result {
    let site = Site::ann()?;
    let data = site.data()?;
    site.expect("STOR new", "150")?;
    site.expect("STAT dir\r\nSTAT dir\r\nPWD\r\nSTAT dir\r\nNOOP", "")?;
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226 213 213 257 213 200");
    site.expect("STAT dir\r\nQUIT", "213 221")
}

/// A server that was killed has left the part of an upload, which no listing shows.
#[cfg(unix)]
#[test]
fn a_folder_with_nothing_but_abandoned_parts_can_be_removed() -> Result {
    let site = Site::ann()?;
    site.expect("MKD new", "257")?;
    site.upload("STOR new/file", "")?;
    site.expect("DELE new/file", "250")?;
    for number in 0..3 {
        let part = format!("new/.files-upload-{number:016x}");
        site.dir.store(&part, b"a part")?;
    }
    site.expect("RMD new", "250")?;

    // What is in use stays, and whatever is no part.
    site.expect("MKD new", "257")?;
    let data = site.data()?;
    site.expect("STOR new/file", "150")?;
    data.send("more");
    site.settle()?;
    let other = site.second()?;
    assert_eq!(codes_of(&site.ask(&other, "RMD new\r\n")?), "550");
    data.finish();
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(site.dir.read("new/file").unwrap(), b"more");
    site.expect("RMD new", "550")?;
    assert_eq!(site.dir.read("new/file").unwrap(), b"more");
    site.expect("DELE new/file\r\nRMD new", "250 250")
}
