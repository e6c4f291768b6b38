//! The header of an aggregate: it tells exactly which gradients are in the sum.

use super::model_slots::ModelStamp;

/// How many runs of steps a header lists.
///
/// A run ends where the model version changes, so an aggregate has about one for each version published while it
/// collected: one or two where read-outs keep up. If more than 32 supersteps go by between two read-outs, the
/// contribution is too stale to be taken. Its further gradients are still summed and counted, only not listed.
pub const MAX_RUNS: usize = 32;

/// A gradient's origin: model, step, samples and loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient {
    /// The model.
    pub stamp: ModelStamp,
    /// The step of the ML module: it names the minibatch.
    pub step: u64,
    /// Samples in the minibatch.
    pub samples: u32,
    /// Sum of their losses.
    pub loss_sum: f64,
}

/// Consecutive steps of one ML module on one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StepRun {
    /// The first step.
    pub first_step: u64,
    /// The number of steps.
    pub count: u32,
    /// Incarnation of the model.
    pub incarnation: u32,
    /// Version of the model.
    pub version: u64,
}

/// The content of an aggregate. Without gradients all is zero but the read-out's number.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Header {
    /// Samples of all its gradients.
    pub samples: u64,
    /// The number of gradients in the sum.
    pub gradients: u64,
    /// Sum of the losses of its samples.
    pub loss_sum: f64,
    /// Σ samples · version, exact: divided by `samples` it is the mean base version.
    pub version_sum: u128,
    /// Incarnation of the model of its first gradient: the oldest, where a restart of the server fell in between.
    pub incarnation: u32,
    /// The number of the read-out that it collects for, counted from 1; read-outs that held nothing count too.
    read_out: u64,
    steps: Steps,
}

/// The steps of its gradients, as runs.
#[derive(Clone, Debug, PartialEq, Default)]
struct Steps {
    runs: [StepRun; MAX_RUNS],
    /// The number of runs that are listed in `runs`.
    listed: u32,
    /// The number of further runs, for which `runs` has no room.
    unlisted: u32,
    /// The last of these.
    last_unlisted: StepRun,
}

impl StepRun {
    fn goes_on_with(&self, gradient: &Gradient) -> bool {
        self.incarnation == gradient.stamp.incarnation
            && self.version == gradient.stamp.version
            && self.count < u32::MAX
            && self.first_step.checked_add(u64::from(self.count)) == Some(gradient.step)
    }
}

impl Header {
    /// The runs of steps, in the order in which they were added; all of them if [`Header::unlisted_runs`] is 0.
    pub fn runs(&self) -> &[StepRun] {
        self.steps.listed()
    }

    /// The number of further runs of steps, which there was no room to list.
    pub fn unlisted_runs(&self) -> u32 {
        self.steps.unlisted
    }

    /// Counts one more gradient.
    pub(super) fn count(&mut self, gradient: &Gradient) {
        if self.gradients == 0 {
            self.incarnation = gradient.stamp.incarnation;
        }
        self.samples += u64::from(gradient.samples);
        self.gradients += 1;
        self.loss_sum += gradient.loss_sum;
        self.version_sum += u128::from(gradient.samples) * u128::from(gradient.stamp.version);
        self.steps.add(gradient);
    }

    /// The header of an empty aggregate that collects for the read-out `read_out`.
    pub(super) fn of_read_out(read_out: u64) -> Header {
        Header {
            read_out,
            ..Header::default()
        }
    }

    /// The read-out that it collects for.
    pub(super) fn read_out(&self) -> u64 {
        self.read_out
    }
}

impl Steps {
    fn listed(&self) -> &[StepRun] {
        &self.runs[..self.listed as usize]
    }

    /// One more step. It goes on with the last run if it can.
    fn add(&mut self, gradient: &Gradient) {
        let listed = self.listed as usize;
        let last = match self.unlisted {
            0 => self.runs[..listed].last_mut(),
            _ => Some(&mut self.last_unlisted),
        };
        if let Some(last) = last
            && last.goes_on_with(gradient)
        {
            last.count += 1;
            return;
        }
        let ModelStamp { incarnation, version } = gradient.stamp;
        let run = StepRun {
            first_step: gradient.step,
            count: 1,
            incarnation,
            version,
        };
        if listed < MAX_RUNS {
            self.runs[listed] = run;
            self.listed += 1;
        } else {
            self.last_unlisted = run;
            self.unlisted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(incarnation: u32, version: u64, step: u64) -> Gradient {
        Gradient {
            stamp: ModelStamp { incarnation, version },
            step,
            samples: 3,
            loss_sum: 0.5,
        }
    }

    #[test]
    fn consecutive_steps_on_one_version_are_one_run() {
        let mut header = Header::default();
        for step in 5..9 {
            header.count(&gradient(1, 7, step));
        }
        assert_eq!(
            header.runs(),
            [StepRun {
                first_step: 5,
                count: 4,
                incarnation: 1,
                version: 7
            }]
        );
        assert_eq!((header.gradients, header.samples, header.loss_sum), (4, 12, 2.0));
    }

    #[test]
    fn a_new_version_a_new_incarnation_and_a_skipped_step_each_begin_a_run() {
        let mut header = Header::default();
        for next in [
            gradient(1, 7, 0),
            gradient(1, 8, 1),
            gradient(2, 8, 2),
            gradient(2, 8, 4),
        ] {
            header.count(&next);
        }
        let runs: Vec<_> = header
            .runs()
            .iter()
            .map(|run| (run.incarnation, run.version, run.first_step, run.count))
            .collect();
        assert_eq!(runs, [(1, 7, 0, 1), (1, 8, 1, 1), (2, 8, 2, 1), (2, 8, 4, 1)]);
        assert_eq!(header.incarnation, 1);
    }

    #[test]
    fn more_runs_than_have_room_lose_no_gradient() {
        let mut header = Header::default();
        let versions = MAX_RUNS as u64 + 5;
        for step in 0..2 * versions {
            header.count(&gradient(0, step / 2, step));
        }
        assert_eq!(header.runs().len(), MAX_RUNS);
        assert_eq!(header.unlisted_runs(), 5);
        assert_eq!(header.gradients, 2 * versions);
        assert_eq!(header.samples, 6 * versions);
        assert!(header.runs().iter().all(|run| run.count == 2));
    }

    #[test]
    fn the_mean_base_version_is_exact_for_the_largest_versions() {
        let mut header = Header::default();
        for step in 0..1000 {
            header.count(&Gradient {
                samples: u32::MAX,
                ..gradient(0, u64::MAX, step)
            });
        }
        assert_eq!(header.version_sum / u128::from(header.samples), u128::from(u64::MAX));
        assert_eq!(header.version_sum % u128::from(header.samples), 0);
    }
}
