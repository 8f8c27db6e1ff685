//! What every transport must do, as plain generic functions, and [`transport_suite!`](crate::transport_suite!) that makes
//! a test of each.
//!
//! A transport's own crate, also one outside this workspace, says how to serve engines and how a raw client reaches them
//! ([`TransportFactory`], [`RawLink`]), and gets the tests:
//!
//! ```ignore
//! struct Carrier { /* addresses */ }
//!
//! #[async_trait]
//! impl TransportFactory for Carrier { /* serve, dial */ }
//!
//! im_testkit::transport_suite!(Carrier);
//! ```
//!
//! `docs/raw-tcp/tests/conformance.rs` in the repository is a complete one over TCP; `tests/loopback.rs` of this crate runs
//! the suite on the engine alone, with no network between.
//!
//! Each case runs on one engine in each encoding, and on two engines that share a store and a bus, with the clients spread
//! over both and speaking both encodings. A case is a client that writes frames by hand and fails if a command is answered
//! twice or not at all, if an event skips or repeats, or if a close code says anything else than the farewell before it.
//! Nothing waits for a fixed time: cases wait for what must happen, and fail if it does not within half a minute.
//!
//! | module | what is asked |
//! |---|---|
//! | `handshake` | who comes in, and how |
//! | `commands` | one answer to every command |
//! | `conversation` | groups, direct rooms, channels, devices, signals |
//! | `order` | one order for all |
//! | `sender_order` | the order of one's own messages, where some are refused for the time being |
//! | `dedup` | a message is kept once |
//! | `hooks` | the embedder's say |
//! | `history` | reading what is kept |
//! | `resume` | coming back after a cut at every step |
//! | `state` | the newest value wins |
//! | `members` | who is in, and what follows from it |
//! | `sessions` | several devices, ending them, draining |
//! | `slow` | readers who take their time |
//! | `upkeep` | logs that are trimmed, rooms that are deleted, users who are erased |
//! | `store` | a store that fails |
//! | `bad_input` | what must not be, each with its number |
//! | `nodes` | two engines on one store |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests: they fail by panicking, and their names say what they ask"
)]

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use im_core::engine::Engine;
pub use im_core::wire::Encoding;

pub mod cases;
pub mod http;
pub mod link;
pub mod peer;
pub mod world;

pub use http::{Downlink, HttpLink};
pub use link::{Dial, Kind, RawLink, Received, Refused, TransportFactory};
pub use peer::Peer;
pub use world::{Setup, Shape, World};

