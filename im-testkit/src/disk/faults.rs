//! Calls that fail: to come.
