//! Compares the reader of PROXY headers with a naive parser of the specification: it must accept the same headers,
//! under every segmentation, and take no byte behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use asynchat::Addr;
use asynchat::proxy_protocol::{Header, Reader, Version, tlv};

use super::choices::Choices;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first byte says what the rest is: the stream itself, the words of a line, or the fields of a binary header.
pub fn proxy_header(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = choices.below(3);
    let lens: Vec<_> = (0..=choices.below(3))
        .map(|_| 1 + choices.below(20))
        .collect();
    let stream = match kind {
        0 => choices.rest().to_vec(),
        1 => [b"PROXY ", choices.rest()].concat(),
        _ => binary(choices),
    };
    let expected = naive(&stream);
    for lens in [&[usize::MAX][..], &[1], &lens] {
        let found = read(&stream, lens);
        assert_eq!(
            found,
            expected,
            "in segments of {lens:?}: {}",
            stream.escape_ascii()
        );
    }
}

/// A header of version 2 whose length is right most of the time.
fn binary(mut choices: Choices<'_>) -> Vec<u8> {
    let command = choices.one_of(&[0x21, 0x21, 0x20, 0x11, 0x22]);
    let family = choices.one_of(&[0x11, 0x21, 0x31, 0x00, 0x12, 0x22, 0x32, 0x10, 0x41]);
    let missing = choices.one_of(&[0, 0, 0, 0, 1, 200, 4100]);
    // Enough for the addresses.
    let padding = choices.one_of(&[0, 0, 12, 36, 216]);
    let rest = choices.rest();
    let length = u16::try_from(padding + rest.len() + missing).unwrap_or(u16::MAX);
    let mut header = [SIGNATURE, &[command, family], &length.to_be_bytes()].concat();
    header.resize(header.len() + padding, 7);
    [&header, rest].concat()
}

/// What a stream begins with.
#[derive(Debug, PartialEq)]
struct Found {
    /// How many bytes the header has.
    length: usize,
    is_local: bool,
    addresses: Option<(Addr, Addr)>,
    fields: Vec<(u8, Vec<u8>)>,
}

/// The reader. `None` if it has found no header, or no whole one.
fn read(stream: &[u8], lens: &[usize]) -> Option<Found> {
    let mut reader = Reader::default();
    let mut at = 0;
    for len in lens.iter().cycle() {
        let wanted = reader.wanted();
        assert!(wanted > 0);
        let end = stream.len().min(at + wanted.min(*len));
        if end == at {
            return None;
        }
        let taken = reader.take(&stream[at..end]);
        at = end;
        let Some(header) = taken.ok()? else { continue };
        is_sent_as_it_was_received(&header);
        let fields = header.tlvs().map(|(kind, value)| (kind, value.to_vec()));
        // The accessors accept any field.
        let _ = (
            header.alpn(),
            header.authority(),
            header.unique_id(),
            header.ssl(),
        );
        return Some(Found {
            length: at,
            is_local: header.is_local(),
            addresses: header.source().cloned().zip(header.destination().cloned()),
            fields: fields.collect(),
        });
    }
    None
}

/// A proxy may send a header on that it has received.
fn is_sent_as_it_was_received(header: &Header) {
    let sent = header.encode();
    let mut left = &sent[..];
    let read = |buffer: &mut [u8]| std::io::Read::read(&mut left, buffer);
    let again = Reader::default().receive(read).expect("it is valid");
    assert!(left.is_empty());
    assert_eq!(
        (
            again.version(),
            again.is_local(),
            again.source(),
            again.destination()
        ),
        (
            header.version(),
            header.is_local(),
            header.source(),
            header.destination()
        ),
    );
    // A checksum depends on the form of the addresses, which the sender chooses.
    let fields = |header: &Header| -> Vec<_> {
        let tlvs = header.tlvs().filter(|(kind, _)| *kind != tlv::CRC32C);
        tlvs.map(|(kind, value)| (kind, value.to_vec())).collect()
    };
    assert_eq!(fields(&again), fields(header));
    // What is said about TLS, in a header that has nothing else.
    if let Some(ssl) = header.ssl() {
        let addr = Addr::from(SocketAddr::from(([192, 0, 2, 1], 7)));
        let plain = Header::new(Version::V2, addr.clone(), addr);
        let told = plain.with_tlv(tlv::SSL, &ssl.encode());
        assert_eq!(told.expect("it has fitted").ssl(), Some(ssl));
    }
}

fn naive(stream: &[u8]) -> Option<Found> {
    match stream.strip_prefix(SIGNATURE) {
        Some(rest) => version_2(stream, rest),
        None => version_1(stream),
    }
}

