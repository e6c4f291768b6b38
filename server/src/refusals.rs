//! Refused contributions in the log: enough to notice, never a flood.

use std::time::Duration;

use bsp::protocol::message::ContributionRefusal;
use bsp::time::Time;

/// One line in this time is enough.
const QUIET: Duration = Duration::from_secs(10);

/// What the log has said of refused contributions.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    quiet_until: Option<Time>,
    /// Those that the log has not mentioned.
    unmentioned: u64,
}

impl Refusals {
    /// A contribution of this volunteer was refused.
    pub(crate) fn log(&mut self, now: Time, volunteer: u64, sequence: u64, reason: &ContributionRefusal) {
        if let Some(more) = self.mention(now) {
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} others since the last such line)"),
            };
            tracing::warn!("volunteer {volunteer}: contribution {sequence} refused: {reason}{more}");
        }
    }

    /// Whether to mention one now, and how many others with it.
    fn mention(&mut self, now: Time) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.unmentioned += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.unmentioned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_one_line_that_counts_the_others() {
        let mut refusals = Refusals::default();
        let mentions: Vec<_> = (0..25)
            .filter_map(|second| refusals.mention(Time::ZERO + Duration::from_secs(second)))
            .collect();
        assert_eq!(mentions, [0, 9, 9]);
    }
}
