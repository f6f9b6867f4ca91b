//! The connections: one that leasing, settling and publishing share, a pool for looking and acting, and for each shard one
//! for those who wait for something to do, and one for those who wait for replicas.
//!
//! Invariants:
//! - A command that blocks has a connection of its own: on a shared one it would hold up all others.
//! - A connection that failed is not used again; the next call makes a new one.

use std::time::Duration;

use deadpool_redis::Pool;
use hookwire_queue::QueueError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, ProtocolVersion, RedisError, ServerErrorKind, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::error::{from_redis, unavailable};
use crate::scripts::Script;
use crate::url::{RedisTls, RedisUrl, Target};

/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take. The library's half second is too short for a server that saves or fails over.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Looking and acting are rare; so many at once is plenty, the others wait in line.
const POOL_MAX: usize = 4;

/// A server or a cluster.
pub(crate) struct Link {
    target: Servers,
    name: String,
    /// Where shared connections live: a program may have several runtimes, of which one ends while others still work.
    home: Handle,
}

enum Servers {
    Single {
        client: Client,
        shared: Slot<MultiplexedConnection>,
        pool: Pool,
        /// By RESP 3, in which one connection can listen to a channel and wait.
        listening: Client,
    },
    Cluster {
        client: ClusterClient,
        shared: Slot<ClusterConnection>,
    },
}

/// A connection that is made when it is needed, and made again when it failed.
struct Slot<C>(Mutex<Option<(u64, C)>>);

impl<C: Clone> Slot<C> {
    fn new() -> Self {
        Slot(Mutex::new(None))
    }

    /// The connection with its number. Those who come while it is being made wait for that.
    async fn get(&self, make: impl AsyncFnOnce() -> Result<C, RedisError>) -> Result<(u64, C), RedisError> {
        let mut slot = self.0.lock().await;
        if let Some((number, connection)) = &*slot {
            return Ok((*number, connection.clone()));
        }
        let connection = make().await?;
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *slot = Some((number, connection.clone()));
        Ok((number, connection))
    }

    /// Lets go of the connection.
    async fn leave(&self) {
        *self.0.lock().await = None;
    }

    /// Lets go of the connection with this number.
    async fn drop_failed(&self, failed: u64) {
        let mut slot = self.0.lock().await;
        if slot.as_ref().is_some_and(|(number, _)| *number == failed) {
            *slot = None;
        }
    }
}

static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Which connection a script takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The shared one: short scripts, many of them.
    Shared,
    /// One of the pool: scripts that may take a while, and must not hold up the others' answers.
    Pooled,
}

impl Link {
    /// Connects to nothing yet. Shared connections will live in the runtime from which this is called.
    pub(crate) fn new(url: &RedisUrl, tls: &RedisTls) -> Result<Self, QueueError> {
        // The first who asks for TLS decides which implementation all use; if there is one already, that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = url.to_string();
        let wrong = |error: RedisError| from_redis(error, &name);
        let target = match url.target() {
            Target::Single(info) => {
                let info = tls.on(info).map_err(wrong)?;
                let client = Client::open(info.clone()).map_err(wrong)?;
                let by_resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let listening = Client::open(info.clone().set_redis_settings(by_resp3)).map_err(wrong)?;
                let config = config(Some(ANSWER_MAX));
                let manager = deadpool_redis::Manager::new_with_config(info, config).map_err(wrong)?;
                let timeouts = deadpool_redis::Timeouts {
                    wait: Some(ANSWER_MAX),
                    create: Some(CONNECT_MAX),
                    recycle: Some(ANSWER_MAX),
                };
                let pool = Pool::builder(manager)
                    .max_size(POOL_MAX)
                    .timeouts(timeouts)
                    .runtime(deadpool_redis::Runtime::Tokio1)
                    .build()
                    .map_err(|error| unavailable(error.to_string(), None, None))?;
                Servers::Single { client, shared: Slot::new(), pool, listening }
            }
            Target::Cluster(infos) => {
                let client = ClusterClient::builder(infos.clone())
                    .connection_timeout(CONNECT_MAX)
                    .response_timeout(ANSWER_MAX)
                    .retries(3)
                    .build()
                    .map_err(wrong)?;
                Servers::Cluster { client, shared: Slot::new() }
            }
        };
        Ok(Link { target, name, home: Handle::current() })
    }

