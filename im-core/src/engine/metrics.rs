//! The names of all metrics. Units are in the names.

/// Connections open now.
pub(crate) const CONNECTIONS: &str = "im_connections";
/// Connections closed, by code.
pub(crate) const CLOSED: &str = "im_connections_closed_total";
/// Commands taken, by name.
pub(crate) const COMMANDS: &str = "im_commands_total";
/// Commands refused, by code.
pub(crate) const REFUSALS: &str = "im_refusals_total";
/// Durable events committed by this node.
pub(crate) const EVENTS: &str = "im_events_committed_total";
/// Appends in one call of the store.
pub(crate) const BATCH: &str = "im_append_batch_size";
/// Time from handing a batch to the store to its answer.
pub(crate) const COMMIT_SECONDS: &str = "im_append_commit_seconds";
/// Queues that reached their bound and were dropped.
pub(crate) const OUTBOX_OVERFLOWS: &str = "im_outbox_overflows_total";
/// Reads of the store for readers who lag.
pub(crate) const COLD_READS: &str = "im_cold_reads_total";
/// Gaps in a room's log that were filled from the store.
pub(crate) const FILLS: &str = "im_log_fills_total";
/// Events removed by retention, by this node.
pub(crate) const TRIMMED: &str = "im_events_trimmed_total";
/// Rooms deleted by this node.
pub(crate) const DELETED: &str = "im_rooms_deleted_total";
/// Events emptied because their sender was erased, by this node.
pub(crate) const ERASED: &str = "im_events_erased_total";
/// State updates of other nodes that were forgotten before their time, since there were too many.
pub(crate) const HEARD_STATE_DROPPED: &str = "im_state_heard_dropped_total";
/// State updates discarded because something newer was held.
pub(crate) const STALE_STATE: &str = "im_state_stale_total";
/// What addresses and users were refused for their quotas, by payer and resource.
pub(crate) const QUOTA_REFUSALS: &str = "im_quota_refusals_total";
/// Connections closed because they went on sending what was refused.
pub(crate) const FLOODS: &str = "im_floods_total";
/// Batches of appends behind which others had to wait for their turn.
pub(crate) const TURNS: &str = "im_append_turns_total";
