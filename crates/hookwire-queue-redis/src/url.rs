//! Where the server is: what a store's URL says.
//!
//! Invariant: a password never shows in `Display` or `Debug`.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo as _};

/// A server, or the nodes of a cluster to begin with.
#[derive(Clone)]
pub struct RedisUrl {
    target: Target,
    shown: String,
}

#[derive(Clone)]
pub(crate) enum Target {
    Single(Box<ConnectionInfo>),
    Cluster(Vec<ConnectionInfo>),
}

/// What TLS to a server needs besides the usual authorities, each PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// The authorities that the server is checked against, in place of the usual ones.
    pub authorities: Option<Vec<u8>>,
    /// The certificate that the server is shown, and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls")
            .field("authorities", &self.authorities.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

impl RedisTls {
    /// The same server, reached with these; nothing changes where it does not speak TLS.
    pub(crate) fn on(&self, info: &ConnectionInfo) -> Result<ConnectionInfo, redis::RedisError> {
        let is_tls = matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        if !is_tls || (self.authorities.is_none() && self.client.is_none()) {
            return Ok(info.clone());
        }
        let client_tls = self
            .client
            .clone()
            .map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        let certificates = redis::TlsCertificates { client_tls, root_cert: self.authorities.clone() };
        Ok(redis::Client::build_with_tls(info.clone(), certificates)?.get_connection_info().clone())
    }
}

/// A text that is no URL of a Redis server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RedisUrlError {
    reason: &'static str,
}

impl RedisUrl {
    /// Reads `redis://[user:password@]host[:port][/database]`, the same with `rediss:` for TLS,
    /// `unix:///path[?db=1&user=..&pass=..]`, or `redis-cluster://[user:password@]host:port,host:port`.
    ///
    /// # Errors
    /// [`RedisUrlError`] says what is wrong; it does not repeat the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let refused = |reason| RedisUrlError { reason };
        if let Some(rest) = text.strip_prefix("redis-cluster://") {
            let (login, nodes) = rest.rsplit_once('@').map_or(("", rest), |(login, nodes)| (login, nodes));
            let nodes = nodes.trim_end_matches('/');
            let at = if login.is_empty() { "" } else { "@" };
            let read = |node: &str| {
                let info = format!("redis://{login}{at}{node}").into_connection_info();
                info.map_err(|_| {
                    refused("needs host:port, with commas between: redis-cluster://a:6379,b:6379")
                })
            };
            if nodes.is_empty() || nodes.contains('/') {
                return Err(refused("needs host:port, with commas between: redis-cluster://a:6379,b:6379"));
            }
            let infos = nodes.split(',').map(read).collect::<Result<_, _>>()?;
            return Ok(RedisUrl {
                target: Target::Cluster(infos),
                shown: format!("redis-cluster://{nodes}"),
            });
        }
        let is_known = ["redis://", "rediss://", "unix://"].iter().any(|scheme| text.starts_with(scheme));
        if !is_known {
            return Err(refused("needs redis://, rediss://, unix:// or redis-cluster:// at its beginning"));
        }
        let info = text.into_connection_info();
        let info =
            info.map_err(|_| refused("needs the form redis://user:password@host:6379/0, or unix:///path"))?;
        let scheme = text.split_once("://").map_or("redis", |(scheme, _)| scheme);
        let database = match info.redis_settings().db() {
            0 => String::new(),
            number if scheme == "unix" => format!("?db={number}"),
            number => format!("/{number}"),
        };
        let shown = match info.addr() {
            redis::ConnectionAddr::Unix(path) => format!("unix://{}{database}", path.display()),
            address => format!("{scheme}://{address}{database}"),
        };
        Ok(RedisUrl { target: Target::Single(Box::new(info)), shown })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// As it was written, without user and password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        let cases = [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://user:s3cret@host:7000/3", "redis://host:7000/3"),
            ("rediss://:s3cret@host:7000", "rediss://host:7000"),
            ("unix:///run/redis.sock?db=2&pass=s3cret", "unix:///run/redis.sock?db=2"),
            ("redis-cluster://u:s3cret@a:1,b:2", "redis-cluster://a:1,b:2"),
        ];
        for (text, shown) in cases {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("RedisUrl({shown})"));
        }
        for text in ["", "http://host", "redis-cluster://", "redis://host:port", "redis-cluster://a:1/0,b:2"]
        {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("needs "), "{text}: {error}");
        }
    }
}
