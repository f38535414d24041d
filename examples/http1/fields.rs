//! The header fields of a message.

use super::status::Rejected;

/// A name and a value, without the whitespace around it.
pub type Field<'a> = httparse::Header<'a>;

#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub(super) &'a [Field<'a>]);

/// Fields that belong to one connection and are never forwarded (RFC 9110 section 7.6.1), besides those that
/// Connection names. Content-Length is left out as well: the message that is forwarded gets its own framing.
const NOT_FORWARDED: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The most members of Connection in a message that is forwarded. Each field is compared with each of them.
const MOST_MEMBERS: usize = 32;

/// A peer must not remove these with `Connection: host`: they say what the message is.
const ALWAYS_FORWARDED: [&str; 1] = ["host"];

impl<'a> Fields<'a> {
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.0.iter().map(|field| (field.name, field.value))
    }

    /// The values of all fields with this name, in any case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |field: &&Field<'a>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|field| field.value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of the field with this name, if there is exactly one. For fields that are no lists.
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        let value = values.next();
        value.filter(|_| values.next().is_none())
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.only(name)?).ok()
    }

    /// The members of a list, which may be on several lines (RFC 9110 section 5.6.1). For lists without quoted
    /// strings.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let members = self
            .all(name)
            .flat_map(|value| value.split(|&byte| byte == b','));
        members
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list has this member, in any case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name)
            .any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// The fields that a proxy forwards: neither hop-by-hop fields, nor those that Connection names, nor those of the
    /// framing.
    pub fn end_to_end(
        &self,
    ) -> Result<impl Iterator<Item = (&'a str, &'a [u8])> + use<'a>, Rejected> {
        let mut members = [&b""[..]; MOST_MEMBERS];
        let mut count = 0;
        for member in self.list("connection") {
            let Some(free) = members.get_mut(count) else {
                return Err(Rejected::bad("Connection has too many members"));
            };
            *free = member;
            count += 1;
        }
        let is = |name: &str, of: &[&str]| of.iter().any(|it| name.eq_ignore_ascii_case(it));
        Ok(self.iter().filter(move |(name, _)| {
            let equals = |member: &&[u8]| member.eq_ignore_ascii_case(name.as_bytes());
            let is_named = || members[..count].iter().any(equals) && !is(name, &ALWAYS_FORWARDED);
            !is(name, &NOT_FORWARDED) && !is_named()
        }))
    }
}

/// RFC 9110 section 5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    let is = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is)
}

/// The characters of a field's value (RFC 9110 section 5.5): no control but a tab.
pub fn is_value(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
