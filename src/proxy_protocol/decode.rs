//! A complete header. The crate `proxy-header` parses addresses and fields. What it does not check, or does not
//! return, is checked here.

use proxy_header::{ParseConfig, ProxyHeader};

use super::fields::Tlvs;
use super::header::{Command, Header, Version};
use super::{FIXED, UNIX_PATH, checksum};
use crate::addr::Addr;
use crate::error::Error;
use crate::sys::socket::path_from_bytes;

/// The command LOCAL of version 2, with the version (section 2.2).
const LOCAL: u8 = 0x20;

/// The address families of version 2.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;

/// Parses a line of version 1, with its line ending.
pub(super) fn version_1(line: &[u8]) -> Result<Header, Error> {
    let invalid = || {
        Error::new(format!(
            "the line \"{}\" is no PROXY header",
            line.escape_ascii()
        ))
    };
    let text = line.strip_suffix(b"\r\n").ok_or_else(invalid)?;
    let fields: Vec<_> = text.split(|&byte| byte == b' ').collect();
    let command = match fields[..] {
        // The rest of the line means nothing.
        [b"PROXY", b"UNKNOWN", ..] => Command::Unknown,
        // The crate would accept a port with a sign or leading zeros, and `UNKNOWNS`.
        [b"PROXY", b"TCP4" | b"TCP6", _, _, source_port, port]
            if is_port(source_port) && is_port(port) =>
        {
            parse(line).ok_or_else(invalid)?
        }
        _ => return Err(invalid()),
    };
    Ok(Header::of(Version::V1, command, Vec::new()))
}

fn is_port(text: &[u8]) -> bool {
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number && (text == b"0" || !text.starts_with(b"0"))
}

/// Parses a header of version 2 that has the length that it announces.
pub(super) fn version_2(bytes: &[u8]) -> Result<Header, Error> {
    let invalid = |what| Error::new(format!("the PROXY header of version 2 has {what}"));
    let (fixed, rest) = bytes
        .split_first_chunk::<FIXED>()
        .ok_or_else(|| invalid("no addresses"))?;
    let [.., command, family, _, _] = *fixed;
    if command == LOCAL {
        // What follows is ignored, the family as well.
        return Ok(Header::of(Version::V2, Command::Local, Vec::new()));
    }
    let command = parse(bytes)
        .ok_or_else(|| invalid("a command, a family or addresses that are not valid"))?;
    // The crate has checked that there are as many.
    let length = match family >> 4 {
        INET => 12,
        INET6 => 36,
        UNIX => 2 * UNIX_PATH,
        _ => 0,
    };
    let (addresses, tlvs) = rest
        .split_at_checked(length)
        .ok_or_else(|| invalid("no addresses"))?;
    let command = match addresses.split_at_checked(UNIX_PATH) {
        // The crate does not return these.
        Some((source, destination)) => Command::Proxied {
            source: unix_addr(source),
            destination: unix_addr(destination),
        },
        None => command,
    };
    // The sender may have written addresses that only it knows.
    let are_whole = Tlvs::new(tlvs).are_whole();
    if family >> 4 == UNSPECIFIED && !are_whole {
        return Ok(Header::of(Version::V2, command, Vec::new()));
    }
    if !are_whole {
        return Err(invalid(
            "a field that is longer than the rest of the header",
        ));
    }
    if !checksum::is_right(bytes, tlvs.len()) {
        return Err(invalid("a wrong checksum"));
    }
    Ok(Header::of(Version::V2, command, tlvs.to_vec()))
}

/// What the crate finds in a header. It finds no addresses of Unix-domain sockets.
fn parse(bytes: &[u8]) -> Option<Command> {
    let parsed = ProxyHeader::parse(bytes, ParseConfig::default());
    let (header, _) = parsed.ok().filter(|(_, length)| *length == bytes.len())?;
    Some(match header.proxied_address() {
        Some(addresses) => Command::Proxied {
            source: addresses.source.into(),
            destination: addresses.destination.into(),
        },
        None => Command::Unknown,
    })
}

/// An address of 108 bytes that a zero ends, or that begins with one if its name is abstract.
fn unix_addr(path: &[u8]) -> Addr {
    let until_zero = |bytes: &[u8]| {
        let end = bytes.iter().position(|&byte| byte == 0);
        bytes
            .get(..end.unwrap_or(bytes.len()))
            .unwrap_or_default()
            .to_vec()
    };
    match path.split_first() {
        Some((0, name)) => match until_zero(name) {
            name if name.is_empty() => Addr::Unix(None),
            name => Addr::Abstract(name.into()),
        },
        _ => Addr::Unix(Some(path_from_bytes(&until_zero(path)))),
    }
}
