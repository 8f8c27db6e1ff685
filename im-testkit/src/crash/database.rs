//! The database server below a store, as far as it is killed.

use std::error::Error;

use async_trait::async_trait;

/// The cause of a failed kill or start of a database.
pub type DatabaseError = Box<dyn Error + Send + Sync>;

/// A database server of the run's own, which can be killed and restarted.
///
/// ```
/// use std::process::{Child, Command};
///
/// use im_testkit::crash::{Database, DatabaseError};
///
/// struct Mine {
///     program: Command,
///     running: Child,
/// }
///
/// #[async_trait::async_trait]
/// impl Database for Mine {
///     async fn kill(&mut self) -> Result<(), DatabaseError> {
///         self.running.kill()?; // SIGKILL
///         self.running.wait()?;
///         Ok(())
///     }
///
///     async fn restart(&mut self) -> Result<(), DatabaseError> {
///         self.running = self.program.spawn()?;
///         // … and wait here until it takes connections.
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Database: Send {
    /// Kills it and all its processes at once, without cleanup, as SIGKILL does; returns when they
    /// are gone. Long blocking work belongs on a thread of its own: the worker's output is read
    /// meanwhile.
    async fn kill(&mut self) -> Result<(), DatabaseError>;

    /// Restarts it, at the same address and with the same data; returns when it serves clients.
    async fn restart(&mut self) -> Result<(), DatabaseError>;
}
