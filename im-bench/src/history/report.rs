//! The results as text and figures, and their bounds.

use std::fmt;

use serde::Serialize;

use super::setup::Cold;
use super::work::{Act, Cost};
use crate::report::{median, thousands};

/// The report of a comparison of two stores.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) store: &'static str,
    pub(super) small: Opening,
    pub(super) large: Opening,
    pub(super) reads: Reads,
    pub(super) costs: Vec<Line>,
    /// Descriptions of exceeded bounds.
    pub(super) broken: Vec<String>,
}

/// A store, and the times of its opening.
#[derive(Debug, Serialize)]
pub(super) struct Opening {
    /// Events in its rooms.
    pub(super) events: u64,
    pub(super) cold: Cold,
    pub(super) cold_open_ms: f64,
    /// Median time of a random page after a cold opening.
    pub(super) cold_page_ms: f64,
    pub(super) slowest_cold_page_ms: f64,
    /// Time to open it again soon after it was closed.
    pub(super) open_ms: f64,
}

/// The number of reads of each store for a page.
#[derive(Debug, Serialize)]
pub(super) struct Reads {
    unit: &'static str,
    small: f64,
    large: f64,
    /// Maximum of the large store, for logarithmic growth.
    allowed: f64,
}

impl Reads {
    /// Creates it for two stores, each with its number of events and its reads.
    pub(super) fn new(unit: &'static str, small: (u64, f64), large: (u64, f64)) -> Self {
        let allowed = allowed(small.1, small.0, large.0);
        Self { unit, small: small.1, large: large.1, allowed }
    }
}

/// Returns the reads allowed among `large` events if `reads` are made among `small`: proportional
/// to the logarithm, plus [`SLACK`].
fn allowed(reads: f64, small: u64, large: u64) -> f64 {
    reads * ((large.max(3) as f64).ln() / (small.max(3) as f64).ln()).max(1.0) + SLACK
}

/// Levels of a tree are whole numbers: each of the two trees of a page lookup may have one more
/// level just there.
const SLACK: f64 = 2.0;

/// One operation on both stores, in pairs.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    act: Act,
    small: Cost,
    large: Cost,
    wall_ratio: Ratio,
    cpu_ratio: Ratio,
    /// The cost on the small and on the large store, pair by pair.
    pairs: Vec<(Cost, Cost)>,
}

/// The cost on the large store divided by that on the small one, over all pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Ratio {
    fn of(ratios: Vec<f64>) -> Self {
        Self {
            lowest: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            highest: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(ratios),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.lowest, self.highest)
    }
}

impl Line {
    /// Creates it from the costs on the small and the large store, pair by pair.
    pub(super) fn new(act: Act, pairs: Vec<(Cost, Cost)>) -> Self {
        let middle = |figure: fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(figure).collect());
        let ratio = |figure: fn(&Cost) -> f64| {
            Ratio::of(pairs.iter().map(|(small, large)| figure(large) / figure(small)).collect())
        };
        Self {
            act,
            small: Cost { wall_us: middle(|p| p.0.wall_us), cpu_us: middle(|p| p.0.cpu_us) },
            large: Cost { wall_us: middle(|p| p.1.wall_us), cpu_us: middle(|p| p.1.cpu_us) },
            wall_ratio: ratio(|cost| cost.wall_us),
            cpu_ratio: ratio(|cost| cost.cpu_us),
            pairs,
        }
    }
}

