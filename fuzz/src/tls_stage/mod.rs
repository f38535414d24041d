//! A TLS stage with a peer that sends anything, or a conversation of which someone on the way changes a part.
//!
//! The stage must not panic, must deliver nothing before the handshake is complete and nothing that the peer has not
//! encrypted, must keep little, and must do the same under every segmentation.

mod fixed;

use std::io::{Read, Write};

use asynchat::internals::TlsEnd;
use asynchat::tls::ServerName;
use asynchat::tls::rustls::{ClientConnection, SupportedProtocolVersion, version};

use super::choices::Choices;

/// More than the stage may ever keep: a handshake message, a record, the plaintext of one read, its answer.
const MOST_MEMORY: usize = 200 * 1024;

const ROOM: [usize; 3] = [64 * 1024, 100, 1];

/// What is done to the stream of the client at an offset.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Change(u8),
    Remove(usize),
    Insert(usize, u8),
    /// The rest of the stream is replaced by that of the input.
    Replace,
}

/// The first bytes of `input` say who gets what, the segments, and the edits.
pub fn tls_stage(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = choices.below(4);
    let lens: Vec<_> = (0..=choices.below(3))
        .map(|_| 1 + choices.below(256) * 3)
        .collect();
    let room = choices.one_of(&ROOM);
    let edits: Vec<_> = match kind {
        0 | 1 => Vec::new(),
        _ => (0..choices.below(4)).map(|_| edit(&mut choices)).collect(),
    };
    let rest = choices.rest();
    let run = |lens: &[usize]| match kind {
        0 => alone(fixed::server_end(), rest, lens, room),
        1 => alone(fixed::client_end(), rest, lens, room),
        2 => conversation(&version::TLS13, &edits, rest, lens, room),
        _ => conversation(&version::TLS12, &edits, rest, lens, room),
    };
    let whole = run(&[usize::MAX]);
    assert_eq!(run(&lens), whole, "in segments of {lens:?}");
    // A conversation of 20 KB in single bytes takes too long.
    if kind < 2 {
        assert_eq!(run(&[1]), whole, "in single bytes");
    }
}

fn edit(choices: &mut Choices<'_>) -> (usize, Edit) {
    let offset = usize::from(choices.byte()) << 8 | usize::from(choices.byte());
    let edit = match choices.below(5) {
        0 | 1 => Edit::Change(choices.byte()),
        2 => Edit::Remove(1 + choices.below(64)),
        3 => Edit::Insert(1 + choices.below(32), choices.byte()),
        _ => Edit::Replace,
    };
    // The beginning, where the handshake is, is shorter than the rest.
    let most = choices.one_of(&[600, 600, 23_000]);
    (offset % most, edit)
}

/// What has become of an end.
#[derive(Debug, PartialEq)]
struct Outcome {
    plaintext: Vec<u8>,
    failure: Option<String>,
    peer_has_closed: bool,
    output: Vec<u8>,
}

/// Passes bytes to an end in segments, the lengths of which repeat.
struct Segments<'a> {
    end: TlsEnd,
    lens: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    room: usize,
    output: Vec<u8>,
}

impl<'a> Segments<'a> {
    fn new(end: TlsEnd, lens: &'a [usize], room: usize) -> Self {
        Segments {
            end,
            lens: lens.iter().cycle(),
            room,
            output: Vec::new(),
        }
    }

