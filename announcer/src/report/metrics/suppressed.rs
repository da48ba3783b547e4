//! Questions that the kernel dropped as another node owns the address, by interface: each address of the cluster has a counter
//! on each link of each node, which nobody reads one by one.

use std::collections::BTreeMap;

use crate::vocabulary::{LinkId, Vip};

/// Sums that never fall, of counters that come and go with the entries of the kernel's table.
#[derive(Debug, Default)]
pub struct Suppressed {
    last: BTreeMap<(Vip, LinkId), u64>,
    sums: BTreeMap<LinkId, u64>,
}

impl Suppressed {
    /// Takes in all counters as they are now. A counter that is lower than it was belongs to a new entry.
    pub fn count(&mut self, now: impl IntoIterator<Item = ((Vip, LinkId), u64)>) {
        let now: BTreeMap<_, _> = now.into_iter().collect();
        for (entry, count) in &now {
            let before = self.last.get(entry).filter(|before| *before <= count).copied().unwrap_or_default();
            *self.sums.entry(entry.1).or_default() += count - before;
        }
        self.last = now;
    }

    /// By link, of those that `known` names.
    pub fn by_name(&self, known: impl Fn(LinkId) -> Option<String>) -> BTreeMap<String, u64> {
        self.sums.iter().filter_map(|(link, sum)| Some((known(*link)?, *sum))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_of_an_entry_that_is_gone_stays_in_the_sum() {
        let vip = |text: &str| text.parse::<Vip>().expect("an address");
        let (one, two) = (vip("10.4.11.1"), vip("10.4.11.2"));
        let mut suppressed = Suppressed::default();
        let mut sum = |counters: &[(Vip, u32, u64)]| {
            suppressed.count(counters.iter().map(|(vip, link, count)| ((*vip, LinkId(*link)), *count)));
            suppressed.by_name(|link| (link.0 != 9).then(|| format!("eth{}", link.0)))
        };
        assert_eq!(
            sum(&[(one, 2, 3), (two, 2, 4), (one, 3, 1), (one, 9, 5)]),
            of(&[("eth2", 7), ("eth3", 1)])
        );
        assert_eq!(sum(&[(one, 2, 5), (one, 3, 1)]), of(&[("eth2", 9), ("eth3", 1)]), "one is gone");
        assert_eq!(sum(&[(one, 2, 5), (two, 2, 1)]), of(&[("eth2", 10), ("eth3", 1)]), "it is back, and new");
        assert_eq!(sum(&[(one, 2, 2)]), of(&[("eth2", 12), ("eth3", 1)]), "a lower one is another");
    }

    fn of(sums: &[(&str, u64)]) -> BTreeMap<String, u64> {
        sums.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect()
    }
}