impl Report {
    /// Records an exceeded bound, if a warm operation may cost `most` times as much in the large
    /// store.
    pub(super) fn judge(&mut self, most: f64) {
        let mut broken = Vec::new();
        for line in self.costs.iter().filter(|line| line.act.is_warm()) {
            for (what, ratio) in [("time", line.wall_ratio), ("CPU", line.cpu_ratio)] {
                // NaN exceeds the bound, too.
                if ratio.median.is_nan() || ratio.median > most {
                    let (store, act) = (self.store, line.act.name());
                    broken.push(format!(
                        "{store}: {act} takes {:.2} times the {what}, and {most} are allowed",
                        ratio.median
                    ));
                }
            }
        }
        let Reads { unit, large, allowed, .. } = self.reads;
        if large.is_nan() || large > allowed {
            broken.push(format!(
                "{}: {large:.1} {unit} a page, and {allowed:.1} would be logarithmic",
                self.store
            ));
        }
        self.broken = broken;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, opening) in [("small", &self.small), ("large", &self.large)] {
            writeln!(
                f,
                "{} {name}: {} events; open {:.0} ms, cold {:.0} ms; cold page {:.2} ms, the slowest {:.2} ms",
                self.store,
                thousands(opening.events),
                opening.open_ms,
                opening.cold_open_ms,
                opening.cold_page_ms,
                opening.slowest_cold_page_ms,
            )?;
        }
        writeln!(f, "  cold: {}", self.large.cold)?;
        let Reads { unit, small, large, allowed } = self.reads;
        writeln!(
            f,
            "  {unit} a page: small {small:.1}, large {large:.1} (logarithmic up to {allowed:.1})"
        )?;
        writeln!(
            f,
            "  {:<16} {:>10} {:>10} {:>20} {:>10} {:>10} {:>20}",
            "", "small us", "large us", "ratio", "small CPU", "large CPU", "ratio"
        )?;
        for line in &self.costs {
            writeln!(
                f,
                "  {:<16} {:>10.1} {:>10.1} {:>20} {:>10.1} {:>10.1} {:>20}",
                line.act.name(),
                line.small.wall_us,
                line.large.wall_us,
                line.wall_ratio.to_string(),
                line.small.cpu_us,
                line.large.cpu_us,
                line.cpu_ratio.to_string(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(us: f64) -> Cost {
        Cost { wall_us: us, cpu_us: us / 2.0 }
    }

    fn report(act: Act, large: f64, reads: f64) -> Report {
        let opening = || Opening {
            events: 1_000,
            cold: Cold::OwnCacheEmpty,
            cold_open_ms: 1.0,
            cold_page_ms: 1.0,
            slowest_cold_page_ms: 1.0,
            open_ms: 1.0,
        };
        let pairs =
            vec![(cost(1.0), cost(9.0)), (cost(2.0), cost(2.0 * large)), (cost(3.0), cost(3.0))];
        let mut report = Report {
            store: "sqlite",
            small: opening(),
            large: opening(),
            reads: Reads::new("reads", (1_000, 4.0), (1_000_000, reads)),
            costs: vec![Line::new(act, pairs)],
            broken: Vec::new(),
        };
        report.judge(2.0);
        report
    }

    #[test]
    fn the_middle_pair_decides() {
        let report = report(Act::Append, 1.5, 4.0);
        let ratio = report.costs[0].wall_ratio;
        assert_eq!(ratio, Ratio { median: 1.5, lowest: 1.0, highest: 9.0 });
        assert!(report.broken.is_empty());
        assert!(report.to_string().contains("1.50 (1.00 to 9.00)"), "{report}");
    }

    /// A ratio over its bound, or not a number, is reported as broken.
    #[test]
    fn excessive_ratio_is_reported() {
        assert_eq!(report(Act::Page, 2.1, 4.0).broken.len(), 2);
        assert_eq!(report(Act::Page, f64::NAN, 4.0).broken.len(), 2);
        assert_eq!(report(Act::FirstRead, 2.1, 4.0).broken.len(), 0);
        assert_eq!(report(Act::Page, 1.0, 10.1).broken.len(), 1);
    }

    #[test]
    fn reads_may_grow_with_the_logarithm() {
        assert!((allowed(4.0, 1_000, 1_000_000) - (8.0 + SLACK)).abs() < 1e-9);
        assert!((allowed(4.0, 1_000, 1_000) - (4.0 + SLACK)).abs() < 1e-9);
        assert!(allowed(4.0, 0, 1).is_finite());
    }
}
