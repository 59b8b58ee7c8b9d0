//! Samples and how they are printed: medians with their range, and ratios pair by pair.

use std::time::Duration;

/// Figures of one contender, in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Samples {
    name: &'static str,
    values: Vec<f64>,
}

impl Samples {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            values: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The middle one; 0 when there is none.
    pub(crate) fn median(&self) -> f64 {
        median(self.values.clone())
    }

    fn words(&self, unit: &str) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(0.0, f64::max);
        format!(
            "  {:42} {:>9}{unit} ({}..{})",
            self.name,
            short(self.median()),
            short(least),
            short(most)
        )
    }

    /// The median and its range.
    pub(crate) fn print_alone(&self, unit: &str) {
        if !self.values.is_empty() {
            println!("{}", self.words(unit));
        }
    }

    /// The same, with ratios against yardsticks taken in the same pairs.
    pub(crate) fn print(&self, unit: &str, yardsticks: &[(&str, &Self)]) {
        let ratios: Vec<String> = yardsticks
            .iter()
            .filter(|(_, other)| !other.values.is_empty())
            .map(|(name, other)| format!("{} x {name}", short(self.over(other))))
            .collect();
        println!("{}  {}", self.words(unit), ratios.join(", "));
    }

    fn over(&self, other: &Self) -> f64 {
        let pairs = self.values.iter().zip(&other.values);
        median(pairs.map(|(one, other)| one / other).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn short(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Things a second.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are small")]
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The load of the machine, which every figure is to be read beside.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split(' ').take(3).collect();
    format!("load {}", words.join(" "))
}
