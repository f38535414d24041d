//! The headers that the tests send, written by hand from the specification.

use std::net::Ipv6Addr;

pub(crate) const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 119\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 with this command and this family.
pub(crate) fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// A forwarded connection of the client 192.0.2.1:40000, with these fields.
pub(crate) fn proxied(fields: &[u8]) -> Vec<u8> {
    proxied_from([192, 0, 2, 1], 40_000, fields)
}

pub(crate) fn proxied_from(source: [u8; 4], port: u16, fields: &[u8]) -> Vec<u8> {
    let destination = [198, 51, 100, 1];
    let ports = [port.to_be_bytes(), 119u16.to_be_bytes()].concat();
    v2(
        0x21,
        0x11,
        &[&source[..], &destination, &ports, fields].concat(),
    )
}

pub(crate) fn proxied_v6(source: Ipv6Addr, port: u16) -> Vec<u8> {
    let destination = Ipv6Addr::LOCALHOST.octets();
    let ports = [port.to_be_bytes(), 119u16.to_be_bytes()].concat();
    v2(
        0x21,
        0x21,
        &[&source.octets()[..], &destination, &ports].concat(),
    )
}

pub(crate) fn proxied_unix(source: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut addresses = source.to_vec();
    addresses.resize(108, 0);
    addresses.extend_from_slice(destination);
    addresses.resize(216, 0);
    v2(0x21, 0x31, &addresses)
}

pub(crate) fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}
