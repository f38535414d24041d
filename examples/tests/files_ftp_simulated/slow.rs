//! Clients that send or take a little now and then. They are not idle, and would occupy the server for as long as they like.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Ended, Peer};

use crate::site::{Site, codes_of};

const PAUSE: Duration = Duration::from_secs(50);

#[test]
fn an_upload_is_cut_when_it_makes_less_than_64_kib_a_minute() -> Result {
    let passive = |site: &Site| site.begin_upload("new");
    let active = |site: &Site| {
        let client = site.network.listen("192.0.2.7:5001")?;
        site.expect("PORT 192,0,2,7,19,137", "200")?;
        site.expect("STOR new", "150")?;
        client
            .accept()
            .ok_or_else(|| "the server has not connected".into())
    };
    let ways: [fn(&Site) -> Result<Peer>; 2] = [passive, active];
    for begin in ways {
        for (piece, is_cut) in [(10, true), (70_000, false)] {
            let site = Site::ann()?;
            let data = begin(&site)?;
            for _ in 0..4 {
                data.send("x".repeat(piece));
                site.advance(PAUSE)?;
            }
            assert_eq!(data.has_ended(), is_cut, "{piece}");
            let (codes, names) = if is_cut { ("426", 2) } else { ("", 3) };
            assert_eq!(codes_of(&site.replies()?), codes, "{piece}");
            assert_eq!(site.dir.names()?.len(), names, "{piece}");
        }
    }
    Ok(())
}

/// A client that takes so many bytes, and then waits.
fn take_slowly(site: &Site, client: &Peer, count: usize) -> Result {
    for _ in 0..4 {
        client.start_reading(count);
        site.advance(PAUSE)?;
    }
    client.start_reading(usize::MAX);
    site.settle()
}

#[test]
fn a_download_is_cut_when_its_client_takes_less_than_64_kib_a_minute() -> Result {
    for (count, is_cut) in [(10, true), (70_000, false)] {
        let site = Site::ann()?;
        let data = site.begin_large()?;
        take_slowly(&site, &data, count)?;
        let (ended, code) = if is_cut {
            (Ended::Reset, "426")
        } else {
            (Ended::Finished, "226")
        };
        assert_eq!(data.ended(), Some(ended), "{count}");
        assert_eq!(codes_of(&site.replies()?), code, "{count}");
    }
    Ok(())
}

#[test]
fn a_session_is_cut_when_its_client_takes_less_than_64_kib_of_replies_a_minute() -> Result {
    const COUNT: usize = 10_000;
    for (count, is_cut) in [(10, true), (70_000, false)] {
        let site = Site::ann()?;
        site.control.stop_reading();
        site.control.send("HELP\r\n".repeat(COUNT));
        take_slowly(&site, &site.control, count)?;
        let ended = is_cut.then_some(Ended::Reset);
        assert_eq!(site.control.ended(), ended, "{count}");
        let replies = codes_of(&site.replies()?);
        assert_eq!(replies == ["214"; COUNT].join(" "), !is_cut, "{count}");
    }
    Ok(())
}
