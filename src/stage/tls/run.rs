//! Lets rustls process the input, one record at a time.

use rustls::PeerMisbehaved;
use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon, UnbufferedStatus};

use super::buffers::{Into, Output, Received};

/// How many records, or handshake messages, without content for the channel may follow each other: key updates,
/// tickets, records that are empty. rustls counts key updates and empty records, but each kind resets the count of the
/// other.
const MOST_QUIET: usize = 64;

/// The two kinds of connections, which have the same states.
pub(super) trait Side: Sized {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self>;
}

impl Side for ServerConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(input)
    }
}

impl Side for ClientConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(input)
    }
}

/// Processes all input, of which so many bytes are records that were `seen` before. Returns how many bytes of it are
/// done with, and how many of the others are whole records.
///
/// rustls gets one record at a time. So the records without content can be counted, which it does not tell about.
pub(super) fn run<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    input: &mut [u8],
    mut seen: usize,
    into: &mut Into<'_>,
    received: &mut Received,
    output: &mut Output,
) -> Result<(usize, usize), rustls::Error> {
    let (mut done, mut end) = (0, seen);
    loop {
        if end == done
            && let Some(next) = end_of_record(input, end)
        {
            (seen, end) = (next, next);
        }
        let rest = input.get_mut(done..end).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = S::process(connection, rest);
        let (mut is_over, mut has_content) = (false, false);
        let outcome = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        has_content |= !record.payload.is_empty();
                        received.deliver(record.payload, into);
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => output.encode(|to| data.encode(to)),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It is in the output, whose order is that of its bytes.
                data.done();
                Ok(())
            }
            Ok(ConnectionState::PeerClosed) => {
                received.peer_has_closed = true;
                Ok(())
            }
            // Early data could be replayed. The configuration of the acceptor does not allow it.
            Ok(ConnectionState::ReadEarlyData(_)) => Err(rustls::Error::General(
                "early data is not accepted".to_owned(),
            )),
            Ok(_) => {
                is_over = true;
                Ok(())
            }
            Err(error) => Err(error),
        };
        done += discard;
        if has_content {
            received.quiet = 0;
        } else if discard > 0 && !connection.is_handshaking() {
            received.quiet += 1;
        }
        let is_quiet = || match received.quiet > MOST_QUIET {
            true => Err(PeerMisbehaved::TooManyEmptyFragments.into()),
            false => Ok(()),
        };
        if let Err(error) = outcome.and_then(|()| is_quiet()) {
            let rest = input.get_mut(done..).unwrap_or_default();
            fetch_alert(connection, rest, output);
            return Err(error);
        }
        if is_over && end == input.len() {
            return Ok((done, seen.saturating_sub(done)));
        }
        if is_over {
            // The last part may be the header of a record that is an error.
            end = match end_of_record(input, end) {
                Some(next) => {
                    seen = next;
                    next
                }
                None => input.len(),
            };
        }
    }
}

/// Where the record ends that begins there, if it is complete.
fn end_of_record(input: &[u8], begin: usize) -> Option<usize> {
    let end = begin + record_length(input.get(begin..)?)?;
    (end <= input.len()).then_some(end)
}

/// Moves the alert that an error has caused to the output.
fn fetch_alert<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    rest: &mut [u8],
    output: &mut Output,
) {
    while connection.wants_write() {
        match S::process(connection, rest).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if output.encode(|to| data.encode(to)).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// The length of the first record with its header, if the header is complete (RFC 8446 section 5.1).
pub(super) fn record_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [_, _, _, high, low, ..] => Some(5 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}
