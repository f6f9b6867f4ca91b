//! A receiver inside another program: starts one on a free port, sends it a request, prints what it showed.
//!
//! Run it with `cargo run -p webhook_receiver --example receive`.

use hookwire_model::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use webhook_receiver::{Listeners, Options, serve};

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listeners = Listeners::bind(None, 0).await?;
    let address = listeners.local_addr()?;
    println!("{}", listeners.banner());

    // It ends when the sender is dropped.
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let receiver = serve(listeners, Options::default(), now, std::io::stdout(), shutdown);

    let client = async move {
        let mut stream = TcpStream::connect(address).await?;
        let request = b"PUT /hook HTTP/1.1\r\nHost: example\r\nContent-Type: application/json\r\n\
            Content-Length: 20\r\nConnection: close\r\n\r\n{\"answer\":[42, 1.0]}";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        drop(stop);
        anyhow::Ok(answer)
    };

    let (served, answer) = tokio::join!(receiver, client);
    served?;
    println!("\nThe sender got:\n{}", answer?);
    Ok(())
}
