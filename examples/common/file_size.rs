//! The limit on the size of files (`ulimit -f`, RLIMIT_FSIZE). Several examples include this file by its path.

/// A file that would exceed the limit is an error of the write (EFBIG). By default the system also sends SIGXFSZ, which ends
/// the process: one upload would end the service. Call it on the thread of a loop.
#[cfg(unix)]
pub(crate) fn limit_is_an_error() -> Result<(), asynchat::Error> {
    let signal = rustix::process::Signal::XFSZ.as_raw();
    asynchat::signal::on(signal, || {})?;
    Ok(())
}

/// There is no such limit here.
#[cfg(not(unix))]
pub(crate) fn limit_is_an_error() -> Result<(), asynchat::Error> {
    Ok(())
}
