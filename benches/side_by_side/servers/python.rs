//! Finds a Python for a script.

use std::path::Path;
use std::process::Command;

use crate::machine;

/// asyncore and asynchat left the library with 3.12.
const NAMES: [&str; 6] = [
    "python3",
    "python",
    "python3.11",
    "python3.10",
    "python3.9",
    "python3.8",
];

/// Runs `script`, which imports these modules.
pub fn command(script: &str, modules: &str) -> Option<Command> {
    let mut command = Command::new(interpreter(modules)?);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("side_by_side/servers");
    command.args(["-W", "ignore"]).arg(folder.join(script));
    Some(command)
}

pub fn version(modules: &str) -> Option<String> {
    machine::output_of(&interpreter(modules)?, &["--version"])
}

/// The first Python on the path that has these modules. It says itself where it is, because the
/// name may be that of a script around it.
fn interpreter(modules: &str) -> Option<String> {
    let program = format!("import {modules}, sys; print(sys.executable)");
    NAMES
        .iter()
        .find_map(|name| machine::output_of(name, &["-W", "ignore", "-c", &program]))
}
