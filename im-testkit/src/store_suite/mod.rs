//! The store suite: the cases that every store has to pass.
//!
//! Cases are plain generic functions; [`store_suite!`](crate::store_suite!) makes a test of each.
//!
//! A store's own crate, also one outside this workspace, implements how to open the store:
//!
//! ```
//! use std::sync::Arc;
//! use im_testkit::store_suite::{Store, StoreFactory, async_trait};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl StoreFactory for Memory {
//!     async fn open(&self) -> Arc<dyn Store> {
//!         Arc::new(im_core::memory::MemoryStore::new())
//!     }
//!     async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
//!         None
//!     }
//! }
//!
//! im_testkit::store_suite!(Memory);
//! ```
//!
//! `docs/redb-store/tests` in the repository has a complete one for a store on a disk, with kills,
//! power cuts and errors; `docs/store.md` explains it.
//!
//! | module | subject |
//! |---|---|
//! | `log` | dense order, batches, concurrency |
//! | `dedup` | duplicates and conflicts |
//! | `authority` | which user may append |
//! | `members` | creating rooms, and membership |
//! | `paging` | reading logs from any position in both directions |
//! | `directory` | records and lists of rooms and members |
//! | `sessions` | session records and checkpoints |
//! | `state` | keyed state: the newest version wins |
//! | `contents` | user data is returned byte for byte |
//! | `keep` | trimming logs |
//! | `removal` | deleting rooms |
//! | `erase` | erasing users |
//! | `import` | importing rooms |
//! | `lifecycle` | closing and reopening |
//! | `model` | random operations against a model |
//! | `turns` | not part of the suite: lookups overtake pages in stores that read a few pages at a time |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests: they fail by panicking, and their names say what they ask"
)]

use std::future::Future;
use std::sync::Arc;

pub use async_trait::async_trait;
pub use im_core::ports::Store;

mod fixture;

pub mod authority;
pub mod contents;
pub mod dedup;
pub mod directory;
pub mod erase;
pub mod import;
pub mod keep;
pub mod lifecycle;
pub mod log;
pub mod members;
pub mod model;
pub mod paging;
pub mod removal;
pub mod sessions;
pub mod state;
pub mod turns;

/// Opens the store under test. The suite makes one factory for each case.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// Opens an empty store that shares nothing with those opened before.
    async fn open(&self) -> Arc<dyn Store>;

    /// Reopens the store that the latest [`StoreFactory::open`] of this factory returned. The suite
    /// has closed it and holds no other reference: drop `closed` before opening. Returns `None` if
    /// the store is volatile.
    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>>;
}

/// Runs one case on a runtime of its own, with two threads, so that concurrent calls also run in
/// parallel.
///
/// # Panics
///
/// If the case fails.
pub fn run(case: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(case);
}

