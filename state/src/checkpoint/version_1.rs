//! The parts of a checkpoint in format 1, in structs of their own: these never change.

use std::io;

use bsp::central::{
    Awaited, Checkpoint, ContributionRecord, OpenRecord, OptimizerMemory, Record, SessionRecord, SessionsRecord,
    Setbacks, Totals,
};
use bsp::combine::{Usual, UsualParts};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::SessionId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::about::About;
use super::container::Container;
use super::data::{Data, Part, floats, to_floats};
use super::problem::Problem;

/// More vectors than any optimizer remembers.
const MAX_VECTORS: u32 = 16;

/// The part `trainer`.
#[derive(Serialize, Deserialize)]
struct TrainerV1 {
    number: u64,
    incarnation: u32,
    version: u64,
    samples_in_model: u64,
    last_versions: Vec<u64>,
    diverged: Vec<u32>,
    setbacks: u32,
    rate_factor: f32,
    optimizer_kind: String,
    optimizer_vectors: u32,
    optimizer_numbers: Vec<f64>,
    norms: UsualV1,
    steps: UsualV1,
}

/// The usual values of one kind: a session and its value, and the place of the oldest.
#[derive(Serialize, Deserialize)]
struct UsualV1 {
    values: Vec<(u64, f64)>,
    oldest: u64,
}

/// The part `open`. The contributions' payloads lie one behind the other in the part `payloads`.
#[derive(Serialize, Deserialize)]
struct OpenV1 {
    loss_sum: f64,
    contributions: Vec<ContributionV1>,
}

#[derive(Serialize, Deserialize)]
struct ContributionV1 {
    session: u64,
    sequence: u64,
    samples: u64,
    version: f64,
    steps: Option<f64>,
    codec: u8,
    payload_bytes: u64,
}

/// The part `sessions`.
#[derive(Serialize, Deserialize)]
struct SessionsV1 {
    last_known: Vec<u64>,
    last_session: u64,
    sessions: Vec<SessionV1>,
}

#[derive(Serialize, Deserialize)]
struct SessionV1 {
    session: u64,
    settled: u64,
    settled_before: u64,
    since: u64,
    is_last_refused: bool,
    samples: u64,
    accepted: u64,
    refused: u64,
}

/// An element of the part `awaited`: session, number, samples.
type AwaitedV1 = (u64, u64, u64);

/// The part `totals`.
#[derive(Serialize, Deserialize)]
struct TotalsV1 {
    samples: u64,
    gradients: u64,
    accepted: u64,
    refused: u64,
    duplicates: u64,
    resent: u64,
    lost_with_disk: u64,
    supersteps: u64,
    samples_in_model: u64,
    last_loss: Option<f64>,
    staleness_sum: f64,
    weight_sum: f64,
}

/// The part `best` of the best model's file.
#[derive(Serialize, Deserialize)]
pub(super) struct BestV1 {
    pub(super) version: u64,
    pub(super) samples: u64,
    pub(super) accuracy: Option<f64>,
    pub(super) loss: f64,
}

/// All parts but `about`.
pub(super) fn parts(checkpoint: &Checkpoint) -> io::Result<Vec<Part<'_>>> {
    let Checkpoint { trainer, open, .. } = checkpoint;
    let awaited = checkpoint.awaited.iter();
    let awaited: Vec<AwaitedV1> = awaited.map(|a| (a.session.0, a.sequence, a.samples)).collect();
    let mut parts = vec![
        Part::new("trainer", Data::of(&TrainerV1::new(checkpoint))?),
        Part::new("sessions", Data::of(&SessionsV1::new(&checkpoint.sessions))?),
        Part::new("awaited", Data::of(&awaited)?),
        Part::new("totals", Data::of(&TotalsV1::new(&checkpoint.totals))?),
        Part::new("open", Data::of(&OpenV1::new(open))?),
        Part::new("model", Data::Floats(&trainer.model)),
        Part::new("replica", Data::Floats(&checkpoint.replica)),
    ];
    for (index, vector) in trainer.optimizer.vectors.iter().enumerate() {
        parts.push(Part::new(optimizer_part(index), Data::Floats(vector)));
    }
    let payloads = open.contributions.iter().map(|c| &c.payload).collect();
    parts.push(Part::new("payloads", Data::Pieces(payloads)));
    Ok(parts)
}

