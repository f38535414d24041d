//! What a peer sends to the example `files` to name a file: the path of a URL, and the lines of an FTP session. Whatever it
//! is, a path has only names in the shared folder, and what is written about it names the same file again.

use std::path::Component;

use command::Command;
use names::{MOST_NAMES, Names, TEMPORARY};

#[path = "../../examples/files/ftp/command.rs"]
mod command;
#[allow(dead_code, reason = "this target uses only a part of it")]
#[path = "../../examples/files/names.rs"]
mod names;

/// Each line is a path of a URL, and a command in the folder that the last CWD has named.
pub fn files(input: &[u8]) {
    let mut folder = Names::default();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(text) = std::str::from_utf8(line)
            && let Ok(names) = Names::parse(text)
        {
            check(&names);
            assert_eq!(Names::parse(&names.to_string()).as_ref(), Ok(&names));
        }
        let command = Command::parse(line);
        assert!(!command.name.contains(' ') && command.size() <= 3 * line.len());
        let _ = (command::is_http(line), command.text());
        if let Ok(names) = folder.resolve(&command.argument) {
            check(&names);
            let path = names.to_ftp_path();
            let again = Names::default().resolve(&path);
            assert_eq!(again.as_ref().map(Names::as_path), Ok(names.as_path()));
            if command.name == "CWD" {
                folder = names;
            }
        }
    }
}

/// Each component is a name of something in the folder before it.
fn check(names: &Names) {
    let path = names.as_path();
    for component in path.components() {
        let Component::Normal(name) = component else {
            panic!("{component:?} in {path:?}");
        };
        let name = name.as_encoded_bytes();
        assert!(!name.iter().any(|byte| b"/\0".contains(byte)), "{path:?}");
        assert!(!name.starts_with(TEMPORARY.as_bytes()), "{path:?}");
        // On Windows it is the number of units of UTF-16.
        let longest = if cfg!(unix) { 255 } else { 3 * 255 };
        assert!((1..=longest).contains(&name.len()), "{path:?}");
    }
    assert_eq!(path.components().count(), path.iter().count());
    assert!(path.iter().count() <= MOST_NAMES, "{path:?}");
    assert!(path.is_relative() && !names.parent().as_path().starts_with(".."));
}
