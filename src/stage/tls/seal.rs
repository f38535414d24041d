//! Encrypts what the channel sends.

use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon, WriteTraffic};

use super::buffers::{OVERHEAD, Output};
use super::run::Side;

/// Encrypts one record. `kept` has no whole record.
pub(super) fn seal<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    content: &[u8],
    output: &mut Output,
) -> Result<(), rustls::Error> {
    with_traffic(connection, kept, output, |traffic, output| {
        output.write(content.len() + OVERHEAD, |to| traffic.encrypt(content, to))
    })
}

/// Encrypts the alert `close_notify`.
pub(super) fn close_notify<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    output: &mut Output,
) {
    // It fails when a handshake is not complete: nothing was sent that could be cut.
    let _ = with_traffic(connection, kept, output, |traffic, output| {
        output.write(OVERHEAD, |to| traffic.queue_close_notify(to))
    });
}

/// Calls `write` in the state in which the connection encrypts.
fn with_traffic<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    output: &mut Output,
    write: impl FnOnce(&mut WriteTraffic<'_, S>, &mut Output) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    loop {
        match S::process(connection, kept).state? {
            ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, output),
            // A key update that was requested.
            ConnectionState::EncodeTlsData(mut data) => output.encode(|to| data.encode(to))?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(rustls::Error::HandshakeNotComplete),
        }
    }
}
