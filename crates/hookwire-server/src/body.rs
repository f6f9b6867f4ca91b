//! Reading the body of a request: whole, within limits of bytes and time.
//!
//! Invariants:
//! - A body counts against the bytes that all requests together may hold, from its first byte until it is dropped; so
//!   that many clients with large bodies cannot take the memory.
//! - A refused client is read a little further before it is answered, since one that is still sending would see its
//!   connection reset instead of the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem::Problem;

/// How long a refused client is read further. What takes longer than that gets no answer.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);
/// How many bytes of a refused body are thrown away at most.
const DISCARD_BYTES_MAX: usize = 64 << 20;
/// How many bytes are set aside for a body because it says that it has them, before they are there and counted.
const TRUSTED_BYTES_MAX: usize = 256 << 10;
/// When a client that found no room should come back: the requests under way are done by then.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Room for the bodies that all requests hold together.
#[derive(Debug, Clone)]
pub(crate) struct BodyRoom {
    bytes: Arc<Semaphore>,
    deadline: Duration,
}

/// A body that was read, with the room it takes.
#[derive(Debug)]
pub(crate) struct HeldBody {
    bytes: Vec<u8>,
    /// Given back when the body is dropped.
    _room: OwnedSemaphorePermit,
}

impl HeldBody {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body as text.
    pub(crate) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            Problem::bad_body("", format!("the body is not UTF-8 from byte {}", error.valid_up_to()))
        })
    }
}

impl BodyRoom {
    /// Room for so many bytes; a body has until the deadline to come in.
    pub(crate) fn new(bytes_max: usize, deadline: Duration) -> Self {
        BodyRoom { bytes: Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))), deadline }
    }

    /// Reads a body of at most so many bytes.
    ///
    /// # Errors
    /// 413 if there is more, 429 if there is no room for it now, 408 if it takes too long, 400 if it breaks off.
    ///
    /// Cancel safety: what was read is gone, and its room is free again.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<HeldBody, Problem> {
        let declared: Option<usize> =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let read = match declared {
            Some(declared) if declared > bytes_max => Err(too_large(bytes_max)),
            _ => self.read_frames(&mut body, declared.unwrap_or(0), bytes_max).await,
        };
        // A client that asks first (`Expect: 100-continue`) has not begun, and need not.
        let waits =
            declared.is_some_and(|declared| declared > bytes_max) && headers.contains_key(header::EXPECT);
        if read.is_err() && !waits {
            let _ = timeout(DISCARD_TIME_MAX, discard(body)).await;
        }
        read
    }

    async fn read_frames(
        &self,
        body: &mut Body,
        declared: usize,
        bytes_max: usize,
    ) -> Result<HeldBody, Problem> {
        let deadline = Instant::now() + self.deadline;
        let none = Arc::clone(&self.bytes).try_acquire_many_owned(0);
        let bytes = Vec::with_capacity(declared.min(TRUSTED_BYTES_MAX));
        let mut held = HeldBody { bytes, _room: none.map_err(|_| no_room())? };
        loop {
            let frame = timeout_at(deadline, body.frame()).await.map_err(|_| self.too_slow())?;
            let Some(frame) = frame else { return Ok(held) };
            let frame = frame.map_err(|error| {
                let detail = format!("the body broke off after {} bytes: {error}", held.bytes.len());
                Problem::bad_request(detail)
            })?;
            // Trailers say nothing that is asked for here.
            let Ok(data) = frame.into_data() else { continue };
            if held.bytes.len() + data.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            self.hold(&mut held, &data)?;
        }
    }

    fn hold(&self, held: &mut HeldBody, data: &Bytes) -> Result<(), Problem> {
        let permits = u32::try_from(data.len()).map_err(|_| no_room())?;
        let more = Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| no_room())?;
        held._room.merge(more);
        held.bytes.extend_from_slice(data);
        Ok(())
    }

    fn too_slow(&self) -> Problem {
        let detail =
            format!("the body did not come in within {} s; send smaller batches", self.deadline.as_secs());
        // What is still to come would be taken for the next request.
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too slow", detail)
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > DISCARD_BYTES_MAX {
            return;
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::too_large(format!("this request may have {bytes_max} bytes; send smaller batches"))
}

fn no_room() -> Problem {
    let detail = "other requests fill the memory that is set aside for bodies; try again, with fewer requests at a \
                  time or smaller batches";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests at a time", detail).retry_after(ROOM_WAIT)
}
