//! Which hellos and contributions are accepted. Pure: the answer follows from the arguments.
//!
//! The header is judged before the payload is read: a payload is as long as the model, and a peer may send many.

use bytes::Bytes;

use super::config::Config;
use super::lineage::Lineage;
use super::open_superstep::max_contributions;
use super::phase::Phase;
use crate::combine::Admitted;
use crate::protocol::codec::{Codec, CodecError, Encoded};
use crate::protocol::message::{Contribution, ContributionRefusal, Hello, PROTOCOL, Refusal};
use crate::shared_memory::ModelStamp;

/// Whether a volunteer that says this hello may take part.
///
/// # Errors
/// The reason to turn it away.
pub(super) fn check_hello(hello: &Hello, config: &Config, phase: Phase) -> Result<(), Refusal> {
    let (theirs, ours) = (hello.protocol, PROTOCOL);
    match () {
        () if theirs != ours => Err(Refusal::Protocol { theirs, ours }),
        () if phase.is_finished() => Err(Refusal::Finished),
        () if phase.has_diverged() => Err(Refusal::Diverged),
        () if hello.run != config.run => Err(Refusal::AnotherRun),
        () if hello.spec_hash != config.spec_hash => Err(Refusal::AnotherModel),
        () if hello.durable > MAX_SEQUENCE => {
            let durable = hello.durable;
            Err(Refusal::Malformed(format!(
                "no session has {durable} durable contributions"
            )))
        }
        () => Ok(()),
    }
}

/// The incarnation of this run that a volunteer has seen, if it is a later one than that of `stamp`.
pub(super) fn later_incarnation(hello: &Hello, config: &Config, stamp: ModelStamp) -> Option<u32> {
    hello
        .incarnation
        .filter(|theirs| hello.run == config.run && *theirs > stamp.incarnation)
}

/// No session makes more contributions: with one each millisecond it would take 35 years. So numbers never overflow,
/// whatever a hello claims.
const MAX_SEQUENCE: u64 = 1 << 40;

/// The most samples that one contribution may claim: what a million volunteers compute in a day. So totals never
/// overflow.
const MAX_SAMPLES: u64 = 1 << 40;

/// The limits that a contribution is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    /// The run's settings.
    pub(super) config: &'a Config,
    /// The incarnations that the model goes on from.
    pub(super) lineage: &'a Lineage,
    /// Parameters of the model.
    pub(super) parameters: usize,
    /// The codec that the welcome named.
    pub(super) codec: Codec,
    /// Whether a contribution that missed its superstep is dropped.
    pub(super) drops_late_ones: bool,
    /// Whether the run goes on.
    pub(super) is_open: bool,
    /// Whether the open superstep takes another contribution of this session.
    pub(super) has_room: bool,
}

/// Admits a contribution where the current model is `stamp`. Returns it with its staleness in versions.
///
/// # Errors
/// The reason to refuse it.
pub(super) fn admit(
    header: &Contribution,
    payload: Bytes,
    stamp: ModelStamp,
    limits: &Limits<'_>,
) -> Result<(Admitted, f64), ContributionRefusal> {
    let staleness = judge(header, payload.len(), stamp, limits)?;
    let gradient = Encoded::new(limits.codec, payload, limits.parameters).map_err(|error| match error {
        CodecError::NotFinite { .. } => ContributionRefusal::NotFinite,
        error => ContributionRefusal::Undecodable(error.to_string()),
    })?;
    let samples = header.samples as f64;
    let admitted = Admitted {
        session: header.session,
        sequence: header.sequence,
        samples: header.samples,
        version: limits.lineage.version_sum(header) as f64 / samples,
        steps: limits.config.has_local_steps.then(|| header.step_sum as f64 / samples),
        gradient,
    };
    Ok((admitted, staleness))
}

