//! The transport suite: the cases that every transport has to pass.
//!
//! Cases are plain generic functions; [`transport_suite!`](crate::transport_suite!) makes a test of
//! each.
//!
//! A transport's own crate, also one outside this workspace, implements how to serve engines and
//! how a raw client connects to them ([`TransportFactory`], [`RawLink`]):
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
//! `docs/raw-tcp/tests/conformance.rs` in the repository is a complete one over TCP;
//! `tests/loopback.rs` of this crate runs the suite on the engine alone, without a network.
//!
//! Each case runs on one engine in each encoding, and on two engines that share a store and a bus,
//! with the clients spread over both engines and both encodings. The clients write frames by hand.
//! They fail if a command has no answer or more than one, if an event is skipped or redelivered on
//! a connection, or if the close code differs from the code of the `disconnect` frame before it. No
//! case waits for a fixed time: a case waits for its condition and fails after half a minute
//! without it.
//!
//! | module | subject |
//! |---|---|
//! | `handshake` | `hello`, credentials, time-outs, bounds on connections |
//! | `commands` | one answer to every command; refusals |
//! | `conversation` | groups, direct rooms, channels, devices, signals |
//! | `order` | one order for all subscribers |
//! | `sender_order` | sender order across retryable refusals |
//! | `dedup` | a message is stored once |
//! | `hooks` | refusals and time-outs of the embedder's hooks |
//! | `history` | pages of the stored log |
//! | `resume` | resuming after a cut at every step |
//! | `state` | keyed state: the newest version wins |
//! | `members` | membership and its effect on subscriptions |
//! | `sessions` | several devices, ending them, draining |
//! | `slow` | slow subscribers |
//! | `upkeep` | trimmed logs, deleted rooms, erased users |
//! | `store` | a store that fails |
//! | `bad_input` | invalid input, each with its code |
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

