//! The suite that every backend must pass: one test per sentence of the contract, and a comparison with the memory
//! backend over random calls.
//!
//! A backend implements [`TestStore`] and calls [`conformance!`](crate::conformance!) in a test file of its own:
//!
//! ```text
//! hookwire_queue::conformance!(MyTestStore::new());
//! ```
//!
//! Invariants:
//! - The name of each test begins with the number of the sentence it is about.
//! - Nothing here sleeps: the backend's clock is moved by [`TestStore::advance`].

mod cases;
mod model;

use std::future::Future;
use std::time::Duration;

use crate::backend::ManualClock;
use crate::{Inspect, Queue, StoreLimits};

pub use cases::*;
pub use model::model_random_calls_give_the_same_as_the_memory_backend;

/// A backend under test.
pub trait TestStore: Send + Sync + 'static {
    /// The handle.
    type Queue: Queue + Inspect;

    /// An empty store with these limits.
    fn open(&self, limits: StoreLimits) -> impl Future<Output = Self::Queue> + Send;

    /// Lets the store's clock go on.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;

    /// The store's clock, if a test can own it; else times are left out of comparisons.
    fn clock(&self) -> Option<ManualClock>;

    /// Ends the process that owns the store, as far as the store can tell, and opens it again; `None` if nothing
    /// outlives the process.
    fn reopen(
        &self,
        queue: Self::Queue,
        limits: StoreLimits,
    ) -> impl Future<Output = Option<Self::Queue>> + Send;

    /// Does now what the store otherwise does in idle moments.
    fn tidy(&self, queue: &Self::Queue) -> impl Future<Output = ()> + Send;
}

/// The memory backend under test.
#[derive(Debug, Clone)]
pub struct MemoryTestStore {
    clock: ManualClock,
}

impl MemoryTestStore {
    /// On a clock of its own.
    pub fn new() -> Self {
        MemoryTestStore { clock: ManualClock::new(hookwire_model::Timestamp::from_secs(1_800_000_000)) }
    }
}

impl Default for MemoryTestStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TestStore for MemoryTestStore {
    type Queue = crate::MemoryQueue;

    async fn open(&self, limits: StoreLimits) -> Self::Queue {
        crate::MemoryQueue::with_clock(limits, self.clock.store_clock())
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn clock(&self) -> Option<ManualClock> {
        Some(self.clock.clone())
    }

    async fn reopen(&self, _: Self::Queue, _: StoreLimits) -> Option<Self::Queue> {
        None
    }

    async fn tidy(&self, _: &Self::Queue) {}
}

/// Runs one case on a runtime of its own.
pub fn run<S: TestStore, F: Future<Output = ()>>(store: S, case: impl FnOnce(S) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime needs little but memory").block_on(case(store));
}

/// Makes one test of each case of the suite, for the backend that the expression makes.
#[macro_export]
macro_rules! conformance {
    ($store:expr) => {
        $crate::conformance!(@each $store;
            p1_what_was_published_survives_the_process,
            p2_a_batch_is_taken_whole_or_refused_whole,
            p3_sequence_numbers_grow,
            p4_a_known_id_is_a_duplicate_and_changes_nothing,
            p4_the_same_id_twice_in_a_batch_is_one_event,
            p4_beyond_the_window_of_time_it_is_a_new_event,
            p4_beyond_the_window_of_count_it_is_a_new_event,
            p4_ids_are_remembered_longer_than_the_history,
            p5_beyond_the_limit_publishing_is_refused,
            e1_events_are_leased_in_order_each_to_one_worker,
            e2_an_event_whose_lease_ran_out_can_be_leased_again,
            e3_suspects_come_as_many_as_asked_for_besides_the_others,
            e4_lost_leases_are_counted_beyond_the_process,
            e5_a_suspect_tells_what_is_on_record,
            e6_extending_makes_leases_last_and_revives_none,
            s1_an_event_is_settled_as_a_whole,
            s1_one_bad_settlement_does_not_spoil_the_others,
            s2_a_settlement_can_be_repeated_and_answers_the_same,
            s2_fanning_out_twice_makes_one_delivery,
            s3_a_late_settlement_changes_nothing_and_is_told,
            s3_a_late_delivered_is_believed,
            s4_what_is_finished_stays_so,
            s5_a_delivery_is_stored_waiting_or_running,
            s6_a_released_event_can_be_leased_at_once_and_lost_nothing,
            s7_a_dead_event_is_a_dead_letter_and_can_be_put_back,
            s8_each_attempt_is_on_record_once,
            d1_a_delivery_is_leased_when_due_and_to_one_worker,
            d2_no_more_are_leased_than_there_is_room_for,
            d2_a_held_endpoint_is_left_out_until_its_time,
            d3_turns_between_endpoints_are_fair,
            d3_within_an_endpoint_the_earliest_due_goes_first,
            d4_a_lost_lease_is_an_interrupted_attempt,
            d4_whoever_ends_an_attempt_leaves_it_interrupted_at_once,
            d4_none_is_leased_after_the_process_without_being_counted,
            d5_the_next_due_time_is_told,
            d6_a_delivery_brings_the_payload,
            o1_only_the_first_of_an_order_goes,
            o1_what_is_sent_again_does_not_go_beside_a_later_one,
            o1_what_waited_beside_a_later_one_goes_after_the_process,
            o2_an_order_waits_for_earlier_events,
            o3_block_keeps_the_others_waiting,
            o3_skip_lets_the_others_go_on,
            o3_supersede_leaves_only_the_newest,
            o4_a_dead_first_one_keeps_blocking_until_a_person_acts,
            b1_a_backlog_is_what_waits_for_an_endpoint,
            b1_backlogs_outlive_the_process,
            b2_beyond_the_limit_new_deliveries_are_dead_letters,
            b2_a_repeated_settlement_tells_again_what_found_no_room,
            b3_what_has_waited_for_too_long_is_given_up,
            b3_giving_up_goes_on_where_it_ended,
            n1_endpoint_state_is_written_only_over_what_was_read,
            n1_what_is_removed_does_not_come_again_by_its_version,
            n1_endpoint_state_outlives_the_process,
            n2_a_hold_outlives_the_worker_and_the_process,
            i1_lists_are_newest_first_in_pages,
            i1_a_cursor_goes_on_whatever_happens_in_between,
            i2_acting_by_filter_misses_none_and_repeats_none,
            i2_a_dry_run_counts_the_same_and_changes_nothing,
            i3_retry_cancel_redrive_purge,
            i4_what_a_worker_holds_is_not_changed,
            i5_scan_and_restore_move_everything_pending,
            i5_an_id_that_was_used_again_is_another_event,
            i5_an_event_that_was_restored_as_a_dead_letter_can_be_put_back,
            i5_what_was_redriven_begins_anew_where_it_comes_to,
            i6_finished_deliveries_go_by_age,
            i6_finished_deliveries_go_by_bytes_and_pending_ones_never,
            stats_count_what_is_there,
            wait_returns_when_something_came,
            model_random_calls_give_the_same_as_the_memory_backend,
        );
    };
    (@each $store:expr; $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run($store, $crate::conformance::$case);
            }
        )+
    };
}
