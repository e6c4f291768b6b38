//! What a run came to, and what many came to together.

use std::fmt;

/// How a run ended, or the sums of many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What happened, and how often.
    pub counts: Counts,
    /// Samples that were accepted, in the line of models that was left at the end.
    pub samples: u64,
    /// Samples that were lost, with tabs that died or with a disk that lied.
    pub lost: u64,
    /// Contributions that came again, and were settled already.
    pub duplicates: u64,
    /// Contributions of an earlier incarnation that were settled later.
    pub resent: u64,
    /// Runs whose disk lost what was synced.
    pub lies: u64,
    /// A hash of all that arrived at the server.
    pub fingerprint: u64,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Starts of the server, the first one included.
    pub starts: u64,
    /// Crashes of a server that was up.
    pub crashes: u64,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Checkpoints that could not be written.
    pub failed_checkpoints: u64,
    /// Contributions that were settled, again after a restart included.
    pub settled: u64,
}

impl Outcome {
    /// Adds the numbers of another run.
    pub fn add(&mut self, other: &Outcome) {
        let sums = [
            (&mut self.counts.starts, other.counts.starts),
            (&mut self.counts.crashes, other.counts.crashes),
            (&mut self.counts.checkpoints, other.counts.checkpoints),
            (&mut self.counts.failed_checkpoints, other.counts.failed_checkpoints),
            (&mut self.counts.settled, other.counts.settled),
            (&mut self.samples, other.samples),
            (&mut self.lost, other.lost),
            (&mut self.duplicates, other.duplicates),
            (&mut self.resent, other.resent),
            (&mut self.lies, other.lies),
        ];
        for (sum, number) in sums {
            *sum += number;
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            starts,
            crashes,
            checkpoints,
            failed_checkpoints,
            settled,
        } = self.counts;
        let Outcome {
            samples,
            lost,
            duplicates,
            resent,
            lies,
            ..
        } = self;
        write!(
            formatter,
            "{crashes} crashes, {starts} starts, {checkpoints} checkpoints written and {failed_checkpoints} failed, \
             {settled} contributions settled, of which {resent} after a restart, {duplicates} duplicates, {lies} disks \
             that lied; {samples} samples accepted, {lost} lost with tabs that died or disks that lied"
        )
    }
}
