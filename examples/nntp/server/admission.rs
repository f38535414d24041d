//! The checks that an article must pass before it is filed, and the header fields
//! that the server adds (RFC 5536, section 3.1; RFC 5537, sections 3.5 and 3.6).

use std::rc::Rc;

use super::date;
use super::head::{Head, is_article_id, is_newsgroup};
use super::spool::{Group, Spool};

/// An article that has passed the checks.
pub struct Admitted {
    pub message_id: String,
    pub head: Head,
    pub groups: Vec<Rc<Group>>,
}

/// Who sent an article.
pub enum Origin<'a> {
    /// A newsreader. The server adds a missing Date and a missing Message-ID,
    /// which is `fresh_id`.
    Reader { fresh_id: String },
    /// Another server. The article must be complete and have the Message-ID that
    /// was offered.
    Peer { offered: &'a str },
}

/// Fields that a sender cannot set. Every server sets the first two itself
/// (RFC 5536, sections 3.1.5 and 3.2.14). Only the server that an article is
/// posted to sets the others (RFC 5537, section 3.5); Injection-Info has replaced
/// the last four.
const SERVER_FIELDS: [&str; 7] = [
    "Path",
    "Xref",
    "Injection-Info",
    "NNTP-Posting-Date",
    "NNTP-Posting-Host",
    "X-Complaints-To",
    "X-Trace",
];

/// Checks and completes the header of an article. The error is the reason of the
/// refusal.
pub fn admit(
    head: &Head,
    origin: Origin<'_>,
    spool: &Spool,
    server: &str,
) -> Result<Admitted, &'static str> {
    let is_post = matches!(origin, Origin::Reader { .. });
    let mut added = Head::default();
    if !head.has_author() {
        return Err("From is missing or has no address");
    }
    if head.value("Subject").is_none_or(|text| text.is_empty()) {
        return Err("Subject is missing");
    }
    let groups = groups(head, spool)?;
    if head.value("Date").is_none() {
        match origin {
            Origin::Reader { .. } => {
                added.push("Date", date::rfc5322(date::now()));
            }
            Origin::Peer { .. } => return Err("Date is missing"),
        }
    } else if head.date().is_none() {
        return Err("Date is no date");
    }
    let message_id = match (head.value("Message-ID"), origin) {
        (None, Origin::Reader { fresh_id }) => {
            added.push("Message-ID", &fresh_id);
            fresh_id
        }
        (Some(id), Origin::Reader { .. }) => text(id)?,
        (Some(id), Origin::Peer { offered }) if id == offered.as_bytes() => text(id)?,
        (_, Origin::Peer { .. }) => return Err("Message-ID is not the one offered"),
    };
    if !is_article_id(message_id.as_bytes()) {
        return Err("Message-ID is no message-id");
    }
    if spool.article(&message_id).is_some() || spool.is_pending(&message_id) {
        return Err("an article with that Message-ID is here already");
    }
    let path = match head.value("Path") {
        // RFC 5537, section 3.5: only the server that an article is posted to adds .POSTED.
        Some(path) if is_post && memchr::memmem::find(&path, b".POSTED").is_some() => {
            return Err("Path says that it was posted elsewhere");
        }
        Some(path) => [server.as_bytes(), b"!", &path].concat(),
        None => format!("{server}!.POSTED!not-for-mail").into_bytes(),
    };
    let mut complete = Head::default();
    complete.push("Path", path);
    let own = if is_post {
        &SERVER_FIELDS[..]
    } else {
        &SERVER_FIELDS[..2]
    };
    let head = complete.followed_by(&added).followed_by(&head.without(own));
    Ok(Admitted {
        message_id,
        head,
        groups,
    })
}

fn text(id: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(id).map_err(|_| "Message-ID is no message-id")
}

/// The groups in Newsgroups that this server has and that accept posts. Other
/// servers may have the others.
fn groups(head: &Head, spool: &Spool) -> Result<Vec<Rc<Group>>, &'static str> {
    let names = head.value("Newsgroups").unwrap_or_default();
    let names = String::from_utf8(names).map_err(|_| "Newsgroups is not UTF-8")?;
    if names.trim().is_empty() {
        return Err("Newsgroups is missing");
    }
    if !names.split(',').all(|name| is_newsgroup(name.trim())) {
        return Err("Newsgroups is no list of newsgroups");
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
        let head = Head::parse(head.as_bytes())?;
        admit(&head, Origin::Reader { fresh_id }, &spool, "srv")
    }

    #[test]
    fn missing_fields_are_added() {
        let admitted = try_post(HEAD).ok().unwrap();
        let head = String::from_utf8(admitted.head.as_bytes().to_vec()).unwrap();
        assert_eq!(admitted.message_id, "<fresh@x>");
        assert!(head.starts_with("Path: srv!.POSTED!not-for-mail\r\nDate: "));
        assert!(head.contains("\r\nMessage-ID: <fresh@x>\r\n"));
        assert!(head.ends_with(HEAD));
    }

    #[test]
    fn path_is_extended_and_xref_is_removed() {
        let head = format!("{HEAD}Path: a!\r\n b\r\nXref: x\r\n y\r\nMessage-ID: <1@x>\r\n");
        let head = try_post(&head).ok().unwrap().head;
        let head = String::from_utf8(head.as_bytes().to_vec()).unwrap();
        assert!(head.starts_with("Path: srv!a! b\r\n"), "{head}");
        assert!(!head.contains("Xref") && !head.contains(" y"));
    }

    #[test]
    fn only_known_postable_groups_are_used() {
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
    fn bad_headers_are_refused() {
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
