//! The files and folders that transfers open: how many, and of which kind.

use asynchat::Result;

use crate::ftp::Options;
use crate::site::{CLIENT, Site, codes_of, extended, options};
use crate::users::Shares;

/// However many sessions it has.
#[test]
fn an_address_has_its_share_of_the_open_files() -> Result {
    let site = Site::ann_with(Options {
        open_files: Shares::new(4),
        ..options()
    })?;
    let data = site.begin_large()?;
    let other = site.second()?;
    let begin = |line: &str| site.ask(&other, format!("EPSV\r\n{line}\r\n"));
    let port = extended(&begin("RETR a.txt")?);
    assert_eq!(codes_of(&site.ask(&other, "ABOR\r\n")?), "426 226");
    assert!(site.connect(CLIENT, port)?.has_ended());
    let second = site.begin_upload_of(&other, "new")?;
    let third = site.second()?;
    for line in ["RETR a.txt", "STOR x", "APPE a.txt", "LIST", "STAT dir"] {
        let codes = codes_of(&site.ask(&third, format!("EPSV\r\n{line}\r\n"))?);
        assert_eq!(codes, "229 450", "{line}");
    }
    // One that is removed or replaced is open until it is closed on a thread.
    let codes = codes_of(&site.ask(&third, "DELE a.txt\r\nRNFR dir\r\nRNTO b\r\n")?);
    assert_eq!(codes, "450 350 450");
    assert_eq!(site.dir.names()?.len(), 3);
    // When a transfer has ended there is room for another one.
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226");
    assert_eq!(codes_of(&site.ask(&third, "STAT dir\r\n")?), "213");
    assert_eq!(codes_of(&site.ask(&third, "STAT dir\r\n")?), "213");
    second.finish();
    site.settle()?;
    assert_eq!(codes_of(&String::from_utf8(other.take_received())?), "226");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_opened() -> Result {
    let site = Site::ann()?;
    let path = site.dir.path().join("pipe");
    crate::folder::make_pipe(&path)?;
    // Otherwise the system refuses to open it for writing.
    let _reader = rustix::fs::open(
        &path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    )?;
    let pipe = crate::opened::Watched::new(&path)?;
    site.expect("EPSV", "229")?;
    for line in [
        "RETR pipe",
        "STOR pipe",
        "APPE pipe",
        "REST 1\r\nSTOR pipe",
        "SIZE pipe",
        "MDTM pipe",
        "MFMT 20200101000000 pipe",
        "MLST pipe",
        "DELE pipe",
        "RNFR pipe",
        "CWD pipe",
        "RETR pipe/x",
    ] {
        let codes = codes_of(&site.command(line)?);
        assert!(codes.ends_with("550"), "{line} {codes}");
        assert_eq!(pipe.opened()?, 0, "{line}");
    }
    Ok(())
}
