//! Compares the parser of HTTP/1.1 messages of the examples `files` and `proxy` with a naive one, which splits lines. A
//! message is valid for both or for none, and its body ends for both at the same byte.

use messages::body::Next;
use messages::{Body, Framing, LONGEST_TARGET, MOST_FIELDS, Request, Response, Version, chunked};

use super::naive::find;

#[path = "../../examples/http1/mod.rs"]
mod messages;

const END: &[u8] = b"\r\n\r\n";

/// The messages of a connection, until one is not valid or not complete.
pub fn http1(input: &[u8]) {
    let mut rest = input;
    while let Some(end) = find(END, rest) {
        let (head, behind) = rest.split_at(end + END.len());
        parse_response(head);
        let Some(framing) = parse_request(head) else {
            return;
        };
        let received = receive(framing, behind);
        let text = behind.escape_ascii();
        assert_eq!(received, naive_body(framing, behind), "{framing:?} {text}");
        match received {
            Received::Complete { length, .. } => rest = &behind[length..],
            Received::Incomplete | Received::Invalid => return,
        }
    }
}

/// The framing of a request. `None` if it is refused.
fn parse_request(head: &[u8]) -> Option<Framing> {
    if messages::is_blank(head) {
        return Some(Framing::Empty);
    }
    let mut space = messages::field_space();
    let parsed = Request::parse(head, &mut space).ok();
    let fields = parsed.map(|request| request.fields.iter().collect::<Vec<_>>());
    let found = parsed.zip(fields).map(|(request, fields)| Message {
        words: [
            request.method.as_bytes(),
            request.target.as_bytes(),
            version(request.version),
        ],
        fields,
        framing: request.framing,
    });
    assert_eq!(found, naive_request(head), "{}", head.escape_ascii());
    if let Some(request) = parsed {
        let _ = (request.keep_alive(), request.expects_continue());
        let end_to_end = request.fields.end_to_end();
        for (name, _) in end_to_end.into_iter().flatten() {
            let framing = ["content-length", "transfer-encoding", "connection"];
            assert!(!framing.contains(&&*name.to_ascii_lowercase()));
        }
    }
    found.map(|message| message.framing)
}

/// Whatever it is: what is accepted has one framing.
fn parse_response(head: &[u8]) {
    for method in ["GET", "HEAD", "CONNECT"] {
        let mut space = messages::field_space();
        if let Ok(response) = Response::parse(head, method, &mut space) {
            let is = |name: &str| response.fields.all(name).count();
            assert!(is("content-length") + is("transfer-encoding") <= 1);
            assert!(method != "HEAD" || response.framing == Framing::Empty);
            let _ = (response.keep_alive(), response.is_interim());
        }
    }
}

#[derive(Debug, PartialEq)]
struct Message<'m> {
    words: [&'m [u8]; 3],
    fields: Vec<(&'m str, &'m [u8])>,
    framing: Framing,
}

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

fn naive_request(head: &[u8]) -> Option<Message<'_>> {
    let mut head = head.strip_suffix(END)?;
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    let mut lines = lines(head)?.into_iter();
    let words: Vec<_> = lines.next()?.split(|&byte| byte == b' ').collect();
    let words @ [method, target, version] = <[&[u8]; 3]>::try_from(words).ok()?;
    let is_target = target.iter().all(u8::is_ascii_graphic) && !target.is_empty();
    if !is_token(method) || !is_target || target.len() > LONGEST_TARGET {
        return None;
    }
    let is_older = match version {
        b"HTTP/1.0" => true,
        b"HTTP/1.1" => false,
        _ => return None,
    };
    let fields = lines.map(field).collect::<Option<Vec<_>>>()?;
    let all = |wanted: &str| -> Vec<&[u8]> {
        let named = fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| *value).collect()
    };
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    match all("host")[..] {
        [] if is_older => {}
        [value] if value.iter().all(host) => {}
        _ => return None,
    }
    let framing = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Framing::Empty,
        ([length], []) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            match std::str::from_utf8(length).ok()?.parse().ok()? {
                _ if !is_number => return None,
                0 => Framing::Empty,
                length => Framing::Length(length),
            }
        }
        ([], [coding]) if !is_older && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return None,
    };
    (fields.len() <= MOST_FIELDS).then_some(Message {
        words,
        fields,
        framing,
    })
}

/// The lines, without CR and LF in them.
fn lines(text: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(end) = find(b"\r\n", rest) {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    let is_line = |line: &&[u8]| !line.contains(&b'\r') && !line.contains(&b'\n');
    lines.iter().all(is_line).then_some(lines)
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = value.iter().position(|byte| !is_space(byte));
    let start = start.unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte));
    let value = &value[start..end.map_or(start, |end| end + 1)];
    (is_token(name) && is_text(value)).then_some((std::str::from_utf8(name).ok()?, value))
}

