//! Where a command that looks or acts turns to: a running server, or the store itself where none is running.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hookwire_worker::{ConfigArguments, Failure, Store, environment, open_store};

use crate::client::Client;

/// Arguments that name a server or a store.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The server to ask, such as http://127.0.0.1:8080. Default: the one that the configuration names, where it runs,
    /// else the store itself. HOOKWIRE_TOKEN holds the token.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// What a command turns to.
pub(crate) enum Target {
    Server(Client),
    Store(Store),
}

impl TargetArguments {
    /// Finds the server, or opens the store.
    pub(crate) async fn find(&self) -> Result<Target, Failure> {
        let token = environment("HOOKWIRE_TOKEN");
        if let Some(url) = &self.url {
            return Ok(Target::Server(Client::new(url, token)));
        }
        // Definitions that do not check are no reason not to look at deliveries.
        let (config, _) = self.config.load_sound()?;
        let settings = config.settings;
        let client = Client::new(&server_url(settings.server.listen), token);
        if client.is_alive() {
            return Ok(Target::Server(client));
        }
        Ok(Target::Store(open_store(&settings, Duration::ZERO).await?))
    }
}

/// The URL of a server that listens there.
pub(crate) fn server_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}
