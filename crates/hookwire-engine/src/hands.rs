//! The hands of a lane: tasks that take one piece of work after the other.
//!
//! A task for each event would be made, moved about and taken apart for each; hands stay, and their memory stays warm.
//! There are as many as have had work at one time.
//!
//! Invariants:
//! - A hand has one piece of work at a time, and tells what came of it before it is given the next.
//! - The hand that came free last is given work first.
//! - Dropping [`Hands`] ends all of them, wherever they are.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

/// All hands of a lane. `J` is a piece of work, `D` what came of one.
pub(crate) struct Hands<J, D> {
    tasks: JoinSet<()>,
    /// Those without work.
    idle: Vec<Arc<Slot<J>>>,
    busy: usize,
    desk: Arc<Desk<J, D>>,
}

/// Where work is put for one hand.
struct Slot<J> {
    // Held to put or take, never across an await.
    work: Mutex<Option<J>>,
    given: Notify,
}

/// Where hands put what came of their work.
struct Desk<J, D> {
    // Held to put or take, never across an await.
    done: Mutex<Vec<(Arc<Slot<J>>, D)>>,
    /// Told when something lies there where nothing did.
    put: Notify,
}

/// What a hand works from.
pub(crate) struct Seat<J, D> {
    slot: Arc<Slot<J>>,
    desk: Arc<Desk<J, D>>,
}

impl<J: Send + 'static, D: Send + 'static> Hands<J, D> {
    pub(crate) fn new() -> Self {
        let desk = Desk { done: Mutex::new(Vec::new()), put: Notify::new() };
        Hands { tasks: JoinSet::new(), idle: Vec::new(), busy: 0, desk: Arc::new(desk) }
    }

    /// How many have work.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Gives a piece of work to a hand without any; if there is none, to a new one, which `hand` makes.
    pub(crate) fn give<F>(&mut self, work: J, hand: impl FnOnce(Seat<J, D>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.busy += 1;
        match self.idle.pop() {
            Some(slot) => {
                *lock(&slot.work) = Some(work);
                slot.given.notify_one();
            }
            None => {
                let slot = Arc::new(Slot { work: Mutex::new(Some(work)), given: Notify::new() });
                // Boxed, because spawning moves what it is given about ten times, and this has kilobytes.
                self.tasks.spawn(Box::pin(hand(Seat { slot, desk: Arc::clone(&self.desk) })));
            }
        }
    }

    /// Waits until something was done, and gives all of it, in the order in which it was.
    ///
    /// Cancel safety: nothing is taken before this is ready.
    ///
    /// # Errors
    /// That of a hand that broke, which is a fault in hookwire: they catch the panics of their work.
    pub(crate) async fn done(&mut self) -> Result<Vec<D>, JoinError> {
        loop {
            let done = std::mem::take(&mut *lock(&self.desk.done));
            if !done.is_empty() {
                self.busy -= done.len();
                let (idle, done): (Vec<_>, Vec<_>) = done.into_iter().unzip();
                self.idle.extend(idle);
                return Ok(done);
            }
            tokio::select! {
                biased;
                () = self.desk.put.notified() => {}
                Some(ended) = self.tasks.join_next() => match ended {
                    Err(error) if error.is_cancelled() => {}
                    ended => ended?,
                },
            }
            if self.tasks.is_empty() {
                // The last of them may have put something down before it was ended.
                let left = std::mem::take(&mut *lock(&self.desk.done));
                self.idle.clear();
                self.busy = 0;
                return Ok(left.into_iter().map(|(_, done)| done).collect());
            }
        }
    }

    /// Ends all hands, wherever they are. [`done`](Self::done) tells when they have.
    pub(crate) fn cut_off(&mut self) {
        self.tasks.abort_all();
    }
}

impl<J, D> Seat<J, D> {
    /// Waits for the next piece of work.
    pub(crate) async fn work(&self) -> J {
        loop {
            if let Some(work) = lock(&self.slot.work).take() {
                return work;
            }
            self.slot.given.notified().await;
        }
    }

    /// Tells what came of it.
    pub(crate) fn put(&self, done: D) {
        let mut all = lock(&self.desk.done);
        all.push((Arc::clone(&self.slot), done));
        if all.len() == 1 {
            drop(all);
            self.desk.put.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whatever is in it was put or taken as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Doubles numbers, and counts itself.
    async fn double(made: Arc<AtomicUsize>, seat: Seat<u32, u32>) {
        made.fetch_add(1, Ordering::Relaxed);
        loop {
            let number = seat.work().await;
            seat.put(2 * number);
        }
    }

    #[tokio::test]
    async fn hands_take_one_piece_of_work_after_the_other() {
        let made = Arc::new(AtomicUsize::new(0));
        let mut hands = Hands::new();
        for round in 0..10 {
            for number in 0..4 {
                hands.give(4 * round + number, |seat| double(Arc::clone(&made), seat));
            }
            let mut done = Vec::new();
            while hands.busy() > 0 {
                done.extend(hands.done().await.unwrap());
            }
            done.sort_unstable();
            assert_eq!(done, (0..4).map(|number| 2 * (4 * round + number)).collect::<Vec<_>>());
        }
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn those_that_are_cut_off_end() {
        let mut hands = Hands::<(), ()>::new();
        for _ in 0..3 {
            hands.give((), |seat| async move {
                seat.work().await;
                std::future::pending::<()>().await;
            });
        }
        assert_eq!(hands.busy(), 3);
        hands.cut_off();
        assert_eq!(hands.done().await.unwrap(), []);
        assert_eq!(hands.busy(), 0);
    }

    #[tokio::test]
    async fn a_hand_that_breaks_is_told() {
        let mut hands = Hands::<(), ()>::new();
        hands.give((), |_| async { panic!("broken") });
        assert!(hands.done().await.unwrap_err().is_panic());
    }
}
