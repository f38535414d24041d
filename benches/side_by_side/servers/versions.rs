//! The versions of the packages that the servers use.

use std::fs;

use super::{ALL, python};

const PACKAGES: [&str; 5] = ["asynchat", "polling", "mio", "tokio", "tokio-util"];

/// The versions in one line, for the report.
pub fn versions() -> String {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let mut versions: Vec<String> = PACKAGES
        .iter()
        .map(|name| format!("{name} {}", locked(&lock, name).unwrap_or("unknown")))
        .collect();
    for server in ALL {
        if let Some(version) = server.modules().and_then(python::version)
            && !versions.contains(&version)
        {
            versions.push(version);
        }
    }
    versions.join(", ")
}

/// The version of a package in a `Cargo.lock`.
fn locked<'l>(lock: &'l str, name: &str) -> Option<&'l str> {
    let mut lines = lock.lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}
