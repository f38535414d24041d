//! Targets of requests (RFC 9112 section 3.2), and the hosts in them. The check of the host and the use of the path
//! split a target with the same code, so that they agree.

/// A target in absolute-form: `http://host:port/path?query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsoluteForm<'a> {
    pub scheme: &'a str,
    /// Host and port. It is not checked.
    pub authority: &'a str,
    /// Path and query, as they were written. Either can be missing.
    pub path: &'a str,
}

impl<'a> AbsoluteForm<'a> {
    /// `None` for a target in another form. That may contain `://`, too: `/log-in?next=http://host/`.
    pub fn parse(target: &'a str) -> Option<AbsoluteForm<'a>> {
        // Most targets are paths. The scheme begins with a letter.
        if target.starts_with('/') {
            return None;
        }
        let (scheme, rest) = target.split_once("://")?;
        // RFC 3986 section 3.2.
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        is_scheme(scheme).then_some(AbsoluteForm {
            scheme,
            authority,
            path,
        })
    }

    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// Whether it is a URI of HTTP that is invalid because it has no host (RFC 9110 section 4.2.1).
    pub fn lacks_host(&self) -> bool {
        let (_, host) = self
            .authority
            .rsplit_once('@')
            .unwrap_or(("", self.authority));
        let is_http = self.has_scheme("http") || self.has_scheme("https");
        is_http && split_port(host).0.is_empty()
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is)
}

/// The host and the port of `host:port`. The port is empty if there is none. A colon in brackets is one of an IPv6 address.
pub fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_target_has_a_scheme_a_host_and_a_path() {
        for (target, parts) in [
            ("http://a", ("http", "a", "")),
            ("HTTPS://a:1/b?c://d", ("HTTPS", "a:1", "/b?c://d")),
            ("http://a?x/y", ("http", "a", "?x/y")),
            ("http://a#/b", ("http", "a", "#/b")),
            ("http:///b", ("http", "", "/b")),
        ] {
            let found = AbsoluteForm::parse(target).unwrap();
            assert_eq!((found.scheme, found.authority, found.path), parts);
        }
        for target in [
            "/", "*", "a:80", "/x://a/", "?x://a/", "://a/", "1x://a/", "http:/a/",
        ] {
            assert_eq!(AbsoluteForm::parse(target), None, "{target}");
        }
    }

    #[test]
    fn a_uri_of_http_has_a_host() {
        let lacks_host = |target| AbsoluteForm::parse(target).is_some_and(|it| it.lacks_host());
        for target in [
            "http:///a",
            "HTTPS://",
            "http://:80/",
            "http://u@/",
            "http://?x",
            "http://#",
        ] {
            assert!(lacks_host(target), "{target}");
        }
        for target in [
            "http://a",
            "https://[::1]/",
            "http://u@a",
            "other:///a",
            "/http://",
        ] {
            assert!(!lacks_host(target), "{target}");
        }
    }

    #[test]
    fn a_port_follows_the_last_colon_outside_of_brackets() {
        for (authority, parts) in [
            ("a", ("a", "")),
            ("a:", ("a", "")),
            ("a:80", ("a", "80")),
            ("a:80:81", ("a:80", "81")),
            ("[::1]", ("[::1]", "")),
            ("[::1]:80", ("[::1]", "80")),
            ("[::1].b", ("[::1].b", "")),
        ] {
            assert_eq!(split_port(authority), parts);
        }
    }
}
