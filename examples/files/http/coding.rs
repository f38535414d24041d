//! Files that are stored compressed beside the original: `page.html.br` for `page.html`.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::conditions::modified;
use crate::http1::Fields;
use crate::tree::{Folder, Found};

/// A coding, and the extension of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    pub name: &'static str,
    pub extension: &'static str,
}

/// The best one first, as far as the client has no preference.
pub const CODINGS: [Coding; 3] = [
    Coding {
        name: "br",
        extension: ".br",
    },
    Coding {
        name: "zstd",
        extension: ".zst",
    },
    Coding {
        name: "gzip",
        extension: ".gz",
    },
];

impl Coding {
    /// The file beside the original that has its content with this coding. One that is older than the original is of an
    /// earlier content.
    pub fn find(
        self,
        folder: &Folder<'_>,
        name: &OsStr,
        original: SystemTime,
    ) -> Option<(File, Metadata)> {
        let mut name = name.to_owned();
        name.push(self.extension);
        match folder.find(&name) {
            Ok(Found::File(file, metadata)) if is_current(modified(&metadata), original) => {
                Some((file, metadata))
            }
            _ => None,
        }
    }
}

/// Whether a compressed file is not older than its original. `brotli` and `pigz` give it the time of the original in whole
/// seconds.
fn is_current(compressed: SystemTime, original: SystemTime) -> bool {
    let Ok(older_by) = original.duration_since(compressed) else {
        return true;
    };
    let is_whole = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH);
        since.is_ok_and(|since| since.subsec_nanos() == 0)
    };
    older_by.is_zero() || (older_by < Duration::from_secs(1) && is_whole(compressed))
}

/// The codings that the client accepts, and does not like less than the original, the preferred one first (RFC 9110
/// section 12.5.3). Without the field it is sent none.
pub fn accepted(fields: Fields<'_>) -> impl Iterator<Item = Coding> {
    let has_preference = fields.has("accept-encoding");
    let preferred = has_preference.then(|| by_preference(fields));
    preferred.into_iter().flatten()
}

fn by_preference(fields: Fields<'_>) -> impl Iterator<Item = Coding> {
    let original = stated(fields, |name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
    let others = stated(fields, |name| name == "*").unwrap_or(0);
    let mut weighted = CODINGS.map(|coding| (weight(fields, coding).unwrap_or(others), coding));
    // Stable: equal weights stay in order.
    weighted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let accepted = weighted.into_iter();
    let accepted = accepted.filter(move |(weight, _)| *weight > 0 && *weight >= original);
    accepted.map(|(_, coding)| coding)
}

/// The weight of a coding in thousandths. 0 is not accepted.
fn weight(fields: Fields<'_>, coding: Coding) -> Option<u16> {
    stated(fields, |name| {
        let is_gzip = coding.name == "gzip" && name.eq_ignore_ascii_case("x-gzip");
        is_gzip || name.eq_ignore_ascii_case(coding.name)
    })
}

/// The weight of the first member with such a name.
fn stated(fields: Fields<'_>, is: impl Fn(&str) -> bool) -> Option<u16> {
    fields.list("accept-encoding").find_map(|member| {
        let member = std::str::from_utf8(member).unwrap_or_default();
        let (name, weight) = match member.split_once(';') {
            Some((name, parameter)) => (name.trim(), thousandths(parameter.trim())),
            None => (member, 1000),
        };
        is(name).then_some(weight)
    })
}

/// `q=0.5`. What is malformed is not accepted.
fn thousandths(parameter: &str) -> u16 {
    let value = parameter
        .strip_prefix("q=")
        .or(parameter.strip_prefix("Q="));
    let weight = value.and_then(|value| value.parse::<f32>().ok());
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight));
    weight.map_or(0, |weight| (weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_whole_seconds_is_compared_in_whole_seconds() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        let original = at(1000, 500);
        for current in [at(1000, 0), at(1000, 500), at(1000, 600), at(1001, 0)] {
            assert!(is_current(current, original), "{current:?}");
        }
        for old in [at(999, 0), at(999, 999_999_900), at(1000, 400), UNIX_EPOCH] {
            assert!(!is_current(old, original), "{old:?}");
        }
        assert!(is_current(at(1000, 0), at(1000, 0)));
    }
}
