//! Numbers on the command line. A program that has them includes this file by its path.

use clap::builder::RangedU64ValueParser;

/// At least one.
pub(crate) fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..1 << 32)
}

/// A number of seconds. Zero is refused, because it would close each connection before its first byte.
pub(crate) fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..1 << 32)
}
