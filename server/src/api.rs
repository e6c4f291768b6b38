//! The JSON that pages, scripts and volunteers read.

use bsp::central::{LostSamples, VolunteerStatus};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::Mode;
use bsp::shared_memory::PhaseTimes;
use bsp::time::Time;
use run::goal::Goal;
use serde::Serialize;
use volunteer::progress::TimeShares;

use crate::controller::Controller;
use crate::divergence;

/// `GET /api/v1/status`: where the run stands now.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct Status {
    run: String,
    #[cfg_attr(test, ts(type = "Mode"))]
    mode: Mode,
    state: State,
    /// Why it has diverged, and what helps; none of a run that has not.
    reason: Option<String>,
    version: u64,
    superstep: u64,
    /// Samples of all accepted contributions.
    samples: u64,
    /// Those of closed supersteps.
    samples_in_model: u64,
    gradients: u64,
    loss: Option<f64>,
    #[cfg_attr(test, ts(inline))]
    eval: Option<Evaluated>,
    volunteers: usize,
    ml_modules: u64,
    samples_per_second: f64,
    contributions_accepted: u64,
    contributions_refused: u64,
    /// How often a server has begun with this run.
    incarnation: u32,
    /// Contributions that came again because a link or a server was lost: those that were settled now, …
    contributions_resent: u64,
    /// … and those that were settled before, and are not counted twice.
    duplicates_refused: u64,
    /// Accepted samples that no model holds, and none will.
    samples_lost: u64,
    /// Why; nothing as long as none is lost.
    samples_lost_because: Vec<String>,
    /// Samples that were accepted before the last restart, that no checkpoint held, and that may still come again.
    samples_awaited: u64,
    /// Checkpoints that this server has written.
    checkpoints: u64,
    /// The time since the last of them; none before the first.
    last_checkpoint_seconds: Option<f64>,
    /// How long it took to write, and its bytes.
    checkpoint_took_seconds: f64,
    checkpoint_bytes: u64,
    /// The last checkpoint could not be written: what comes is not durable.
    checkpoint_fails: bool,
    target_accuracy: Option<f64>,
    target_loss: Option<f64>,
    /// Time trained, over all servers that have run it.
    elapsed_seconds: f64,
    /// The read-out period. A volunteer whose link is slow has a longer one of its own.
    period_seconds: f64,
    /// How long a superstep waits at most, after its quorum, for an arrival that is predicted; 0 in the baselines.
    grace_seconds: f64,
    /// The share of the expected samples with which a superstep may close, from 0 to 1.
    quorum: f64,
    /// Mean staleness of all accepted samples, in versions.
    staleness: f64,
    /// Mean weight by staleness of all accepted samples, from 0 to 1; none before the first.
    weight: Option<f64>,
    /// Whether ML modules also move along their own gradients.
    local_steps: bool,
    #[cfg_attr(test, ts(type = "Codec"))]
    contribution_codec: Codec,
    #[cfg_attr(test, ts(type = "Codec"))]
    model_codec: Codec,
    /// Bytes of all frames that came from volunteers …
    bytes_up: u64,
    /// … and that went to them. Training data travels otherwise.
    bytes_down: u64,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "RunState"))]
