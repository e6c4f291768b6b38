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
    /// The log has said that the state is an older one.
    has_said_older: bool,
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

    /// A volunteer says that it has seen incarnation `theirs` of this run, which is incarnation `ours`: one line, once.
    pub(crate) fn log_later_incarnation(&mut self, ours: u32, theirs: u32) {
        if !std::mem::replace(&mut self.has_said_older, true) {
            tracing::warn!("{}", later_incarnation_line(ours, theirs));
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

/// What it means that a volunteer has seen a later incarnation, and what helps.
fn later_incarnation_line(ours: u32, theirs: u32) -> String {
    format!(
        "a volunteer has seen incarnation {theirs} of this run, and this is {ours}: the state folder is older than the \
         run was, such as a restored backup. Sessions of later incarnations begin anew. Incarnation {theirs} must not \
         begin twice: stop the server and go on with --fork NEW_NAME, or put the newest state back"
    )
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
