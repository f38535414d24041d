//! Cuts an input into pieces in different ways. TCP does not preserve the boundaries of writes, so a handler
//! has to behave the same for each of them.

use std::fmt;
use std::rc::Rc;

use super::drive::{AsText, Script, Transcript, drive};
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Error, Result};
use crate::sys::simulated::Rng;

/// Inputs of at most this many bytes are cut in all ways, of which there are at most 2,048.
const SHORT: usize = 12;

/// How many random ways to cut a longer input there are, besides the regular ones.
const SAMPLES: usize = 200;

/// Calls `check` with the pieces of the input: first the input in one piece, then cut in other ways.
///
/// For an input of n bytes, up to 12, these are all 2^(n-1) ways. A longer input is cut into single
/// bytes, once at each position, and in 200 random ways, which are the same in each run.
///
/// ```
/// use asynchat::sim;
/// # fn main() -> asynchat::Result {
/// let mut ways = 0;
/// sim::every_segmentation(b"abc", |pieces| {
///     assert_eq!(pieces.concat(), b"abc");
///     ways += 1;
///     Ok(())
/// })?;
/// assert_eq!(ways, 4); // abc, a|bc, ab|c, a|b|c
/// # Ok(()) }
/// ```
///
/// # Errors
/// The first error of `check`, which ends the calls.
pub fn every_segmentation(input: &[u8], mut check: impl FnMut(&[&[u8]]) -> Result) -> Result {
    let mut cut = |is_cut: &mut dyn FnMut(usize) -> bool| check(&pieces(input, is_cut));
    let positions = input.len().saturating_sub(1);
    if input.len() <= SHORT {
        return (0..1u32 << positions)
            .try_for_each(|way| cut(&mut |position| way >> position & 1 == 1));
    }
    cut(&mut |_| false)?;
    cut(&mut |_| true)?;
    for only in 0..positions {
        cut(&mut |position| position == only)?;
    }
    let mut rng = Rng::new(0);
    for _ in 0..SAMPLES {
        // On average one cut in 2, 4, 8, 16, 32 or 64 bytes.
        let sparse = 2 << rng.below(6);
        cut(&mut |_| rng.below(sparse) == 0)?;
    }
    Ok(())
}

/// Cuts the input behind each byte for whose position `is_cut` returns true, except the last.
fn pieces<'a>(input: &'a [u8], is_cut: &mut dyn FnMut(usize) -> bool) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    for position in 0..input.len().saturating_sub(1) {
        if is_cut(position) {
            let length = position + 1 - (input.len() - rest.len());
            if let Some((piece, behind)) = rest.split_at_checked(length) {
                pieces.push(piece);
                rest = behind;
            }
        }
    }
    pieces.push(rest);
    pieces
}

/// [Drives](drive) a handler with the same input cut in [different ways](every_segmentation), followed by
/// the end of the stream, and checks that output and end are always the same. Returns the transcript of
/// the input in one piece.
///
/// The factory is called once for each way. Its handlers must not share state that makes a difference.
///
/// ```
/// use asynchat::sim;
/// # fn main() -> asynchat::Result {
/// let transcript = sim::drive_every_segmentation(
///     |chat| move |line: &[u8]| {
///         chat.push_slice(line);
///         chat.push("\r\n");
///         Ok(())
///     },
///     "HELP\r\n\r\nQUIT\r\n",
/// )?;
/// assert_eq!(transcript.text(), "HELP\r\n\r\nQUIT\r\n");
/// # Ok(()) }
/// ```
///
/// # Errors
/// A [`Divergence`] with the first cut that makes a difference: see [`Error::downcast_ref`]. And the
/// errors of [`drive`].
pub fn drive_every_segmentation<I: IntoSession>(
    factory: impl Fn(Chat) -> I + 'static,
    input: impl AsRef<[u8]>,
) -> Result<Transcript<I::Session>, Error> {
    let factory = Rc::new(factory);
    let mut whole: Option<Transcript<I::Session>> = None;
    every_segmentation(input.as_ref(), |pieces| {
        let factory = Rc::clone(&factory);
        let script = Script::new().send_each(pieces).finish();
        let found = drive(move |chat| factory(chat), script)?;
        match &whole {
            None => whole = Some(found),
            Some(whole) if found.agrees_with(whole) => {}
            Some(whole) => {
                return Err(Box::new(Divergence {
                    pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
                    found: found.summary(),
                    expected: whole.summary(),
                }));
            }
        }
        Ok(())
    })?;
    whole.ok_or_else(|| Error::new("the input was not cut in any way"))
}

/// A way to cut an input for which a handler behaves differently.
#[derive(Clone)]
#[non_exhaustive]
pub struct Divergence {
    /// The pieces of the input.
    pub pieces: Vec<Vec<u8>>,
    /// The output for these pieces, escaped, and how the connection ended.
    pub found: String,
    /// The same for the input in one piece.
    pub expected: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut as")?;
        for piece in &self.pieces {
            write!(f, " \"{}\"", piece.escape_ascii())?;
        }
        write!(
            f,
            ", the input gives {}, but in one piece {}",
            self.found, self.expected
        )
    }
}

impl fmt::Debug for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces: Vec<AsText> = self.pieces.iter().map(|piece| AsText(piece)).collect();
        f.debug_struct("Divergence")
            .field("pieces", &pieces)
            .field("found", &self.found)
            .field("expected", &self.expected)
            .finish()
    }
}

impl std::error::Error for Divergence {}

impl<S> Transcript<S> {
    fn summary(&self) -> String {
        let output = self.output.escape_ascii();
        let close = self.close.as_ref().map(ToString::to_string);
        let close = close.as_deref().unwrap_or("still open");
        match self.ended {
            Some(ended) => format!("\"{output}\" ({close}; to the peer: {ended:?})"),
            None => format!("\"{output}\" ({close})"),
        }
    }
}
