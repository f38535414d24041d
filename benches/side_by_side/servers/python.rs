//! Finds a Python interpreter that can run a script.

use std::path::Path;
use std::process::Command;

use crate::machine;

/// The names of interpreters to try. Python 3.12 has no asyncore and asynchat.
const NAMES: [&str; 6] = [
    "python3",
    "python",
    "python3.11",
    "python3.10",
    "python3.9",
    "python3.8",
];

/// The command that runs `script`, which imports these modules.
pub fn command(script: &str, modules: &str) -> Option<Command> {
    let mut command = Command::new(interpreter(modules)?);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("side_by_side/servers");
    command.args(["-W", "ignore"]).arg(folder.join(script));
    Some(command)
}

pub fn version(modules: &str) -> Option<String> {
    machine::output_of(&interpreter(modules)?, &["--version"])
}

/// The path of the first Python that has these modules. Python prints its own path, because the command found
/// on PATH may be a wrapper script.
fn interpreter(modules: &str) -> Option<String> {
    let program = format!("import {modules}, sys; print(sys.executable)");
    NAMES
        .iter()
        .find_map(|name| machine::output_of(name, &["-W", "ignore", "-c", &program]))
}
