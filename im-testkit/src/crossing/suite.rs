//! The list of cases.

/// Makes a test of each case on each of these [`Setup`](crate::crossing::Setup)s.
///
/// A test is named `setup::class::step::before_to_after`. Needs `tokio` with `macros` and `rt` in
/// the calling crate. Steps are grouped by the transports to which they apply; each group states
/// why others are left out. `post` means all transports with POST, for steps before any stream half
/// is open: until then they do not differ.
#[macro_export]
macro_rules! crossing_suite {
    ($($name:ident: $setup:path,)+) => {
        $(
            mod $name {
                mod durable {
                    $crate::crossing_suite!(@durable $setup);
                }
                mod ephemeral {
                    $crate::crossing_suite!(@ephemeral $setup);
                }
                mod state {
                    $crate::crossing_suite!(@state $setup);
                }
            }
        )+
    };
    (@durable $setup:path) => {
        $crate::crossing_suite! { @steps $setup, Durable,
            // No stream half is open yet.
            ups: [
                hello_half_written HelloHalfWritten,
                hello_written HelloWritten,
                welcomed Welcomed,
                resume_half_written ResumeHalfWritten,
                resume_written ResumeWritten,
            ]
            // A WebSocket receives pushes from the beginning, and the reply to `subscribe` or
            // `resume` has the status that counts.
            request_stream: [
                listening Listening,
                begun Begun,
                resume_begun ResumeBegun,
            ]
            all: [
                subscribe_half_written SubscribeHalfWritten,
                subscribe_written SubscribeWritten,
                subscribed Subscribed,
                act_half_written ActHalfWritten,
                act_written ActWritten,
                act_done ActDone,
                act_answered ActAnswered,
                own_read OwnRead,
                many_acts_written ManyActsWritten,
                news_unread NewsUnread,
                news_half_read NewsHalfRead,
                news_read NewsRead,
                checkpoint_half_written CheckpointHalfWritten,
                checkpoint_written CheckpointWritten,
                checkpointed Checkpointed,
                resumed Resumed,
                replay_half_read ReplayHalfRead,
                act_retried ActRetried,
                storm Storm,
            ]
            // Pushes outside of answers are not confirmed by the next request.
            polls: [
                news_confirmed NewsConfirmed,
            ]
            // An unanswered poll of a cut connection may reach its server after later requests, and
            // is the newer one then.
            streams: [
                left_open LeftOpen,
            ]
            // Between two short polls no request is open.
            open: [
                left_open_with_news LeftOpenWithNews,
            ]
            // Only stream halves have stream positions.
            positions: [
                unread_by_position UnreadByPosition,
                half_read_by_position HalfReadByPosition,
                read_by_position ReadByPosition,
            ]
        }
    };
    // There are no signals before a subscription. Retries after a cut and checkpoints concern
    // messages: a signal is never sent again, and no cursor counts one.
    (@ephemeral $setup:path) => {
        $crate::crossing_suite! { @steps $setup, Ephemeral,
            ups: [
                resume_written ResumeWritten,
            ]
            request_stream: [
                begun Begun,
                resume_begun ResumeBegun,
            ]
            all: [
                subscribed Subscribed,
                act_half_written ActHalfWritten,
                act_written ActWritten,
                act_done ActDone,
                act_answered ActAnswered,
                own_read OwnRead,
                many_acts_written ManyActsWritten,
                news_unread NewsUnread,
                news_half_read NewsHalfRead,
                news_read NewsRead,
                resumed Resumed,
                storm Storm,
            ]
            polls: [
                news_confirmed NewsConfirmed,
            ]
            streams: [
                left_open LeftOpen,
            ]
            open: [
                left_open_with_news LeftOpenWithNews,
            ]
            positions: [
                unread_by_position UnreadByPosition,
                half_read_by_position HalfReadByPosition,
                read_by_position ReadByPosition,
            ]
        }
    };
    // There is no state before a subscription, and no cursor or checkpoint counts it. A snapshot
    // arrives whole and at once, so half of a replay would be all of it or nothing.
    (@state $setup:path) => {
        $crate::crossing_suite! { @steps $setup, State,
            ups: [
                resume_written ResumeWritten,
            ]
            request_stream: [
                begun Begun,
                resume_begun ResumeBegun,
            ]
            all: [
                subscribe_written SubscribeWritten,
                subscribed Subscribed,
                act_half_written ActHalfWritten,
                act_written ActWritten,
                act_done ActDone,
                act_answered ActAnswered,
                own_read OwnRead,
                many_acts_written ManyActsWritten,
                news_unread NewsUnread,
                news_half_read NewsHalfRead,
                news_read NewsRead,
                resumed Resumed,
                act_retried ActRetried,
                storm Storm,
            ]
            polls: [
                news_confirmed NewsConfirmed,
            ]
            streams: [
                left_open LeftOpen,
            ]
            open: [
                left_open_with_news LeftOpenWithNews,
            ]
            positions: [
                unread_by_position UnreadByPosition,
                half_read_by_position HalfReadByPosition,
                read_by_position ReadByPosition,
            ]
        }
    };
    (@steps $setup:path, $class:ident, $($group:ident: [$($name:ident $step:ident,)+])+) => {
        $($(
            mod $name {
                $crate::crossing_suite!(@$group $setup, $class, $step);
            }
        )+)+
    };
    (@all $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@ws $setup, $class, $step);
        $crate::crossing_suite!(@request_stream $setup, $class, $step);
    };
    (@ups $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@ws $setup, $class, $step);
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            post_to_ws Sse Ws, post_to_sse Sse Sse, post_to_long Sse Long, post_to_short Sse Short,
        }
    };
    (@request_stream $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@sse $setup, $class, $step);
        $crate::crossing_suite!(@polls $setup, $class, $step);
    };
    (@polls $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@long $setup, $class, $step);
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            short_to_ws Short Ws, short_to_sse Short Sse, short_to_long Short Long,
            short_to_short Short Short,
        }
    };
    (@streams $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@ws $setup, $class, $step);
        $crate::crossing_suite!(@sse $setup, $class, $step);
    };
    (@open $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite!(@streams $setup, $class, $step);
        $crate::crossing_suite!(@long $setup, $class, $step);
    };
    (@positions $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            sse_to_sse Sse Sse, sse_to_long Sse Long, sse_to_short Sse Short,
            long_to_sse Long Sse, long_to_long Long Long, long_to_short Long Short,
            short_to_sse Short Sse, short_to_long Short Long, short_to_short Short Short,
        }
    };
    (@ws $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            ws_to_ws Ws Ws, ws_to_sse Ws Sse, ws_to_long Ws Long, ws_to_short Ws Short,
        }
    };
    (@sse $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            sse_to_ws Sse Ws, sse_to_sse Sse Sse, sse_to_long Sse Long, sse_to_short Sse Short,
        }
    };
    (@long $setup:path, $class:ident, $step:ident) => {
        $crate::crossing_suite! { @pairs $setup, $class, $step,
            long_to_ws Long Ws, long_to_sse Long Sse, long_to_long Long Long, long_to_short Long Short,
        }
    };
    (@pairs $setup:path, $class:ident, $step:ident, $($pair:ident $before:ident $after:ident,)+) => {
        $(
            #[tokio::test]
            async fn $pair() {
                use $crate::crossing::{Case, Class, Step, Transport, play};
                let (class, step) = (Class::$class, Step::$step);
                let (before, after) = (Transport::$before, Transport::$after);
                play(&$setup, Case { class, step, before, after }).await;
            }
        )+
    };
}