fn version_1(stream: &[u8]) -> Option<Found> {
    let first = stream.get(..107).unwrap_or(stream);
    let end = first.windows(2).position(|pair| pair == b"\r\n")?;
    // The end of a line is a CR and an LF, and nothing else.
    if first[..end].contains(&b'\n') || first[..end].contains(&b'\r') {
        return None;
    }
    let words: Vec<_> = first[..end].split(|&byte| byte == b' ').collect();
    let addresses = match words[..] {
        [b"PROXY", b"UNKNOWN", ..] => None,
        [b"PROXY", b"TCP4", source, destination, from, to] => {
            let ip = |word| Some(IpAddr::V4(parsed::<Ipv4Addr>(word)?));
            Some((addr(ip(source)?, from)?, addr(ip(destination)?, to)?))
        }
        [b"PROXY", b"TCP6", source, destination, from, to] => {
            let ip = |word| Some(IpAddr::V6(parsed::<Ipv6Addr>(word)?));
            Some((addr(ip(source)?, from)?, addr(ip(destination)?, to)?))
        }
        _ => return None,
    };
    Some(Found {
        length: end + 2,
        is_local: false,
        addresses,
        fields: Vec::new(),
    })
}

fn parsed<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn addr(ip: IpAddr, port: &[u8]) -> Option<Addr> {
    let number: u16 = parsed(port)?;
    // No sign and no leading zeros.
    (number.to_string().as_bytes() == port).then(|| SocketAddr::new(ip, number).into())
}

fn version_2(stream: &[u8], rest: &[u8]) -> Option<Found> {
    let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let rest = rest.get(..length).filter(|_| length <= 4096 - 16)?;
    let mut found = Found {
        length: 16 + length,
        is_local: command == 0x20,
        addresses: None,
        fields: Vec::new(),
    };
    if found.is_local {
        return Some(found);
    }
    let size = match (command, family) {
        (0x21, 0x00) => 0,
        (0x21, 0x11 | 0x12) => 12,
        (0x21, 0x21 | 0x22) => 36,
        (0x21, 0x31 | 0x32) => 216,
        _ => return None,
    };
    let (block, rest) = rest.split_at_checked(size)?;
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    found.addresses = match size {
        12 => {
            let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&block[at..at + 4]).unwrap());
            let addr = |at, port| Addr::from(SocketAddr::new(ip(at), port));
            Some((addr(0, port(8)), addr(4, port(10))))
        }
        36 => {
            let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&block[at..at + 16]).unwrap());
            let addr = |at, port| Addr::from(SocketAddr::new(ip(at), port));
            Some((addr(0, port(32)), addr(16, port(34))))
        }
        216 => Some((unix(&block[..108]), unix(&block[108..]))),
        _ => None,
    };
    match fields(rest) {
        Some(fields) => found.fields = fields,
        None if size == 0 => {}
        None => return None,
    }
    let has_checksum = found.fields.iter().any(|(kind, _)| *kind == 3);
    if has_checksum && !has_right_checksum(&stream[..found.length], rest.len()) {
        return None;
    }
    Some(found)
}

fn fields(mut rest: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut fields = Vec::new();
    while let [kind, high, low, ..] = *rest {
        let end = 3 + usize::from(u16::from_be_bytes([high, low]));
        fields.push((kind, rest.get(3..end)?.to_vec()));
        rest = &rest[end..];
    }
    rest.is_empty().then_some(fields)
}

fn unix(path: &[u8]) -> Addr {
    let text = |bytes: &[u8]| {
        bytes
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec()
    };
    match path {
        [0, 0, ..] => Addr::Unix(None),
        [0, name @ ..] => Addr::Abstract(text(name).into()),
        #[cfg(unix)]
        _ => {
            use std::os::unix::ffi::OsStringExt;
            Addr::Unix(Some(std::ffi::OsString::from_vec(text(path)).into()))
        }
        #[cfg(not(unix))]
        _ => Addr::Unix(Some(
            String::from_utf8_lossy(&text(path)).into_owned().into(),
        )),
    }
}

/// Of the last `rest` bytes of a header, which are fields.
fn has_right_checksum(header: &[u8], rest: usize) -> bool {
    let mut zeroed = header.to_vec();
    let mut at = header.len() - rest;
    while header[at] != 3 {
        at += 3 + usize::from(u16::from_be_bytes([header[at + 1], header[at + 2]]));
    }
    if header[at + 1..at + 3] != [0, 4] {
        return false;
    }
    let expected = zeroed.splice(at + 3..at + 7, [0; 4]).collect::<Vec<_>>();
    // RFC 9260 appendix A: the remainder of a division, over all bits, the lowest of each byte first.
    let mut remainder = u32::MAX;
    for bit in zeroed
        .iter()
        .flat_map(|byte| (0..8).map(move |n| u32::from(byte >> n & 1)))
    {
        let lowest = (remainder ^ bit) & 1;
        remainder = (remainder >> 1) ^ (lowest * 0x82F6_3B78);
    }
    expected == (!remainder).to_be_bytes()
}
