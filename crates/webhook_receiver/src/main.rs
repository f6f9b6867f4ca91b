//! The program `webhook_receiver`: arguments, signals and exit codes around the library.
//!
//! Exit codes: 0 after CONTROL-C, SIGTERM or when nobody reads the output any more; 2 for wrong arguments; 69 if the port
//! can't be had; 70 after a panic; 74 if the output can't be written.

mod args;

use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use hookwire_model::Timestamp;
use webhook_receiver::{Format, Listeners, Options, serve};

use crate::args::Args;

const UNAVAILABLE: u8 = 69;
const PANIC: u8 = 70;
const IO: u8 = 74;

/// How long a stop may take: twice what requests under way get.
const BLOCKED_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Arguments end the process by themselves, with 2, or 0 for `--help`.
    let args = Args::parse();
    match panic::catch_unwind(|| run(args)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failure { code, cause })) => {
            // Nothing can be done if stderr is closed, too.
            let _ = writeln!(io::stderr(), "webhook_receiver: {cause:#}");
            ExitCode::from(code)
        }
        // The panic's message is on stderr already.
        Err(_) => ExitCode::from(PANIC),
    }
}

struct Failure {
    code: u8,
    cause: anyhow::Error,
}

fn run(args: Args) -> Result<(), Failure> {
    let unavailable = |cause| Failure { code: UNAVAILABLE, cause };
    // One thread is enough for a program that prints, and a blocked output then holds everything, as it should.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime: the system gave no event queue")
        .map_err(unavailable)?;
    end_although_blocked().context("signals can't be watched").map_err(unavailable)?;
    runtime.block_on(async {
        let stop = stop_signal().context("signals can't be watched").map_err(unavailable)?;
        let listeners = listen(&args).await.map_err(unavailable)?;
        receive(listeners, args.into_options(), stop).await
    })
}

/// Ends the program some time after it was asked to stop, for the case that its one thread waits for somebody to read its
/// output.
fn end_although_blocked() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered here, so that no signal comes before it.
    let stop = runtime.block_on(async { stop_signal() })?;
    let watch = move || {
        runtime.block_on(async {
            stop.await;
            tokio::time::sleep(BLOCKED_MAX).await;
        });
        std::process::exit(0)
    };
    std::thread::Builder::new().name("stop".into()).spawn(watch)?;
    Ok(())
}

async fn listen(args: &Args) -> anyhow::Result<Listeners> {
    let port = args.port;
    Listeners::bind(args.listen.0, port).await.with_context(|| match args.listen.0 {
        None => format!("cannot listen on port {port}; stop what uses it, or choose another with --port"),
        Some(address) => {
            format!("cannot listen on port {port} of {address}; choose another with --port or --listen")
        }
    })
}

async fn receive(
    listeners: Listeners,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let outcome = async {
        match options.format {
            Format::Text => {
                let mut out = io::stdout();
                writeln!(out, "{}", listeners.banner())?;
                out.flush()?;
            }
            // Nothing but JSON on stdout.
            Format::JsonLines => writeln!(io::stderr(), "{}", listeners.banner())?,
        }
        serve(listeners, options, now, io::stdout(), stop).await
    };
    match outcome.await {
        // `webhook_receiver | head` has what it wanted.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => {
            outcome.context("the output can't be written").map_err(|cause| Failure { code: IO, cause })
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// Ready at the first CONTROL-C or SIGTERM after the call.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ready at CONTROL-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the system ends the process itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
