//! The incarnations that a model goes on from.
//!
//! A restart goes on from a checkpoint. Versions that the earlier incarnation had made after it are no more, and their
//! numbers are given again. A contribution that was computed on such a version counts as one that was computed on the
//! version of the checkpoint: its staleness is counted on from there.

use crate::protocol::message::Contribution;

/// The incarnations that a model goes on from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lineage {
    /// For each incarnation before this one, the last of its versions that this model goes on from.
    last_versions: Vec<u64>,
    /// Those of them that have diverged.
    diverged: Vec<u32>,
}

impl Lineage {
    /// The lineage of incarnation `incarnation`, which goes on from version `version`. `before` is the lineage of the
    /// checkpoint; incarnations that made none have gone on from the same version.
    pub(super) fn resumed(before: Vec<u64>, diverged: Vec<u32>, incarnation: u32, version: u64) -> Lineage {
        let mut last_versions = before;
        last_versions.resize(incarnation.saturating_sub(1) as usize, version);
        // A later incarnation may have gone on from an earlier version.
        for last in &mut last_versions {
            *last = version.min(*last);
        }
        Lineage {
            last_versions,
            diverged,
        }
    }

    /// What a checkpoint holds of it.
    pub(super) fn record(&self) -> Vec<u64> {
        self.last_versions.clone()
    }

    /// The incarnations that have diverged.
    pub(super) fn diverged(&self) -> &[u32] {
        &self.diverged
    }

    /// The same, and this one.
    pub(super) fn diverged_with_this(&self) -> Vec<u32> {
        let mut diverged = self.diverged.clone();
        diverged.push(self.incarnation());
        diverged
    }

    /// Whether a part of a contribution was computed on a version that led to a divergence.
    pub(super) fn has_diverged(&self, header: &Contribution) -> bool {
        self.diverged.contains(&header.incarnation) && self.version_sum(header) < header.version_sum
    }

    /// The current incarnation.
    pub(super) fn incarnation(&self) -> u32 {
        self.last_versions.len() as u32 + 1
    }

    /// Whether this is an earlier incarnation.
    pub(super) fn holds(&self, incarnation: u32) -> bool {
        self.last_version(incarnation).is_some()
    }

    /// Σ samples · version of a contribution, with versions of this model.
    pub(super) fn version_sum(&self, header: &Contribution) -> u128 {
        let newest = self.last_version(header.incarnation).unwrap_or(u64::MAX);
        header.version_sum.min(u128::from(newest) * u128::from(header.samples))
    }

    /// The last version of this incarnation that the model goes on from, if it is an earlier one; `None` if it is the
    /// current one, or a later one, of which there are none.
    fn last_version(&self, incarnation: u32) -> Option<u64> {
        let index = usize::try_from(incarnation.checked_sub(1)?).ok()?;
        self.last_versions.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_earlier_incarnation_has_the_last_version_that_the_model_goes_on_from() {
        let first = Lineage::default();
        assert_eq!((first.incarnation(), first.last_version(1)), (1, None));
        let second = Lineage::resumed(first.record(), Vec::new(), 2, 10);
        assert_eq!((second.last_version(1), second.last_version(2)), (Some(10), None));
        // Incarnation 3 made no checkpoint, and incarnation 4 goes on from one of the second.
        let fourth = Lineage::resumed(second.record(), Vec::new(), 4, 25);
        assert_eq!(
            [1, 2, 3].map(|number| fourth.last_version(number)),
            [Some(10), Some(25), Some(25)]
        );
        assert_eq!(
            (fourth.incarnation(), fourth.last_version(0), fourth.last_version(4)),
            (4, None, None)
        );
        // The newest checkpoint was damaged: it goes on from an older one.
        let fifth = Lineage::resumed(fourth.record(), Vec::new(), 5, 7);
        assert_eq!([1, 4].map(|number| fifth.last_version(number)), [Some(7), Some(7)]);
    }
}
