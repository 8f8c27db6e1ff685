//! What every backend must do, as plain generic functions, and [`backend_suite!`](crate::backend_suite!) that makes a
//! test of each.
//!
//! A backend's own crate, also one outside this workspace, says how to make it and gets the tests:
//!
//! ```
//! use std::sync::Arc;
//! use im_core::kv::{KeyValueBackend, OpenAs};
//! use im_core::memory::MemoryDatabase;
//! use im_testkit::backend_suite::{Backend, BackendFactory, async_trait};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl BackendFactory for Memory {
//!     async fn create(&self) -> Arc<dyn Backend> {
//!         Arc::new(KeyValueBackend::new(MemoryDatabase::default(), OpenAs::SameGeneration))
//!     }
//!     async fn reopen(&self, _closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
//!         None
//!     }
//! }
//!
//! im_testkit::backend_suite!(Memory);
//! ```
//!
//! The suite declares tables of its own, whose names begin with `suite_`. It tests behaviour without crashes; what
//! survives a kill or a loss of power is for [`crash`](crate::crash) and [`disk`](crate::disk).
//!
//! | module | cases |
//! |---|---|
//! | `commits` | commits as a whole, batches of them |
//! | `guards` | guards, revisions, reviving records |
//! | `records` | put, put if newer, remove, unique indexes |
//! | `ranges` | ranges over keys and indexes |
//! | `values` | values at their limits |
//! | `logs` | appending, paging, replacing, trimming |
//! | `sends` | duplicates and what is remembered of sends |
//! | `feed` | the change feed |
//! | `snapshot` | batches of reads beside commits |
//! | `opening` | opening, closing, declarations that grow |
//! | `misuse` | what breaks the contract |
//! | `shared` | two backends on one database |
//! | `model` | random commits against a model |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: they fail by panicking"
)]

use std::sync::Arc;

pub use async_trait::async_trait;
pub use im_core::backend::Backend;

pub use crate::store_suite::run;

mod fixture;
mod random;

pub mod commits;
pub mod feed;
pub mod guards;
pub mod logs;
pub mod misuse;
pub mod model;
pub mod opening;
pub mod ranges;
pub mod records;
pub mod sends;
pub mod shared;
pub mod snapshot;
pub mod values;

/// How to make the backend that is to be tested. The suite makes one factory for each case, and calls
/// [`Backend::open`] itself.
#[async_trait]
pub trait BackendFactory: Send + Sync {
    /// Makes a backend on an empty database that shares nothing with those made before.
    async fn create(&self) -> Arc<dyn Backend>;