    /// The server's name, without secrets.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a script on one key, by its hash if the server knows it.
    pub(crate) async fn run(
        &self,
        way: Way,
        script: &Script,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, QueueError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(1).arg(key);
        arguments(&mut command);
        let answer = match self.send(way, &command).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut command = redis::cmd("EVAL");
                command.arg(&script.source).arg(1).arg(key);
                arguments(&mut command);
                self.send(way, &command).await
            }
            answer => answer,
        };
        answer.map_err(|error| from_redis(error, &self.name))
    }

    /// Runs a script in one transaction with commands before it or one after it, on keys of the same slot. Answers
    /// what the script answered, and the command, if it came after.
    pub(crate) async fn run_with(
        &self,
        script: &Script,
        key: &str,
        around: &Around<'_>,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<(Value, Value), QueueError> {
        let answer = match self.transact(script, false, key, around, &arguments).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.transact(script, true, key, around, &arguments).await
            }
            answer => answer,
        };
        answer.map_err(|error| from_redis(error, &self.name))
    }

    async fn transact(
        &self,
        script: &Script,
        whole: bool,
        key: &str,
        around: &Around<'_>,
        arguments: &impl Fn(&mut Cmd),
    ) -> Result<(Value, Value), RedisError> {
        let mut pipeline = redis::Pipeline::with_capacity(2);
        pipeline.atomic();
        if let Around::Before(add) = around {
            add(&mut pipeline);
        }
        let before = pipeline.len();
        let mut command = if whole { redis::cmd("EVAL") } else { redis::cmd("EVALSHA") };
        command.arg(if whole { &script.source } else { &script.sha }).arg(1).arg(key);
        arguments(&mut command);
        pipeline.add_command(command);
        if let Around::After(command) = around {
            pipeline.add_command(Cmd::clone(command));
        }
        // Of the answers to MULTI, to each command and to EXEC, the last holds all.
        let mut answers = self.send_pipeline(&pipeline).await?;
        let Some(Value::Array(parts)) = answers.pop() else {
            return Err((ErrorKind::UnexpectedReturnType, "a transaction was not carried out").into());
        };
        let mut parts = parts.into_iter();
        for part in parts.by_ref().take(before) {
            unwrap_error(Ok(part))?;
        }
        let answer = unwrap_error(Ok(parts.next().unwrap_or(Value::Nil)))?;
        Ok((answer, parts.next().unwrap_or(Value::Nil)))
    }

    async fn connect(&self, client: &Client) -> Result<MultiplexedConnection, RedisError> {
        let make = || {
            let client = client.clone();
            async move { client.get_multiplexed_async_connection_with_config(&config(Some(ANSWER_MAX))).await }
        };
        self.at_home(make).await
    }

    async fn connect_cluster(&self, client: &ClusterClient) -> Result<ClusterConnection, RedisError> {
        let make = || {
            let client = client.clone();
            async move { client.get_async_connection().await }
        };
        self.at_home(make).await
    }

    /// What a connection does beside answering, it does in the runtime in which it was made.
    async fn at_home<C, F>(&self, make: impl Fn() -> F) -> Result<C, RedisError>
    where
        C: Send + 'static,
        F: Future<Output = Result<C, RedisError>> + Send + 'static,
    {
        match self.home.spawn(make()).await {
            Ok(made) => made,
            // That runtime has ended.
            Err(_) => make().await,
        }
    }

    async fn send_pipeline(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, RedisError> {
        let offset = pipeline.len() + 1;
        match &self.target {
            Servers::Single { client, shared, .. } => {
                let (number, mut connection) = shared.get(async || self.connect(client).await).await?;
                let answer = unwrap_errors(connection.send_packed_commands(pipeline, offset, 1).await);
                if let Err(error) = &answer
                    && is_over(error)
                {
                    shared.drop_failed(number).await;
                }
                answer
            }
            Servers::Cluster { client, shared } => {
                let (number, mut connection) =
                    shared.get(async || self.connect_cluster(client).await).await?;
                let answer = unwrap_errors(connection.req_packed_commands(pipeline, offset, 1).await);
                if let Err(error) = &answer
                    && (is_over(error) || error.kind() == ErrorKind::ClusterConnectionNotFound)
                {
                    shared.drop_failed(number).await;
                }
                answer
            }
        }
    }

    /// Sends a command that answers at once.
    pub(crate) async fn call(&self, way: Way, command: &Cmd) -> Result<Value, QueueError> {
        self.send(way, command).await.map_err(|error| from_redis(error, &self.name))
    }

    async fn send(&self, way: Way, command: &Cmd) -> Result<Value, RedisError> {
        match &self.target {
            Servers::Single { client, shared, pool, .. } => match way {
                Way::Shared => {
                    let (number, mut connection) = shared.get(async || self.connect(client).await).await?;
                    let answer = unwrap_error(connection.send_packed_command(command).await);
                    if let Err(error) = &answer
                        && is_over(error)
                    {
                        shared.drop_failed(number).await;
                    }
                    answer
                }
                Way::Pooled => {
                    let mut connection = pool.get().await.map_err(from_pool)?;
                    let answer = unwrap_error(connection.req_packed_command(command).await);
                    if let Err(error) = &answer
                        && is_over(error)
                    {
                        drop(deadpool_redis::Connection::take(connection));
                    }
                    answer
                }
            },
            Servers::Cluster { client, shared } => {
                let (number, mut connection) =
                    shared.get(async || self.connect_cluster(client).await).await?;
                let answer = unwrap_error(connection.req_packed_command(command).await);
                if let Err(error) = &answer
                    && (is_over(error) || error.kind() == ErrorKind::ClusterConnectionNotFound)
                {
                    shared.drop_failed(number).await;
                }
                answer
            }
        }
    }

    /// A connection for one who waits, whose commands may block for so long. It listens to the channel, if there is one
    /// and the server lets it; then it has the name that stands beside it.
    pub(crate) async fn waiter(
        &self,
        block_max: Duration,
        channel: Option<(&str, String)>,
    ) -> Result<Waiter, QueueError> {
        let made = match &self.target {
            Servers::Single { client, listening, .. } => {
                let listens = match channel {
                    Some((channel, name)) => {
                        self.listen(listening, channel).await?.map(|connection| (connection, name))
                    }
                    None => None,
                };
                match listens {
                    Some((made, name)) => Ok(Waiter { connection: Waits::Single(made), listens: Some(name) }),
                    None => {
                        // Whoever waits looks at the time; the connection itself must not end what is meant to last.
                        let made = client.get_multiplexed_async_connection_with_config(&config(None)).await;
                        made.map(|made| Waiter { connection: Waits::Single(made), listens: None })
                    }
                }
            }
            Servers::Cluster { client, .. } => {
                let config = redis::cluster::ClusterConfig::new()
                    .set_connection_timeout(CONNECT_MAX)
                    .set_response_timeout(block_max + ANSWER_MAX);
                let made = client.get_async_connection_with_config(config).await;
                made.map(|made| Waiter { connection: Waits::Cluster(made), listens: None })
            }
        };
        made.map_err(|error| from_redis(error, &self.name))
    }

    /// A connection that listens to a channel. `None`: the server knows no such thing, or does not let us.
    async fn listen(
        &self,
        client: &Client,
        channel: &str,
    ) -> Result<Option<MultiplexedConnection>, QueueError> {
        let made = async {
            let mut made = client.get_multiplexed_async_connection_with_config(&config(None)).await?;
            made.subscribe(channel).await?;
            Ok(made)
        };
        match tokio::time::timeout(ANSWER_MAX, made).await {
            Ok(Ok(made)) => Ok(Some(made)),
            Ok(Err(error)) if is_over(&error) => Err(from_redis(error, &self.name)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the server hands no events over to those who wait");
                Ok(None)
            }
            Err(_) => Err(self.is_silent()),
        }
    }

    /// Has the next command take another connection than the shared one, which does not answer: something in between may
    /// have lost it. Whoever waits for an answer on it goes on waiting.
    pub(crate) async fn leave_shared(&self) -> QueueError {
        match &self.target {
            Servers::Single { shared, .. } => shared.leave().await,
            Servers::Cluster { shared, .. } => shared.leave().await,
        }
        self.is_silent()
    }

    /// What is said of a server that does not answer.
    pub(crate) fn is_silent(&self) -> QueueError {
        unavailable(format!("Redis at {} does not answer in time", self.name), None, None)
    }

    /// Sends a command on a connection for one who waits.
    pub(crate) async fn wait(
        &self,
        waiter: &mut Waiter,
        command: &Cmd,
        block: Duration,
    ) -> Result<Value, QueueError> {
        let answer = async {
            match &mut waiter.connection {
                Waits::Single(connection) => connection.send_packed_command(command).await,
                Waits::Cluster(connection) => connection.req_packed_command(command).await,
            }
        };
        self.in_time(block, async { unwrap_error(answer.await) }).await
    }

    /// The same with several commands, which go to one server and are answered one by one.
    pub(crate) async fn wait_for_all(
        &self,
        waiter: &mut Waiter,
        commands: &redis::Pipeline,
        block: Duration,
    ) -> Result<Vec<Value>, QueueError> {
        let answers = async {
            match &mut waiter.connection {
                Waits::Single(connection) => {
                    connection.send_packed_commands(commands, 0, commands.len()).await
                }
                Waits::Cluster(connection) => {
                    connection.req_packed_commands(commands, 0, commands.len()).await
                }
            }
        };
        self.in_time(block, async { unwrap_errors(answers.await) }).await
    }

    async fn in_time<T>(
        &self,
        block: Duration,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, QueueError> {
        match tokio::time::timeout(block + ANSWER_MAX, answer).await {
            Ok(answer) => answer.map_err(|error| from_redis(error, &self.name)),
            Err(_) => Err(self.is_silent()),
        }
    }
}

/// What is carried out together with a script.
pub(crate) enum Around<'a> {
    /// Adds them; they are large, and copied no more often than need be.
    Before(&'a (dyn Fn(&mut redis::Pipeline) + Sync)),
    After(&'a Cmd),
}

/// A connection for one who waits.
pub(crate) struct Waiter {
    connection: Waits,
    /// By which name it listens.
    pub(crate) listens: Option<String>,
}

enum Waits {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

fn config(answer_max: Option<Duration>) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_MAX)).set_response_timeout(answer_max)
}

/// Some answers of the library carry the server's error inside.
fn unwrap_error(answer: Result<Value, RedisError>) -> Result<Value, RedisError> {
    match answer {
        Ok(Value::ServerError(error)) => Err(error.into()),
        answer => answer,
    }
}

fn unwrap_errors(answers: Result<Vec<Value>, RedisError>) -> Result<Vec<Value>, RedisError> {
    match answers {
        Ok(answers) => answers.into_iter().map(|answer| unwrap_error(Ok(answer))).collect(),
        // A transaction that was refused says by itself not why; the first command that was refused does.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort) => {
            let causes = error.clone().into_server_errors();
            let first = causes.and_then(|causes| causes.first().map(|(_, cause)| cause.clone()));
            Err(first.map_or(error, RedisError::from))
        }
        Err(error) => Err(error),
    }
}

/// Whether the connection is of no use any more. A replica that was a primary is left, too: its name may lead to the
/// new primary.
fn is_over(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn from_pool(error: deadpool_redis::PoolError) -> RedisError {
    match error {
        deadpool_redis::PoolError::Backend(error) => error,
        other => std::io::Error::new(std::io::ErrorKind::TimedOut, other.to_string()).into(),
    }
}
