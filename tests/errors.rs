//! Errors convert with `?` in both directions: those of the crate, of `std`, anyhow and eyre.

mod common;

use std::error::Error as StdError;
use std::io;

use asynchat::{AsyncChat, BoxError, Chat, Close, Error, EventLoop, Result};
use common::{Peer, addr_of, run_until};

fn refused() -> Error {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    Error::from(refused).context("connect to 127.0.0.1:9")
}

/// A callback may use `?` on every error.
fn callback(step: usize) -> Result {
    match step {
        0 => Err(refused())?,
        1 => Err(io::Error::other("io"))?,
        2 => Err("text")?,
        3 => Err(anyhow::anyhow!("root").context("anyhow"))?,
        4 => Err(eyre::eyre!("eyre"))?,
        _ => "x".parse::<u8>().map(drop)?,
    }
    Ok(())
}

fn into_anyhow(step: usize) -> anyhow::Result<()> {
    match step {
        0 => Err(refused())?,
        // anyhow takes no boxed errors; `anyhow::Error::from_boxed` does.
        _ => callback(step).map_err(anyhow::Error::from_boxed)?,
    }
    Ok(())
}

fn into_eyre(step: usize) -> eyre::Result<()> {
    match step {
        0 => Err(refused())?,
        // eyre takes no boxed errors, but that of the crate, which a boxed error becomes.
        _ => callback(step).map_err(Error::from)?,
    }
    Ok(())
}

fn of_the_crate(error: BoxError) -> Result<(), Error> {
    Err(error)?
}

#[test]
fn a_callback_returns_any_error() {
    let text = |step| callback(step).unwrap_err().to_string();
    assert_eq!(text(0), "connect to 127.0.0.1:9: connection refused");
    assert_eq!(text(1), "io");
    assert_eq!(text(2), "text");
    assert_eq!(text(3), "anyhow");
    assert_eq!(text(4), "eyre");
    assert_eq!(text(5), "invalid digit found in string");
}

#[test]
fn errors_convert_into_those_of_anyhow_and_eyre() {
    let text = "connect to 127.0.0.1:9: connection refused";
    let error = into_anyhow(0).unwrap_err();
    assert_eq!(format!("{error:#}"), text, "nothing is printed twice");
    let found = error.downcast_ref::<Error>().expect("the crate's error");
    assert_eq!(found.io_kind(), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(into_anyhow(2).unwrap_err().to_string(), "text");

    let error = into_eyre(0).unwrap_err();
    assert_eq!(format!("{error:#}"), text);
    assert_eq!(into_eyre(2).unwrap_err().to_string(), "text");
}

#[test]
fn an_error_that_is_boxed_and_unboxed_is_the_same() {
    let boxed: BoxError = refused().into();
    let error = of_the_crate(boxed).unwrap_err();
    assert_eq!(error.to_string(), refused().to_string());
    let original = error.downcast_ref::<io::Error>().expect("an io error");
    assert_eq!(original.kind(), io::ErrorKind::ConnectionRefused);
    let error = error.context("outside");
    assert_eq!(
        error.to_string(),
        "outside: connect to 127.0.0.1:9: connection refused"
    );
}

/// The display of an error includes its sources, so `source` starts behind them.
#[test]
fn the_kind_of_an_io_error_is_found_behind_its_contexts() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }
    let error = Error::new(Outer(io::ErrorKind::TimedOut.into())).context("context");
    assert_eq!(error.to_string(), "context: outer: timed out");
    assert_eq!(error.io_kind(), Some(io::ErrorKind::TimedOut));
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "context: outer: timed out");
    assert_eq!(
        io::Error::from(Error::new("x")).kind(),
        io::ErrorKind::Other
    );
}

/// `handle_close` gets the session's own error, which can be downcast.
#[test]
fn a_session_gets_the_error_that_it_returned() -> Result {
    struct Failing(Chat, std::rc::Rc<std::cell::Cell<bool>>);
    impl AsyncChat for Failing {
        fn found_terminator(&mut self, line: &[u8]) -> Result {
            let number: u8 = std::str::from_utf8(line)?.parse()?;
            self.0.push_slice(&[number]);
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            let Close::Handler(error) = why else {
                panic!("{why}");
            };
            self.1.set(error.is::<std::num::ParseIntError>());
        }
    }
    let event_loop = EventLoop::new()?;
    let seen = std::rc::Rc::new(std::cell::Cell::new(false));
    let flag = std::rc::Rc::clone(&seen);
    let listener = event_loop.listen("127.0.0.1:0", move |chat| Failing(chat, flag.clone()))?;
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("three\r\n");
    run_until(&event_loop, || seen.get());
    Ok(())
}
