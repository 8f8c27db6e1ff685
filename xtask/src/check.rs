//! `cargo xtask check`: all checks that do not run the code.

use anyhow::{Result, bail};

use crate::outside::OUTSIDE;
use crate::run::{Steps, cargo, output, program, run};
use crate::{rules, tools};

/// Runs every check; stops at the first failure.
pub(crate) fn all() -> Result<()> {
    let mut steps = Steps::new();
    steps.step("formatting", "run `cargo fmt --all` and look at what it changed", || {
        run(&mut cargo(["fmt", "--all", "--check"]))?;
        OUTSIDE.iter().try_for_each(|outside| outside.check_format())
    })?;
    steps.step(
        "who may import whom",
        "move the code or the dependency; the rule is in CONTRIBUTING.md",
        rules::check,
    )?;
    steps.step(
        "links and quotes of the documents",
        "fix the link, the row in the table of invariants, or the quote, which must equal its file",
        rules::check_documents,
    )?;
    steps.step(
        "the client without the engine",
        "im-client may need im-core's wire types only",
        client,
    )?;
    steps.step(
        "quickstart as newcomers build it",
        "im-stores must build with any choice of stores, quickstart with SQLite alone",
        || {
            let packages = ["--package", "quickstart", "--package", "im-stores", "--all-targets"];
            run(cargo(["clippy", "--quiet"]).args(packages).args(["--", "-D", "warnings"]))
        },
    )?;
    steps.step("clippy", "fix what it reports; `allow` needs a reason", || {
        run(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    steps.step(
        "documentation",
        "every public item needs a line, and every link must resolve",
        || {
            run(cargo(["doc", "--no-deps", "--workspace", "--all-features"])
                .env("RUSTDOCFLAGS", "-D warnings"))
        },
    )?;
    for outside in &OUTSIDE {
        steps.step(
            &format!("{} from outside the workspace", outside.what),
            "keep the crates in docs short and clean, and their pages with them",
            || outside.check(),
        )?;
    }
    steps.step(
        "licences, bans and sources",
        "deny.toml says what is allowed; change it with a reason",
        || {
            let deny = tools::cargo_deny()?;
            let what = ["bans", "licenses", "sources"];
            run(program(&deny, ["--workspace", "--all-features", "check"]).args(what))?;
            OUTSIDE.iter().try_for_each(|outside| run(outside.deny(&deny).args(what)))
        },
    )?;
    steps.summary();
    Ok(())
}

/// The client must not depend on the engine, nor on crates that only the engine needs.
fn client() -> Result<()> {
    run(&mut cargo(["check", "--quiet", "--package", "im-core", "--no-default-features"]))?;
    let tree =
        output(&mut cargo(["tree", "--package", "im-client", "--edges", "features,no-dev"]))?;
    let engine = tree.lines().find(|line| line.contains("im-core feature \"engine\""));
    match engine {
        Some(_) => bail!(
            "im-client pulls in im-core's feature `engine`: see `cargo tree -p im-client -e features,no-dev`"
        ),
        None => Ok(()),
    }
}
