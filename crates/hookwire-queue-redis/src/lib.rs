//! The queue of hookwire on Redis: Streams, sorted sets, and one script for each atomic step.
