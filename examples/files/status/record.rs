//! A request, until it is counted and logged.

use std::rc::Rc;

use super::{Kind, Status};
use crate::access_log::Line;

/// A request that has begun. If it is dropped before its end, its client has cut it off.
pub struct Record(Option<Open>);

struct Open {
    status: Rc<Status>,
    kind: Kind,
    line: Option<Line>,
}

impl Record {
    /// `cut`: the code of a request without a reply.
    pub fn new(
        status: &Rc<Status>,
        protocol: &'static str,
        method: &'static str,
        cut: u16,
        line: Option<Line>,
    ) -> Record {
        Record(Some(Open {
            status: Rc::clone(status),
            kind: Kind {
                protocol,
                method,
                code: cut,
            },
            line,
        }))
    }

    /// The reply has this code, and so many bytes of content were transferred.
    pub fn finish(mut self, code: u16, bytes: u64) {
        self.end(Some(code), bytes);
    }

    /// Another record of the same request takes its place.
    pub fn dismiss(mut self) {
        self.0 = None;
    }

    fn end(&mut self, code: Option<u16>, bytes: u64) {
        if let Some(Open { status, kind, line }) = self.0.take() {
            let code = code.unwrap_or(kind.code);
            status.count(Kind { code, ..kind });
            if let Some(line) = line {
                line.finish(code, bytes);
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(None, 0);
    }
}
