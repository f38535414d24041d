//! RESP, the protocol of Redis, in its versions 2 and 3: <https://redis.io/docs/reference/protocol-spec/>.
//!
//! `request.rs`: the parser of requests. `arg.rs`: an argument. `inline.rs`: requests that a person types. `reply.rs`: the encoder of
//! replies. `message.rs`: messages for subscribers.

pub mod arg;
mod inline;
pub mod message;
pub mod reply;
pub mod request;
