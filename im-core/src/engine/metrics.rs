//! The names of all metrics. Units are in the names. `docs/metrics.md` lists them, and `cargo xtask
//! check` compares it.

/// Connections open now.
pub(crate) const CONNECTIONS: &str = "im_connections";
/// Connections closed, by code.
pub(crate) const CLOSED: &str = "im_connections_closed_total";
/// Commands received, by name.
pub(crate) const COMMANDS: &str = "im_commands_total";
/// Commands refused, by code.
pub(crate) const REFUSALS: &str = "im_refusals_total";
/// Durable events committed by this node.
pub(crate) const EVENTS: &str = "im_events_committed_total";
/// Appends in one store call.
pub(crate) const BATCH: &str = "im_append_batch_size";
/// Duration of the store call of a batch.
pub(crate) const COMMIT_SECONDS: &str = "im_append_commit_seconds";
/// Queues that reached their bound and were dropped.
pub(crate) const OUTBOX_OVERFLOWS: &str = "im_outbox_overflows_total";
/// Connections ended because they received none of their acks while all acks together were nearly
/// too many.
pub(crate) const ACKS_DISCONNECTS: &str = "im_unread_ack_disconnects_total";
/// Bytes of acks that wait to be written or are being built.
pub(crate) const ACK_BYTES: &str = "im_acks_bytes";
/// Bytes of pushes that wait for their subscribers.
pub(crate) const PUSH_BYTES: &str = "im_pushes_bytes";
/// Bytes of the rooms' windows of recent events, with their encodings.
pub(crate) const WINDOW_BYTES: &str = "im_windows_bytes";
/// Store reads for catch-up.
pub(crate) const CATCH_UP_READS: &str = "im_catch_up_reads_total";
/// Pages found in the page cache by subscribers catching up.
pub(crate) const PAGE_CACHE_HITS: &str = "im_page_cache_hits_total";
/// Bytes in the page cache.
pub(crate) const PAGE_CACHE_BYTES: &str = "im_page_cache_bytes";
/// Gaps in a room's window that were repaired from the store.
pub(crate) const GAP_REPAIRS: &str = "im_gap_repairs_total";
/// Events removed by retention, by this node.
pub(crate) const TRIMMED: &str = "im_events_trimmed_total";
/// Rooms deleted by this node.
pub(crate) const DELETED: &str = "im_rooms_deleted_total";
/// Events emptied because their sender was erased, by this node.
pub(crate) const ERASED: &str = "im_events_erased_total";
/// State updates of other nodes that were dropped from memory early, because the bound was reached.
pub(crate) const REMOTE_STATE_DROPPED: &str = "im_state_remote_dropped_total";
/// Bytes of keyed state of rooms.
pub(crate) const STATE_BYTES: &str = "im_state_bytes";
/// Rooms whose keyed state was evicted from memory.
pub(crate) const STATE_EVICTIONS: &str = "im_state_evictions_total";
/// Rooms whose evicted state was read from the store again.
pub(crate) const STATE_READS: &str = "im_state_reads_total";
/// State updates discarded because the stored one is newer.
pub(crate) const STALE_STATE: &str = "im_state_stale_total";
/// Refusals of addresses and users by quotas, by payer and resource.
pub(crate) const QUOTA_REFUSALS: &str = "im_quota_refusals_total";
/// Connections closed because they kept sending after refusals.
pub(crate) const FLOODS: &str = "im_flood_disconnects_total";
/// Batches of appends behind which others had to wait for their turn.
pub(crate) const APPEND_DEFERRED: &str = "im_append_batches_deferred_total";
