//! The seam to the network: names to addresses, addresses to connections.
//!
//! Invariants:
//! - A [`Dial`] decides nothing. Which of the addresses may be called is decided between its two functions.
//! - There is one look-up per name at a time, however many wait for it, and a bound on look-ups in all: the system's
//!   resolver blocks a thread, for many seconds when a name server is silent, and can't be called back.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Resolves names and connects. Tests use one that records, and never sends a packet.
pub trait Dial: Send + Sync + 'static {
    /// What a connection is read from and written to.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The addresses of a name, in the order in which they should be tried. Never called for a literal address.
    ///
    /// Cancel safety: nothing is left behind but, perhaps, a look-up that others may use.
    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// Connects to an address that the egress policy allows.
    ///
    /// Cancel safety: the connection is closed, or never made.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The system's resolver, and TCP.
#[derive(Debug, Clone)]
pub struct TcpDial {
    lookups: Arc<Lookups>,
}

/// Look-ups in all. Each holds a thread; a name server that answers needs a millisecond for one, so this many matter
/// only where hundreds of names can't be resolved.
const LOOKUPS_MAX: usize = 64;

impl TcpDial {
    /// Resolves as the operating system does.
    pub fn new() -> Self {
        TcpDial {
            lookups: Arc::new(Lookups {
                running: Mutex::default(),
                slots: Arc::new(Semaphore::new(LOOKUPS_MAX)),
                resolve: system_resolve,
            }),
        }
    }
}

impl Default for TcpDial {
    fn default() -> Self {
        TcpDial::new()
    }
}

impl Dial for TcpDial {
    type Stream = TcpStream;

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.resolve(host).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // A request is one write; waiting for more of it would only delay it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn system_resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        // The resolver says of a name that it is unknown also where it could not even ask.
        Err(error) => Err(no_descriptor().unwrap_or(error)),
    }
}

/// "Too many open files" for the process and for the system; the same numbers on Linux, macOS and the BSDs.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];

/// Whether something failed because this process, or the system, has no file descriptor left.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code))
}

/// What a socket that is wanted now fails with, where there is no file descriptor for it. None is used.
fn no_descriptor() -> Option<io::Error> {
    std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).err().filter(lacks_descriptors)
}

/// What a look-up gave, to be handed to all who wait; `io::Error` can't be cloned.
type Answer = Result<Vec<IpAddr>, Arc<io::Error>>;

#[derive(Debug)]
struct Lookups {
    /// Who looks up what. The lock is held for a step in a map, never while something waits.
    running: Mutex<HashMap<Box<str>, watch::Receiver<Option<Answer>>>>,
    slots: Arc<Semaphore>,
    resolve: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Lookups {
    async fn resolve(self: &Arc<Self>, host: &str) -> io::Result<Vec<IpAddr>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned();
        let mut answer = match running {
            Some(answer) => answer,
            None => {
                let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
                self.start(host, slot)?
            }
        };
        let answer = answer.wait_for(Option::is_some).await.map_err(|_| interrupted())?;
        match answer.as_ref().expect("waited for") {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(match error.raw_os_error() {
                // The code says more than the kind: that this process has no file descriptor left, say.
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }

    /// Starts a look-up, unless one for this name was started in the meantime.
    ///
    /// It gets a thread of its own and not one of the runtime's blocking threads, so that a silent name server neither
    /// delays the end of the process nor takes a thread from whoever else blocks.
    fn start(
        self: &Arc<Self>,
        host: &str,
        slot: OwnedSemaphorePermit,
    ) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        running.insert(host.into(), answer.clone());
        // A look-up takes the lock when it is dropped, and it is dropped here if there is no thread for it.
        drop(running);
        let lookup = Lookup { lookups: self.clone(), host: host.into(), sender, _slot: slot };
        std::thread::Builder::new().name("resolve".into()).spawn(move || lookup.run())?;
        Ok(answer)
    }
}

/// One look-up, on its thread. However it ends, it takes itself out of the map and gives its slot back.
struct Lookup {
    lookups: Arc<Lookups>,
    host: Box<str>,
    sender: watch::Sender<Option<Answer>>,
    _slot: OwnedSemaphorePermit,
}

impl Lookup {
    fn run(self) {
        let answer = (self.lookups.resolve)(&self.host);
        self.sender.send_replace(Some(answer.map_err(Arc::new)));
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.lookups.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

fn interrupted() -> io::Error {
    io::Error::other("the look-up was interrupted")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    fn lookups(slots: usize, resolve: fn(&str) -> io::Result<Vec<IpAddr>>) -> Arc<Lookups> {
        Arc::new(Lookups { running: Mutex::default(), slots: Arc::new(Semaphore::new(slots)), resolve })
    }

    #[tokio::test]
    async fn one_lookup_serves_all_who_ask_for_the_name() {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
        let (open, gate) = mpsc::channel();
        *GATE.lock().unwrap() = Some(gate);
        let lookups = lookups(1, |host| {
            assert_eq!(host, "a.example");
            RUNS.fetch_add(1, Ordering::SeqCst);
            GATE.lock().unwrap().as_ref().unwrap().recv().unwrap();
            Ok(vec!["192.0.2.1".parse().unwrap()])
        });
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(lookups.resolve("a.example"))).collect();
        for future in &mut waiting {
            assert!(future.now_or_never().is_none());
        }
        // Who gives up takes nothing from the others.
        drop(waiting.pop());
        open.send(()).unwrap();
        for future in waiting {
            assert_eq!(future.await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        }
        assert_eq!(RUNS.load(Ordering::SeqCst), 1);
        let slot = lookups.slots.acquire().await.unwrap();
        assert!(lookups.running.lock().unwrap().is_empty());
        drop(slot);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_not_remembered() {
        let lookups = lookups(1, |host| match host {
            "bad.example" => panic!("a broken resolver"),
            "starved.example" => Err(io::Error::from_raw_os_error(24)),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        });
        let error = lookups.resolve("a.example").await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotFound, "no such name"));
        assert_eq!(lookups.resolve("starved.example").await.unwrap_err().raw_os_error(), Some(24));
        assert_eq!(lookups.resolve("bad.example").await.unwrap_err().to_string(), interrupted().to_string());
        // The slot is free again, and so is the name.
        assert!(lookups.resolve("bad.example").await.is_err());
    }

    #[tokio::test]
    async fn the_system_resolves_localhost() {
        let addresses = TcpDial::new().resolve("localhost").await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
