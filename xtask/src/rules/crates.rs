//! The dependency rule between crates, checked on `cargo metadata`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

/// The properties of a crate that the rule needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    name: String,
    /// Whether its manifest has `rust-version`.
    states_msrv: bool,
    /// Its dependencies, without those of its tests.
    needs: Vec<Need>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    name: String,
    features: Vec<String>,
    default_features: bool,
}

/// Crates that combine others; all other crates are engine, edge, adapter or test tools.
const ASSEMBLE: [&str; 6] =
    ["im-bench", "im-tests", "xtask", "quickstart", "embed-axum", "monster-battle"];

/// Crates for HTTP, sockets and databases, by name prefix.
const OUTSIDE: [&str; 22] = [
    "actix",
    "axum",
    "diesel",
    "h2",
    "http",
    "hyper",
    "mio",
    "mysql",
    "postgres",
    "quinn",
    "redis",
    "reqwest",
    "rocksdb",
    "rusqlite",
    "rustls",
    "sled",
    "socket2",
    "sqlx",
    "tokio-",
    "tower",
    "tungstenite",
    "warp",
];

/// `tokio-util` contains no socket; every other crate with such a prefix does, or is TLS.
const NO_SOCKET: [&str; 1] = ["tokio-util"];

/// Reads the members of the workspace.
pub(super) fn read(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let name = value["name"].as_str().context("a package has no name")?.to_owned();
    let all = value["dependencies"].as_array().context("a package has no list of dependencies")?;
    let needs = all
        .iter()
        .filter(|need| need["kind"].as_str() != Some("dev"))
        .map(need)
        .collect::<Result<_>>()?;
    Ok(Package { name, states_msrv: value["rust_version"].is_string(), needs })
}

fn need(value: &Value) -> Result<Need> {
    let features = value["features"].as_array().into_iter().flatten();
    Ok(Need {
        name: value["name"].as_str().context("a dependency has no name")?.to_owned(),
        features: features.filter_map(|feature| feature.as_str().map(str::to_owned)).collect(),
        default_features: value["uses_default_features"].as_bool().unwrap_or(true),
    })
}

/// Returns the violations of the rule, in words.
pub(super) fn broken(packages: &[Package]) -> Vec<String> {
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in packages {
        if !package.states_msrv {
            broken.push(format!("{}: add `rust-version.workspace = true`", package.name));
        }
        let refused =
            package.needs.iter().filter_map(|need| Some((need, refusal(package, need, &members)?)));
        broken
            .extend(refused.map(|(need, why)| format!("{} -> {}: {why}", package.name, need.name)));
    }
    broken
}

fn refusal(package: &Package, need: &Need, members: &BTreeSet<&str>) -> Option<&'static str> {
    let (from, to) = (package.name.as_str(), need.name.as_str());
    let inside = members.contains(to);
    if ASSEMBLE.contains(&to) {
        return Some("no crate may depend on one that combines others");
    }
    if ASSEMBLE.contains(&from) {
        return None;
    }
    match from {
        "im-core" if inside => Some("im-core depends on no crate of the workspace"),
        "im-core" if is_outside(need) => Some("im-core must not use HTTP, sockets or databases"),
        "im-client"
            if to == "im-core"
                && (need.default_features || need.features.iter().any(|f| f == "engine")) =>
        {
            Some("a client needs the wire types only: no default features")
        }
        _ if !inside || to == "im-core" => None,
        _ if from.starts_with("im-transport-") && to == "im-http" => None,
        // im-stores opens whichever store an address names, for assemblies.
        "im-stores" if to.starts_with("im-store-") => None,
        _ => Some(
            "an adapter depends on im-core (a transport also on im-http) and on no other adapter",
        ),
    }
}

fn is_outside(need: &Need) -> bool {
    let name = need.name.as_str();
    let named =
        OUTSIDE.iter().any(|outside| name.starts_with(outside)) && !NO_SOCKET.contains(&name);
    let sockets = name == "tokio"
        && need.features.iter().any(|f| matches!(f.as_str(), "net" | "full" | "process" | "fs"));
    named || sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, needs: &[&str]) -> Package {
        let need = |name: &&str| Need {
            name: (*name).to_owned(),
            features: Vec::new(),
            default_features: false,
        };
        Package {
            name: name.to_owned(),
            states_msrv: true,
            needs: needs.iter().map(need).collect(),
        }
    }

    fn broken_by(name: &str, needs: &[&str]) -> usize {
        let others =
            ["im-core", "im-http", "im-store-sled", "im-transport-ws", "im-testkit", "im-bench"];
        let mut all: Vec<_> = others
            .iter()
            .filter(|other| **other != name)
            .map(|other| package(other, &[]))
            .collect();
        all.push(package(name, needs));
        broken(&all).len()
    }

    #[test]
    fn core_needs_no_adapter() {
        assert_eq!(broken_by("im-core", &["serde", "tokio", "tokio-util", "sha2"]), 0);
        assert_eq!(
            broken_by(
                "im-core",
                &["im-http", "hyper", "http-body-util", "tokio-tungstenite", "sled"]
            ),
            5
        );
    }

    #[test]
    fn the_core_has_tokio_without_sockets() {
        let mut core = package("im-core", &["tokio"]);
        core.needs[0].features.push("net".into());
        assert_eq!(broken(&[core]).len(), 1);
    }

    #[test]
    fn adapter_needs_only_the_core() {
        assert_eq!(broken_by("im-store-sled", &["im-core", "sled"]), 0);
        assert_eq!(
            broken_by("im-store-sled", &["im-core", "im-http", "im-transport-ws", "im-testkit"]),
            3
        );
        assert_eq!(broken_by("im-transport-ws", &["im-core", "im-http", "hyper"]), 0);
        assert_eq!(broken_by("im-transport-ws", &["im-store-sled"]), 1);
        assert_eq!(broken_by("im-http", &["im-transport-ws"]), 1);
    }

    #[test]
    fn a_client_needs_no_engine() {
        assert_eq!(broken_by("im-client", &["im-core"]), 0);
        let mut client = package("im-client", &["im-core"]);
        client.needs[0].default_features = true;
        assert_eq!(broken(&[package("im-core", &[]), client.clone()]).len(), 1);
        client.needs[0] = Need {
            name: "im-core".into(),
            features: vec!["engine".into()],
            default_features: false,
        };
        assert_eq!(broken(&[package("im-core", &[]), client]).len(), 1);
    }

    /// Only assemblies combine adapters, and no other crate depends on an assembly.
    #[test]
    fn only_assemblies_combine_adapters() {
        assert_eq!(broken_by("quickstart", &["im-core", "im-store-sled", "im-transport-ws"]), 0);
        assert_eq!(broken_by("im-testkit", &["im-core", "im-bench"]), 1);
    }

    /// Dev dependencies are ignored, and a crate without `rust-version` is reported.
    #[test]
    fn dev_dependencies_are_ignored() {
        let metadata = r#"{"packages": [{"name": "im-store-x", "rust_version": null, "dependencies": [
            {"name": "im-testkit", "kind": "dev", "features": [], "uses_default_features": true},
            {"name": "im-core", "kind": null, "features": ["engine"], "uses_default_features": false}]}]}"#;
        let packages = read(metadata).unwrap();
        assert_eq!(packages[0].needs.len(), 1);
        assert_eq!(broken(&packages), ["im-store-x: add `rust-version.workspace = true`"]);
    }
}
