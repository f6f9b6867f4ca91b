//! Signals become a cancellation: the first asks for a graceful stop, the second ends the process at once.

use tokio_util::sync::CancellationToken;

/// What a shell reports of a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled at the first SIGINT or SIGTERM.
///
/// The task behind it lives as long as the process: whoever asks a second time does not want to wait for anything, so
/// it ends the process there and then. That is a crash like any other, and nothing is lost by it.
///
/// # Panics
/// Outside a tokio runtime.
pub fn shutdown_token() -> CancellationToken {
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("stopping: finishing what is in flight; once more to stop at once");
        asked.cancel();
        signal().await;
        std::process::exit(INTERRUPTED);
    });
    token
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
