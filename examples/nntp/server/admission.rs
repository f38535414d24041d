//! What an article has to be to be let in, and what is added to its head
//! (RFC 5536, section 3.1; RFC 5537, sections 3.5 and 3.6).

use std::rc::Rc;

use super::date;
use super::head::{Head, is_message_id, is_well_formed};
use super::spool::{Group, Spool};

/// An article that may be filed.
pub struct Admitted {
    pub message_id: String,
    pub head: Vec<u8>,
    pub groups: Vec<Rc<Group>>,
}

/// Where an article comes from.
pub enum Origin<'a> {
    /// A newsreader: what is missing is made. `fresh_id` is for an article
    /// without a Message-ID.
    Reader { fresh_id: String },
    /// Another server: the article is complete, and is the one it offered.
    Peer { offered: &'a str },
}

/// Checks the head of an article and completes it; the error says what is wrong.
pub fn admit(
    head: &[u8],
    origin: Origin<'_>,
    spool: &Spool,
    server: &str,
) -> Result<Admitted, &'static str> {
    if !is_well_formed(head) {
        return Err("a line of the header is no header field");
    }
    let fields = Head::parse(head);
    let mut added = Vec::new();

    if !fields.has_author() {
        return Err("From is missing or has no address");
    }
    if fields.value("Subject").is_none_or(|text| text.is_empty()) {
        return Err("Subject is missing");
    }
    let groups = groups(&fields, spool)?;
    if fields.value("Date").is_none() {
        match origin {
            Origin::Reader { .. } => {
                added.push(format!("Date: {}\r\n", date::rfc5322(date::now())));
            }
            Origin::Peer { .. } => return Err("Date is missing"),
        }
    } else if fields.date().is_none() {
        return Err("Date is no date");
    }
    let message_id = match (fields.value("Message-ID"), origin) {
        (None, Origin::Reader { fresh_id }) => {
            added.push(format!("Message-ID: {fresh_id}\r\n"));
            fresh_id
        }
        (Some(id), Origin::Reader { .. }) if is_message_id(&id) => text(id)?,
        (Some(id), Origin::Peer { offered }) if id == offered.as_bytes() => text(id)?,
        (_, Origin::Reader { .. }) => return Err("Message-ID is no message-id"),
        (_, Origin::Peer { .. }) => return Err("Message-ID is not the one offered"),
    };
    if spool.article(&message_id).is_some() || spool.expects(&message_id) {
        return Err("an article with that Message-ID is here already");
    }
    let path = match fields.value("Path") {
        Some(path) => [server.as_bytes(), b"!", &path].concat(),
        None => format!("{server}!.POSTED!not-for-mail").into_bytes(),
    };
    let mut complete = [b"Path: ", &path[..], b"\r\n"].concat();
    complete.extend_from_slice(added.concat().as_bytes());
    // Xref is each server's own (RFC 5536, section 3.2.14), and OVER tells ours.
    copy_without(head, &["Path", "Xref"], &mut complete);
    Ok(Admitted {
        message_id,
        head: complete,
        groups,
    })
}

fn text(id: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(id).map_err(|_| "Message-ID is no message-id")
}

/// The groups of Newsgroups that are here; the others are other servers'.
fn groups(fields: &Head<'_>, spool: &Spool) -> Result<Vec<Rc<Group>>, &'static str> {
    let names = fields.value("Newsgroups").unwrap_or_default();
    let names = String::from_utf8(names).map_err(|_| "Newsgroups is not UTF-8")?;
    if names.trim().is_empty() {
        return Err("Newsgroups is missing");
    }
    let mut known: Vec<Rc<Group>> = names
        .split(',')
        .filter_map(|name| spool.group(name.trim()))
        .collect();
    if known.is_empty() {
        return Err("none of the newsgroups is here");
    }
    known.retain(|group| group.postable);
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known.dedup_by(|a, b| Rc::ptr_eq(a, b));
    if known.is_empty() {
        return Err("that newsgroup takes no posts");
    }
    Ok(known)
}

/// Appends the fields of a head, continuation lines and all, but for some.
fn copy_without(head: &[u8], unwanted: &[&str], copy: &mut Vec<u8>) {
    let mut wanted = true;
    for line in head.split_inclusive(|&b| b == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            let is_it = |unwanted: &&str| unwanted.as_bytes().eq_ignore_ascii_case(name);
            wanted = !unwanted.iter().any(is_it);
        }
        if wanted {
            copy.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "From: A <a@b.invalid>\r\nSubject: s\r\nNewsgroups: t\r\n";

    fn try_post(head: &str) -> Result<Admitted, &'static str> {
        let mut spool = Spool::default();
        spool.add_group("t", "", 0, true);
        spool.add_group("u", "", 0, true);
        spool.add_group("closed", "", 0, false);
        let fresh_id = "<fresh@x>".to_owned();
        admit(head.as_bytes(), Origin::Reader { fresh_id }, &spool, "srv")
    }

    #[test]
    fn what_is_missing_is_made() {
        let admitted = try_post(HEAD).ok().unwrap();
        let head = String::from_utf8(admitted.head).unwrap();
        assert_eq!(admitted.message_id, "<fresh@x>");
        assert!(head.starts_with("Path: srv!.POSTED!not-for-mail\r\nDate: "));
        assert!(head.contains("\r\nMessage-ID: <fresh@x>\r\n"));
        assert!(head.ends_with(HEAD));
    }

    #[test]
    fn path_grows_and_xref_goes() {
        let head = format!("{HEAD}Path: a!\r\n b\r\nXref: x\r\n y\r\nMessage-ID: <1@x>\r\n");
        let head = String::from_utf8(try_post(&head).ok().unwrap().head).unwrap();
        assert!(head.starts_with("Path: srv!a! b\r\n"), "{head}");
        assert!(!head.contains("Xref") && !head.contains(" y"));
    }

    #[test]
    fn groups_known_and_not() {
        let groups = |names: &str| {
            let head = HEAD.replace("Newsgroups: t", &format!("Newsgroups: {names}"));
            let admitted = try_post(&head).ok()?;
            Some(
                admitted
                    .groups
                    .iter()
                    .map(|g| g.name.clone())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(groups("u, t,t,else.where").unwrap(), ["t", "u"]);
        assert_eq!(groups("closed,t").unwrap(), ["t"]);
        assert!(groups("closed").is_none());
        assert!(groups("else.where").is_none());
    }

    #[test]
    fn refusals() {
        for (from, to) in [
            ("From: A <a@b.invalid>", "From: nobody"),
            ("From:", "X-From:"),
            ("Subject: s", "Subject: "),
            ("Subject:", "Subjekt:"),
            ("Newsgroups:", "Groups:"),
            ("Subject: s", "Subject: s\r\nDate: yesterday"),
            ("Subject: s", "Subject: s\r\nMessage-ID: none"),
            ("Subject: s", "Subject s"),
        ] {
            assert!(try_post(&HEAD.replace(from, to)).is_err(), "{to}");
        }
    }
}
