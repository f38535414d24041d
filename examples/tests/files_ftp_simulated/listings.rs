//! What LIST and NLST list: a folder, a file, or what matches a pattern.

use std::fs;

use asynchat::Result;

use crate::site::{CLIENT, Site, codes_of, extended};

/// RFC 1123 section 4.1.2.7.
#[test]
fn each_name_of_nlst_is_a_path_to_its_file() -> Result {
    let site = Site::ann()?;
    site.dir.store("dir/x.txt", b"x")?;
    for (command, names) in [
        ("NLST", "a.txt dir"),
        ("NLST .", "a.txt dir"),
        ("NLST -a", "a.txt dir"),
        ("NLST ./", "./a.txt ./dir"),
        ("NLST /", "/a.txt /dir"),
        ("NLST dir", "dir/big dir/x.txt"),
        ("NLST -a dir", "dir/big dir/x.txt"),
        ("NLST dir/", "dir/big dir/x.txt"),
        ("NLST /dir", "/dir/big /dir/x.txt"),
        ("NLST dir/.", "dir/./big dir/./x.txt"),
        ("NLST dir/..", "dir/../a.txt dir/../dir"),
        ("NLST a.txt", "a.txt"),
        ("NLST dir/x.txt", "dir/x.txt"),
        ("NLST /dir//x.txt", "/dir//x.txt"),
    ] {
        assert_eq!(words(&site.download(command)?), names, "{command}");
    }
    for command in ["NLST dir/x.txt/", "NLST dir/x.txt/."] {
        site.expect("EPSV", "229")?;
        site.expect(command, "550")?;
    }
    site.expect("CWD dir", "250")?;
    for (command, names) in [
        ("NLST", "big x.txt"),
        ("NLST ..", "../a.txt ../dir"),
        ("NLST ../a.txt", "../a.txt"),
        ("NLST ../../../dir", "../../../dir/big ../../../dir/x.txt"),
        ("NLST ../dir/*.txt", "../dir/x.txt"),
    ] {
        let listed = site.download(command)?;
        assert_eq!(words(&listed), names, "{command}");
        for name in listed.lines() {
            let code = if name.ends_with("dir") { "550" } else { "213" };
            site.expect(&format!("SIZE {name}"), code)?;
        }
    }
    Ok(())
}

/// `mget *.txt` of many clients asks for `NLST *.txt`.
#[test]
fn the_last_name_of_a_path_can_be_a_pattern() -> Result {
    let site = Site::ann()?;
    for name in ["b.txt", ".c.txt", "d.dat", "dir/x.txt", "dir/y.txt"] {
        site.dir.store(name, b"content")?;
    }
    site.dir
        .store(".files-upload-0123456789abcdef", b"a part")?;
    fs::create_dir(site.dir.path().join("e.txt"))?;
    for (command, names) in [
        ("NLST *.txt", ".c.txt a.txt b.txt e.txt"),
        ("NLST *", ".c.txt a.txt b.txt d.dat dir e.txt"),
        ("NLST ?.txt", "a.txt b.txt e.txt"),
        ("NLST [a-b].txt", "a.txt b.txt"),
        ("NLST [^a-b].txt", "e.txt"),
        // As in shells. If this were `!` or `a` or `b`, MDELETE of a client would remove the wrong files.
        ("NLST [!a-b].txt", "e.txt"),
        ("NLST .*", ".c.txt"),
        ("NLST ./*.txt", "./.c.txt ./a.txt ./b.txt ./e.txt"),
        ("NLST /?.*", "/a.txt /b.txt /d.dat /e.txt"),
        ("NLST dir/*", "dir/big dir/x.txt dir/y.txt"),
        ("NLST -a dir/x*", "dir/x.txt"),
        ("NLST dir/../dir/y*", "dir/../dir/y.txt"),
        ("NLST *.none", ""),
        ("NLST .files*", ""),
        ("LIST *.none", ""),
    ] {
        assert_eq!(words(&site.download(command)?), names, "{command}");
    }
    // The lines are those of the files.
    let all = site.download("LIST")?;
    let expected: String = all
        .split_inclusive('\n')
        .filter(|line| line.ends_with(".txt\r\n"))
        .collect();
    assert_eq!(site.download("LIST -l *.txt")?, expected);
    assert!(site.command("STAT *.txt")?.contains(&expected));
    Ok(())
}

#[test]
fn what_is_no_pattern_has_to_exist() -> Result {
    let site = Site::ann()?;
    site.dir.store("dir/x.txt", b"x")?;
    for path in ["none", "none/*", "d*/x.txt", "d*/*", "*/", "a.txt/*", "\\a"] {
        for command in ["NLST", "LIST", "STAT"] {
            site.expect(&format!("{command} {path}"), "550")?;
        }
    }
    // RFC 3659 section 2.2.2: a path is literal. And no other command takes a pattern.
    for command in ["MLSD", "MLST", "RETR", "DELE", "SIZE", "CWD", "RNFR"] {
        site.expect(&format!("{command} *"), "550")?;
    }
    let why = site.command("MLSD *.txt")?;
    assert!(why.contains("a pattern is not possible"), "{why}");
    // No name is as long.
    site.expect(&format!("NLST {}", "*".repeat(256)), "550")?;
    assert_eq!(
        site.download(&format!("NLST {}", "*".repeat(255)))?,
        "a.txt\r\ndir\r\n"
    );
    Ok(())
}

/// Windows has no such names.
#[cfg(unix)]
#[test]
fn a_file_that_has_the_name_of_a_pattern_is_listed_alone() -> Result {
    let site = Site::ann()?;
    for name in ["[ab].txt", "dir/*", "dir/b*"] {
        site.dir.store(name, b"x")?;
    }
    for (command, names) in [
        ("NLST [ab].txt", "[ab].txt"),
        ("NLST dir/*", "dir/*"),
        ("NLST dir/b\\*", "dir/b*"),
        ("NLST dir/b?", "dir/b*"),
        ("NLST [a]*", "a.txt"),
    ] {
        assert_eq!(words(&site.download(command)?), names, "{command}");
    }
    // What is not served matches nothing.
    std::os::unix::fs::symlink("/etc/passwd", site.dir.path().join("link"))?;
    assert_eq!(site.download("NLST l*")?, "");
    Ok(())
}

/// Others have their turns meanwhile.
#[test]
fn the_names_are_compared_in_several_turns() -> Result {
    let site = Site::ann()?;
    fs::create_dir(site.dir.path().join("many"))?;
    for n in 0..2500 {
        fs::write(site.dir.path().join(format!("many/{n:04}")), "")?;
    }
    assert_eq!(
        words(&site.download("NLST many/1?50")?),
        "many/1050 many/1150 many/1250 many/1350 many/1450 many/1550 many/1650 many/1750 many/1850 many/1950"
    );
    let other = site.second()?;
    let port = extended(&site.command("EPSV")?);
    let _data = site.connect(CLIENT, port)?;
    site.control.send("NLST many/*x\r\n");
    let mut turns = 0;
    while codes_of(&String::from_utf8(site.control.received())?) != "150 226" {
        other.send("NOOP\r\n");
        site.event_loop.run_once(std::time::Duration::ZERO)?;
        turns += 1;
    }
    assert!(turns >= 5, "{turns}");
    let replies = other.take_received().len() / "200 done\r\n".len();
    assert!(replies >= 3, "{replies}");
    Ok(())
}

fn words(listed: &str) -> String {
    listed.lines().collect::<Vec<_>>().join(" ")
}
