//! NOOP during a transfer.

use asynchat::Result;

use crate::site::{Site, codes_of};

/// A client sends it every few seconds, so that no router between the two forgets the control connection.
#[test]
fn each_noop_during_a_long_transfer_has_its_reply_after_it() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    for _ in 0..1000 {
        site.expect("NOOP", "")?;
    }
    site.expect("PWD\r\nNOOP\r\nNOOP x\r\nnoop", "")?;
    data.start_reading(usize::MAX);
    let codes = codes_of(&site.replies()?);
    assert_eq!(
        codes,
        "226 ".to_owned() + &"200 ".repeat(1000) + "257 200 200 200"
    );
    site.expect("PWD", "257")
}

#[test]
fn the_replies_to_noop_are_bounded() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    for _ in 0..100 {
        site.expect("NOOP\r\n".repeat(1000).trim_end(), "")?;
    }
    // The client reads none of the replies: they are made as it reads them.
    site.control.stop_reading();
    data.start_reading(usize::MAX);
    site.settle()?;
    site.control.send("PWD\r\nQUIT\r\n");
    site.settle()?;
    site.control.start_reading(usize::MAX);
    let replies = site.replies()?;
    assert_eq!(replies.matches("200 done\r\n").count(), 100_000);
    let end = replies.rsplit_once("200 done\r\n").unwrap().1;
    assert_eq!(codes_of(end), "257 221");
    assert!(site.control.has_ended());

    // Also if they are not in a row.
    let site = Site::ann()?;
    let _data = site.begin_large()?;
    for n in 0..100 {
        let between = if n % 10 == 0 { "PWD\r\n" } else { "" };
        let noops = "NOOP\r\n".repeat(1000);
        site.expect((noops + between).trim_end(), "")?;
    }
    site.expect("NOOP", "421")?;
    assert!(site.control.has_ended());
    Ok(())
}

#[test]
fn commands_between_noops_keep_their_limit() -> Result {
    let site = Site::ann()?;
    let data = site.begin_large()?;
    site.expect("NOOP\r\nPWD\r\n".repeat(50).trim_end(), "")?;
    data.start_reading(usize::MAX);
    let codes = codes_of(&site.replies()?);
    assert_eq!(codes, "226".to_owned() + &" 200 257".repeat(50));
    let data = site.begin_large()?;
    site.expect("NOOP\r\nPWD\r\n".repeat(51).trim_end(), "421")?;
    assert!(site.control.has_ended() && data.has_ended());
    Ok(())
}
