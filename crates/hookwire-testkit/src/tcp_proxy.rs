//! A network that fails on request, between a client and a server.
//!
//! Invariant: what one side sends arrives whole and in order, or the connection ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It passes everything on.
    Up,
    /// It ends all connections, and takes no new ones.
    Down,
    /// It passes requests on, and ends a connection in place of its next answer.
    CutsAnswers,
    /// It passes everything on, so much later.
    Slow(Duration),
}

/// A proxy on loopback. It ends when this is dropped.
pub struct TcpProxy {
    address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    cuts: Arc<watch::Sender<usize>>,
    _tasks: JoinSet<()>,
}

impl TcpProxy {
    /// Starts one before a server that listens on a socket.
    pub async fn before(socket: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it listens");
        let network = Arc::new(watch::Sender::new(Network::Up));
        let cuts = Arc::new(watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, socket.to_owned(), Arc::clone(&network), Arc::clone(&cuts)));
        TcpProxy { address, network, cuts, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the network do this from now on.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Waits until so many answers more were cut off.
    ///
    /// # Panics
    /// If that does not come about.
    pub async fn cut_answers(&self, count: usize) {
        let mut cuts = self.cuts.subscribe();
        let wanted = *cuts.borrow() + count;
        let waited = tokio::time::timeout(PATIENCE, cuts.wait_for(|cuts| *cuts >= wanted)).await;
        assert!(waited.is_ok(), "nobody asked for answers that could be cut off");
    }
}

async fn accept(
    listener: TcpListener,
    socket: PathBuf,
    network: Arc<watch::Sender<Network>>,
    cuts: Arc<watch::Sender<usize>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *network.borrow() == Network::Down {
            continue;
        }
        let Ok(server) = UnixStream::connect(&socket).await else { continue };
        connections.spawn(connect(client, server, network.subscribe(), Arc::clone(&cuts)));
    }
}

/// Passes on both ways until either side or the network ends it.
async fn connect(
    client: TcpStream,
    server: UnixStream,
    mut network: watch::Receiver<Network>,
    cuts: Arc<watch::Sender<usize>>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut request, mut answer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let state = *network.borrow_and_update();
        if state == Network::Down {
            return;
        }
        let passed = tokio::select! {
            changed = network.changed() => changed.is_ok(),
            read = from_client.read(&mut request) => match read {
                Ok(0) | Err(_) => false,
                Ok(count) => to_server.write_all(&request[..count]).await.is_ok(),
            },
            read = from_server.read(&mut answer) => match read {
                Ok(0) | Err(_) => false,
                Ok(_) if state == Network::CutsAnswers => {
                    cuts.send_modify(|cuts| *cuts += 1);
                    false
                }
                Ok(count) => {
                    if let Network::Slow(by) = state {
                        tokio::time::sleep(by).await;
                    }
                    to_client.write_all(&answer[..count]).await.is_ok()
                }
            },
        };
        if !passed {
            return;
        }
    }
}