pub(crate) enum State {
    /// No volunteer contributes.
    Waiting,
    /// At least one volunteer contributes.
    Training,
    /// It has ended.
    Finished,
    /// It can't go on: what is computed for it is not finite.
    Diverged,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Evaluated {
    version: u64,
    accuracy: Option<f64>,
    loss: f64,
}

/// One entry of `GET /api/v1/volunteers`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "VolunteerReport"))]
pub(crate) struct Volunteer {
    id: u64,
    ml_modules: u16,
    is_paused: bool,
    samples: u64,
    samples_per_second: f64,
    staleness: f64,
    time: TimeShares,
    /// The time that its ML modules have spent on gradients, summed over them: without rests, and without waiting.
    computing_seconds: f64,
    /// Its own read-out period.
    period_seconds: f64,
    /// From sending a contribution to its acknowledgement, beyond the round trip: the shortest of the last few.
    upload_seconds: f64,
    /// From sending a model to its being stored, beyond the round trip: the shortest of the last few.
    download_seconds: f64,
    round_trip_seconds: f64,
    /// The share of its period in which its link is busy with both; none before it is known.
    link_share: Option<f64>,
    accepted: u64,
    refused: u64,
    not_finite: u64,
    discarded: u64,
    last_seen_seconds: f64,
}

impl Status {
    /// The status of the run `run`.
    pub(crate) fn new(run: String, goal: Option<Goal>, controller: &Controller, now: Time) -> Status {
        let central = controller.central();
        let config = central.config();
        let totals = central.totals();
        let volunteers: Vec<VolunteerStatus> = central.volunteers(now).collect();
        let is_training = volunteers.iter().any(|volunteer| !volunteer.is_paused);
        let version = central.stamp().version;
        let checkpoint = controller.checkpoints();
        let lost = central.samples_lost(now);
        Status {
            run,
            mode: config.mode,
            state: match () {
                () if central.phase().is_finished() => State::Finished,
                () if central.phase().has_diverged() => State::Diverged,
                () if is_training => State::Training,
                () => State::Waiting,
            },
            reason: central.divergence().map(divergence::reason),
            version,
            superstep: version + 1,
            samples: totals.samples,
            samples_in_model: totals.samples_in_model,
            gradients: totals.gradients,
            loss: totals.last_loss,
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
            incarnation: central.stamp().incarnation,
            contributions_resent: totals.resent,
            duplicates_refused: totals.duplicates,
            samples_lost: lost.total(),
            samples_lost_because: reasons(lost, totals.lost_with_disk),
            samples_awaited: central.samples_awaited(now),
            checkpoints: checkpoint.written,
            last_checkpoint_seconds: checkpoint.last_at.map(|at| now.since(at).as_secs_f64()),
            checkpoint_took_seconds: checkpoint.seconds,
            checkpoint_bytes: checkpoint.bytes,
            checkpoint_fails: checkpoint.is_failing,
            target_accuracy: goal.and_then(Goal::accuracy),
            target_loss: goal.and_then(Goal::loss),
            elapsed_seconds: controller.history().elapsed_seconds(now),
            period_seconds: central.period().as_secs_f64(),
            grace_seconds: central.grace_window().as_secs_f64(),
            quorum: config.quorum,
            staleness: totals.mean_staleness(),
            weight: totals.mean_weight(),
            local_steps: config.has_local_steps,
            contribution_codec: config.contribution_codec,
            model_codec: config.model_codec,
            bytes_up: controller.traffic().up(),
            bytes_down: controller.traffic().down(),
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
            time: TimeShares::from(status.time_us),
            computing_seconds: computing_seconds(status.time_us),
            period_seconds: status.period.as_secs_f64(),
            upload_seconds: status.upload.as_secs_f64(),
            download_seconds: status.download.as_secs_f64(),
            round_trip_seconds: status.round_trip.as_secs_f64(),
            link_share: link_share(&status),
            accepted: status.accepted,
            refused: status.refused,
            not_finite: status.not_finite,
            discarded: status.discarded,
            last_seen_seconds: status.last_seen.as_secs_f64(),
        }
    }
}

/// Why samples are lost.
fn reasons(lost: LostSamples, lost_with_disk: u64) -> Vec<String> {
    let reasons = [
        (
            lost.with_volunteers,
            "samples: their volunteers were gone before a checkpoint held them",
        ),
        (
            lost.gone_back,
            "samples: the run went back to an earlier checkpoint, since their models diverged",
        ),
        (lost.diverged, "samples: their step made the model diverge"),
        (
            lost_with_disk,
            "contributions, as their volunteers say: the checkpoints that held them could not be read",
        ),
    ];
    let lost = reasons.into_iter().filter(|(count, _)| *count > 0);
    lost.map(|(count, reason)| format!("{count} {reason}")).collect()
}

/// A volunteer says what its first contribution took when it sends its second; a model was stored before either.
fn link_share(status: &VolunteerStatus) -> Option<f64> {
    let busy = status.upload.saturating_add(status.download);
    (status.accepted > 1).then(|| busy.as_secs_f64() / status.period.as_secs_f64())
}

fn computing_seconds(time_us: PhaseTimes) -> f64 {
    let PhaseTimes {
        gradient, add, read, ..
    } = time_us;
    gradient.saturating_add(add).saturating_add(read) as f64 / 1e6
}