/// Makes one `#[test]` of each case of the suite.
///
/// Takes an expression that makes a [`StoreFactory`](crate::store_suite::StoreFactory); it is
/// evaluated once for each case. `docs/store.md` in the repository builds a store and tests it with
/// this macro.
#[macro_export]
macro_rules! store_suite {
    ($factory:expr) => {
        $crate::suite_tests! { store_suite, $factory;
            log:
                an_empty_batch_has_no_answers,
                seqs_are_dense_and_readable,
                appends_in_a_batch_are_independent,
                append_sees_earlier_appends_in_batch,
                long_batch_keeps_order_per_room,
                concurrent_batches_stay_dense_and_ordered,
                dropped_append_keeps_log_whole,
                rooms_share_generation_not_incarnation;
            dedup:
                duplicate_gets_first_seq_and_time,
                id_with_other_content_is_conflict,
                ids_are_scoped_by_sender_room,
                send_without_id_is_never_duplicate,
                duplicate_precedes_membership_check,
                concurrent_duplicates_commit_once,
                duplicate_within_batch_is_recognised,
                duplicate_first_direct_send_is_recognised,
                refused_send_frees_its_id,
                unsent_id_has_no_record,
                duplicates_are_recognised_after_reopen;
            authority:
                append_without_room_is_refused,
                strangers_may_not_send,
                read_only_members_may_not_send,
                the_banned_may_not_send,
                former_members_may_not_send,
                channel_readers_may_not_send,
                inbox_accepts_service_appends_only,
                direct_room_is_limited_to_two,
                the_service_may_send_anywhere,
                last_owner_names_another_before_leaving,
                owner_leaves_among_many_members,
                owner_creates_again_as_wished,
                roles_decide_who_changes_members,
                strangers_change_nothing,
                a_refusal_writes_nothing;
            members:
                room_starts_with_first_event,
                a_room_is_made_once,
                concurrent_creates_make_one_room,
                join_and_leave_are_idempotent_events,
                joining_assigns_role_of_kind,
                role_change_adds_no_member,
                removing_is_idempotent,
                banned_user_stays_out_until_unbanned,
                room_refuses_members_over_maximum,
                concurrent_joins_stop_at_the_maximum,
                first_send_creates_direct_room,
                refused_first_send_creates_nothing,
                concurrent_first_sends_share_one_room,
                seed_leaves_existing_room_unchanged;
            paging:
                pages_run_forwards_from_every_position,
                pages_run_backwards_from_every_position,
                byte_limit_leaves_one_event,
                missing_room_has_no_page,
                heads_come_in_the_order_asked,
                pages_are_whole_while_others_write;
            directory:
                missing_rooms_have_no_record,
                members_page_without_banned,
                rooms_of_user_page_in_order,
                directory_reflects_every_change,
                ids_sharing_prefixes_stay_separate,
                all_rooms_page_in_byte_order,
                memberships_page_in_byte_order;
            sessions:
                a_session_is_kept,
                attaching_counts_and_moves_the_expiry,
                touched_session_expires_later,
                sessions_are_listed_oldest_first,
                ended_session_never_returns,
                ending_listed_sessions_reaches_all,
                heads_show_fencing_token_and_revision,
                a_checkpoint_changes_step_by_step,
                thousand_room_checkpoint_is_stored,
                concurrent_checkpoint_changes_all_count,
                ticket_ends_with_its_session,
                expired_sessions_are_swept_in_steps;
            state:
                greatest_stamp_wins_in_any_order,
                an_equal_stamp_is_discarded,
                removed_key_is_tombstone,
                the_revision_counts_changes_alone,
                state_needs_a_room,
                rooms_and_keys_are_apart,
                concurrent_merges_keep_the_newest,
                purged_tombstones_block_older_updates,
                purged_tombstones_count_after_reopen,
                clean_end_keeps_generation,
                missing_end_changes_generation;
            contents:
                user_texts_round_trip,
                largest_content_round_trips,
                every_value_kind_round_trips,
                the_longest_ids_are_kept,
                room_may_start_with_thousand_members;
            keep:
                trim_removes_only_oldest_events,
                each_bound_of_a_trim_counts,
                trim_stops_at_limit_and_continues,
                trim_may_empty_the_log,
                duplicates_are_recognised_after_trim,
                a_trim_of_nothing_changes_nothing,
                bytes_count_retained_events,
                large_contents_are_trimmed_like_others,
                concurrent_trims_leave_no_gap,
                trimmed_events_stay_removed_after_reopen;
            removal:
                deleted_room_is_gone_everywhere,
                recreated_room_shares_nothing,
                deleting_missing_room_changes_nothing,
                sends_during_deletion_commit_or_fail,
                deleted_room_stays_deleted_after_reopen;
            erase:
                erased_events_keep_their_seq,
                erasure_spares_others_in_change,
                erased_user_leaves_every_room,
                erasure_removes_sessions_and_tickets,
                erasure_removes_state_of_user,
                erasure_proceeds_under_sends_and_trims,
                erasure_resumes_after_reopen,
                erasing_unknown_user_changes_nothing,
                erased_user_id_is_reserved;
            import:
                imported_room_equals_original,
                log_ends_before_last_seq,
                unfinished_import_is_invisible,
                import_refuses_existing_room,
                inconsistent_import_batch_is_refused,
                restarted_or_dropped_import_leaves_nothing,
                purge_spares_running_import,
                an_import_outlasts_a_reopen,
                erasure_reaches_imported_rooms;
            lifecycle:
                a_closed_store_refuses_everything,
                closing_twice_is_fine,
                closing_keeps_committed_events,
                everything_is_there_after_a_reopen,
                epochs_go_on_after_a_reopen,
                unended_state_changes_generation_after_reopen,
                new_store_has_new_generation;
            model:
                random_operations_agree_with_the_model;
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that is missing in the macro would never run.
    #[test]
    fn every_case_is_in_the_macro() {
        let map = include_str!("mod.rs");
        let modules = [
            include_str!("contents.rs"),
            include_str!("dedup.rs"),
            include_str!("directory.rs"),
            include_str!("authority.rs"),
            include_str!("erase.rs"),
            include_str!("import.rs"),
            include_str!("keep.rs"),
            include_str!("removal.rs"),
            include_str!("lifecycle.rs"),
            include_str!("log.rs"),
            include_str!("members.rs"),
            include_str!("model.rs"),
            include_str!("paging.rs"),
            include_str!("sessions.rs"),
            include_str!("state.rs"),
        ];
        let names = crate::suite::names_of(&modules);
        assert!(names.len() > 115, "{} cases", names.len());
        crate::suite::assert_listed(map, &names);
    }
}
