//! The dependency rule: `crates` checks the manifests, `modules` the sources of im-core. Also the
//! checks of documents: `links` checks that link targets exist, `quotes` that quoted code equals
//! its file, and `metrics` that the page of metrics lists what the sources record.
//!
//! - Inside im-core: ids, time, codes, errors ← wire ← state ← ports ← engine; memory and keyed
//!   implement ports. `wire` and `state` use no runtime, no clock and no I/O.
//! - im-core depends on no crate for HTTP, sockets or databases.
//! - An adapter depends on im-core, a transport also on im-http, and never on another adapter; for
//!   its tests it may depend on im-testkit. Only examples, tests, the bench and this crate combine
//!   adapters.

mod crates;
mod links;
mod metrics;
mod modules;
mod quotes;

use anyhow::{Result, bail};

use crate::run::{cargo, output, root};

/// Checks manifests and sources against the dependency rule.
pub(crate) fn check() -> Result<()> {
    let metadata = output(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let packages = crates::read(&metadata)?;
    let mut broken = crates::broken(&packages);
    broken.extend(modules::broken_below(&root().join("im-core").join("src"))?);
    if broken.is_empty() {
        eprintln!("    {} crates and the modules of im-core follow the rule", packages.len());
        return Ok(());
    }
    bail!("{} of the imports are not allowed:\n  {}", broken.len(), broken.join("\n  "))
}

/// Checks the documents: links, quoted code and the list of metrics.
pub(crate) fn check_documents() -> Result<()> {
    let docs = root().join("docs");
    let mut broken = links::broken_in(&root())?;
    broken.extend(links::broken_in(&docs)?);
    broken.extend(quotes::broken_in(&root())?);
    broken.extend(quotes::broken_in(&docs)?);
    broken.extend(metrics::broken_in(&root())?);
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{} of the links and quotes are wrong:\n  {}", broken.len(), broken.join("\n  "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_workspace_keeps_to_the_rule() {
        super::check().unwrap();
    }
}
