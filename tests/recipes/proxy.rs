use asynchat::{Channel, Error, Result};

pub fn start(addr: &str, upstream: &str) -> Result<Channel, Error> {
    let upstream = upstream.to_owned();
    asynchat::listen(addr, move |client| {
        let server = asynchat::connect(&upstream, |_| |_: &[u8]| Ok(()));
        let piped = server.and_then(|server| asynchat::pipe(&client, &server));
        if piped.is_err() {
            client.close(); // no descriptors are left
        }
        |_: &[u8]| Ok(()) // the pipe takes all input
    })
}
