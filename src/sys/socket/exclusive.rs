//! SO_EXCLUSIVEADDRUSE: no other program can bind the port of a listener and take its connections. Without it,
//! Windows lets any program do that which sets SO_REUSEADDR ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE" in
//! Microsoft's documentation).
//!
//! The price: after the listener is closed, another exclusive bind may fail until the connections that it has accepted
//! are inactive. libuv leaves the option out for this reason.
//!
//! Neither `socket2` nor the standard library has a function for this. The call is `unsafe` because the system
//! reads through a pointer. It reads one `int`, and the pointer is to an `int`.

use std::ffi::c_int;
use std::io;
use std::os::windows::io::{AsRawSocket, RawSocket};

use socket2::Socket;

const SOL_SOCKET: c_int = 0xffff;
const SO_EXCLUSIVEADDRUSE: c_int = !0x0004;

#[allow(unsafe_code)]
pub(super) fn set_exclusive(socket: &Socket) -> io::Result<()> {
    #[link(name = "ws2_32")]
    unsafe extern "system" {
        fn setsockopt(
            socket: RawSocket,
            level: c_int,
            option: c_int,
            value: *const u8,
            length: c_int,
        ) -> c_int;
    }

    let on: c_int = 1;
    // SAFETY: the declaration is that of winsock2.h. The socket is open, because it is borrowed. The call reads
    // `length` bytes through the pointer, which is to an `int` of that size that outlives the call.
    let outcome = unsafe {
        setsockopt(
            socket.as_raw_socket(),
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            (&raw const on).cast(),
            size_of::<c_int>() as c_int,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
