//! What is known of a message besides its text, and how that is written down
//! in front of it.

use std::net::IpAddr;

use super::address::Path;

/// What MAIL and RCPT have told, and who told it.
pub struct Envelope {
    pub client: Hello,
    pub from: Path,
    pub to: Vec<Path>,
}

/// How a client has introduced itself.
#[derive(Clone)]
pub struct Hello {
    pub name: String,
    /// As Received lines call it: SMTP after HELO, ESMTP after EHLO.
    pub protocol: &'static str,
}

/// What the server knows.
pub struct Receipt<'a> {
    pub peer: Option<IpAddr>,
    /// The server's own name.
    pub by: &'a str,
    /// The message's.
    pub id: &'a str,
    pub date: &'a str,
}

impl Envelope {
    /// A Return-Path, a Delivered-To for each recipient, and the Received line:
    /// RFC 5321, section 4.4.
    pub fn trace(&self, receipt: &Receipt) -> String {
        let Envelope { client, from, to } = self;
        let Hello { name, protocol } = client;
        let Receipt { peer, by, id, date } = receipt;
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
        lines.push(format!("\tby {by} with {protocol} id {id};"));
        lines.push(format!("\t{date}\r\n"));
        lines.join("\r\n")
    }
}