/// Makes a test of each case for a [`TransportFactory`](crate::transport_suite::TransportFactory),
/// in modules by shape.
///
/// Cases that do not apply to a kind of transport are in a list of their own, with the reason:
///
/// | form | for |
/// |---|---|
/// | `transport_suite!(Factory)` | duplex connections that agree on an encoding in their handshake |
/// | `transport_suite!(bare: Factory)` | duplex connections without a handshake: JSON, credentials in `hello` only |
/// | `transport_suite!(request_stream: Factory)` | commands by requests, pushes by a stream |
/// | `transport_suite!(polls: Factory)` | commands by requests, pushes by polls |
///
/// The calling crate needs `tokio` with `macros` and `rt-multi-thread`.
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
        /// The factory returns the kind of its connections and their encodings.
        #[test]
        fn factory_states_kind_and_encodings() {
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
                second_hello_is_refused_without_closing,
                another_version_is_refused,
                no_credentials_are_refused,
                wrong_credentials_are_refused,
                expired_credentials_are_refused,
                credentials_may_come_in_hello,
                claimed_user_proves_nothing,
                expired_credentials_close_unless_refreshed,
                connections_per_user_are_bounded,
                session_is_bound_to_its_user,
            ]
            commands: [
                every_command_gets_one_ack,
                batch_runs_in_order,
                an_unknown_kind_is_refused,
                unknown_fields_are_ignored,
                missing_fields_are_named,
                frame_without_id_is_answered_without,
                bad_ids_are_refused,
                bad_values_are_refused,
                reserved_kinds_are_refused,
            ]
            conversation: [
                a_group_talks,
                own_message_is_pushed_too,
                two_users_share_one_direct_room,
                channel_readers_only_listen,
                strangers_learn_nothing,
                all_devices_receive_messages,
                inbox_is_private_to_its_user,
                signals_reach_present_members_only,
                user_content_arrives_unchanged,
            ]
            order: [
                all_subscribers_see_one_order,
                subscribing_under_load_misses_nothing,
            ]
            sender_order: [
                sends_behind_refusal_wait_for_retry,
                first_refused_send_comes_first,
                immediate_resend_keeps_sender_order,
                sender_order_holds_across_messages,
                refusal_blocks_no_other_sender,
                final_refusal_blocks_nothing,
                retry_without_store_unblocks_next,
            ]
            dedup: [
                retry_gets_first_ack,
                retry_after_restart_is_duplicate,
                same_id_different_content_is_conflict,
                same_id_other_user_is_new,
                key_order_keeps_content_equal,
                retry_after_ban_is_duplicate,
                ids_before_horizon_are_too_old,
                concurrent_retries_are_stored_once,
            ]
            hooks: [
                hook_refuses_with_own_text,
                slow_hook_refuses,
                a_retry_is_answered_without_asking,
            ]
            history: [
                pages_cover_log_in_both_directions,
                page_begins_at_requested_position,
                a_huge_limit_is_cut_down,
                another_epoch_is_refused,
                trimmed_page_begins_at_first_retained,
            ]
            resume: [
                cut_at_any_step_delivers_once,
                cursor_is_answered_whole_or_refused,
                subscribe_with_cursor_equals_resume,
                thousand_rooms_resume_in_one_message,
                stale_checkpoint_is_refused,
                checkpoint_sets_resume_position,
                checkpoint_beyond_delivered_is_ignored,
                membership_is_checked_again_on_resume,
                rooms_per_session_are_bounded,
                unsubscribed_room_is_quiet,
            ]
            state: [
                newest_state_reaches_new_subscribers,
                older_value_changes_nothing,
                a_stamp_far_ahead_is_refused,
                removed_key_refuses_older_values,
                only_members_write_state,
                state_over_room_limit_is_refused,
                state_survives_clean_restart,
            ]
            members: [
                nothing_is_delivered_after_a_removal,
                leaver_receives_nothing_more,
                leaver_of_open_channel_keeps_subscription,
                member_changes_are_idempotent_events,
                roles_decide_member_changes,
                ban_lasts_until_lifted,
                members_and_rooms_page,
                a_room_is_made_once,
            ]
            sessions: [
                listed_device_can_end_another,
                foreign_session_cannot_be_ended,
                logout_ends_session_for_good,
                service_ends_all_sessions_of_user,
                concurrent_resumes_leave_one_connection,
                excess_session_ends_longest_unused,
                draining_server_sends_retry_delay,
            ]
            slow: [
                slow_subscriber_loses_nothing_durable,
                acks_reach_idle_subscriber,
            ]
            upkeep: [
                cursor_behind_trim_gets_gap,
                constant_trims_leave_no_silent_gap,
                resume_before_trim_gets_gap,
                deleted_room_is_denied_to_subscribers,
                erased_user_is_gone_everywhere,
                reads_before_erasure_are_not_delivered,
                erased_user_cannot_authenticate,
            ]
            store: [
                full_store_refuses_and_stores_nothing,
                failing_store_refuses_and_stores_nothing,
                retry_settles_unknown_outcome,
                panicking_store_fails_one_command,
                bounded_store_calls_do_not_deadlock,
                slow_store_causes_no_idle_timeout,
            ]
            bad_input: [
                broken_messages_close,
                lying_lengths_close,
                trailing_input_closes,
                an_empty_message_closes,
                invalid_utf8_closes,
                non_frame_value_closes,
                an_empty_batch_closes,
                duplicate_key_closes,
                integers_that_no_encoding_carries_close,
                numbers_that_are_not_finite_close,
                a_message_over_the_limit_closes,
                oversized_message_in_pieces_closes,
                valid_message_in_pieces_is_accepted,
                values_that_nest_too_deeply_close,
                too_many_values_close,
                too_many_frames_close,
                deeply_nested_content_is_refused,
                oversized_content_is_refused,
                oversized_state_value_is_refused,
            ]
        }
    };
    (@none $factory:path, $shape:expr) => {};
    // Only for connections with a handshake before `hello`: bare ones have none, and one encoding.
    (@agreed $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            handshake: [credentials_may_come_with_the_connection,]
            dedup: [retry_in_other_encoding_is_duplicate,]
        }
    };
    // As `@agreed`, but not for request and stream halves: every request names its own encoding.
    (@agreed_whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            bad_input: [the_other_encoding_closes,]
        }
    };
    // Only for connections that stay open: not for polls, for the reason given.
    (@stream $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            slow: [
                // Between two polls there is no connection to disconnect; the next poll resumes
                // from its stream position.
                disconnected_slow_subscriber_resumes,
            ]
        }
    };
    // Only for duplex connections: not for request and stream halves, for the reasons given.
    (@whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            handshake: [
                // A request is never silent: its head and body have time-outs of the listener and
                // of the request half.
                a_silent_handshake_is_closed,
                // A stream half need not send anything.
                silent_connection_is_disconnected,
                // A request takes a permit while it lasts, so a full engine refuses commands, too.
                connections_are_bounded,
                // `hello` does not supersede; opening a newer stream half does.
                resumed_session_supersedes_older_connection,
            ]
            store: [
                // Every request reads its session from the store: without a store no command works,
                // not even `ping`.
                connections_survive_absent_store,
                // As above: the replaced store does not have the sessions.
                replaced_store_resets_and_denies,
            ]
            bad_input: [
                // There is no connection to close: each request is refused by itself.
                command_flood_is_slowed_then_disconnected,
            ]
        }
    };
    (@two $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            nodes: [
                quiet_room_recovers_lost_hint,
                a_lost_state_hint_is_found,
                every_other_hint_lost_loses_nothing,
                signals_kicks_and_removals_cross_over,
                session_moves_between_engines,
                a_lost_kick_is_found,
                a_lost_deletion_is_found,
                a_lost_erasure_is_found,
                trimmed_removal_still_stops_reading,
            ]
        }
    };
    (@two_whole $factory:path, $shape:expr) => {
        $crate::transport_suite! { @cases $factory, $shape,
            nodes: [
                // `hello` does not supersede; opening a newer stream half does.
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
