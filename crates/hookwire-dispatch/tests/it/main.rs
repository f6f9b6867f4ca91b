//! Attempts against scripted servers. Nothing here sends a packet beyond loopback: most servers are at the other end of
//! a pipe in memory, whatever address was dialled.

mod support;

mod answers;
mod deadline;
mod egress;
mod pool;
mod redirects;
mod tls;
mod wire;
