//! A user's error whose destructor panics.

use std::error::Error;
use std::fmt;

#[derive(Debug)]
pub(crate) struct PanicsOnDrop;

impl fmt::Display for PanicsOnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its destructor panics")
    }
}

impl Error for PanicsOnDrop {}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}
