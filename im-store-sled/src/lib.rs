//! Embedded store of the im engine on sled: group commit, fsync before acknowledgement, nothing to run.