    /// Returns what the end answers.
    fn pass(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut answer = self.end.take_output();
        while !bytes.is_empty() {
            // The loop reads at most 64 KiB at once.
            let len = self.lens.next().copied().unwrap_or(1).min(64 * 1024);
            let (segment, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            self.end.receive(segment, self.room);
            assert!(self.end.plaintext().is_empty() || !self.end.is_handshaking());
            assert!(self.end.memory() < MOST_MEMORY, "{}", self.end.memory());
            answer.extend(self.end.take_output());
        }
        self.output.extend_from_slice(&answer);
        answer
    }

    fn outcome(self) -> Outcome {
        Outcome {
            plaintext: self.end.plaintext().to_vec(),
            failure: self
                .end
                .failure()
                .map(|it| without_quotation(it.to_string())),
            peer_has_closed: self.end.peer_has_closed(),
            output: self.output,
        }
    }
}

/// An error quotes what was received of a message that is not TLS. That depends on the segments.
fn without_quotation(error: String) -> String {
    match (error.split_once(": \""), error.rsplit_once("\": ")) {
        (Some((meaning, _)), Some((_, cause))) => format!("{meaning}: {cause}"),
        _ => error,
    }
}

/// An end whose peer sends these bytes and nothing else.
fn alone(end: TlsEnd, bytes: &[u8], lens: &[usize], room: usize) -> Outcome {
    let mut segments = Segments::new(end, lens, room);
    segments.pass(bytes);
    assert!(
        segments.end.is_handshaking(),
        "nobody completes it by chance"
    );
    segments.outcome()
}

/// A server and a client, whose stream is edited.
fn conversation(
    version: &'static SupportedProtocolVersion,
    edits: &[(usize, Edit)],
    replacement: &[u8],
    lens: &[usize],
    room: usize,
) -> Outcome {
    let mut server = Segments::new(fixed::server_end(), lens, room);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(fixed::client_config(version), name).expect("a client");
    let sent: Vec<u8> = (0..20_000u32).map(|number| (number % 251) as u8).collect();
    let mut is_sent = false;
    let mut editor = Editor {
        at: 0,
        removed: 0,
        edits,
        replacement: Some(replacement),
    };
    loop {
        if !client.is_handshaking() && !is_sent {
            is_sent = true;
            let (first, rest) = sent.split_at(5);
            client.writer().write_all(first).expect("there is room");
            client.writer().write_all(rest).expect("there is room");
            client.send_close_notify();
        }
        let mut stream = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut stream).expect("a vector");
        }
        if stream.is_empty() {
            break;
        }
        let mut answer = &server.pass(&editor.edited(&stream))[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("a slice");
            // An error makes an alert, which is sent.
            if client.process_new_packets().is_err() {
                break;
            }
            let _ = client.reader().read(&mut [0; 100]);
        }
    }
    assert!(sent.starts_with(server.end.plaintext()), "a forgery");
    if edits.is_empty() {
        assert_eq!(server.end.plaintext().len(), sent.len());
        assert!(server.end.peer_has_closed() && server.end.failure().is_none());
    }
    if server.end.peer_has_closed() {
        assert_eq!(server.end.plaintext().len(), sent.len(), "a truncation");
    }
    // It can answer unless it has failed.
    let can_send = server.end.failure().is_none() && !server.end.is_handshaking();
    assert_eq!(server.end.send(b"answer"), can_send);
    server.pass(&[]);
    server.outcome()
}

/// Who changes the stream on the way.
struct Editor<'a> {
    /// The offset of the next byte.
    at: usize,
    /// How many bytes are still to be removed.
    removed: usize,
    edits: &'a [(usize, Edit)],
    /// What replaces the rest of the stream, until it has.
    replacement: Option<&'a [u8]>,
}

impl Editor<'_> {
    fn edited(&mut self, stream: &[u8]) -> Vec<u8> {
        let mut edited = Vec::new();
        for &byte in stream {
            let mut byte = byte;
            for (_, edit) in self.edits.iter().filter(|(at, _)| *at == self.at) {
                match *edit {
                    Edit::Change(by) => byte ^= by,
                    Edit::Remove(count) => self.removed = count,
                    Edit::Insert(count, byte) => edited.resize(edited.len() + count, byte),
                    Edit::Replace => {
                        edited.extend_from_slice(self.replacement.take().unwrap_or_default());
                        self.removed = usize::MAX;
                    }
                }
            }
            self.at += 1;
            match self.removed {
                0 => edited.push(byte),
                _ => self.removed -= 1,
            }
        }
        edited
    }
}
