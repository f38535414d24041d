//! Every public name of asyncore and asynchat has a row in docs/porting.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::python::python;

#[test]
fn every_public_name_is_documented() {
    let Some(mut python) = python() else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = python.arg(root.join("tests/equivalence/names.py")).output();
    let names = String::from_utf8(output.expect("it has run before").stdout).expect("it is text");
    assert!(names.lines().count() > 80, "{names}");
    let document = fs::read_to_string(root.join("docs/porting.md")).expect("it is there");
    let missing: Vec<_> = names
        .lines()
        .filter(|name| {
            let module = if name.starts_with("asyncore") {
                "asyncore"
            } else {
                "asynchat"
            };
            let last = name.rsplit('.').next().expect("it has parts");
            !documented(&document, module).contains(last)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The words in code style in the first column of the section's table.
fn documented<'a>(document: &'a str, section: &str) -> BTreeSet<&'a str> {
    let (_, table) = document
        .split_once(&format!("## {section}\n"))
        .expect("a section");
    let rows = table.lines().take_while(|line| !line.starts_with("## "));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let code = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.flat_map(|code| code.split(move |c| !is_part(c)))
        .collect()
}
