//! One input, cut in every way: a stream has no pieces, but what reads it sees some.

use std::fmt;
use std::rc::Rc;

use super::drive::{Script, Transcript, drive};
use super::rng::Rng;
use crate::error::{Error, Result};
use crate::{AsyncChat, Chat};

/// Inputs of at most so many bytes are cut in all ways: 2,048 of them.
const SHORT: usize = 12;

/// How many ways to cut a longer one are drawn besides the regular ones.
const SAMPLES: usize = 200;

/// Calls `check` with the input in one piece, and then cut in every way: all 2^(n-1) of them for at
/// most 12 bytes. A longer input is cut into single bytes, once at each place, and in 200 random
/// ways, the same each time.
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
/// The first error of `check`, which is not called any more then.
pub fn every_segmentation(input: &[u8], mut check: impl FnMut(&[&[u8]]) -> Result) -> Result {
    let mut cut = |is_cut: &mut dyn FnMut(usize) -> bool| check(&pieces(input, is_cut));
    let places = input.len().saturating_sub(1);
    if input.len() <= SHORT {
        return (0..1u32 << places).try_for_each(|way| cut(&mut |place| way >> place & 1 == 1));
    }
    cut(&mut |_| false)?;
    cut(&mut |_| true)?;
    for only in 0..places {
        cut(&mut |place| place == only)?;
    }
    let mut rng = Rng::new(0);
    for _ in 0..SAMPLES {
        // From a cut at every other byte to one in sixty-four.
        let sparse = 2 << rng.below(6);
        cut(&mut |_| rng.below(sparse) == 0)?;
    }
    Ok(())
}

/// The input cut behind each byte that `is_cut` says so of, but for the last.
fn pieces<'a>(input: &'a [u8], is_cut: &mut dyn FnMut(usize) -> bool) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    for place in 0..input.len().saturating_sub(1) {
        if is_cut(place) {
            let here = place + 1 - (input.len() - rest.len());
            if let Some((piece, behind)) = rest.split_at_checked(here) {
                pieces.push(piece);
                rest = behind;
            }
        }
    }
    pieces.push(rest);
    pieces
}

/// [Drives](drive) a handler with the same input, and then its end, cut in
/// [every way](every_segmentation), and sees that it makes no difference: the same output, and the
/// same end. Returns the transcript of the input in one piece.
///
/// The factory is called for each way, and must give a handler that knows nothing of those before.
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
///     b"HELP\r\n\r\nQUIT\r\n",
/// )?;
/// assert_eq!(transcript.text(), "HELP\r\n\r\nQUIT\r\n");
/// # Ok(()) }
/// ```
///
/// # Errors
/// A [`Divergence`], to be had from the error by [`Error::downcast_ref`], with the first cut that
/// makes a difference; and the errors of [`drive`].
pub fn drive_every_segmentation<S: AsyncChat>(
    factory: impl Fn(Chat) -> S + 'static,
    input: &[u8],
) -> Result<Transcript> {
    let factory = Rc::new(factory);
    let mut whole: Option<Transcript> = None;
    every_segmentation(input, |pieces| {
        let factory = Rc::clone(&factory);
        let script = Script::new().send_each(pieces).finish();
        let found = drive(move |chat| factory(chat), script)?;
        match &whole {
            None => whole = Some(found),
            Some(whole) if found.agrees_with(whole) => {}
            Some(whole) => {
                return Err(Error::new(Divergence {
                    pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
                    found: found.summary(),
                    expected: whole.summary(),
                }));
            }
        }
        Ok(())
    })?;
    whole.ok_or_else(|| Error::new("there is always one way to cut"))
}

/// A way to cut an input that makes a difference to a handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Divergence {
    /// The input, as it was cut.
    pub pieces: Vec<Vec<u8>>,
    /// What came of it: the output, escaped, and how it ended.
    pub found: String,
    /// What came of the input in one piece.
    pub expected: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut as")?;
        for piece in &self.pieces {
            write!(f, " \"{}\"", piece.escape_ascii())?;
        }
        write!(f, ", it gives {}, but whole {}", self.found, self.expected)
    }
}

impl std::error::Error for Divergence {}

impl Transcript {
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
