//! What a frame costs the controller, by how many sessions there are. Native, without sockets: `Central` alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bsp::central::{Action, Central, Config, ConnectionId, OptimizerMemory, RecordError, ServerOptimizer};
use bsp::combine::Weighting;
use bsp::protocol::codec::Codec;
use bsp::protocol::frame::ContributionFrame;
use bsp::protocol::message::{
    Contribution, FromCentral, FromVolunteer, Hello, Mode, PROTOCOL, Report, RunId, SessionId,
};
use bsp::time::Time;
use bytes::Bytes;

/// Small, so that the model's own cost does not hide that of the sessions.
const PARAMETERS: usize = 16;
const SESSIONS: [u64; 3] = [100, 1_000, 10_000];
const RUN: RunId = RunId(1);
const SPEC_HASH: u64 = 2;
/// From one read-out of a volunteer to its next.
const PERIOD: Duration = Duration::from_secs(1);
/// Periods that are measured, after as many that are not.
const PERIODS: u64 = 5;

pub(crate) fn measure() -> Result<String> {
    let mut table = format!(
        "## What a frame costs the controller\n\nOne thread, no sockets, a model of {PARAMETERS} parameters; \
         microseconds for a frame, the supersteps that it closes and the models that follow included. Absent \
         sessions have no connection.\n\n\
         | sessions | heartbeat | heartbeat, 9 of 10 sessions absent | contribution and receipt of a model | the same, \
         asynchronous |\n|---|---|---|---|---|\n"
    );
    for sessions in SESSIONS {
        let heartbeat = Crowd::join(Mode::Decoupled, sessions, 0)?.heartbeats()?;
        let beside_absent = Crowd::join(Mode::Decoupled, sessions, sessions * 9 / 10)?.heartbeats()?;
        let contribution = Crowd::join(Mode::Decoupled, sessions, 0)?.contributions()?;
        let asynchronous = Crowd::join(Mode::Asynchronous, sessions, 0)?.contributions()?;
        table +=
            &format!("| {sessions} | {heartbeat:.2} | {beside_absent:.2} | {contribution:.2} | {asynchronous:.2} |\n");
    }
    Ok(table)
}

/// Volunteers written by hand.
struct Crowd {
    central: Central,
    actions: Vec<Action>,
    now: Time,
    connected: Vec<(ConnectionId, SessionId)>,
}

impl Crowd {
    /// `sessions` volunteers that have said hello; `absent` of them have gone since.
    fn join(mode: Mode, sessions: u64, absent: u64) -> Result<Crowd> {
        let central = Central::new(Time::ZERO, config(mode), vec![0.0; PARAMETERS], Box::new(Still));
        let mut crowd = Crowd {
            central,
            actions: Vec::new(),
            now: Time::ZERO,
            connected: Vec::new(),
        };
        let hello = FromVolunteer::Hello(Hello {
            protocol: PROTOCOL,
            run: RUN,
            spec_hash: SPEC_HASH,
            incarnation: None,
            session: None,
            durable: 0,
            codecs: Vec::new(),
            report: report(),
        });
        let hello = hello.encode();
        for number in 1..=sessions {
            crowd.say(ConnectionId(number), &hello)?;
            crowd.connected.push((ConnectionId(number), SessionId(number)));
        }
        crowd.receive_models()?;
        for (connection, _) in crowd.connected.split_off((sessions - absent) as usize) {
            crowd.central.on_disconnected(crowd.now, connection, &mut crowd.actions);
        }
        crowd.actions.clear();
        Ok(crowd)
    }

    /// Microseconds for a heartbeat.
    fn heartbeats(mut self) -> Result<f64> {
        let heartbeat = FromVolunteer::Heartbeat(report()).encode();
        let (mut taken, mut frames) = (Duration::ZERO, 0);
        for period in 0..2 * PERIODS {
            self.now = self.now + PERIOD;
            let began = Instant::now();
            for at in 0..self.connected.len() {
                self.say(self.connected[at].0, &heartbeat)?;
            }
            if period >= PERIODS {
                taken += began.elapsed();
                frames += self.connected.len();
            }
        }
        Ok(micros(taken, frames))
    }