/// Makes a test of every case of the suite for a [`TransportFactory`](crate::transport_suite::TransportFactory), in modules
/// by shape. What does not apply to a kind of transport stands in a list of its own, with the reason:
///
/// | form | for |
/// |---|---|
/// | `transport_suite!(Factory)` | connections for commands and pushes both, which agree on an encoding at the beginning |
/// | `transport_suite!(bare: Factory)` | the same without a handshake of the transport's own: JSON, credentials in `hello` only |
/// | `transport_suite!(request_stream: Factory)` | commands by requests, pushes by a stream |
/// | `transport_suite!(polls: Factory)` | commands by requests, pushes by requests |
///
/// Needs `tokio` with `macros` and `rt-multi-thread` where it is used.
#[macro_export]
macro_rules! transport_suite {
    ($factory:ident) => {
        $crate::transport_suite!(@both $factory, Duplex);
        mod stream {
            $crate::transport_suite!(@shapes super::super::super::$factory, stream, none);
        }
        mod whole {
            $crate::transport_suite!(@shapes super::super::super::$factory, whole, two_whole);
        }
        mod agreed_whole {
            $crate::transport_suite!(@shapes super::super::super::$factory, agreed_whole, none);
        }
    };
    (bare: $factory:ident) => {
        $crate::transport_suite!(@says $factory, Duplex, [Encoding::Json]);
        $crate::transport_suite!(@json super::super::$factory, all, two);
        mod stream {
            $crate::transport_suite!(@json super::super::super::$factory, stream, none);
        }
        mod whole {
            $crate::transport_suite!(@json super::super::super::$factory, whole, two_whole);
        }
    };
    (request_stream: $factory:ident) => {
        $crate::transport_suite!(@both $factory, RequestStream);
        mod stream {
            $crate::transport_suite!(@shapes super::super::super::$factory, stream, none);
        }
    };
    (polls: $factory:ident) => {
        $crate::transport_suite!(@both $factory, Polls);
    };
    (@both $factory:ident, $kind:ident) => {
        $crate::transport_suite!(@says $factory, $kind, Encoding::ALL);
        $crate::transport_suite!(@shapes super::super::$factory, all, two);
        mod agreed {
            $crate::transport_suite!(@shapes super::super::super::$factory, agreed, none);
        }
    };
    (@says $factory:ident, $kind:ident, $encodings:expr) => {
        #[test]
        fn the_factory_says_what_its_connections_carry() {
            use $crate::transport_suite::{Encoding, Kind, TransportFactory};
            assert_eq!(<$factory as TransportFactory>::kind(), Kind::$kind);
            assert_eq!(<$factory as TransportFactory>::encodings(), $encodings);
        }
    };
    (@shapes $factory:path, $cases:ident, $two:ident) => {
        mod one_engine_msgpack {
            use $crate::transport_suite::{Encoding, Shape};
            $crate::transport_suite!(@$cases $factory, Shape::One(Encoding::MsgPack));
        }
        $crate::transport_suite!(@json $factory, $cases, $two);
    };
    (@json $factory:path, $cases:ident, $two:ident) => {
        mod one_engine_json {
            use $crate::transport_suite::{Encoding, Shape};
            $crate::transport_suite!(@$cases $factory, Shape::One(Encoding::Json));
        }
        mod two_engines {
            use $crate::transport_suite::Shape;
            $crate::transport_suite!(@$cases $factory, Shape::Two);
            $crate::transport_suite!(@$two $factory, Shape::Two);
        }
    };
    (@all $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            handshake: [
                hello_is_welcomed,
                anything_before_hello_closes,
                a_second_hello_is_refused_and_the_connection_lives,
                another_version_is_refused,
                no_credentials_are_refused,
                wrong_credentials_are_refused,
                expired_credentials_are_refused,
                credentials_may_come_in_hello,
                who_one_says_one_is_proves_nothing,
                credentials_that_expire_close_unless_they_are_refreshed,
                one_user_may_have_only_so_many_connections,
                a_session_is_good_for_nobody_else,
            ]
            commands: [
                every_command_gets_exactly_one_answer,
                a_batch_is_carried_out_in_its_order,
                an_unknown_kind_is_refused,
                unknown_fields_are_ignored,
                missing_fields_are_named,
                a_frame_without_a_number_is_answered_without_one,
                bad_ids_are_refused,
                bad_values_are_refused,
                kinds_of_the_servers_own_are_refused,
            ]
            conversation: [
                a_group_talks,
                ones_own_message_is_pushed_like_everybodys,
                two_users_share_one_direct_room,
                in_a_channel_few_speak_and_all_listen,
                strangers_neither_read_nor_write_and_learn_nothing,
                all_devices_of_a_user_hear,
                nobody_reads_or_writes_another_users_own_room,
                signals_reach_who_is_there_and_are_not_kept,
                what_people_write_arrives_as_it_was,
            ]
            order: [
                all_readers_see_one_order_and_every_senders_own,
                who_follows_in_the_middle_of_a_storm_misses_nothing,
            ]
            sender_order: [
                what_was_under_way_behind_a_refusal_is_not_taken_before_it_comes_again,
                of_all_that_were_refused_the_first_comes_first,
                who_sends_again_at_once_keeps_the_order_too,
                the_order_is_kept_from_one_message_to_the_next,
                a_refusal_holds_up_no_other_room_session_or_user,
                a_refusal_for_good_holds_up_nothing,
                a_retry_that_is_answered_without_the_store_lets_the_next_ones_pass,
            ]
            dedup: [
                a_retry_is_answered_with_the_first_receipt,
                a_retry_after_a_restart_is_recognised,
                the_same_id_with_other_content_is_a_conflict,
                the_same_id_of_another_user_is_another_message,
                the_order_of_keys_does_not_make_another_content,
                a_retry_after_a_ban_is_still_a_retry,
                ids_from_before_the_horizon_are_too_old,
                the_same_message_from_many_sides_at_once_is_kept_once,
            ]
            hooks: [
                a_hook_refuses_in_its_own_words,
                a_hook_that_takes_too_long_refuses,
                a_retry_is_answered_without_asking,
            ]
            history: [
                pages_lead_through_all_of_it_in_both_directions,
                a_page_begins_where_it_was_asked_to,
                a_huge_limit_is_cut_down,
                another_epoch_is_refused,
                what_was_trimmed_is_told_by_where_a_page_begins,
            ]
            resume: [
                a_cut_at_any_step_loses_and_repeats_nothing,
                every_cursor_is_answered_whole_or_refused,
                following_from_a_cursor_is_answered_like_a_resume,
                a_thousand_rooms_come_back_in_one_small_message,
                another_checkpoint_than_the_one_held_is_refused,
                a_checkpoint_says_from_where_to_go_on,
                a_checkpoint_beyond_what_was_handed_out_is_not_believed,
                membership_is_checked_again_on_resume,
                only_so_many_rooms_are_followed,
                a_room_that_is_not_followed_any_more_is_quiet,
            ]
            state: [
                the_newest_value_is_told_and_handed_to_newcomers,
                an_older_value_is_refused_and_changes_nothing,
                a_stamp_far_ahead_is_refused,
                an_unset_key_stays_unset_for_older_values,
                only_members_write_state,
                more_state_than_a_room_may_hold_is_refused,
                state_survives_a_restart_in_good_order,
            ]
            members: [
                nothing_is_delivered_after_a_removal,
                who_leaves_hears_no_more,
                who_leaves_open_channel_reads_on,
                changes_are_events_and_repeating_them_changes_nothing,
                roles_decide_who_may_change_whom,
                a_ban_keeps_out_until_it_is_lifted,
                members_and_rooms_are_listed_in_pages,
                a_room_is_made_once,
            ]
            sessions: [
                devices_are_listed_and_one_ends_another,
                nobody_ends_a_strangers_session,
                logout_ends_the_session_for_good,
                the_service_ends_all_of_a_users_sessions,
                of_connections_that_take_a_session_at_once_one_keeps_it,
                a_session_too_many_ends_the_one_that_was_left_longest,
                a_server_that_goes_away_says_when_to_come_back,
            ]
            slow: [
                a_slow_reader_catches_up_and_loses_nothing_durable,
                replies_reach_who_reads_nothing_else_for_a_while,
            ]
            upkeep: [
                a_reader_who_is_behind_a_trim_is_told_gap,
                a_log_that_is_trimmed_all_the_time_is_read_without_a_silent_hole,
                a_resume_from_before_a_trim_is_told_gap,
                followers_of_a_deleted_room_are_told_and_taken_off,
                an_erased_user_is_gone_for_everybody,
                what_was_read_before_an_erasure_is_not_handed_out_after_it,
                nobody_signs_in_as_the_erased_user,
            ]
            store: [
                a_full_store_keeps_nothing_and_says_so,
                a_failing_store_keeps_nothing_and_says_so,
                an_unknown_outcome_is_cleared_up_by_a_retry,
                a_store_that_panics_takes_nothing_with_it,
                at_a_store_that_takes_turns_nobody_holds_up_the_others,
                who_waits_for_a_slow_store_is_not_taken_for_silent,
            ]
            bad_input: [
                broken_messages_close,
                lying_lengths_close,
                what_follows_after_the_end_closes,
                an_empty_message_closes,
                invalid_utf8_closes,
                what_is_no_frame_closes,
                an_empty_batch_closes,
                a_key_that_stands_twice_closes,
                integers_that_no_encoding_carries_close,
                numbers_that_are_not_finite_close,
                a_message_over_the_limit_closes,
                a_message_over_the_limit_in_pieces_closes,
                a_good_message_in_pieces_is_taken,
                values_that_nest_too_deeply_close,
                too_many_values_close,
                too_many_frames_close,
                a_content_that_nests_too_deeply_is_refused,
                a_content_that_is_too_large_is_refused,
                a_state_value_that_is_too_large_is_refused,
            ]
        }
    };
    (@none $factory:path, $shape:expr) => {};
    // What only a connection has that agrees on something before `hello`: bare ones show nothing there, and have one
    // encoding.
    (@agreed $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            handshake: [credentials_may_come_with_the_connection,]
            dedup: [a_retry_in_the_other_encoding_is_still_a_retry,]
        }
    };
    // Of these, what does not apply to halves: every request names its own encoding.
    (@agreed_whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            bad_input: [the_other_encoding_closes,]
        }
    };
    // What only something that stays open has: these do not apply to polls, for the reason given.
    (@stream $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            slow: [
                // Between two polls nobody is there to be sent away; the next one goes on from its mark.
                a_slow_reader_may_be_sent_away_and_resumes,
            ]
        }
    };
    // What only a connection for both has: these do not apply to halves, for the reasons given.
    (@whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            handshake: [
                // A request is not silent: its head and its body have time-outs of the listener and the uplink.
                a_silent_handshake_is_closed,
                // Who only listens need not say anything.
                who_says_nothing_for_too_long_is_closed,
                // A request counts while it lasts, so that a full engine takes no commands either.
                only_so_many_connections_are_taken,
                // A `hello` takes no place; a newer downlink does.
                a_session_goes_on_and_takes_the_place_of_its_older_connection,
            ]
            store: [
                // Every request proves its session, which takes the store: without it no command is carried out, not even `ping`.
                while_the_store_is_away_connections_stay_and_all_is_well_afterwards,
                // As above: the other store does not have the sessions.
                another_store_in_its_place_resets_readers_and_shuts_strangers_out,
            ]
            bad_input: [
                // There is nothing to cut off: each request is refused for itself.
                a_flood_of_commands_is_slowed_and_then_cut_off,
            ]
        }
    };
    (@two $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            nodes: [
                a_lost_hint_in_a_quiet_room_is_found,
                a_lost_state_hint_is_found,
                every_other_hint_lost_loses_nothing,
                signals_kicks_and_removals_cross_over,
                a_session_moves_to_the_other_engine_and_back,
                a_lost_kick_is_found,
                a_lost_deletion_is_found,
                a_lost_erasure_is_found,
                who_was_removed_in_what_was_trimmed_reads_no_further,
            ]
        }
    };
    (@two_whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            nodes: [
                // A `hello` takes no place; a newer downlink does.
                a_lost_takeover_is_found,
            ]
        }
    };
    (@cases $factory:path, $shape:expr, $($module:ident: [$($case:ident,)*])*) => {
        $(
            mod $module {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $case() {
                        $crate::transport_suite::cases::$module::$case::<$factory>($shape).await;
                    }
                )*
            }
        )*
    };
}
