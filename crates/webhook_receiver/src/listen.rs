//! Where the receiver listens: the loopback addresses, or one address that was named.
//!
//! Invariants:
//! - Without a named address nothing but 127.0.0.1 and ::1 is bound.
//! - All sockets of one [`Listeners`] have the same port, so that `localhost` reaches us whichever of its two addresses a
//!   client tries first, and never reaches another program's socket on the other address.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// With port 0 the system chooses a free IPv4 port, which may be taken on IPv6: then another one is tried, this often.
const FREE_PORT_TRIES: usize = 16;

/// How long accepting rests after an error of the process (out of file descriptors, say), which would otherwise repeat
/// without pause until a connection ends.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Bound sockets that share one port.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
    host: String,
    port: u16,
}

impl Listeners {
    /// Binds `port` on `address`, or on 127.0.0.1 and, where the system has IPv6, ::1. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// What the system says, [`io::ErrorKind::AddrInUse`] if the port is taken on either address.
    pub async fn bind(address: Option<IpAddr>, port: u16) -> io::Result<Listeners> {
        let Some(address) = address else { return Listeners::bind_localhost(port).await };
        let socket = TcpListener::bind(SocketAddr::new(address, port)).await?;
        Listeners::from_sockets(vec![socket], url_host(address))
    }

    async fn bind_localhost(port: u16) -> io::Result<Listeners> {
        let mut tries = 1;
        loop {
            let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            let chosen = v4.local_addr()?.port();
            let sockets = match TcpListener::bind((Ipv6Addr::LOCALHOST, chosen)).await {
                Ok(v6) => vec![v4, v6],
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                    if port == 0 && tries < FREE_PORT_TRIES {
                        tries += 1;
                        continue;
                    }
                    return Err(e);
                }
                // No IPv6 on this machine: `localhost` means 127.0.0.1 there.
                Err(_) => vec![v4],
            };
            return Listeners::from_sockets(sockets, "localhost".to_owned());
        }
    }

    fn from_sockets(sockets: Vec<TcpListener>, host: String) -> io::Result<Listeners> {
        let port = sockets.first().expect("every constructor binds at least one socket").local_addr()?.port();
        Ok(Listeners { sockets, host, port })
    }

    /// The port that was really bound.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first bound address; for `localhost` the IPv4 one.
    ///
    /// # Errors
    ///
    /// What the system says about the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.first().expect("every constructor binds at least one socket").local_addr()
    }

    /// The line that says where requests go, without a line end; see [`banner`].
    pub fn banner(&self) -> String {
        banner_for(&self.host, self.port)
    }

    /// The next connection and the address it came from.
    ///
    /// Errors of a single connection are skipped; after others it rests for 100 ms and goes on, since the receiver has
    /// nothing better to do. Cancel safe: a connection is never taken and dropped.
    pub(crate) async fn accept(&self) -> (TcpStream, IpAddr) {
        loop {
            match self.accept_once().await {
                Ok((stream, address)) => return (stream, address.ip().to_canonical()),
                Err(e) if is_one_connections_fault(&e) => {}
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            }
        }
    }

    async fn accept_once(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            for socket in &self.sockets {
                if let Poll::Ready(accepted) = socket.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl TryFrom<TcpListener> for Listeners {
    type Error = io::Error;

    fn try_from(socket: TcpListener) -> io::Result<Listeners> {
        let host = url_host(socket.local_addr()?.ip());
        Listeners::from_sockets(vec![socket], host)
    }
}

/// The line that is printed at start for a receiver on `localhost`, without a line end.
pub fn banner(port: u16) -> String {
    banner_for("localhost", port)
}

fn banner_for(host: &str, port: u16) -> String {
    format!("Listening on port http://{host}:{port}. Stop with CONTROL-C.")
}

fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn is_one_connections_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p15_banner_is_the_line_of_the_page() {
        assert_eq!(banner(9000), "Listening on port http://localhost:9000. Stop with CONTROL-C.");
    }

    #[tokio::test]
    async fn p17_localhost_binds_loopback_only_and_a_taken_port_is_an_error() {
        let listeners = Listeners::bind(None, 0).await.unwrap();
        assert_ne!(listeners.port(), 0);
        for socket in &listeners.sockets {
            let address = socket.local_addr().unwrap();
            assert!(address.ip().is_loopback(), "{address}");
            assert_eq!(address.port(), listeners.port());
        }
        assert_eq!(listeners.banner(), banner(listeners.port()));

        let taken = Listeners::bind(None, listeners.port()).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn p17_a_port_that_is_taken_on_ipv6_alone_is_taken() {
        let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
            // Nothing to take on a machine without IPv6.
            return;
        };
        let port = other.local_addr().unwrap().port();
        let taken = Listeners::bind(None, port).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn p15_a_named_address_stands_in_the_banner() {
        let listeners = Listeners::bind(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0).await.unwrap();
        let expected =
            format!("Listening on port http://127.0.0.1:{}. Stop with CONTROL-C.", listeners.port());
        assert_eq!(listeners.banner(), expected);
        assert_eq!(url_host(IpAddr::V6(Ipv6Addr::LOCALHOST)), "[::1]");
    }
}
