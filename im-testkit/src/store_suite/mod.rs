//! What every store must do, as plain generic functions, and [`store_suite!`](crate::store_suite!) that makes a test of
//! each.
//!
//! A store's own crate, also one outside this workspace, says how to open it and gets the tests:
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
//! `docs/redb-store/tests` in the repository has a complete one for a store on a disk, with kills, power cuts and errors
//! beside it; `docs/store.md` goes through it.
//!
//! | module | what is asked |
//! |---|---|
//! | `log` | dense order, batches, concurrency |
//! | `dedup` | repeats and conflicts |
//! | `authority` | who may |
//! | `members` | making rooms, and who is in them |
//! | `paging` | reading logs from everywhere in both directions |
//! | `directory` | reading rooms and members |
//! | `sessions` | session records and checkpoints |
//! | `state` | latest-wins state |
//! | `contents` | what people write comes back as it was |
//! | `keep` | trimming logs |
//! | `removal` | deleting rooms |
//! | `erase` | erasing users |
//! | `import` | putting rooms in |
//! | `lifecycle` | closing and opening again |
//! | `model` | random operations against a model |
//! | `turns` | no part of the suite: that look-ups pass pages, where a store reads pages a few at a time |
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

/// How to open the store that is to be tested. The suite makes one factory for each case.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// Opens an empty store that shares nothing with those opened before.
    async fn open(&self) -> Arc<dyn Store>;

    /// Opens again what the latest [`StoreFactory::open`] of this factory gave. The suite has closed it, and holds no
    /// other reference: drop `closed` before opening. `None` if the store says that it is volatile.
    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>>;
}

/// Runs one case on a runtime of its own, with two threads, so that what is concurrent is also parallel.
///
/// # Panics
///
/// If the case fails.
pub fn run(case: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(case);
}

