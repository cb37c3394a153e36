//! How figures are shown: aligned columns, and each goal beside what was measured.

use std::time::Duration;

/// A table that is printed when it is complete.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these column heads.
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row of something that this machine does not have.
    pub fn absent(&mut self, what: &str, why: &str) {
        self.rows.push(vec![what.to_owned(), why.to_owned()]);
    }

    /// Prints it: the first column to the left, figures to the right.
    pub fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let full = |row: &&Vec<String>| row.len() == columns;
        let width = |at: usize| self.rows.iter().filter(full).map(|row| row[at].chars().count()).max().unwrap_or(0);
        let first = self.rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            let mut line = format!("{:<first$}", row[0]);
            for (at, cell) in row.iter().enumerate().skip(1) {
                let width = if row.len() == columns { width(at) } else { 0 };
                line.push_str(&format!("  {cell:>width$}"));
            }
            println!("{}", line.trim_end());
        }
    }
}

/// Prints a goal beside its figure.
pub fn goal(what: &str, goal: &str, figure: &str, met: bool) {
    println!("goal: {what} {goal}; here {figure}: {}", if met { "met" } else { "MISSED" });
}

/// Many measurements of one thing, in one unit.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The middle one.
    pub p50: f64,
    /// 99 of 100 are not above it.
    pub p99: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these; all zero when there is none.
    pub fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |part: f64| all.get(((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1)));
        let at = |part| at(part).copied().unwrap_or(0.0);
        Self { p50: at(0.5), p99: at(0.99), min: at(0.0), max: at(1.0) }
    }
}

/// A time in milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A figure with as many digits as it is worth.
pub fn figure(x: f64) -> String {
    match x.abs() {
        x if x >= 100.0 => grouped(x),
        x if x >= 10.0 => format!("{x:.1}"),
        x if x >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

/// How many times `x` is of `ours`.
pub fn times(x: f64, ours: f64) -> String {
    if ours > 0.0 { format!("{}×", figure(x / ours)) } else { "–".to_owned() }
}

/// A whole number in groups of three digits.
fn grouped(x: f64) -> String {
    let digits = format!("{x:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