/// Whether a part of a contribution was computed on an earlier model than `stamp`. The comparison is one of whole
/// numbers, so that no rounding changes the answer.
pub(super) fn is_late(header: &Contribution, stamp: ModelStamp, lineage: &Lineage) -> bool {
    lineage.version_sum(header) < u128::from(stamp.version) * u128::from(header.samples)
}

/// A contribution's staleness, if its header can be believed and its payload has the right length.
fn judge(
    header: &Contribution,
    payload_bytes: usize,
    stamp: ModelStamp,
    limits: &Limits<'_>,
) -> Result<f64, ContributionRefusal> {
    let Contribution { samples, gradients, .. } = *header;
    let config = limits.config;
    let is_of_this_run = (header.run, header.spec_hash) == (config.run, config.spec_hash);
    let is_of_this_model = header.incarnation == stamp.incarnation || limits.lineage.holds(header.incarnation);
    if !is_of_this_run || !is_of_this_model || !limits.is_open {
        return Err(ContributionRefusal::AnotherRun);
    }
    if limits.lineage.has_diverged(header) {
        return Err(ContributionRefusal::Diverged);
    }
    let (got, expected) = (header.codec, limits.codec);
    if got != expected {
        return Err(ContributionRefusal::AnotherCodec { got, expected });
    }
    let (got, expected) = (payload_bytes, limits.codec.encoded_bytes(limits.parameters));
    if got != expected {
        return Err(ContributionRefusal::WrongLength { got, expected });
    }
    if !are_counts_plausible(header, config) {
        return Err(ContributionRefusal::Implausible { samples, gradients });
    }
    let version_sum = limits.lineage.version_sum(header);
    let version = version_sum as f64 / samples as f64;
    // Whole numbers again: rounding must not lift a mean above the version that all of it was computed on.
    if version_sum > u128::from(stamp.version) * u128::from(samples) {
        return Err(ContributionRefusal::FromTheFuture {
            version: version as u64,
        });
    }
    let staleness = (stamp.version as f64 - version).max(0.0);
    if staleness > config.max_staleness as f64 {
        return Err(ContributionRefusal::TooStale {
            staleness: staleness as u64,
            max: config.max_staleness,
        });
    }
    if limits.drops_late_ones && staleness > 0.0 {
        return Err(ContributionRefusal::Dropped {
            version: version as u64,
        });
    }
    // No computed loss exceeds an f32, and the sum of a few such losses would exceed an f64, too.
    if !(header.loss_sum as f32).is_finite() {
        return Err(ContributionRefusal::NotFinite);
    }
    if !limits.has_room {
        return Err(ContributionRefusal::TooMany {
            max: max_contributions(limits.parameters),
        });
    }
    Ok(staleness)
}