/// Makes one `#[test]` of each case of the suite. Takes an expression that makes a
/// [`StoreFactory`](crate::store_suite::StoreFactory); it is evaluated once for each case. `docs/store.md` in the repository
/// makes a store and tests it so.
#[macro_export]
macro_rules! store_suite {
    ($factory:expr) => {
        $crate::store_suite! { @cases $factory;
            log:
                an_empty_batch_has_no_answers,
                seqs_are_dense_from_one_and_what_was_committed_is_read,
                appends_in_a_batch_are_independent,
                an_append_sees_those_before_it_in_its_batch,
                a_long_batch_over_many_rooms_keeps_the_order_of_each,
                concurrent_batches_stay_dense_and_in_their_order,
                a_dropped_append_leaves_the_log_whole,
                rooms_of_one_store_share_its_generation_and_no_incarnation;
            dedup:
                a_repeat_gets_the_first_seq_and_time,
                other_content_under_the_same_id_is_a_conflict,
                another_sender_or_room_may_use_the_same_id,
                without_an_id_every_send_is_new,
                a_repeat_comes_before_membership,
                concurrent_repeats_are_committed_once,
                a_repeat_within_a_batch_is_recognised,
                a_repeated_first_send_of_a_direct_room_is_recognised,
                a_refused_send_leaves_its_id_free,
                what_was_never_sent_is_unknown,
                repeats_are_recognised_after_a_reopen;
            authority:
                there_is_nothing_to_send_to_without_a_room,
                strangers_may_not_send,
                readers_may_not_send,
                the_banned_may_not_send,
                who_left_may_not_send,
                a_channel_is_for_its_members_with_a_voice,
                an_inbox_takes_from_the_service_alone,
                a_direct_room_is_for_its_two,
                the_service_may_send_anywhere,
                last_owner_names_another_before_leaving,
                owner_leaves_among_many_members,
                owner_creates_again_as_wished,
                roles_decide_who_changes_members,
                strangers_change_nothing,
                a_refusal_writes_nothing;
            members:
                a_room_is_made_with_its_first_event,
                a_room_is_made_once,
                concurrent_makers_make_one_room,
                joining_and_leaving_are_events_and_idempotent,
                who_joins_gets_the_role_of_the_kind,
                a_role_changes_without_a_new_member,
                removing_is_idempotent,
                a_ban_keeps_out_until_it_is_lifted,
                a_room_takes_no_more_than_its_maximum,
                concurrent_joins_stop_at_the_maximum,
                the_first_send_makes_a_direct_room,
                a_first_send_that_is_refused_makes_nothing,
                concurrent_first_sends_meet_in_one_room,
                a_seed_does_nothing_to_a_room_that_exists;
            paging:
                pages_run_forwards_from_every_position,
                pages_run_backwards_from_every_position,
                a_page_ends_at_its_bytes_but_has_one_event,
                a_room_that_does_not_exist_has_no_page,
                heads_come_in_the_order_asked,
                pages_are_whole_while_others_write;
            directory:
                what_does_not_exist_has_no_record,
                members_page_in_byte_order_without_the_banned,
                the_rooms_of_a_user_page_in_byte_order,
                the_directory_follows_every_change,
                ids_that_share_beginnings_do_not_mix,
                all_rooms_page_in_byte_order,
                memberships_page_in_byte_order;
            sessions:
                a_session_is_kept,
                attaching_counts_and_moves_the_expiry,
                a_touched_session_lives_longer,
                the_sessions_of_a_user_come_oldest_first,
                an_ended_session_is_gone_for_good,
                ending_what_is_listed_reaches_every_session,
                heads_tell_what_may_have_changed,
                a_checkpoint_changes_step_by_step,
                a_checkpoint_of_a_thousand_rooms_is_kept,
                concurrent_changes_of_a_checkpoint_all_count,
                a_ticket_lives_and_ends_with_its_session,
                expired_sessions_are_swept_in_steps;
            state:
                the_greatest_stamp_wins_in_any_order,
                an_equal_stamp_is_discarded,
                an_unset_key_is_a_tombstone,
                the_revision_counts_changes_alone,
                state_needs_a_room,
                rooms_and_keys_are_apart,
                concurrent_merges_keep_the_newest,
                forgotten_tombstones_still_keep_older_updates_out,
                forgotten_tombstones_count_after_a_reopen,
                a_proper_end_keeps_the_generation,
                a_missing_end_changes_the_generation;
            contents:
                what_people_write_comes_back_as_it_was,
                the_largest_content_comes_back_as_it_was,
                every_kind_of_value_comes_back_as_it_was,
                the_longest_ids_are_kept,
                a_room_may_begin_with_a_thousand_members;
            keep:
                a_trim_removes_the_oldest_and_nothing_else,
                each_bound_of_a_trim_counts,
                a_trim_stops_at_its_limit_and_goes_on,
                a_log_may_lose_all_of_its_events,
                repeats_are_known_after_their_events_are_trimmed,
                a_trim_of_nothing_changes_nothing,
                bytes_are_those_of_the_events_kept,
                large_contents_are_trimmed_like_others,
                trims_and_appends_at_once_leave_no_hole,
                what_was_trimmed_stays_away_after_a_reopen;
            removal:
                a_deleted_room_is_gone_for_everybody,
                a_room_made_anew_shares_nothing_with_the_old_one,
                there_is_nothing_to_delete_without_a_room,
                sends_at_once_with_a_deletion_are_kept_or_refused,
                a_deleted_room_is_gone_after_a_reopen;
            erase:
                what_somebody_sent_stays_in_its_place_without_them,
                others_in_a_change_of_members_stay,
                an_erased_user_is_out_of_every_room,
                what_an_erased_user_had_of_their_own_is_gone,
                the_state_that_an_erased_user_set_is_unset,
                an_erasure_goes_on_while_others_send_and_trim,
                an_erasure_is_taken_up_after_a_reopen,
                who_was_never_there_is_erased_at_once,
                nobody_becomes_the_erased_user;
            import:
                an_imported_room_is_as_it_was,
                a_room_ends_before_the_last_seq,
                an_import_is_invisible_until_it_is_finished,
                an_import_keeps_off_rooms_that_exist,
                what_does_not_go_on_is_refused_whole,
                an_import_begun_anew_or_dropped_leaves_nothing,
                a_purge_takes_nothing_from_an_import,
                an_import_outlasts_a_reopen,
                an_erasure_reaches_what_is_imported;
            lifecycle:
                a_closed_store_refuses_everything,
                closing_twice_is_fine,
                closing_keeps_what_was_committed,
                everything_is_there_after_a_reopen,
                epochs_go_on_after_a_reopen,
                state_that_was_never_ended_has_a_new_generation_after_a_reopen,
                a_fresh_store_has_a_fresh_generation;
            model:
                random_operations_agree_with_the_model;
        }
    };
    (@cases $factory:expr; $($module:ident: $($case:ident),+;)+) => {
        $($(
            #[test]
            fn $case() {
                $crate::store_suite::run(async {
                    let factory = $factory;
                    $crate::store_suite::$module::$case(&factory).await;
                });
            }
        )+)+
    };
}

#[cfg(test)]
mod tests {
    /// A case that is not in the macro would never run.
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
        let cases = modules.iter().flat_map(|text| text.split("pub async fn ").skip(1));
        let names: Vec<&str> = cases.filter_map(|rest| rest.split('<').next()).collect();
        assert!(names.len() > 115, "{} cases", names.len());
        for name in names {
            let listed = [",", ";"].iter().any(|end| map.contains(&format!("  {name}{end}")));
            assert!(listed, "{name} is not in the macro");
        }
    }
}
