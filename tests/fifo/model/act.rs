//! What is done to the queue.

/// An act of the test, of a hook, or of a producer that is asked.
#[derive(Clone, Debug)]
pub enum Act {
    PushSlice(usize),
    /// In three parts, one of them empty.
    PushSlices(usize),
    PushBytes(usize),
    Producer(Vec<Reply>),
    Hook(Vec<Act>),
    ShutdownWrite,
    Close,
    Discard,
    Resume,
    Seal,
    HighWater(usize),
    /// Buffered input takes so much of the queue's room.
    Backlog(usize),
    AdoptBuffer,
    ReleaseBuffer,
    Trim,
    /// As user code closes a channel.
    CloseSink,
    /// By the test only.
    Pump(usize),
}

/// What a producer does when it is asked, and answers. After its last reply it is done.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub acts: Vec<Act>,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, Default)]
pub enum Answer {
    #[default]
    Done,
    Chunk(usize),
    Pending,
    WouldBlock,
    Fails,
}

/// What a sink does with the bytes that it is offered.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    All,
    Bytes(usize),
    Nothing,
    Breaks,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        let acts = vec![];
        Reply { acts, answer }
    }
}
