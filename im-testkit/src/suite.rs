//! What the suites of backends and stores have in common: how a list of cases becomes tests.

/// Makes one `#[test]` of each case that a suite lists by modules.
#[doc(hidden)]
#[macro_export]
macro_rules! suite_tests {
    ($suite:ident, $factory:expr; $($module:ident: $($case:ident),+;)+) => {
        $($(
            #[test]
            fn $case() {
                $crate::$suite::run(async {
                    let factory = $factory;
                    $crate::$suite::$module::$case(&factory).await;
                });
            }
        )+)+
    };
}

/// The names of all cases in the texts of a suite's modules.
#[cfg(test)]
pub(crate) fn names_of<'a>(modules: &[&'a str]) -> Vec<&'a str> {
    let cases = modules.iter().flat_map(|text| text.split("pub async fn ").skip(1));
    cases.filter_map(|rest| rest.split('<').next()).collect()
}

/// A case that is not in the macro would never run.
#[cfg(test)]
pub(crate) fn assert_listed(map: &str, names: &[&str]) {
    for name in names {
        let listed = [",", ";"].iter().any(|end| map.contains(&format!("  {name}{end}")));
        assert!(listed, "{name} is not in the macro");
    }
}
