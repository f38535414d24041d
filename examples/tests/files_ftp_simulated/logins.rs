//! Log-ins, and the time that a client has.

use std::time::Duration;

use asynchat::Result;

use crate::ftp::Options;
use crate::gate::{Gate, gated};
use crate::site::{ADDR, CLIENT, STRANGER, Site, codes_of, options};

/// Also those that wait for the end of a transfer, with a log-in among them.
#[test]
fn commands_wait_while_a_password_is_checked() -> Result {
    let site = Site::with(options())?;
    let input =
        "USER ann\r\nPASS secret\r\nTYPE I\r\nPWD\r\nSTAT dir\r\nUSER ann\r\nPASS wrong\r\nPWD";
    site.expect(input, "331 230 200 257 213 331 530 530")?;
    site.expect("USER ann\r\nPASS secret", "331 230")?;
    let data = site.begin_large()?;
    site.expect("USER ann\r\nPASS secret\r\nPWD\r\nNOOP", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 331 230 257 200");
    Ok(())
}

/// Its passwords wait for the gate.
fn gated_site() -> Result<(Site, Gate)> {
    let (logins, gate) = gated();
    let options = Options {
        logins,
        ..options()
    };
    Ok((Site::with(options)?, gate))
}

/// Also those that have waited for a transfer together with the log-in.
#[test]
fn nothing_is_done_while_a_password_is_checked() -> Result {
    let (site, _gate) = gated_site()?;
    site.expect("USER anonymous\r\nPASS me@", "331 230")?;
    let data = site.begin_large()?;
    site.expect("USER ann\r\nPASS secret\r\nNOOP", "")?;
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 331");
    site.expect("NOOP", "")
}

#[test]
fn a_password_that_waits_too_long_ends_the_session() -> Result {
    let (site, gate) = gated_site()?;
    site.expect("USER ann\r\nPASS secret\r\nPWD", "331")?;
    site.advance(Duration::from_secs(61))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());
    gate.open()?;
    assert_eq!(site.replies()?, "");
    Ok(())
}

/// The session is open while the replies before it are sent, and carries out no command that has waited.
#[test]
fn a_check_that_ends_after_its_421_has_no_effect() -> Result {
    let (site, gate) = gated_site()?;
    site.expect("USER anonymous\r\nPASS me@", "331 230")?;
    let data = site.begin_large()?;
    site.control.stop_reading();
    site.expect("USER ann\r\nPASS secret\r\nDELE a.txt", "")?;
    data.start_reading(usize::MAX);
    site.advance(Duration::from_secs(61))?;
    gate.open()?;
    site.settle()?;
    assert!(!site.control.has_ended());
    site.control.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226 331 421");
    assert!(site.control.has_ended());
    assert_eq!(site.dir.names()?, ["a.txt", "dir"]);
    Ok(())
}

#[test]
fn passwords_cannot_be_guessed_for_ever() -> Result {
    let site = Site::with(options())?;
    for codes in ["530", "530", "421"] {
        site.expect("USER ann", "331")?;
        site.expect("PASS wrong", codes)?;
    }
    assert!(site.control.has_ended());

    // Over several connections neither.
    let log_in = |from: &str, password: &str| -> Result<String> {
        let client = site.connect(from, ADDR.parse()?)?;
        let input = format!("USER ann\r\nPASS {password}\r\nQUIT\r\n");
        Ok(codes_of(&site.ask(&client, input)?))
    };
    for _ in 3..10 {
        assert_eq!(log_in(CLIENT, "wrong")?, "220 331 530 221");
    }
    assert_eq!(log_in(CLIENT, "secret")?, "220 331 530 221");
    // The reply says how long the client has to wait.
    site.advance(Duration::from_secs(10))?;
    let client = site.connect(CLIENT, ADDR.parse()?)?;
    let replies = site.ask(&client, "USER ann\r\nPASS secret\r\n".repeat(3))?;
    for code in ["530", "421"] {
        let why = "too many wrong passwords from your address: try again in 21 seconds";
        assert!(replies.contains(&format!("{code} {why}\r\n")), "{replies}");
    }
    assert_eq!(log_in(STRANGER, "secret")?, "220 331 230 221");
    site.advance(Duration::from_secs(21))?;
    assert_eq!(log_in(CLIENT, "secret")?, "220 331 230 221");
    Ok(())
}

#[test]
fn silence_ends_a_session_but_not_during_a_transfer() -> Result {
    let site = Site::ann()?;
    for _ in 0..5 {
        site.advance(Duration::from_secs(200))?;
        site.expect("NOOP", "200")?;
    }
    let data = site.begin_large()?;
    for _ in 0..50 {
        data.start_reading(30_000);
        site.settle()?;
        site.advance(Duration::from_secs(10))?;
    }
    data.start_reading(usize::MAX);
    assert_eq!(codes_of(&site.replies()?), "226");
    site.advance(Duration::from_secs(299))?;
    assert_eq!(site.replies()?, "");
    // The timer is set for the whole time when it was due during the transfer.
    site.advance(Duration::from_secs(300))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());
    Ok(())
}

/// Also if the silence begins in the middle of a command, or the client sends it byte by byte.
#[test]
fn a_command_that_takes_too_long_has_a_last_reply() -> Result {
    let half = |site: &Site| -> Result<String> {
        for _ in 0..29 {
            site.control.send("x");
            site.advance(Duration::from_secs(10))?;
        }
        assert_eq!(site.replies()?, "");
        site.advance(Duration::from_secs(10))?;
        assert!(site.control.has_ended());
        site.replies()
    };
    let site = Site::anonymous()?;
    assert_eq!(half(&site)?, "421 no command for too long\r\n");
    // With a path that has begun before.
    let site = Site::anonymous()?;
    site.control.send("RETR ");
    assert_eq!(half(&site)?, "421 no command for too long\r\n");
    let site = Site::with(options())?;
    site.control.send("US");
    site.advance(Duration::from_secs(61))?;
    assert_eq!(site.replies()?, "421 no login for too long\r\n");
    Ok(())
}

#[test]
fn a_session_without_a_login_ends() -> Result {
    // Commands do not prolong it.
    let site = Site::with(options())?;
    for _ in 0..3 {
        site.advance(Duration::from_secs(19))?;
        site.expect("NOOP", "200")?;
    }
    site.expect("USER ann", "331")?;
    site.advance(Duration::from_secs(4))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    assert!(site.control.has_ended());
    // Neither does the beginning of another login.
    let site = Site::ann()?;
    site.advance(Duration::from_secs(70))?;
    site.expect("USER anonymous", "331")?;
    site.advance(Duration::from_secs(50))?;
    site.expect("USER ann", "331")?;
    site.advance(Duration::from_secs(11))?;
    assert_eq!(codes_of(&site.replies()?), "421");
    // After a login, silence is bounded by another time.
    let site = Site::anonymous()?;
    site.advance(Duration::from_secs(120))?;
    site.expect("NOOP", "200")
}
