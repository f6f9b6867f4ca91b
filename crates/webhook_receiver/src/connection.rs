//! One connection: request after request, each handed to the printer before it is answered, each within its time.
//!
//! Invariants:
//! - An answer is written only after the printer said what it is, so after the request was shown.
//! - After a refused request the connection is closed: where the next one begins is not known.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::options::Limits;
use crate::wire::{Budget, Refusal, Refused, Request, Response, Wire};

/// How long a connection that we end waits for the client to end it too.
const LINGER: Duration = Duration::from_secs(1);

/// A request on its way to the printer.
pub(crate) struct Arrival {
    pub(crate) client: IpAddr,
    pub(crate) what: Result<Request, Refused>,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// What the printer says to do.
pub(crate) enum Reply {
    Respond { response: Response, delay: Duration },
    Close,
    Hang,
}

/// Serves one connection until it ends, is idle for too long, or `closing` becomes true between two requests.
///
/// Dropping it closes the connection at once.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: IpAddr,
    limits: Limits,
    budget: Budget,
    arrivals: mpsc::Sender<Arrival>,
    mut closing: watch::Receiver<bool>,
) {
    let mut wire = Wire::new(stream, limits, budget);
    loop {
        let begun = tokio::select! {
            biased;
            () = closed(&mut closing) => false,
            begun = timeout(limits.idle, wire.wait_for_request()) => begun.unwrap_or(false),
        };
        if !begun {
            return;
        }
        let mut line = Vec::new();
        let request = match timeout(limits.request, wire.read_request(&mut line)).await {
            Ok(request) => request,
            Err(_) => {
                if line.is_empty() {
                    line.extend_from_slice(wire.line_so_far());
                }
                Err(Refusal::TooSlow(limits.request))
            }
        };
        let keep_alive = request.as_ref().is_ok_and(|request| request.keep_alive);
        let to_head = request.as_ref().is_ok_and(|request| request.method == "HEAD");
        let what = request.map_err(|refusal| Refused { line, refusal });

        let (reply, replied) = oneshot::channel();
        // The printer has ended, and the connection with it, if either of these fails.
        if arrivals.send(Arrival { client, what, reply }).await.is_err() {
            return;
        }
        let Ok(reply) = replied.await else { return };
        match reply {
            Reply::Respond { response, delay } => {
                // A delay is cut short at shutdown: the answer is known, and better early than never.
                tokio::select! {
                    biased;
                    () = closed(&mut closing) => {}
                    () = tokio::time::sleep(delay) => {}
                }
                let keep_alive = keep_alive && !*closing.borrow();
                let written =
                    timeout(limits.request, wire.write_response(&response, to_head, keep_alive)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return;
                }
                if !keep_alive {
                    let _ = timeout(LINGER, wire.close()).await;
                    return;
                }
            }
            Reply::Close => return,
            Reply::Hang => {
                tokio::select! {
                    biased;
                    () = closed(&mut closing) => {}
                    () = wire.wait_for_end() => {}
                }
                return;
            }
        }
    }
}

/// Returns when the receiver shuts down. Cancel safe.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the receiver.
    let _ = closing.wait_for(|&closing| closing).await;
}
