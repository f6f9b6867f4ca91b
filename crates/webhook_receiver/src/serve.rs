//! The receiver's loop: connections come in, requests arrive from them, each is printed and gets its answer.
//!
//! Invariants:
//! - One task prints, so numbers are the order of the output and no lock is needed.
//! - Every connection is a task of one `JoinSet`; none outlives [`serve`].

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;

use hookwire_model::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connection::{self, Arrival, Reply};
use crate::listen::Listeners;
use crate::options::{Format, Options};
use crate::script::Answer;
use crate::seen::Seen;
use crate::show::{self, Shown};
use crate::verdict::Verdict;
use crate::wire::{Budget, Response};

/// Requests that wait for the printer. When it is full, connections wait with theirs, whose bodies count against the
/// budget for bodies.
const ARRIVALS: usize = 16;

/// Most requests fit, and so reach `out` in one write.
const OUT_BUFFER: usize = 64 * 1024;

/// Prints every request that comes in through `listeners` to `out` and answers it, until `shutdown` is ready.
///
/// Each request is written to `out`, in one `write` if it is shorter than 64 KiB, and flushed before it is answered. `out`
/// may block: then requests wait, which is what a pager or a full pipe means. `clock` gives the time of arrival.
///
/// At shutdown idle connections are closed, delays are cut short, and requests under way get [`crate::Limits::grace`].
///
/// # Errors
///
/// What `out` says. Trouble with a connection is never an error here.
///
/// # Cancellation
///
/// Dropping the future closes all sockets at once; requests in the middle get no answer.
pub async fn serve(
    listeners: Listeners,
    options: Options,
    clock: impl Fn() -> Timestamp,
    out: impl Write,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = options.limits;
    let budget = Budget::new(limits.bodies_bytes);
    let (arrivals_in, mut arrivals) = mpsc::channel(ARRIVALS);
    let (closing_in, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut printer = Printer {
        clock,
        out: BufWriter::with_capacity(OUT_BUFFER, out),
        seen: Seen::new(limits.remembered_ids),
        printed: 0,
        answered: 0,
        options,
    };

    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        match next(&mut shutdown, &mut arrivals, &mut connections, &listeners, limits.connections).await {
            Happening::Shutdown => break,
            Happening::Arrived(arrival) => printer.take(arrival)?,
            Happening::Ended => {}
            Happening::Connected(stream, client) => {
                let (arrivals_in, closing) = (arrivals_in.clone(), closing.clone());
                connections.spawn(connection::run(
                    stream,
                    client,
                    limits,
                    budget.clone(),
                    arrivals_in,
                    closing,
                ));
            }
        }
    }

    drop(listeners);
    drop(arrivals_in);
    // A failure means that there is no connection to tell.
    let _ = closing_in.send(true);
    let finish = async {
        // The channel ends when the last connection has.
        while let Some(arrival) = arrivals.recv().await {
            printer.take(arrival)?;
        }
        Ok(())
    };
    let finished = tokio::time::timeout(limits.grace, finish).await.unwrap_or(Ok(()));
    connections.shutdown().await;
    finished
}

enum Happening {
    Shutdown,
    Arrived(Arrival),
    Ended,
    Connected(TcpStream, IpAddr),
}

async fn next(
    shutdown: &mut (impl Future<Output = ()> + Unpin),
    arrivals: &mut mpsc::Receiver<Arrival>,
    connections: &mut JoinSet<()>,
    listeners: &Listeners,
    connections_max: usize,
) -> Happening {
    let room = connections.len() < connections_max;
    tokio::select! {
        biased;
        () = shutdown => Happening::Shutdown,
        // `serve` holds a sender, so there is always a next one to wait for.
        Some(arrival) = arrivals.recv() => Happening::Arrived(arrival),
        // A connection that panicked has said so on stderr, and harms no other.
        Some(_) = connections.join_next() => Happening::Ended,
        (stream, client) = listeners.accept(), if room => Happening::Connected(stream, client),
    }
}

struct Printer<C, W: Write> {
    clock: C,
    out: BufWriter<W>,
    seen: Seen,
    /// Requests shown, refused ones among them.
    printed: u64,
    /// Requests answered by the script, so without refused ones.
    answered: u64,
    options: Options,
}

impl<C: Fn() -> Timestamp, W: Write> Printer<C, W> {
    fn take(&mut self, arrival: Arrival) -> io::Result<()> {
        let Arrival { client, what, reply } = arrival;
        self.printed += 1;
        let received_at = (self.clock)();
        let (answer, verdict, repeat) = match &what {
            Ok(request) => {
                let answer = self.options.script.answer(self.answered);
                self.answered += 1;
                let verdict = Verdict::of(request, &self.options.secrets, received_at);
                let tell_repeats = self.options.tell_repeats || self.options.format == Format::JsonLines;
                let id = request.header("webhook-id").filter(|_| tell_repeats);
                let repeat = id.and_then(|id| self.seen.note(id, self.printed, answer.is_success()));
                (answer, verdict, repeat)
            }
            Err(refused) => (Answer::Status(refused.refusal.status()), None, None),
        };
        let verdict = verdict.as_ref();
        let shown = Shown { number: self.printed, received_at, client, what: &what, answer, verdict, repeat };
        show::print(&mut self.out, &shown, &self.options)?;

        // Nobody waits for the answer if the connection ended meanwhile.
        let _ = reply.send(match answer {
            Answer::Close => Reply::Close,
            Answer::Hang => Reply::Hang,
            Answer::Status(status) => {
                let mut headers = vec![("Date".to_owned(), show::http_date(received_at))];
                let (body, delay) = match &what {
                    Ok(_) => {
                        let extra = &self.options.answer_headers;
                        headers.extend(extra.iter().map(|h| (h.name().to_owned(), h.value().to_owned())));
                        (answer_body(answer), self.options.delay)
                    }
                    Err(refused) => (format!("{}\n", refused.refusal), std::time::Duration::ZERO),
                };
                Reply::Respond { response: Response { status, headers, body }, delay }
            }
        });
        Ok(())
    }
}

fn answer_body(answer: Answer) -> String {
    if answer.is_success() { "Webhook received!".to_owned() } else { format!("Answered {answer} as asked.") }
}
