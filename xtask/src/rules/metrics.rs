//! The page of metrics: it lists exactly the recorded names, with type and labels.
//!
//! A metric is recorded by `counter!`, `gauge!` or `histogram!`, under a constant whose name is the
//! first argument's last part, or a literal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The page.
const PAGE: &str = "docs/metrics.md";

/// Type and labels of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

type Metrics = BTreeMap<String, Metric>;

/// Returns the errors of the page of metrics, in words.
pub(super) fn broken_in(root: &Path) -> Result<Vec<String>> {
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("{PAGE} is missing"))?;
    let (mut broken, listed) = listed(&page);
    let mut recorded = Metrics::new();
    for source in crates(root)? {
        let text = sources(&source)?;
        recorded.extend(recorded_in(&text, &mut broken));
    }
    broken.extend(differences(&recorded, &listed));
    Ok(broken)
}

fn differences(recorded: &Metrics, listed: &Metrics) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, metric) in recorded {
        match listed.get(name) {
            None => broken.push(format!("{PAGE}: `{name}` is recorded but not listed")),
            Some(other) if other != metric => broken.push(format!(
                "{PAGE}: `{name}` is a {} with the labels {:?}, but listed as a {} with {:?}",
                metric.kind, metric.labels, other.kind, other.labels
            )),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !recorded.contains_key(*name));
    broken.extend(gone.map(|name| format!("{PAGE}: nothing records `{name}`")));
    broken
}

/// Returns the rows of the page's tables, and their errors.
fn listed(page: &str) -> (Vec<String>, Metrics) {
    let (mut broken, mut listed) = (Vec::new(), Metrics::new());
    for row in page.lines().filter(|line| line.starts_with("| `im_")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, what] = cells[..] else {
            broken.push(format!("{PAGE}: a row needs name, type, unit, labels and meaning: {row}"));
            continue;
        };
        let name = name.trim_matches('`');
        for unit_of in ["seconds", "bytes"] {
            if name.trim_end_matches("_total").ends_with(unit_of) != (unit == unit_of) {
                broken.push(format!(
                    "{PAGE}: the unit of `{name}` differs from that in its name: {unit}"
                ));
            }
        }
        if unit.is_empty() || what.is_empty() {
            broken.push(format!("{PAGE}: unit or meaning of `{name}` is missing"));
        }
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let metric = Metric { kind: kind.to_owned(), labels };
        if listed.insert(name.to_owned(), metric).is_some() {
            broken.push(format!("{PAGE}: `{name}` is listed twice"));
        }
    }
    (broken, listed)
}

/// Returns the metrics that a crate's sources record.
fn recorded_in(text: &str, broken: &mut Vec<String>) -> Metrics {
    let names = constants(text);
    let mut found = Metrics::new();
    for kind in ["counter", "gauge", "histogram"] {
        for (at, called) in text.match_indices(&format!("{kind}!(")) {
            // The match is the end of another macro's name.
            if text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let arguments = arguments(&text[at + called.len()..]);
            let first = arguments.split(',').next().unwrap_or_default().trim();
            let constant = first.rsplit("::").next().unwrap_or_default();
            let literal = first.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            let Some(name) = literal.or_else(|| names.get(constant).copied()) else {
                broken.push(format!(
                    "the name of the {kind} `{first}` is not a constant of its crate"
                ));
                continue;
            };
            let metric = Metric { kind: kind.to_owned(), labels: labels(arguments) };
            if let Some(other) = found.insert(name.to_owned(), metric.clone())
                && other != metric
            {
                broken.push(format!("`{name}` is recorded in two ways: {other:?}, {metric:?}"));
            }
        }
    }
    found
}

/// Returns the constants whose values are names of metrics.
fn constants(text: &str) -> BTreeMap<&str, &str> {
    let constants = text.lines().filter_map(|line| {
        let (name, value) = line.split_once("const ")?.1.split_once(": &str = \"")?;
        let value = value.strip_suffix("\";")?;
        value.starts_with("im_").then_some((name, value))
    });
    constants.collect()
}

/// Returns the text between an opened parenthesis and its closing one.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    for (at, sign) in text.char_indices() {
        match sign {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// Returns the labels among the arguments of a macro: `"name" => value`.
fn labels(arguments: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for (at, _) in arguments.match_indices("=>") {
        let name = arguments[..at].trim_end().strip_suffix('"');
        labels.extend(name.and_then(|name| name.rsplit('"').next()).map(str::to_owned));
    }
    labels
}

/// Returns the source folders of the published crates.
fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut crates = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let source = entry.path().join("src");
        if entry.file_name().to_string_lossy().starts_with("im-") && source.is_dir() {
            crates.push(source);
        }
    }
    crates.sort();
    Ok(crates)
}

/// Returns the text of all files below a folder.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    let unread = || format!("could not read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unread)? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).with_context(unread)?);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        pub(crate) const CLOSED: &str = "im_closed_total";
        const TOOK: &str = "im_took_seconds";
        fn f() {
            ::metrics::counter!(metrics::CLOSED, "code" => code.to_string(),
                "why" => why(1)).increment(1);
            metrics::histogram!(TOOK).record(1.0);
            gauge!("im_here").set(1.0);
        }
    "#;
    const PAGE_OF_IT: &str = "
| `im_closed_total` | counter | connections | `code`, `why` | closed |
| `im_took_seconds` | histogram | seconds | | how long |
| `im_here` | gauge | connections | | here |
";

    fn broken(source: &str, page: &str) -> Vec<String> {
        let (mut broken, listed) = listed(page);
        let recorded = recorded_in(source, &mut broken);
        broken.extend(differences(&recorded, &listed));
        broken
    }

    #[test]
    fn page_lists_what_sources_record() {
        assert_eq!(broken(SOURCE, PAGE_OF_IT), [""; 0]);
        for (old, new) in [
            ("`im_here`", "`im_there`"),
            ("| gauge", "| counter"),
            ("`code`, `why`", "`code`"),
            ("| seconds", "| milliseconds"),
            ("| here |", "| |"),
            ("| connections | | here |", "| here |"),
        ] {
            let page = PAGE_OF_IT.replace(old, new);
            assert!(!broken(SOURCE, &page).is_empty(), "{old} -> {new}");
        }
        let unnamed = SOURCE.replace("gauge!(\"im_here\")", "gauge!(name)");
        assert!(!broken(&unnamed, PAGE_OF_IT).is_empty());
        let twice = SOURCE.replace("}\n", "counter!(CLOSED).increment(1);\n}\n");
        assert!(!broken(&twice, PAGE_OF_IT).is_empty());
    }

    #[test]
    fn page_of_this_workspace_is_whole() {
        assert_eq!(broken_in(&crate::run::root()).unwrap(), [""; 0]);
    }
}
