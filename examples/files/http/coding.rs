//! Files that are stored compressed beside the original: `page.html.br` for `page.html`.

use crate::http1::Fields;

/// A coding, and the extension of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    pub name: &'static str,
    pub extension: &'static str,
}

/// The best one first, as far as the client has no preference.
const CODINGS: [Coding; 3] = [
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
