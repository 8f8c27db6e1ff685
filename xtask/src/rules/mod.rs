//! Who may import whom: `crates` reads the manifests, `modules` the sources of im-core. And, in `links`, whether what the
//! documents name is there, in `quotes`, whether the code that they show is that of the files, and in `metrics`, whether the page of
//! metrics lists what the sources record.
//!
//! - Inside im-core: ids, time, codes, errors ← wire ← state ← ports ← engine; memory and keyed implement ports. `wire` and
//!   `state` know no runtime, no clock and no I/O.
//! - im-core depends on no crate for HTTP, sockets or databases.
//! - An adapter depends on im-core, a transport also on im-http, and never on another adapter; for its tests it may
//!   depend on im-testkit. Only examples, tests, the bench and this crate assemble.

mod crates;
mod links;
mod metrics;
mod modules;
mod quotes;

use anyhow::{Result, bail};

use crate::run::{cargo, output, root};

/// Reads manifests and sources and compares them with the rule.
pub(crate) fn check() -> Result<()> {
    let metadata = output(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let packages = crates::read(&metadata)?;
    let mut broken = crates::broken(&packages);
    broken.extend(modules::broken_below(&root().join("im-core").join("src"))?);
    if broken.is_empty() {
        eprintln!("    {} crates and the modules of im-core keep to it", packages.len());
        return Ok(());
    }
    bail!("{} of the imports are not allowed:\n  {}", broken.len(), broken.join("\n  "))
}

/// Whether files and tests that the documents name exist, the code that they show is that of the files, and all metrics are listed.
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
