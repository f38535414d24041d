//! Lets rustls process the input, one record at a time.

use rustls::PeerMisbehaved;
use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon, UnbufferedStatus};

use super::buffers::{Destination, Output, Received};

/// How many records, or handshake messages, without content for the channel may follow each other: key updates,
/// tickets, records that are empty. rustls counts key updates and empty records, but each kind resets the count of the
/// other.
pub(super) const MOST_QUIET: usize = 64;

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

/// The header of a record that is too long. rustls answers it with the alert `decode_error`, as a message that says it is
/// too long.
pub(super) const TOO_LONG: [u8; 5] = [22, 3, 3, 0xff, 0xff];

/// A record that has no place behind the handshake. rustls answers it with the alert `unexpected_message`.
const UNEXPECTED: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// Processes all input. Its first `seen` bytes are records that were counted by an earlier call. Returns how many bytes of
/// the input are done with, and how many of the others are whole records.
///
/// rustls gets one record at a time. So the records without content can be counted, which it does not tell about.
pub(super) fn run<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    input: &mut [u8],
    mut seen: usize,
    into: &mut Destination<'_>,
    received: &mut Received,
    output: &mut Output,
) -> Result<(usize, usize), rustls::Error> {
    let (mut done, mut begin, mut end) = (0, seen, seen);
    loop {
        if end == done
            && let Some(next) = end_of_record(input, end)
        {
            (begin, seen, end) = (end, next, next);
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
        // rustls has seen the whole record, unless that is what it refuses.
        let given = if outcome.is_ok() { end } else { begin };
        let outcome = outcome.and_then(|()| {
            if received.quiet > MOST_QUIET {
                Err(PeerMisbehaved::TooManyEmptyFragments.into())
            } else {
                Ok(())
            }
        });
        if let Err(error) = outcome {
            let rest = input.get_mut(done..).unwrap_or_default();
            let has_alert = fetch_alert(connection, rest, output);
            let before = input.get(done..given).unwrap_or_default();
            if !has_alert && is_quiet(&error) && !refuse(connection, before, &UNEXPECTED, output) {
                // After some errors rustls looks at headers alone.
                refuse(connection, before, &TOO_LONG, output);
            }
            return Err(error);
        }
        if is_over && end == input.len() {
            return Ok((done, seen.saturating_sub(done)));
        }
        if is_over {
            begin = end;
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

/// Whether there were too many records without content. rustls sends no alert for its own counts of them.
fn is_quiet(error: &rustls::Error) -> bool {
    use PeerMisbehaved::{TooManyEmptyFragments, TooManyKeyUpdateRequests};
    matches!(
        error,
        rustls::Error::PeerMisbehaved(TooManyEmptyFragments | TooManyKeyUpdateRequests)
    )
}

/// Where the record ends that begins there, if it is complete.
fn end_of_record(input: &[u8], begin: usize) -> Option<usize> {
    let end = begin + record_length(input.get(begin..)?)?;
    (end <= input.len()).then_some(end)
}

/// Tells the peer that what it sends is refused. rustls has no call for that. So it gets a record that it answers with an
/// alert, behind the part of the input that it has `seen` and that is not discarded.
pub(super) fn refuse<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    seen: &[u8],
    record: &[u8],
    output: &mut Output,
) -> bool {
    // rustls sends no alert behind close_notify.
    if output.is_closed {
        return true;
    }
    let mut input = [seen, record].concat();
    loop {
        match S::process(connection, &mut input).state {
            // An answer that is due.
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if output.encode(|to| data.encode(to)).is_err() {
                    return false;
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(_) => return false,
            Err(_) => return fetch_alert(connection, &mut [], output),
        }
    }
}

/// Moves the alert that an error has caused to the output. Returns whether there was one.
fn fetch_alert<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    rest: &mut [u8],
    output: &mut Output,
) -> bool {
    let mut has_alert = false;
    while connection.wants_write() {
        match S::process(connection, rest).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                has_alert = true;
                if output.encode(|to| data.encode(to)).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    has_alert
}

/// The length of the first record with its header, if the header is complete (RFC 8446 section 5.1).
pub(super) fn record_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [_, _, _, high, low, ..] => Some(5 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}
