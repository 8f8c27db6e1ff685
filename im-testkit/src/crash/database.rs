//! The database server that a store stands on, as far as it is killed.

use std::error::Error;

use async_trait::async_trait;

/// Why a database could not be killed or started.
pub type DatabaseError = Box<dyn Error + Send + Sync>;

/// A database server of the run's own, which can be killed and started again.
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
    /// Ends it and all its processes at one moment, with nothing tidied up, as SIGKILL does; returns when they are gone. What
    /// takes long and blocks belongs on a thread of its own: the worker is listened to meanwhile.
    async fn kill(&mut self) -> Result<(), DatabaseError>;

    /// Starts it again, at the same address and with the data that is there; returns when it serves clients.
    async fn restart(&mut self) -> Result<(), DatabaseError>;
}