fn optimizer_part(index: usize) -> String {
    format!("optimizer-{index}")
}

/// The checkpoint that the parts hold.
pub(super) fn checkpoint(container: &Container<'_>, about: &About) -> Result<Checkpoint, Problem> {
    let trainer: TrainerV1 = container.decoded("trainer")?;
    let open: OpenV1 = container.decoded("open")?;
    let sessions: SessionsV1 = container.decoded("sessions")?;
    let awaited: Vec<AwaitedV1> = container.decoded("awaited")?;
    let totals: TotalsV1 = container.decoded("totals")?;
    let replica_length = if container.part("replica")?.is_empty() {
        0
    } else {
        about.parameters
    };
    let usual = [trainer.norms.into_parts(), trainer.steps.into_parts()];
    Ok(Checkpoint {
        number: trainer.number,
        last_versions: trainer.last_versions,
        diverged: trainer.diverged,
        replica: floats(container, "replica", replica_length)?,
        open: open.into_record(container.part("payloads")?)?,
        sessions: sessions.into_record(),
        awaited: awaited.into_iter().map(awaited_record).collect(),
        totals: totals.into_totals(),
        trainer: Record {
            incarnation: trainer.incarnation,
            version: trainer.version,
            model: floats(container, "model", about.parameters)?,
            samples_in_model: trainer.samples_in_model,
            setbacks: Setbacks {
                count: trainer.setbacks,
                rate_factor: trainer.rate_factor,
            },
            optimizer: OptimizerMemory {
                kind: trainer.optimizer_kind,
                vectors: optimizer_vectors(container, trainer.optimizer_vectors, about.parameters)?,
                numbers: trainer.optimizer_numbers,
            },
            usual: Usual::from_parts(usual).ok_or(Problem::Malformed { part: "trainer" })?,
        },
    })
}

fn optimizer_vectors(container: &Container<'_>, count: u32, parameters: u64) -> Result<Vec<Vec<f32>>, Problem> {
    if count > MAX_VECTORS {
        return Err(Problem::Malformed { part: "trainer" });
    }
    let vector = |index: u32| {
        let bytes = container.find(&optimizer_part(index as usize));
        let bytes = bytes.ok_or(Problem::MissingPart { part: "optimizer" })?;
        to_floats(bytes, parameters).ok_or(Problem::Malformed { part: "optimizer" })
    };
    (0..count).map(vector).collect()
}

fn awaited_record((session, sequence, samples): AwaitedV1) -> Awaited {
    Awaited {
        session: SessionId(session),
        sequence,
        samples,
    }
}

impl TrainerV1 {
    fn new(checkpoint: &Checkpoint) -> TrainerV1 {
        let trainer = &checkpoint.trainer;
        let [norms, steps] = trainer.usual.parts().map(UsualV1::new);
        TrainerV1 {
            number: checkpoint.number,
            incarnation: trainer.incarnation,
            version: trainer.version,
            samples_in_model: trainer.samples_in_model,
            last_versions: checkpoint.last_versions.clone(),
            diverged: checkpoint.diverged.clone(),
            setbacks: trainer.setbacks.count,
            rate_factor: trainer.setbacks.rate_factor,
            optimizer_kind: trainer.optimizer.kind.clone(),
            optimizer_vectors: trainer.optimizer.vectors.len() as u32,
            optimizer_numbers: trainer.optimizer.numbers.clone(),
            norms,
            steps,
        }
    }
}

impl UsualV1 {
    fn new((values, oldest): UsualParts) -> UsualV1 {
        UsualV1 {
            values: values.into_iter().map(|(session, value)| (session.0, value)).collect(),
            oldest: oldest as u64,
        }
    }

    fn into_parts(self) -> UsualParts {
        let values = self.values.into_iter();
        let oldest = usize::try_from(self.oldest).unwrap_or(usize::MAX);
        (
            values.map(|(session, value)| (SessionId(session), value)).collect(),
            oldest,
        )
    }
}