fn is_token(text: &[u8]) -> bool {
    let is = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    !text.is_empty() && text.iter().all(is)
}

fn is_text(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

#[derive(Debug, PartialEq)]
enum Received {
    Complete { content: Vec<u8>, length: usize },
    Incomplete,
    Invalid,
}

/// Takes a body as a connection does, one record at a time.
fn receive(framing: Framing, input: &[u8]) -> Received {
    let (mut body, mut content, mut at) = (Body::new(framing), Vec::new(), 0);
    while !body.is_complete() {
        let rest = &input[at..];
        let exactly = |count: u64| {
            usize::try_from(count)
                .ok()
                .and_then(|count| rest.get(..count))
        };
        let (record, length) = match body.next() {
            Next::Content(count) | Next::Chunk(count) => {
                let Some(piece) = exactly(count) else {
                    return Received::Incomplete;
                };
                content.extend_from_slice(piece);
                (&b""[..], piece.len())
            }
            Next::ChunkEnd => match exactly(2) {
                Some(record) => (record, 2),
                None => return Received::Incomplete,
            },
            // The inputs are shorter than the limit of a trailer field.
            Next::ChunkLine | Next::Trailer => match find(b"\r\n", rest) {
                Some(end)
                    if end as u64 > chunked::LONGEST_LINE && body.next() == Next::ChunkLine =>
                {
                    return Received::Invalid;
                }
                Some(end) if end as u64 > chunked::LONGEST_TRAILER => return Received::Invalid,
                Some(end) => (&rest[..end], end + 2),
                None => return Received::Incomplete,
            },
            Next::UntilClose | Next::Complete => unreachable!("of a request"),
        };
        if body.found_terminator(record).is_err() {
            return Received::Invalid;
        }
        at += length;
    }
    Received::Complete {
        content,
        length: at,
    }
}

fn naive_body(framing: Framing, input: &[u8]) -> Received {
    match framing {
        Framing::Empty | Framing::UntilClose => Received::Complete {
            content: Vec::new(),
            length: 0,
        },
        Framing::Length(length) => {
            match usize::try_from(length).ok().and_then(|n| input.get(..n)) {
                Some(content) => Received::Complete {
                    content: content.to_vec(),
                    length: content.len(),
                },
                None => Received::Incomplete,
            }
        }
        Framing::Chunked => naive_chunks(input),
    }
}

fn naive_chunks(input: &[u8]) -> Received {
    let (mut content, mut rest, mut overhead) = (Vec::new(), input, 0u64);
    loop {
        let Some(end) = find(b"\r\n", rest) else {
            return Received::Incomplete;
        };
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let semicolon = line.iter().position(|&byte| byte == b';');
        let digits = match semicolon {
            Some(at) => line[..at].trim_ascii_end(),
            None => line,
        };
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit) && (1..=16).contains(&digits.len());
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let is_short = line.len() as u64 <= chunked::LONGEST_LINE;
        let Some(length) = u64::from_str_radix(text, 16)
            .ok()
            .filter(|_| is_hex && is_short && is_text(&line[digits.len()..]))
        else {
            return Received::Invalid;
        };
        let used = line.len() as u64;
        overhead = (overhead + used).saturating_sub(length.saturating_mul(2).saturating_add(16));
        if overhead > chunked::MOST_OVERHEAD {
            return Received::Invalid;
        }
        if length == 0 {
            break;
        }
        let Some(chunk) = usize::try_from(length).ok().and_then(|n| rest.get(..n)) else {
            return Received::Incomplete;
        };
        content.extend_from_slice(chunk);
        rest = &rest[chunk.len()..];
        match rest.get(..2) {
            Some(b"\r\n") => rest = &rest[2..],
            Some(_) => return Received::Invalid,
            None => return Received::Incomplete,
        }
    }
    loop {
        let Some(end) = find(b"\r\n", rest) else {
            return Received::Incomplete;
        };
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.is_empty() {
            let length = input.len() - rest.len();
            return Received::Complete { content, length };
        }
        overhead += line.len() as u64;
        let colon = line.iter().position(|&byte| byte == b':');
        let is_field =
            colon.is_some_and(|colon| is_token(&line[..colon]) && is_text(&line[colon..]));
        if !is_field || overhead > chunked::MOST_OVERHEAD || end as u64 > chunked::LONGEST_TRAILER {
            return Received::Invalid;
        }
    }
}
