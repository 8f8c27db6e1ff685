//! Names of stores: the values of a server's `--store`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::address::StoreAddress;

/// The folder of a store without a path, below the working directory.
pub const DEFAULT_FOLDER: &str = "im-data";

/// A store as users write it: an address, or its kind alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreName {
    /// `sled`: in a folder that the program chooses.
    #[cfg(feature = "sled")]
    Sled,
    /// `sqlite`: in a file in a folder that the program chooses.
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// A store at this address.
    At(StoreAddress),
}

impl StoreName {
    /// Returns the address. A store without a path is in `folder`, in a file or folder of its kind.
    pub fn within(&self, folder: &Path) -> StoreAddress {
        let _ = folder;
        match self {
            #[cfg(feature = "sled")]
            Self::Sled => StoreAddress::Sled(folder.join("sled")),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => StoreAddress::Sqlite(folder.join("im.db")),
            Self::At(address) => address.clone(),
        }
    }

    /// Returns the kind: `memory`, `sled` …
    pub fn kind(&self) -> &'static str {
        self.within(Path::new("")).kind()
    }

    /// Whether the store's data survives the process.
    pub fn is_durable(&self) -> bool {
        self.within(Path::new("")).is_durable()
    }
}

impl FromStr for StoreName {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        read(text, BUILT)
    }
}

/// Parses a name, for a program that was built with these features.
fn read(text: &str, built: &[&str]) -> Result<StoreName, BadAddress> {
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) => (scheme, Some(rest)),
        None => (text, None),
    };
    let feature = match scheme {
        "memory" => None,
        "sled" => Some("sled"),
        "sqlite" => Some("sqlite"),
        "postgres" | "postgresql" => Some("postgres"),
        "mysql" | "mariadb" => Some("mysql"),
        // The rest may contain a password, so it is not in the error.
        _ => return Err(BadAddress(Fault::Unknown(scheme.to_owned()))),
    };
    if let Some(feature) = feature.filter(|feature| !built.contains(feature)) {
        return Err(BadAddress(Fault::LeftOut(feature)));
    }
    Ok(match (scheme, rest) {
        ("memory", None) => StoreName::At(StoreAddress::Memory),
        #[cfg(feature = "sled")]
        ("sled", None) => StoreName::Sled,
        #[cfg(feature = "sled")]
        ("sled", Some(path)) if !path.is_empty() => StoreName::At(StoreAddress::Sled(path.into())),
        #[cfg(feature = "sqlite")]
        ("sqlite", None) => StoreName::Sqlite,
        #[cfg(feature = "sqlite")]
        ("sqlite", Some(path)) if !matches!(path, "" | "//") => {
            StoreName::At(StoreAddress::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))
        }
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", Some(rest)) if !rest.is_empty() => {
            StoreName::At(StoreAddress::Postgres(text.to_owned()))
        }
        #[cfg(feature = "mysql")]
        ("mysql" | "mariadb", Some(rest)) if !rest.is_empty() => {
            StoreName::At(StoreAddress::MySql(format!("mysql:{rest}")))
        }
        _ => return Err(BadAddress(Fault::Incomplete(scheme.to_owned()))),
    })
}

/// The features of this crate that the program was built with.
const BUILT: &[&str] = &[
    #[cfg(feature = "sled")]
    "sled",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "mysql")]
    "mysql",
];

/// The error of a text that names no store of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAddress(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// No store has this scheme.
    Unknown(String),
    /// The store needs more than its scheme, or the scheme allows nothing after it.
    Incomplete(String),
    /// The program was built without this feature, which the store needs.
    LeftOut(&'static str),
}

impl BadAddress {
    /// Returns the feature of this crate that the program was built without, if only that is
    /// missing.
    pub fn missing_feature(&self) -> Option<&'static str> {
        match &self.0 {
            Fault::LeftOut(feature) => Some(feature),
            Fault::Unknown(_) | Fault::Incomplete(_) => None,
        }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match &self.0 {
            Fault::LeftOut(feature) => {
                return write!(
                    f,
                    "this program was built without {feature}: build it with `--features im-stores/{feature}`"
                );
            }
            Fault::Unknown(scheme) | Fault::Incomplete(scheme) => scheme,
        };
        write!(
            f,
            "{scheme} names no store: memory, sqlite, sqlite:PATH, sled, sled:PATH, \
             postgres://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME is expected"
        )
    }
}

impl std::error::Error for BadAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind without a path means a store in the chosen folder.
    #[test]
    fn bare_kind_uses_chosen_folder() {
        let folder = Path::new("here");
        for (text, inside) in [("sqlite", "sqlite:here/im.db"), ("sled", "sled:here/sled")] {
            if !BUILT.contains(&text) {
                continue;
            }
            let name: StoreName = text.parse().unwrap();
            assert_eq!((name.kind(), name.is_durable()), (text, true));
            assert_eq!(name.within(folder).to_string(), inside);
            let default = inside.replace("here", DEFAULT_FOLDER);
            assert_eq!(text.parse::<StoreAddress>().unwrap().to_string(), default);
        }
        let memory: StoreName = "memory".parse().unwrap();
        assert_eq!(memory.within(folder), StoreAddress::Memory);
        let there: StoreName = "sqlite:there.db".parse().unwrap();
        assert_eq!(there.within(folder).to_string(), "sqlite:there.db", "a path is used literally");
    }

    #[test]
    fn store_without_its_feature_is_refused() {
        for (text, feature) in [
            ("sqlite", "sqlite"),
            ("sled:here", "sled"),
            ("postgresql://ann:secret@host/chat", "postgres"),
            ("mariadb://ann:secret@host/chat", "mysql"),
        ] {
            let others: Vec<&str> =
                BUILT.iter().copied().filter(|built| *built != feature).collect();
            let error = read(text, &others).unwrap_err();
            assert_eq!(error.missing_feature(), Some(feature));
            let words = error.to_string();
            assert!(words.contains(&format!("without {feature}")), "{words}");
            assert!(!words.contains("secret"), "{words}");
        }
    }

    #[test]
    fn bad_name_error_hides_secret() {
        for text in
            ["", "sqlite:", "sqlite://", "memory:x", "redis://:secret@host", "im-data", "memory:"]
        {
            let error = text.parse::<StoreName>().unwrap_err();
            assert_eq!(error.missing_feature(), None);
            let words = error.to_string();
            assert!(words.contains("names no store") && !words.contains("secret"), "{words}");
        }
        #[cfg(all(feature = "sled", feature = "postgres", feature = "mysql"))]
        for text in ["sled:", "postgres", "mysql", "mariadb:"] {
            assert!(text.parse::<StoreName>().is_err(), "{text}");
        }
    }
}
