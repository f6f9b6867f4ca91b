//! Rules and webhooks, compiled into one immutable snapshot; errors by path.
