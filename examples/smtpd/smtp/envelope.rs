//! The envelope of a message, and the lines that are made from it and written
//! before the message.

use std::net::IpAddr;

use super::address::Path;

/// The sender and the recipients from MAIL and RCPT, and the client that sent them.
pub struct Envelope {
    pub client: Hello,
    pub from: Path,
    pub to: Vec<Path>,
}

/// The argument of HELO or EHLO.
#[derive(Clone)]
pub struct Hello {
    pub name: String,
    /// The protocol's name in Received lines: SMTP after HELO, ESMTP after EHLO, ESMTPS after EHLO with
    /// TLS (RFC 3848).
    pub protocol: &'static str,
}

/// What the server adds to the Received line.
pub struct Receipt<'a> {
    pub peer: Option<IpAddr>,
    /// The server's name.
    pub by: &'a str,
    /// The message's name.
    pub id: &'a str,
    /// The cipher suite of the connection, by its name of the IANA registry.
    pub cipher: Option<&'a str>,
    pub date: &'a str,
}

impl Envelope {
    /// Makes a Return-Path line, a Delivered-To line for each recipient, and the
    /// Received line: RFC 5321, section 4.4.
    pub fn trace(&self, receipt: &Receipt) -> String {
        let Envelope { client, from, to } = self;
        let Hello { name, protocol } = client;
        let Receipt {
            peer,
            by,
            id,
            cipher,
            date,
        } = receipt;
        let mut lines = vec![format!("Return-Path: {from}")];
        lines.extend(to.iter().map(|to| match to {
            Path::Mailbox(mailbox) => format!("Delivered-To: {mailbox}"),
            Path::Postmaster | Path::Null => format!("Delivered-To: postmaster@{by}"),
        }));
        lines.push(match peer {
            Some(IpAddr::V4(ip)) => format!("Received: from {name} ([{ip}])"),
            Some(IpAddr::V6(ip)) => format!("Received: from {name} ([IPv6:{ip}])"),
            None => format!("Received: from {name}"),
        });
        lines.push(match cipher {
            // RFC 8314, section 4.3.
            Some(cipher) => format!("\tby {by} with {protocol} id {id} tls {cipher};"),
            None => format!("\tby {by} with {protocol} id {id};"),
        });
        lines.push(format!("\t{date}\r\n"));
        lines.join("\r\n")
    }
}
