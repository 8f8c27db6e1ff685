//! Faulty backends are caught by the suite, each by every case that it is meant for; the right one passes.

#[path = "support/maps.rs"]
mod maps;

use std::panic::{AssertUnwindSafe, catch_unwind};

use im_testkit::backend_suite::{commits, feed, guards, model, opening, run, sends, snapshot};
use im_testkit::mutants::backend::{Fault, Mutants};
use maps::Maps;

/// The names of the cases out of these that fail with a fault.
macro_rules! failed {
    ($fault:expr; $($module:ident::$case:ident),+ $(,)?) => {{
        let mut failed = Vec::new();
        $({
            let factory = Mutants { inner: Maps::exclusive(), fault: $fault };
            let case = AssertUnwindSafe(|| run($module::$case(&factory)));
            if catch_unwind(case).is_err() {
                failed.push(stringify!($case));
            }
        })+
        failed
    }};
}

/// Asserts that each of the cases catches the fault, and passes without it.
macro_rules! caught {
    ($fault:ident by $($module:ident::$case:ident),+ $(,)?) => {
        let failed = failed!(Some(Fault::$fault); $($module::$case),+);
        assert_eq!(failed, [$(stringify!($case)),+], "{:?} is caught", Fault::$fault);
        let failed = failed!(None; $($module::$case),+);
        assert!(failed.is_empty(), "the right backend fails {failed:?}");
    };
}

#[test]
fn lost_change_of_commit_is_caught() {
    caught!(NotAtomic by snapshot::moved_amount_is_seen_once, model::random_commits_agree_with_model);
}

#[test]
fn forgotten_guard_is_caught() {
    caught!(GuardForgotten by
        commits::conflict_changes_nothing,
        guards::guard_on_old_revision_conflicts,
        guards::concurrent_increments_lose_nothing,
        model::random_commits_agree_with_model,
    );
}

#[test]
fn torn_snapshot_is_caught() {
    caught!(SnapshotTorn by
        snapshot::moved_amount_is_seen_once,
        snapshot::entry_and_counter_are_seen_together,
    );
}

#[test]
fn lost_change_record_is_caught() {
    caught!(ChangeLost by
        feed::places_grow_with_each_commit,
        feed::position_misses_nothing_beside_writers,
        model::random_commits_agree_with_model,
    );
}

#[test]
fn accepted_duplicate_is_caught() {
    caught!(DuplicateAccepted by
        sends::duplicate_returns_the_first_send,
        sends::duplicate_after_trim_is_found,
        sends::concurrent_duplicates_apply_once,
        model::random_commits_agree_with_model,
    );
}

#[test]
fn feigned_durability_is_caught() {
    caught!(DurabilityFeigned by
        opening::last_commit_survives_reopen,
        opening::answered_commits_survive_closing,
    );
}

mod right {
    im_testkit::backend_suite!(super::Mutants { inner: super::Maps::shared(), fault: None });
}