impl OpenV1 {
    fn new(open: &OpenRecord) -> OpenV1 {
        let contribution = |c: &ContributionRecord| ContributionV1 {
            session: c.session.0,
            sequence: c.sequence,
            samples: c.samples,
            version: c.version,
            steps: c.steps,
            codec: codec_number(c.codec),
            payload_bytes: c.payload.len() as u64,
        };
        OpenV1 {
            loss_sum: open.loss_sum,
            contributions: open.contributions.iter().map(contribution).collect(),
        }
    }

    fn into_record(self, payloads: &[u8]) -> Result<OpenRecord, Problem> {
        let malformed = Problem::Malformed { part: "open" };
        let mut rest = payloads;
        let mut contributions = Vec::with_capacity(self.contributions.len());
        for c in self.contributions {
            let bytes = usize::try_from(c.payload_bytes).map_err(|_| malformed.clone())?;
            let (payload, behind) = rest.split_at_checked(bytes).ok_or(malformed.clone())?;
            rest = behind;
            contributions.push(ContributionRecord {
                session: SessionId(c.session),
                sequence: c.sequence,
                samples: c.samples,
                version: c.version,
                steps: c.steps,
                codec: codec(c.codec).ok_or(malformed.clone())?,
                payload: Bytes::copy_from_slice(payload),
            });
        }
        if !rest.is_empty() {
            return Err(Problem::Malformed { part: "payloads" });
        }
        Ok(OpenRecord {
            contributions,
            loss_sum: self.loss_sum,
        })
    }
}

impl SessionsV1 {
    fn new(record: &SessionsRecord) -> SessionsV1 {
        let session = |s: &SessionRecord| SessionV1 {
            session: s.session.0,
            settled: s.settled,
            settled_before: s.settled_before,
            since: s.since,
            is_last_refused: s.is_last_refused,
            samples: s.samples,
            accepted: s.accepted,
            refused: s.refused,
        };
        SessionsV1 {
            last_known: record.last_known.clone(),
            last_session: record.last_session,
            sessions: record.sessions.iter().map(session).collect(),
        }
    }

    fn into_record(self) -> SessionsRecord {
        let session = |s: SessionV1| SessionRecord {
            session: SessionId(s.session),
            settled: s.settled,
            settled_before: s.settled_before,
            since: s.since,
            is_last_refused: s.is_last_refused,
            samples: s.samples,
            accepted: s.accepted,
            refused: s.refused,
        };
        SessionsRecord {
            last_known: self.last_known,
            last_session: self.last_session,
            sessions: self.sessions.into_iter().map(session).collect(),
        }
    }
}

impl TotalsV1 {
    fn new(totals: &Totals) -> TotalsV1 {
        TotalsV1 {
            samples: totals.samples,
            gradients: totals.gradients,
            accepted: totals.accepted,
            refused: totals.refused,
            duplicates: totals.duplicates,
            resent: totals.resent,
            lost_with_disk: totals.lost_with_disk,
            supersteps: totals.supersteps,
            samples_in_model: totals.samples_in_model,
            last_loss: totals.last_loss,
            staleness_sum: totals.staleness_sum,
            weight_sum: totals.weight_sum,
        }
    }

    fn into_totals(self) -> Totals {
        Totals {
            samples: self.samples,
            gradients: self.gradients,
            accepted: self.accepted,
            refused: self.refused,
            duplicates: self.duplicates,
            resent: self.resent,
            lost_with_disk: self.lost_with_disk,
            supersteps: self.supersteps,
            samples_in_model: self.samples_in_model,
            last_loss: self.last_loss,
            staleness_sum: self.staleness_sum,
            weight_sum: self.weight_sum,
        }
    }
}

/// A codec's number in this format.
fn codec_number(codec: Codec) -> u8 {
    match codec {
        Codec::F32 => 0,
        Codec::F16 => 1,
        Codec::Int8 => 2,
        Codec::TopK => 3,
    }
}

fn codec(number: u8) -> Option<Codec> {
    [Codec::F32, Codec::F16, Codec::Int8, Codec::TopK]
        .get(usize::from(number))
        .copied()
}
