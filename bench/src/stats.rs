//! A set of measurements in three numbers.

use serde::Serialize;

/// The median of a set, and the middle half of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values lie below.
    pub median: f64,
    /// A quarter of the values lies below.
    pub p25: f64,
    /// A quarter of the values lies above.
    pub p75: f64,
}

impl Spread {
    /// Of any values; all zero for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        let at = |share| percentile(&sorted, share);
        Self { median: at(0.5), p25: at(0.25), p75: at(0.75) }
    }
}

/// The values in ascending order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which `share` of them lie; 0 of none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_nine_values_is_the_third_fifth_and_seventh() {
        let values = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0];
        assert_eq!(Spread::of(values), Spread { median: 5.0, p25: 3.0, p75: 7.0 });
    }
}
