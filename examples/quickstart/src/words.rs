//! Log lines at start: the store, the access rules, and the limits.

use std::net::SocketAddr;
use std::path::absolute;

use anyhow::anyhow;
use im_core::engine::EngineConfig;
use im_core::ports::{Durability, Retention};
use im_http::{Hosts, ListenerConfig};
use im_stores::{BadAddress, StoreAddress};

/// Parses `--store`. Not done by clap, which would print the password of an address that it
/// refuses.
pub(crate) fn store(text: &str) -> anyhow::Result<StoreAddress> {
    text.parse().map_err(|error: BadAddress| match error.missing_feature() {
        Some(feature) => anyhow!("--store: {}", left_out(feature)),
        None => anyhow!("--store: {error}"),
    })
}

/// Returns the command that builds with a missing store.
fn left_out(feature: &str) -> String {
    format!(
        "this build has no {feature}; to add it: `cargo run --release -p quickstart --features {feature} -- --store …`"
    )
}

/// Returns the line about the store and its durability.
pub(crate) fn data(store: &StoreAddress, durability: Durability) -> String {
    let place = match store.to_string().split_once(':') {
        Some((kind @ ("sqlite" | "sled"), path)) => {
            let path = absolute(path).unwrap_or_else(|_| path.into());
            format!("{kind} in {}", path.display())
        }
        _ => store.to_string(),
    };
    let survives = match durability {
        Durability::Volatile => "all is gone when the server ends",
        Durability::ProcessCrash => "what is acknowledged survives a crash of the server",
        Durability::PowerLoss => "what is acknowledged survives a power loss",
    };
    format!("data: {place}; {survives}")
}

/// Returns the line about users, machines and host names with access.
pub(crate) fn access(listen: SocketAddr, hosts: &Hosts) -> String {
    let names = match hosts {
        Hosts::LocalAnd(names) => names.join(", "),
        _ => String::new(),
    };
    let (machines, names) = match (listen.ip().is_loopback(), names.as_str()) {
        (true, "") => ("this machine only", "local names (localhost, 127.0.0.1, [::1])".to_owned()),
        (true, names) => ("this machine only", format!("local names and {names}")),
        (false, _) => ("every machine that reaches this address", "any name".to_owned()),
    };
    format!(
        "access: anybody, under any user name and without a password; from {machines}, at {listen}; host: {names}"
    )
}

/// Returns the line about the limits.
pub(crate) fn limits(
    engine: &EngineConfig,
    listener: &ListenerConfig,
    keep: &Retention,
    quotas: bool,
) -> String {
    let keeps = match (keep.count, keep.age) {
        (None, None) => "all messages are kept".to_owned(),
        (count, age) => {
            let count = count.map(|count| format!("the last {count} of a room"));
            let age = age.map(|age| format!("those of {} days", age.as_secs() / (24 * 3600)));
            let both: Vec<String> = count.into_iter().chain(age).collect();
            format!("of messages are kept {}", both.join(" and "))
        }
    };
    format!(
        "limits: {} KiB a message; {} connections, {} of an address, {} of a user; {}; {keeps}",
        engine.limits.max_message_bytes / 1024,
        engine.max_connections.min(listener.max_connections),
        engine.max_connections_per_address.min(listener.max_connections_per_address),
        engine.max_connections_per_user,
        if quotas { "quotas as --help lists them" } else { "no quotas" },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The refusal of a store that is not compiled in names the command that builds it.
    #[test]
    fn missing_store_is_refused_with_command() {
        assert!(left_out("sled").contains("cargo run --release -p quickstart --features sled "));
        let error = store("redis://:secret@host").unwrap_err().to_string();
        assert!(error.contains("redis names no store") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn access_names_machines_and_host_names() {
        let here = access("127.0.0.1:8080".parse().unwrap(), &Hosts::ByAddress);
        assert!(here.contains("anybody") && here.contains("this machine only, at 127.0.0.1:8080"));
        let named = Hosts::LocalAnd(vec!["chat.example.org".to_owned()]);
        let proxied = access("[::1]:1".parse().unwrap(), &named);
        assert!(proxied.ends_with("local names and chat.example.org"), "{proxied}");
        let open = access("0.0.0.0:8080".parse().unwrap(), &Hosts::ByAddress);
        assert!(open.contains("every machine") && open.ends_with("any name"), "{open}");
    }

    #[test]
    fn data_line_hides_password() {
        let memory = data(&StoreAddress::Memory, Durability::Volatile);
        assert_eq!(memory, "data: memory; all is gone when the server ends");
        #[cfg(feature = "postgres")]
        {
            let there = store("postgres://ann:secret@host/chat").unwrap();
            let words = data(&there, Durability::PowerLoss);
            assert!(words.contains("postgres://…@host/chat; what"), "{words}");
        }
    }

    #[test]
    fn limits_name_quotas_and_retention() {
        let (engine, listener) = (EngineConfig::default(), ListenerConfig::default());
        let all = limits(&engine, &listener, &Retention::default(), true);
        assert!(all.contains("64 KiB a message") && all.contains("quotas as --help"), "{all}");
        assert!(all.ends_with("all messages are kept"), "{all}");
        let day = Duration::from_secs(24 * 3600);
        let keep = Retention { age: Some(3 * day), count: Some(9), ..Retention::default() };
        let some = limits(&engine, &listener, &keep, false);
        assert!(
            some.contains("no quotas; of messages are kept the last 9 of a room and"),
            "{some}"
        );
        assert!(some.ends_with("those of 3 days"), "{some}");
    }
}
