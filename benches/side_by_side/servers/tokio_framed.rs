//! A server on tokio's single-threaded runtime, with `LinesCodec` of tokio-util.

use asynchat::Result;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

pub fn serve() -> Result {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        super::announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(stream: TcpStream) -> Result<(), LinesCodecError> {
    stream.set_nodelay(true)?;
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(super::MAX_LINE));
    while let Some(line) = lines.next().await {
        lines.feed(reply(line?)).await?;
        // One flush for all lines that have arrived, instead of one for each line.
        while let Some(Some(line)) = lines.next().now_or_never() {
            lines.feed(reply(line?)).await?;
        }
        SinkExt::<String>::flush(&mut lines).await?;
    }
    Ok(())
}

/// The codec removes CR LF from a line and appends only LF.
fn reply(mut line: String) -> String {
    line.push('\r');
    line
}
