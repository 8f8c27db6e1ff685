//! engine
/// Config.
pub struct EngineConfig;