/// Whether the numbers of samples, gradients and local steps can belong together.
fn are_counts_plausible(header: &Contribution, config: &Config) -> bool {
    let Contribution { samples, gradients, .. } = *header;
    let most_samples = gradients.saturating_mul(config.minibatch).min(MAX_SAMPLES);
    // No ML module has made more steps than there are gradients in all.
    let most_steps = u128::from(samples) * u128::from(gradients);
    let are_steps_plausible = match config.has_local_steps {
        true => (u128::from(samples)..=most_steps).contains(&header.step_sum),
        false => header.step_sum == 0,
    };
    gradients > 0 && samples >= gradients && samples <= most_samples && are_steps_plausible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;
    use crate::protocol::message::{ModuleStepRun, Report, RunId, SessionId};

    const STAMP: ModelStamp = ModelStamp {
        incarnation: 1,
        version: 20,
    };
    const PARAMETERS: usize = 2;

    /// A contribution of 8 samples in 2 gradients on the current version.
    fn header() -> Contribution {
        Contribution {
            run: test_config().run,
            spec_hash: test_config().spec_hash,
            incarnation: 1,
            session: SessionId(3),
            sequence: 5,
            samples: 8,
            gradients: 2,
            loss_sum: 4.0,
            version_sum: 8 * 20,
            step_sum: 0,
            codec: Codec::F32,
            step_runs: Vec::<ModuleStepRun>::new(),
            step_runs_not_listed: 0,
            report: Report::default(),
        }
    }

    fn payload(values: [f32; PARAMETERS]) -> Bytes {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
            .into()
    }

    fn admitted(header: &Contribution, payload: Bytes, has_room: bool) -> Result<(Admitted, f64), ContributionRefusal> {
        let config = test_config();
        let limits = Limits {
            config: &config,
            lineage: &Lineage::default(),
            parameters: PARAMETERS,
            codec: Codec::F32,
            drops_late_ones: false,
            is_open: true,
            has_room,
        };
        admit(header, payload, STAMP, &limits)
    }

    #[test]
    fn a_sound_contribution_is_admitted_with_its_staleness() {
        let half_late = Contribution {
            version_sum: 4 * 20 + 4 * 18,
            ..header()
        };
        let (admitted, staleness) = admitted(&half_late, payload([1.0, 2.0]), true).unwrap();
        assert_eq!((staleness, admitted.version, admitted.samples), (1.0, 19.0, 8));
        assert_eq!(
            (admitted.session, admitted.sequence, admitted.steps),
            (SessionId(3), 5, None)
        );
        let is_late = |header| is_late(header, STAMP, &Lineage::default());
        assert!(is_late(&half_late) && !is_late(&header()));
    }

    #[test]
    fn the_header_is_judged_before_the_payload_is_read() {
        let not_finite = || payload([f32::NAN, 1.0]);
        let refusal = |header: Contribution, has_room| admitted(&header, not_finite(), has_room).unwrap_err();
        assert_eq!(refusal(header(), true), ContributionRefusal::NotFinite);
        let another_run = Contribution {
            run: RunId(99),
            ..header()
        };
        assert_eq!(refusal(another_run, true), ContributionRefusal::AnotherRun);
        let too_many = ContributionRefusal::TooMany {
            max: max_contributions(PARAMETERS),
        };
        assert_eq!(refusal(header(), false), too_many);
        let empty = Contribution { samples: 0, ..header() };
        assert!(matches!(refusal(empty, true), ContributionRefusal::Implausible { .. }));
    }

    #[test]
    fn a_contribution_of_an_earlier_incarnation_counts_from_the_version_that_was_gone_on_from() {
        let config = test_config();
        let lineage = Lineage::resumed(vec![15], vec![1], 3, 18);
        let stamp = ModelStamp {
            incarnation: 3,
            version: 20,
        };
        let limits = Limits {
            config: &config,
            lineage: &lineage,
            parameters: PARAMETERS,
            codec: Codec::F32,
            drops_late_ones: false,
            is_open: true,
            has_room: true,
        };
        let outcome = |incarnation, version: u128| {
            let version_sum = 8 * version;
            let header = Contribution {
                incarnation,
                version_sum,
                ..header()
            };
            let staleness = admit(&header, payload([1.0, 2.0]), stamp, &limits).map(|(admitted, staleness)| {
                assert_eq!(admitted.version, 20.0 - staleness);
                staleness
            });
            (staleness, is_late(&header, stamp, &lineage))
        };
        // Version 17 of the second incarnation is in the model; its version 40 is not, and counts as version 18.
        assert_eq!(outcome(2, 17), (Ok(3.0), true));
        assert_eq!(outcome(2, 40), (Ok(2.0), true));
        assert_eq!(outcome(1, 15), (Ok(5.0), true));
        assert_eq!(outcome(1, 40).0, Err(ContributionRefusal::Diverged));
        assert_eq!(outcome(3, 20), (Ok(0.0), false));
        let from_the_future = ContributionRefusal::FromTheFuture { version: 40 };
        assert_eq!(outcome(3, 40).0, Err(from_the_future));
        for incarnation in [0, 4] {
            assert_eq!(outcome(incarnation, 17).0, Err(ContributionRefusal::AnotherRun));
        }
    }
}