    /// Makes another backend on the database of the latest [`BackendFactory::create`], which was closed. The suite holds
    /// no other reference: drop `closed` before opening. `None` if the backend states that it is volatile.
    async fn reopen(&self, closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>>;

    /// Makes another backend on the database of the latest [`BackendFactory::create`], which stays open. `None`, the
    /// default, if the backend states that it is exclusive.
    async fn another(&self) -> Option<Arc<dyn Backend>> {
        None
    }
}

/// Makes one `#[test]` of each case of the suite. Takes an expression that makes a
/// [`BackendFactory`](crate::backend_suite::BackendFactory); it is evaluated once for each case.
#[macro_export]
macro_rules! backend_suite {
    ($factory:expr) => {
        $crate::suite_tests! { backend_suite, $factory;
            commits:
                commit_changes_log_and_records,
                conflict_changes_nothing,
                late_conflict_undoes_earlier_changes,
                empty_batch_has_no_answers,
                commits_of_batch_are_independent,
                later_commit_sees_earlier_one,
                commit_behind_conflict_is_skipped,
                answers_come_in_commit_order,
                unsynced_commit_is_read_once_answered,
                dropped_commit_is_whole;
            guards:
                guard_on_old_revision_conflicts,
                absent_guard_meets_a_record,
                revision_guard_meets_no_record,
                conflict_names_the_first_guard,
                bump_raises_revision_by_one,
                check_leaves_the_revision,
                bump_alone_keeps_the_record,
                revived_record_continues_its_revision,
                record_replaced_in_commit_is_bumped,
                eight_guards_hold_together,
                concurrent_increments_lose_nothing;
            records:
                put_replaces_the_record,
                unguarded_put_keeps_the_revision,
                changes_apply_in_list_order,
                only_newer_record_replaces_another,
                newer_compares_columns_in_order,
                concurrent_newer_puts_leave_newest,
                removed_record_is_gone_everywhere,
                removed_range_includes_its_bounds,
                removed_range_may_be_open,
                removed_range_takes_partial_bounds,
                inverted_range_removes_nothing,
                range_removal_sees_its_batch,
                taken_unique_value_is_conflict,
                freed_unique_value_is_reusable,
                concurrent_unique_puts_leave_one;
            ranges:
                range_runs_in_key_order,
                index_range_runs_in_order,
                prefix_names_whole_columns,
                range_bounds_are_exclusive,
                bounds_apply_behind_the_prefix,
                bounds_apply_over_an_index,
                bounds_apply_over_unique_index,
                empty_range_has_no_records,
                pages_have_each_record_once;
            values:
                integers_keep_their_ends,
                texts_keep_every_character,
                longest_texts_are_kept,
                bytes_of_all_sizes_are_kept,
                null_differs_from_empty,
                json_values_are_kept,
                longest_guard_keys_are_apart;
            logs:
                log_pages_run_both_ways,
                log_page_stops_at_limit,
                byte_limit_leaves_one_entry,
                headers_leave_content_out,
                log_begins_at_any_seq,
                replaced_entry_keeps_its_place,
                replacement_forgets_changed_send,
                trimmed_entries_leave_their_sends,
                cleared_entries_lose_their_sends,
                forgotten_sends_are_gone,
                acts_on_nothing_change_nothing,
                logs_stay_separate,
                long_append_is_whole;
            sends:
                duplicate_returns_the_first_send,
                conflict_precedes_duplicate,
                duplicate_within_batch_is_found,
                duplicate_after_trim_is_found,
                id_belongs_to_sender_and_log,
                entry_without_id_is_unique,
                forgotten_id_is_free_again,
                sends_page_in_order,
                concurrent_duplicates_apply_once;
            feed:
                places_grow_with_each_commit,
                touched_rows_come_back_whole,
                untouched_commit_leaves_no_record,
                batch_leaves_all_it_touched,
                changed_column_equals_the_place,
                unbumped_put_keeps_the_place,
                changes_page_by_their_limit,
                places_grow_after_reopen,
                position_misses_nothing_beside_writers;
            snapshot:
                read_sees_answered_commits,
                moved_amount_is_seen_once,
                entry_and_counter_are_seen_together,
                long_range_is_of_one_moment,
                passed_unique_value_is_found,
                concurrent_batches_answer_truly;
            opening:
                reopened_backend_has_everything,
                last_commit_survives_reopen,
                generation_belongs_to_the_database,
                closed_backend_refuses_everything,
                closing_twice_is_fine,
                answered_commits_survive_closing,
                added_columns_are_filled,
                added_indexes_are_filled,
                added_table_begins_empty,
                broken_schema_is_refused,
                incompatible_schema_is_refused;
            misuse:
                undeclared_names_are_refused,
                rows_of_wrong_length_are_refused,
                values_that_misfit_are_refused,
                misused_guards_are_refused,
                entry_of_another_log_is_refused,
                unopened_backend_is_refused;
            shared:
                backends_share_one_generation,
                backends_read_each_others_commits,
                guard_holds_across_backends,
                increments_across_backends_all_count,
                unique_value_holds_across_backends,
                duplicates_across_backends_apply_once,
                feed_is_complete_across_backends,
                closing_one_leaves_another_open;
            model:
                random_commits_agree_with_model;
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that is not in the macro would never run.
    #[test]
    fn every_case_is_in_the_macro() {
        let map = include_str!("mod.rs");
        let modules = [
            include_str!("commits.rs"),
            include_str!("guards.rs"),
            include_str!("records.rs"),
            include_str!("ranges.rs"),
            include_str!("values.rs"),
            include_str!("logs.rs"),
            include_str!("sends.rs"),
            include_str!("feed.rs"),
            include_str!("snapshot.rs"),
            include_str!("opening.rs"),
            include_str!("misuse.rs"),
            include_str!("shared.rs"),
            include_str!("model.rs"),
        ];
        let names = crate::suite::names_of(&modules);
        assert!(names.len() >= 115, "{} cases", names.len());
        crate::suite::assert_listed(map, &names);
    }
}
