//! What an article has to be to be let in, and what is added to its head
//! (RFC 5536, section 3.1; RFC 5537, sections 3.5 and 3.6).

use std::rc::Rc;

use super::date;
use super::head::{Head, is_article_id, is_newsgroup};
use super::spool::{Group, Spool};

/// An article that may be filed.
pub struct Admitted {
    pub message_id: String,
    pub head: Head,
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

/// Fields that each server sets itself (RFC 5536, sections 3.1.5 and 3.2.14);
/// then those that only the server sets that an article is posted to (RFC 5537,
/// section 3.5), with the older ones that Injection-Info replaced.
const OWN: [&str; 7] = [
    "Path",
    "Xref",
    "Injection-Info",
    "NNTP-Posting-Date",
    "NNTP-Posting-Host",
    "X-Complaints-To",
    "X-Trace",
];

/// Checks the head of an article and completes it; the error says what is wrong.
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
    if spool.article(&message_id).is_some() || spool.expects(&message_id) {
        return Err("an article with that Message-ID is here already");
    }
    let path = match head.value("Path") {
        // RFC 5537, section 3.5: only the server that it is posted to says so.
        Some(path) if is_post && memchr::memmem::find(&path, b".POSTED").is_some() => {
            return Err("Path says that it was posted elsewhere");
        }
        Some(path) => [server.as_bytes(), b"!", &path].concat(),
        None => format!("{server}!.POSTED!not-for-mail").into_bytes(),
    };
    let mut complete = Head::default();
    complete.push("Path", path);
    let own = if is_post { &OWN[..] } else { &OWN[..2] };
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

/// The groups of Newsgroups that are here; the others are other servers'.
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
    fn what_is_missing_is_made() {
        let admitted = try_post(HEAD).ok().unwrap();
        let head = String::from_utf8(admitted.head.as_bytes().to_vec()).unwrap();
        assert_eq!(admitted.message_id, "<fresh@x>");
        assert!(head.starts_with("Path: srv!.POSTED!not-for-mail\r\nDate: "));
        assert!(head.contains("\r\nMessage-ID: <fresh@x>\r\n"));
        assert!(head.ends_with(HEAD));
    }

    #[test]
    fn path_grows_and_xref_goes() {
        let head = format!("{HEAD}Path: a!\r\n b\r\nXref: x\r\n y\r\nMessage-ID: <1@x>\r\n");
        let head = try_post(&head).ok().unwrap().head;
        let head = String::from_utf8(head.as_bytes().to_vec()).unwrap();
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