    /// Microseconds for a contribution and for the receipt of a model that follows it, each a frame.
    fn contributions(mut self) -> Result<f64> {
        let (mut taken, mut frames) = (Duration::ZERO, 0);
        for sequence in 1..=2 * PERIODS {
            let contributions = self.contributions_of(sequence)?;
            let began = Instant::now();
            for (at, contribution) in contributions.iter().enumerate() {
                // Spread over the period, as the volunteers of a run are.
                self.now = self.now + PERIOD / contributions.len() as u32;
                self.say(self.connected[at].0, contribution)?;
            }
            self.receive_models()?;
            if sequence > PERIODS {
                taken += began.elapsed();
                frames += 2 * contributions.len();
            }
        }
        anyhow::ensure!(self.central.totals().refused == 0, "a contribution was refused");
        Ok(micros(taken, frames))
    }

    fn contributions_of(&self, sequence: u64) -> Result<Vec<Bytes>> {
        let stamp = self.central.stamp();
        let frame = |(_, session): &(ConnectionId, SessionId)| {
            let samples = 8;
            let header = Contribution {
                run: RUN,
                spec_hash: SPEC_HASH,
                incarnation: stamp.incarnation,
                session: *session,
                sequence,
                samples,
                gradients: 1,
                loss_sum: 1.0,
                version_sum: u128::from(samples * stamp.version),
                step_sum: 0,
                codec: Codec::F32,
                step_runs: Vec::new(),
                step_runs_not_listed: 0,
                report: report(),
            };
            let mut frame = ContributionFrame::new(PARAMETERS);
            let payload = frame.payload_mut(Codec::F32.encoded_bytes(PARAMETERS));
            Codec::F32.encode(&[1.0; PARAMETERS], payload);
            frame.seal(&header).context("the header is short")?;
            Ok(Bytes::copy_from_slice(frame.as_bytes()))
        };
        self.connected.iter().map(frame).collect()
    }

    /// Every volunteer that was sent a model reports it as stored.
    fn receive_models(&mut self) -> Result<()> {
        let sent = std::mem::take(&mut self.actions);
        for action in sent {
            let Action::Send { to, frame } = action else { continue };
            if let FromCentral::StoreModel(model) = FromCentral::decode(&frame)?.message {
                self.say(to, &FromVolunteer::Stored(model.stamp).encode())?;
            }
        }
        Ok(())
    }

    fn say(&mut self, from: ConnectionId, frame: &Bytes) -> Result<()> {
        self.central.on_frame(self.now, from, frame, &mut self.actions);
        // The driver asks after each event.
        std::hint::black_box(self.central.next_timeout(self.now));
        let is_refused = |action: &Action| matches!(action, Action::Disconnect { .. });
        anyhow::ensure!(
            !self.actions.last().is_some_and(is_refused),
            "a volunteer was turned away"
        );
        Ok(())
    }
}

fn micros(taken: Duration, frames: usize) -> f64 {
    taken.as_secs_f64() * 1e6 / frames as f64
}

fn report() -> Report {
    Report {
        ml_modules: 1,
        ..Report::default()
    }
}

fn config(mode: Mode) -> Config {
    Config {
        mode,
        // Asynchronously all others have made versions meanwhile.
        max_staleness: u64::MAX,
        minibatch: 8,
        superstep_samples: 512,
        quorum: 0.75,
        min_period: PERIOD,
        max_period: PERIOD,
        weighting: Weighting {
            staleness_exponent: 1.0,
            max_read_out_samples: 8192,
            clip: 3.0,
        },
        session_ttl: Duration::from_secs(600),
        max_sessions: usize::MAX,
        ..Config::new(RUN, SPEC_HASH)
    }
}

/// Leaves the model as it is: its step is not what is measured.
struct Still;

impl ServerOptimizer for Still {
    fn step(&mut self, _: &mut [f32], _: &[f32], _: u64, _: f32) {}

    fn record(&self) -> OptimizerMemory {
        OptimizerMemory::default()
    }

    fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> {
        Ok(())
    }
}
