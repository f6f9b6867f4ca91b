//! Where a store is: what its URL says, and what it may be called by.

use std::path::PathBuf;

use hookwire_model::Secret;

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In memory: gone at the end of the process.
    Memory,
    /// In one folder.
    Embedded(PathBuf),
    /// On a Redis server or cluster, by a URL that may hold a password.
    Redis(Secret),
}

impl StoreUrl {
    /// What tells the store from others: its URL as it is shown, a folder by the one path that it really has. By it a
    /// command and a server find out whether they mean the same store.
    pub fn name(&self) -> String {
        match self {
            // One that is not there yet has no other name than the one it is given.
            StoreUrl::Embedded(folder) => {
                let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
                StoreUrl::Embedded(folder).to_string()
            }
            StoreUrl::Redis(_) => {
                let shown = self.to_string();
                let Some((scheme @ ("redis" | "rediss"), place)) = shown.split_once("://") else {
                    return shown;
                };
                // What stands there by default may be left out.
                let (host, database) = place.split_once('/').unwrap_or((place, ""));
                let host = host.strip_suffix(":6379").unwrap_or(host);
                let port =
                    host.strip_prefix("localhost").filter(|port| port.is_empty() || port.starts_with(':'));
                let host = port.map_or(host.to_owned(), |port| format!("127.0.0.1{port}"));
                let database = if database.is_empty() { "0" } else { database };
                format!("{scheme}://{host}/{database}")
            }
            StoreUrl::Memory => self.to_string(),
        }
    }
}

/// Shown as it is written, without user and password.
impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::Embedded(folder) => write!(f, "embedded:{}", folder.display()),
            StoreUrl::Redis(url) => {
                let (scheme, rest) = url.expose().split_once("://").unwrap_or(("redis", ""));
                // A socket's query holds its password, with any characters; the database is a part of which store it is.
                let login = if scheme == "unix" { None } else { rest.rsplit_once('@') };
                let rest = login.map_or(rest, |(_, rest)| rest);
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                write!(f, "{scheme}://{path}")?;
                match query.split('&').find(|member| member.starts_with("db=")) {
                    Some(database) => write!(f, "?{database}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What follows the scheme in the URL of a Redis server or cluster; `None` if it is no such URL.
pub(super) fn redis_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    ["redis", "rediss", "unix", "redis-cluster"].contains(&scheme).then_some(rest)
}

/// Looks whether what follows the scheme names a Redis server or cluster, as far as that can be told without it; else
/// what is wrong, and what to do. Neither repeats the text, which may hold a password.
pub(super) fn redis_server(scheme: &str, rest: &str) -> Result<(), (&'static str, &'static str)> {
    let remedy = match scheme {
        "unix" => "write it like \"unix:///run/redis.sock?db=0\"",
        "redis-cluster" => "write it like \"redis-cluster://user:password@host:6379,host:6379\"",
        _ => {
            "write it like \"redis://user:password@localhost:6379/0\", and / ? # @ in a password as %2F %3F %23 %40"
        }
    };
    let wrong = |message| Err((message, remedy));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_database = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
    if rest.contains(char::is_whitespace) || rest.is_empty() {
        return wrong("names no Redis server");
    }
    if scheme == "unix" {
        let database = query.split('&').find_map(|member| member.strip_prefix("db="));
        return match database {
            _ if !rest.starts_with('/') => wrong("names no socket by its whole path"),
            Some(database) if !is_database(database) => wrong("names a database that is no number"),
            _ => Ok(()),
        };
    }
    let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
    let servers = servers.rsplit_once('@').map_or(servers, |(_, servers)| servers);
    for server in servers.split(',') {
        // An IPv6 address stands in brackets, and has colons of its own.
        let after_host = server.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match server[after_host..].rfind(':') {
            Some(at) => server.split_at(after_host + at),
            None => (server, ""),
        };
        if host.is_empty() {
            return wrong("names no Redis server");
        }
        if port.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.parse::<u16>().is_err()) {
            return wrong("names a port that is no number up to 65535");
        }
    }
    match path.trim_matches('/') {
        "" => Ok(()),
        _ if scheme == "redis-cluster" => wrong("names a database, and a cluster has one only"),
        database if !is_database(database) => wrong("names a database that is no number"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_without_its_secrets_and_apart_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let there = StoreUrl::Embedded(folder.path().join("."));
        assert_eq!(there.name(), format!("embedded:{}", real.display()));
        for (url, name) in [
            ("redis://user:s3cret@host:6379/1", "redis://host/1"),
            ("redis://localhost", "redis://127.0.0.1/0"),
            ("rediss://127.0.0.1:6379/0", "rediss://127.0.0.1/0"),
            ("redis://localhost:7000/", "redis://127.0.0.1:7000/0"),
            ("redis://localhost.example", "redis://localhost.example/0"),
            ("redis-cluster://:s3cret@a:1,b:2", "redis-cluster://a:1,b:2"),
            ("unix:///run/redis.sock?user=u&db=2&pass=s3cret", "unix:///run/redis.sock?db=2"),
            ("unix:///run/redis.sock?pass=s3@cret&db=1", "unix:///run/redis.sock?db=1"),
            ("unix:///run/redis.sock?pass=s3cret", "unix:///run/redis.sock"),
        ] {
            assert_eq!(StoreUrl::Redis(Secret::new(url)).name(), name);
        }
        assert_eq!(StoreUrl::Embedded("not/there".into()).name(), "embedded:not/there");
    }
}
