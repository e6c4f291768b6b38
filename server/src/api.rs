//! The JSON that pages, scripts and volunteers read.

use bsp::central::VolunteerStatus;
use bsp::message::Mode;
use bsp::shared_memory::PhaseTimes;
use bsp::time::Time;
use serde::Serialize;

use crate::controller::Controller;
use crate::run_file::Goal;

/// `GET /api/v1/status`: where the run stands now.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    run: String,
    mode: Mode,
    state: State,
    version: u64,
    superstep: u64,
    /// Samples of all accepted contributions.
    samples: u64,
    /// Those of closed supersteps.
    samples_in_model: u64,
    gradients: u64,
    loss: Option<f64>,
    eval: Option<Evaluated>,
    volunteers: usize,
    ml_modules: u64,
    samples_per_second: f64,
    contributions_accepted: u64,
    contributions_refused: u64,
    target_accuracy: Option<f64>,
    target_loss: Option<f64>,
    elapsed_seconds: f64,
    /// Supersteps are this long, in seconds.
    period_seconds: f64,
    /// Mean staleness of all samples in the model, in versions.
    staleness: f64,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nobody contributes.
    Waiting,
    /// Somebody does.
    Training,
    /// It has ended.
    Finished,
    /// It can't go on: the model is not finite.
    Diverged,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Evaluated {
    version: u64,
    accuracy: Option<f64>,
    loss: f64,
}

/// One entry of `GET /api/v1/volunteers`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Volunteer {
    id: u64,
    ml_modules: u16,
    is_paused: bool,
    samples: u64,
    samples_per_second: f64,
    staleness: f64,
    time: Shares,
    accepted: u64,
    refused: u64,
    not_finite: u64,
    discarded: u64,
    last_seen_seconds: f64,
}

/// Shares of ML modules' time, from 0 to 1.
#[derive(Clone, Copy, Debug, Serialize)]
struct Shares {
    gradient: f64,
    add: f64,
    read: f64,
    wait: f64,
}

impl Status {
    /// The status of the run `run`.
    pub(crate) fn new(run: String, mode: Mode, goal: Option<Goal>, controller: &Controller, now: Time) -> Status {
        let central = controller.central();
        let totals = central.totals();
        let volunteers: Vec<VolunteerStatus> = central.volunteers(now).collect();
        let is_training = volunteers.iter().any(|volunteer| !volunteer.is_paused);
        let version = central.stamp().version;
        Status {
            run,
            mode,
            state: match () {
                () if central.is_finished() => State::Finished,
                () if central.has_diverged() => State::Diverged,
                () if is_training => State::Training,
                () => State::Waiting,
            },
            version,
            superstep: version + 1,
            samples: totals.samples,
            samples_in_model: controller.samples_in_model(),
            gradients: totals.gradients,
            loss: controller.last_loss(),
            eval: controller.history().last_evaluation().map(|point| Evaluated {
                version: point.version,
                accuracy: point.accuracy,
                loss: point.loss,
            }),
            volunteers: volunteers.len(),
            ml_modules: volunteers.iter().map(|volunteer| u64::from(volunteer.ml_modules)).sum(),
            // From 0.0: an empty sum of floats is −0.0.
            samples_per_second: volunteers
                .iter()
                .fold(0.0, |sum, volunteer| sum + volunteer.samples_per_second),
            contributions_accepted: totals.accepted,
            contributions_refused: totals.refused,
            target_accuracy: goal.and_then(Goal::accuracy),
            target_loss: goal.and_then(Goal::loss),
            elapsed_seconds: now.as_micros() as f64 / 1e6,
            period_seconds: central.period().as_secs_f64(),
            staleness: controller.mean_staleness(),
        }
    }
}

impl From<VolunteerStatus> for Volunteer {
    fn from(status: VolunteerStatus) -> Volunteer {
        Volunteer {
            id: status.session.0,
            ml_modules: status.ml_modules,
            is_paused: status.is_paused,
            samples: status.samples,
            samples_per_second: status.samples_per_second,
            staleness: status.staleness,
            time: Shares::from(status.time_us),
            accepted: status.accepted,
            refused: status.refused,
            not_finite: status.not_finite,
            discarded: status.discarded,
            last_seen_seconds: status.last_seen.as_secs_f64(),
        }
    }
}

impl From<PhaseTimes> for Shares {
    fn from(time_us: PhaseTimes) -> Shares {
        let PhaseTimes {
            gradient,
            add,
            read,
            wait,
        } = time_us;
        let total = gradient
            .saturating_add(add)
            .saturating_add(read)
            .saturating_add(wait)
            .max(1) as f64;
        let share = |part: u64| part as f64 / total;
        Shares {
            gradient: share(gradient),
            add: share(add),
            read: share(read),
            wait: share(wait),
        }
    }
}
